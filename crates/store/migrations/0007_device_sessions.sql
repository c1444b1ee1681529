-- Logins of users that last: what a device or a terminal has got. "user" is a word of SQL, so the column is not called so.
CREATE TABLE device_sessions (
    id               TEXT PRIMARY KEY,
    user_id          TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client           TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    label            TEXT NOT NULL,
    scope            TEXT NOT NULL,
    res              TEXT NOT NULL,
    status_index     BIGINT NOT NULL UNIQUE,
    authenticated_at BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    ended_at         BIGINT,
    end_reason       TEXT,
    created_from     TEXT,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    version          BIGINT NOT NULL,
    -- No end without its instant and its reason.
    CHECK (end_reason IN ('revoked', 'expired')),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) {{CLUSTERED}};
CREATE INDEX device_sessions_user ON device_sessions (user_id, id);
CREATE INDEX device_sessions_client ON device_sessions (client, id);
CREATE INDEX device_sessions_ended ON device_sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX device_sessions_expires ON device_sessions (expires_at) WHERE ended_at IS NULL;

-- Where in the log tokens were last ended because a scope or an API is worth less: whoever reads the places that were
-- given out then must judge rights by what is true there.
INSERT INTO counters (name, value) VALUES ('catalogue_lowered', 0);

-- The place in the log of the first event of the change that ended the place: so the feed finds what a change ended.
ALTER TABLE ended_status_indices ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
CREATE INDEX ended_status_indices_seq ON ended_status_indices (seq);
CREATE INDEX ended_status_indices_known ON ended_status_indices (known_until);
