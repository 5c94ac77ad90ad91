-- Every reservation of tokens and money, and its end. Rows of `entries` are only ever added. Times are microseconds since
-- 1970 in UTC, money is millionths of a US dollar.

CREATE TABLE entries (
    -- When the reservation ended, moved on by a microsecond where that moment is taken.
    place           INTEGER PRIMARY KEY,
    -- The request. It has one end and no second one.
    id              TEXT    NOT NULL UNIQUE,
    -- 0 settled with what was used, 1 given back whole, 2 left by a process that is no more and settled as estimated.
    kind            INTEGER NOT NULL,
    begun           INTEGER NOT NULL,
    key             TEXT    NOT NULL,
    team            TEXT,
    model           TEXT,
    -- What was held at the end.
    reserved_input  INTEGER NOT NULL,
    reserved_output INTEGER NOT NULL,
    reserved_cost   INTEGER NOT NULL,
    -- Tokens; null: no answer began. `input` includes the cache's, `output` the reasoning.
    input           INTEGER,
    output          INTEGER,
    cached_input    INTEGER,
    cache_write     INTEGER,
    reasoning       INTEGER,
    estimated       INTEGER NOT NULL,
    -- Null: nothing to pay for. -1: nobody knows.
    cost            INTEGER,
    -- An object of texts.
    tags            TEXT
) STRICT;

-- Reservations that are open, with what their answers have used so far: what a crash leaves to be settled.
CREATE TABLE open (
    id              TEXT    PRIMARY KEY,
    begun           INTEGER NOT NULL,
    key             TEXT    NOT NULL,
    team            TEXT,
    model           TEXT,
    reserved_input  INTEGER NOT NULL,
    reserved_output INTEGER NOT NULL,
    reserved_cost   INTEGER NOT NULL,
    -- Null: no provider was called yet.
    input           INTEGER,
    output          INTEGER,
    cost            INTEGER,
    tags            TEXT
) STRICT, WITHOUT ROWID;

-- The sums of each hour, kept in the same transaction. An empty text: there was none.
CREATE TABLE hours (
    hour             INTEGER NOT NULL,
    key              TEXT    NOT NULL,
    team             TEXT    NOT NULL,
    model            TEXT    NOT NULL,
    requests         INTEGER NOT NULL,
    input            INTEGER NOT NULL,
    output           INTEGER NOT NULL,
    cached_input     INTEGER NOT NULL,
    cache_write      INTEGER NOT NULL,
    reasoning        INTEGER NOT NULL,
    estimated        INTEGER NOT NULL,
    estimated_input  INTEGER NOT NULL,
    estimated_output INTEGER NOT NULL,
    cost             INTEGER NOT NULL,
    unpriced         INTEGER NOT NULL,
    PRIMARY KEY (hour, key, team, model)
) STRICT, WITHOUT ROWID;

-- What was spent ever. Levels: 0 key, 1 team, 2 organisation, 3 model.
CREATE TABLE totals (
    level INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    cost  INTEGER NOT NULL,
    PRIMARY KEY (level, name)
) STRICT, WITHOUT ROWID;

-- What reports by label read: the same names as in the file of records.
CREATE VIEW records AS
    SELECT place, key, team, model, tags, input, output, cached_input, cache_write, reasoning, estimated, cost
    FROM entries;
