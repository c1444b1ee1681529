-- The few clients and users that are disabled, without going through all others: the status list asks whenever something
-- has changed.
CREATE INDEX clients_disabled ON clients (disabled_at) WHERE disabled_at IS NOT NULL;
CREATE INDEX users_disabled ON users (disabled_at) WHERE disabled_at IS NOT NULL;
