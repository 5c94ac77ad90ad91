-- Responses that their askers had stored, each with what was asked for it. Times are milliseconds since 1970 in UTC.

CREATE TABLE responses (
    place    INTEGER PRIMARY KEY,
    owner    TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    -- The response that this one continues, which may be gone.
    previous TEXT,
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    -- Last, so that whoever asks for the others does not read them.
    response BLOB    NOT NULL,
    input    BLOB    NOT NULL,
    UNIQUE (owner, id)
) STRICT;

CREATE INDEX responses_expires ON responses (expires);

-- Which response holds an item.
CREATE TABLE items (
    owner TEXT    NOT NULL,
    item  TEXT    NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (owner, item, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX items_place ON items (place);

-- How much each owner keeps.
CREATE TABLE owners (
    owner TEXT    PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER responses_come AFTER INSERT ON responses BEGIN
    INSERT INTO owners (owner, bytes) VALUES (new.owner, new.bytes)
        ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER responses_go AFTER DELETE ON responses BEGIN
    DELETE FROM items WHERE place = old.place;
    UPDATE owners SET bytes = bytes - old.bytes WHERE owner = old.owner;
    DELETE FROM owners WHERE owner = old.owner AND bytes <= 0;
END;
