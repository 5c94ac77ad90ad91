-- Events, and their deliveries to those who are told: as in SQLite's file of them.

CREATE TABLE events (
    id    TEXT   PRIMARY KEY,
    kind  TEXT   NOT NULL,
    at    BIGINT NOT NULL,
    body  TEXT   NOT NULL,
    until BIGINT
);

CREATE TABLE deliveries (
    place    BIGINT PRIMARY KEY,
    id       TEXT   NOT NULL UNIQUE,
    event    TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    endpoint TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    state    BIGINT NOT NULL,
    in_line  BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    due      BIGINT NOT NULL,
    claimed  BIGINT NOT NULL,
    last     BIGINT,
    status   BIGINT,
    trouble  TEXT
);

CREATE INDEX deliveries_waiting ON deliveries (endpoint, in_line, place) WHERE state = 0;
CREATE INDEX deliveries_state ON deliveries (state, place);
CREATE INDEX deliveries_event ON deliveries (event);
