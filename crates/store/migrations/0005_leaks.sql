-- A credential that retires because it has leaked: nothing prolongs it. Without a successor, only a leak had retired one.
ALTER TABLE credentials ADD COLUMN leaked_at BIGINT;
UPDATE credentials SET leaked_at = updated_at WHERE state = 'retiring' AND successor IS NULL;
