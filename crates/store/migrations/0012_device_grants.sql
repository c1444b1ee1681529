-- Whether a client may be signed in by the device flow: it may not while there is no ceiling of scopes for it.
ALTER TABLE clients ADD COLUMN device_scope TEXT;
ALTER TABLE clients ADD COLUMN device_confirmation BIGINT NOT NULL DEFAULT 0;

-- Devices that ask to be signed in. The secrets are hashes: the code that the device holds, and under a key of its own the
-- code that people type, which is free for another grant as soon as this one has come to its end.
CREATE TABLE device_grants (
    id               TEXT PRIMARY KEY,
    client           TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    device_code_hash {{BLOB}} NOT NULL UNIQUE,
    user_code_mac    {{BLOB}} UNIQUE,
    scope            TEXT NOT NULL,
    res              TEXT NOT NULL,
    label            TEXT NOT NULL,
    network          TEXT NOT NULL,
    user_agent       TEXT NOT NULL,
    confirmation     BIGINT NOT NULL,
    interval_s       BIGINT NOT NULL,
    state            TEXT NOT NULL,
    user_id          TEXT REFERENCES users (id) ON DELETE CASCADE,
    login            TEXT,
    claimed_at       BIGINT,
    typed            BIGINT,
    approved_at      BIGINT,
    authenticated_at BIGINT,
    method           TEXT,
    approved_from    TEXT,
    digits           TEXT,
    wrong            BIGINT NOT NULL,
    session          TEXT,
    ended_at         BIGINT,
    denial           TEXT,
    sealed           {{BLOB}},
    sealed_until     BIGINT,
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    version          BIGINT NOT NULL,
    CHECK (state IN ('pending', 'claimed', 'approved', 'redeemed', 'denied', 'expired')),
    -- No end without its instant, and no code that works after it.
    CHECK ((state IN ('redeemed', 'denied', 'expired')) = (ended_at IS NOT NULL)),
    CHECK ((state IN ('redeemed', 'denied', 'expired')) = (user_code_mac IS NULL)),
    CHECK ((state = 'denied') = (denial IS NOT NULL)),
    CHECK ((state = 'redeemed') = (session IS NOT NULL)),
    CHECK ((sealed IS NULL) = (sealed_until IS NULL)),
    -- Nothing is decided by nobody.
    CHECK (state NOT IN ('claimed', 'approved', 'redeemed') OR (user_id IS NOT NULL AND login IS NOT NULL)),
    CHECK (state NOT IN ('approved', 'redeemed') OR (approved_at IS NOT NULL AND authenticated_at IS NOT NULL))
);
CREATE INDEX device_grants_network ON device_grants (network, created_at);
CREATE INDEX device_grants_expires ON device_grants (expires_at) WHERE ended_at IS NULL;
CREATE INDEX device_grants_ended ON device_grants (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX device_grants_sealed ON device_grants (sealed_until) WHERE sealed_until IS NOT NULL;
CREATE INDEX device_grants_client ON device_grants (client);
CREATE INDEX device_grants_user ON device_grants (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX device_grants_session ON device_grants (session) WHERE session IS NOT NULL;
