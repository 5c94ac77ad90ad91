-- Who answers for a key: `user` or `service`, and a name.
ALTER TABLE keys ADD COLUMN owner_kind TEXT CHECK (owner_kind IN ('user', 'service'));
ALTER TABLE keys ADD COLUMN owner TEXT CHECK ((owner IS NULL) = (owner_kind IS NULL));

-- Teams; those of the config are not here. `settings` is JSON, by the rules of the config's section.
CREATE TABLE teams (
    name     TEXT    PRIMARY KEY,
    settings TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    version  INTEGER NOT NULL
) STRICT;

-- People who signed in with a browser. The digest is that of the cookie's text, which is kept nowhere.
CREATE TABLE sessions (
    digest  BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    id      TEXT    NOT NULL UNIQUE,
    issuer  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    -- The session's name at the issuer, where it told one.
    sid     TEXT,
    name    TEXT    NOT NULL,
    role    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    seen    INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_expires ON sessions (expires);
