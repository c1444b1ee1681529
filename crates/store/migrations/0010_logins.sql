-- How users sign in. Secrets are kept as keyed hashes only; passwords as Argon2id, keyed too.

CREATE TABLE passwords (
    user_id    TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash       TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE passkeys (
    id            TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    credential_id {{BLOB}} NOT NULL UNIQUE,
    verifier      TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    used_at       BIGINT
);
CREATE INDEX passkeys_user ON passkeys (user_id, id);

-- Challenges that were answered, until they would have ended anyway: none is answered twice. Those that nobody answered
-- are nowhere but with whoever asked for them.
CREATE TABLE spent_challenges (
    challenge  {{BLOB}} PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX spent_challenges_expires ON spent_challenges (expires_at);

CREATE TABLE recovery_codes (
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash {{BLOB}} NOT NULL,
    PRIMARY KEY (user_id, code_hash)
);

-- One open invitation a user: a new one ends the one before.
CREATE TABLE invitations (
    user_id    TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    token_hash {{BLOB}} NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);

-- Browsers in which somebody is signed in. A login that has ended has no row.
CREATE TABLE login_sessions (
    id         TEXT PRIMARY KEY,
    token_hash {{BLOB}} NOT NULL UNIQUE,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    method     TEXT NOT NULL,
    network    TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL
);
CREATE INDEX login_sessions_user ON login_sessions (user_id, id);
CREATE INDEX login_sessions_ends ON login_sessions (ends_at);
