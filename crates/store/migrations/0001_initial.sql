-- Times are Unix milliseconds; ids, scope and res are text (scope and res space-separated); "version" is the ETag.
-- The tables with a word behind them are looked up on the way to a token: there, the row lies in the index of its id.

CREATE TABLE users (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    email       TEXT,
    scope       TEXT NOT NULL,
    res         TEXT NOT NULL,
    disabled_at BIGINT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
) {{CLUSTERED}};

CREATE TABLE scopes (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    implies     TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);

CREATE TABLE clients (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    owner       TEXT NOT NULL REFERENCES users (id),
    scope       TEXT NOT NULL,
    res         TEXT NOT NULL,
    subject     TEXT NOT NULL,
    disabled_at BIGINT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
) {{CLUSTERED}};
CREATE INDEX clients_owner ON clients (owner, id);

CREATE TABLE apis (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL,
    audience         TEXT NOT NULL UNIQUE,
    scopes           TEXT NOT NULL,
    token_lifetime_s BIGINT NOT NULL,
    algorithm        TEXT NOT NULL,
    client           TEXT REFERENCES clients (id) ON DELETE SET NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    version          BIGINT NOT NULL
);

CREATE TABLE client_apis (
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    api    TEXT NOT NULL REFERENCES apis (id),
    PRIMARY KEY (client, api)
) {{CLUSTERED}};
CREATE INDEX client_apis_api ON client_apis (api);

-- An ended credential outlives its client's row in the events only; with the client, its credentials go.
CREATE TABLE credentials (
    id           TEXT PRIMARY KEY,
    client       TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    label        TEXT NOT NULL,
    purpose      TEXT NOT NULL,
    secret_hash  {{BLOB}},
    scope        TEXT,
    res          TEXT,
    state        TEXT NOT NULL,
    expires_at   BIGINT,
    retire_at    BIGINT,
    ended_at     BIGINT,
    end_reason   TEXT,
    successor    TEXT,
    status_index BIGINT NOT NULL UNIQUE,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    -- No overlap without an end, no end without its instant, no purged secret kept.
    CHECK (state IN ('active', 'retiring', 'expired', 'revoked', 'purged')),
    CHECK ((state = 'retiring') <= (retire_at IS NOT NULL)),
    CHECK ((state IN ('expired', 'revoked', 'purged')) = (ended_at IS NOT NULL)),
    CHECK ((state = 'purged') = (secret_hash IS NULL))
) {{CLUSTERED}};
CREATE INDEX credentials_client ON credentials (client, id);
CREATE INDEX credentials_ended ON credentials (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX credentials_expires ON credentials (expires_at) WHERE expires_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX credentials_retire ON credentials (retire_at) WHERE retire_at IS NOT NULL AND ended_at IS NULL;

-- Places in the status list of credentials that were deleted with their client: their tokens may still be about.
CREATE TABLE ended_status_indices (
    status_index BIGINT PRIMARY KEY,
    known_until  BIGINT NOT NULL
);

-- Single tokens ended early (RFC 7009); a row lives no longer than its token.
CREATE TABLE revoked_tokens (
    jti        TEXT PRIMARY KEY,
    credential TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL
);
CREATE INDEX revoked_tokens_expires ON revoked_tokens (expires_at);

CREATE TABLE signing_keys (
    id           TEXT PRIMARY KEY,
    algorithm    TEXT NOT NULL,
    public_key   TEXT NOT NULL,
    sealed       {{BLOB}} NOT NULL,
    published_at BIGINT NOT NULL,
    activate_at  BIGINT,
    retire_at    BIGINT,
    remove_at    BIGINT,
    version      BIGINT NOT NULL
);
-- At most one key of an algorithm waits for its turn, however many nodes rotate at once.
CREATE UNIQUE INDEX signing_keys_next ON signing_keys (algorithm) WHERE activate_at IS NULL;

-- Secrets of the server itself, sealed under the master key.
CREATE TABLE sealed_secrets (
    name   TEXT PRIMARY KEY,
    sealed {{BLOB}} NOT NULL
);

CREATE TABLE events (
    seq     BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor   TEXT NOT NULL,
    source  TEXT,
    data    TEXT NOT NULL,
    prev    TEXT NOT NULL,
    hash    TEXT NOT NULL
);
CREATE INDEX events_subject ON events (subject, seq);
CREATE INDEX events_kind ON events (kind, seq);

-- One row: the end of the chain. Whoever appends holds it until commit, so places are given in the order of commits.
CREATE TABLE event_head (
    id   BIGINT PRIMARY KEY CHECK (id = 1),
    seq  BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO event_head (id, seq, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Where the next status list index comes from.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('status_index', 0);

-- Creates that may be repeated (Idempotency-Key): what was made, never the secret that was shown.
CREATE TABLE idempotency_keys (
    actor      TEXT NOT NULL,
    key        TEXT NOT NULL,
    request    TEXT NOT NULL,
    made       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
