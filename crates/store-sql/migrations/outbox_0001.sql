-- Events, and their deliveries to those who are told. Times are microseconds since 1970 in UTC.

-- What happened. A row stays as long as the same event may be noticed again, so that it is told once.
CREATE TABLE events (
    id    TEXT    PRIMARY KEY,
    kind  TEXT    NOT NULL,
    at    INTEGER NOT NULL,
    -- What is sent, byte for byte, at every attempt.
    body  TEXT    NOT NULL,
    -- Until when it has to be remembered; null: for good.
    until INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    -- In the order in which they were taken.
    place    INTEGER PRIMARY KEY,
    id       TEXT    NOT NULL UNIQUE,
    event    TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    endpoint TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    -- 0 waits, 1 delivered, 2 given up.
    state    INTEGER NOT NULL,
    -- 1: what comes later for this endpoint waits for it.
    in_line  INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    -- Until when somebody is at it.
    claimed  INTEGER NOT NULL,
    last     INTEGER,
    status   INTEGER,
    trouble  TEXT
) STRICT;

CREATE INDEX deliveries_waiting ON deliveries (endpoint, in_line, place) WHERE state = 0;
CREATE INDEX deliveries_state ON deliveries (state, place);
CREATE INDEX deliveries_event ON deliveries (event);
