-- Receivers of notices over HTTP. For a day after a change of its secret, the one before signs too.
CREATE TABLE webhooks (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    url             TEXT NOT NULL,
    kinds           TEXT NOT NULL,
    sealed          {{BLOB}} NOT NULL,
    sealed_before   {{BLOB}},
    before_until    BIGINT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);

-- What people are told, once for each occasion. A notice outlives its credential: somebody may still wait for it.
CREATE TABLE notices (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    credential TEXT NOT NULL,
    -- The instant it is about (0 for none), and the rung before it, the day after it, or the network.
    deadline   BIGINT NOT NULL,
    rung       TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (credential, kind, deadline, rung)
);
CREATE INDEX notices_created ON notices (created_at);

-- Notices on their way, one row a receiver. Whoever sends moves due_at ahead first: of several nodes one does, and if it
-- dies another does when that time has come.
CREATE TABLE deliveries (
    id       TEXT PRIMARY KEY,
    notice   TEXT NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    channel  TEXT NOT NULL,
    target   TEXT NOT NULL,
    state    TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at   BIGINT NOT NULL,
    problem  TEXT NOT NULL,
    ended_at BIGINT,
    UNIQUE (notice, target),
    CHECK (state IN ('waiting', 'sent', 'dead')),
    CHECK ((state = 'waiting') = (ended_at IS NULL))
);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state = 'waiting';
CREATE INDEX deliveries_target ON deliveries (target, id);

-- New callers are found by when they were first seen.
CREATE INDEX callers_first_seen ON callers (first_seen_at);
