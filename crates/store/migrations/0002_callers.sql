-- From where credentials are used: one row a caller, counted up in batches and never back.
CREATE TABLE callers (
    credential    TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Who saw it: empty for the token endpoint, else the client (an API, a gateway) that reported it.
    reporter      TEXT NOT NULL,
    network       TEXT NOT NULL,
    user_agent    TEXT NOT NULL,
    instance      TEXT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at  BIGINT NOT NULL,
    accepted      BIGINT NOT NULL,
    -- With the right secret, after the credential's end.
    refused       BIGINT NOT NULL,
    PRIMARY KEY (credential, reporter, network, user_agent, instance)
);
CREATE INDEX callers_last_seen ON callers (credential, last_seen_at);
