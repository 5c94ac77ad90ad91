-- One row per ended request. What is searched or added up is a column, the rest is JSON in `detail`.
-- Times are microseconds since 1970 in UTC, money is millionths of a US dollar.

CREATE TABLE records (
    -- When the request ended, moved on by a microsecond where that moment is taken: order, age and cursor in one.
    place        INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL,
    key          TEXT,
    team         TEXT,
    model        TEXT,
    provider     TEXT,
    -- 0 delivered whole, 1 the asker left, 2 refused, 3 broken after it had begun.
    status       INTEGER NOT NULL,
    code         TEXT    NOT NULL,
    -- Tokens; null: no answer began, or nobody said. `input` includes the cache's, `output` the reasoning.
    input        INTEGER,
    output       INTEGER,
    cached_input INTEGER,
    cache_write  INTEGER,
    reasoning    INTEGER,
    estimated    INTEGER NOT NULL,
    -- Null: nothing to pay for. -1: nobody knows.
    cost         INTEGER,
    -- An object of texts.
    tags         TEXT,
    detail       TEXT    NOT NULL
) STRICT;

-- Ids begin with the time, so that this index grows at its end.
CREATE INDEX records_id ON records (id);

-- The sums of each hour, kept beside the records in the same transaction. An empty text: there was none.
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

-- What was captured, of teams that have capture on.
CREATE TABLE contents (
    place       INTEGER PRIMARY KEY,
    expires     INTEGER NOT NULL,
    request     BLOB    NOT NULL,
    request_cut INTEGER NOT NULL,
    answer      BLOB    NOT NULL,
    answer_cut  INTEGER NOT NULL,
    -- text, body or events, and the dialect of the latter two.
    form        TEXT    NOT NULL,
    dialect     TEXT
) STRICT;

CREATE INDEX contents_expires ON contents (expires);
