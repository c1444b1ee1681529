-- From where credentials are used: one row a caller, counted up in batches and never back.
CREATE TABLE callers (
    credential    TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Stands for reporter, network, user_agent and instance together: short in the index and in cursors.
    -- "other" is the row in which the callers beyond the most that are told apart are counted together.
    fingerprint   TEXT NOT NULL,
    -- Who saw it: empty for the server itself, else the client (an API, a gateway) that reported it.
    reporter      TEXT NOT NULL,
    network       TEXT NOT NULL,
    user_agent    TEXT NOT NULL,
    instance      TEXT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at  BIGINT NOT NULL,
    accepted      BIGINT NOT NULL,
    -- With the right secret, after the credential's end.
    refused       BIGINT NOT NULL,
    PRIMARY KEY (credential, fingerprint)
) {{CLUSTERED}};
-- For forgetting those not seen for long; within one credential there are too few rows for an index.
CREATE INDEX callers_last_seen ON callers (last_seen_at);
-- The credentials that had more callers than are told apart: few.
CREATE INDEX callers_other ON callers (credential) WHERE fingerprint = 'other';
