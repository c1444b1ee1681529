-- Callers beyond the most that are told apart are counted together by whoever saw them: the server, or each client that
-- reports some. Such a row has no network; its fingerprint is "other" with the reporter's id behind it.
DROP INDEX callers_other;
CREATE INDEX callers_together ON callers (credential, reporter) WHERE network = '';
