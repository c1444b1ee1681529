-- A credential that retires because it has leaked: nothing prolongs it. Without a successor, only a leak had retired one.
ALTER TABLE credentials ADD COLUMN leaked_at BIGINT;
UPDATE credentials SET leaked_at = updated_at WHERE state = 'retiring' AND successor IS NULL;

-- What the report of owners reads: credentials that have not ended and have rights of their own.
CREATE INDEX credentials_narrowed ON credentials (client, id)
    WHERE ended_at IS NULL AND (scope IS NOT NULL OR res IS NOT NULL);

-- Every offer is another one, also in the same instant: the ETag.
ALTER TABLE transfers ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
INSERT INTO counters (name, value) VALUES ('transfer', 0);
