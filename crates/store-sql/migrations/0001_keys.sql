-- Keys without their texts: digests only. Times are milliseconds since 1970 in UTC.

CREATE TABLE store (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;

INSERT INTO store (one, revision) VALUES (1, 1);

CREATE TABLE keys (
    id                  TEXT    PRIMARY KEY,
    name                TEXT    NOT NULL,
    team                TEXT,
    digest              BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    last_four           TEXT    NOT NULL,
    prefix              TEXT    NOT NULL,
    scopes              TEXT    NOT NULL,
    models              TEXT,
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    concurrent_requests INTEGER CHECK (concurrent_requests > 0),
    created             INTEGER NOT NULL,
    created_by          TEXT,
    expires             INTEGER,
    revoked             INTEGER,
    rotated             INTEGER,
    previous_digest     BLOB    UNIQUE CHECK (previous_digest IS NULL OR length(previous_digest) = 32),
    previous_last_four  TEXT,
    previous_until      INTEGER,
    version             INTEGER NOT NULL
) STRICT;

-- A revoked key gives its name free.
CREATE UNIQUE INDEX keys_name ON keys (name) WHERE revoked IS NULL;
