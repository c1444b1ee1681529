-- Callers beyond the most that are told apart are counted together by whoever saw them: the server, or each client that
-- reports some. Such a row has no network; its fingerprint is "other" with the reporter's id behind it.
DROP INDEX callers_other;
-- When a caller was last seen moves with its every use: an index of that moved as often, for every key that is in use, and
-- was a sixth of the work of writing callers down. All it served was to forget those not seen for long. They are found
-- without haste instead, by going through the table in the order of its key.
DROP INDEX callers_last_seen;
CREATE INDEX callers_together ON callers (credential, reporter) WHERE network = '';
