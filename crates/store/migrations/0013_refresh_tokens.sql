-- How the user of a device session proved who they are, in the words of RFC 8176.
ALTER TABLE device_sessions ADD COLUMN amr TEXT NOT NULL DEFAULT '';

-- One row a session that can be refreshed, however often it is: its refresh token and the one before. A session that has
-- ended has none. Kept are keyed hashes; the last answer is sealed under a key that only its receiver can make.
CREATE TABLE refresh_tokens (
    session         TEXT PRIMARY KEY REFERENCES device_sessions (id) ON DELETE CASCADE,
    current_hash    {{BLOB}} NOT NULL,
    previous_hash   {{BLOB}},
    rotated_at      BIGINT NOT NULL,
    idle_at         BIGINT NOT NULL,
    sealed_response {{BLOB}},
    sealed_until    BIGINT,
    CHECK ((sealed_response IS NULL) = (sealed_until IS NULL))
);
CREATE INDEX refresh_tokens_idle ON refresh_tokens (idle_at);
CREATE INDEX refresh_tokens_sealed ON refresh_tokens (sealed_until) WHERE sealed_until IS NOT NULL;

-- Where browsers may be led back to after a user has let a client in: URIs with a space between.
ALTER TABLE clients ADD COLUMN redirect_uris TEXT NOT NULL DEFAULT '';

-- What a user let a client have, until the client comes for it with the code. A code that was redeemed stays known for a
-- while: whoever comes with it again ends the session that it gave.
CREATE TABLE authorization_codes (
    code_hash        {{BLOB}} PRIMARY KEY,
    client           TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    user_id          TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    redirect_uri     TEXT NOT NULL,
    code_challenge   TEXT NOT NULL,
    scope            TEXT NOT NULL,
    res              TEXT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    amr              TEXT NOT NULL,
    created_from     TEXT,
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    redeemed_at      BIGINT,
    session          TEXT
);
CREATE INDEX authorization_codes_expires ON authorization_codes (expires_at);
