-- Clients offered to another owner: one open offer a client. It stands for the client as it was when offered.
CREATE TABLE transfers (
    client         TEXT PRIMARY KEY REFERENCES clients (id) ON DELETE CASCADE,
    owner          TEXT NOT NULL REFERENCES users (id),
    offered_by     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    offered_to     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_version BIGINT NOT NULL,
    offered_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL
) {{CLUSTERED}};
CREATE INDEX transfers_owner ON transfers (owner, client);
CREATE INDEX transfers_offered_by ON transfers (offered_by, client);
CREATE INDEX transfers_offered_to ON transfers (offered_to, client);
CREATE INDEX transfers_expires ON transfers (expires_at);
