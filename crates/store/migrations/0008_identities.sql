-- Whose identity tokens an API accepts beside those of the client that calls: clients (space-separated), and issuers
-- beside Keyward (a JSON array of issuer, audience and perhaps scope and res).
ALTER TABLE apis ADD COLUMN identity_clients TEXT NOT NULL DEFAULT '';
ALTER TABLE apis ADD COLUMN identity_issuers TEXT NOT NULL DEFAULT '[]';
