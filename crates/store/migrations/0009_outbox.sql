-- How many wait for one receiver, and which are dead, without going through all it ever got.
CREATE INDEX deliveries_target_state ON deliveries (target, state, id);
-- The lists of one state and of one kind, the newest first.
CREATE INDEX deliveries_state ON deliveries (state, id);
CREATE INDEX notices_kind ON notices (kind, id);
