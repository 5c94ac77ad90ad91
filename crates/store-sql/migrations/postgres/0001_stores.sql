-- All that several gateways share. Each part is told in the file of the same name for SQLite; what follows says where it
-- differs. Truth values are 0 and 1, so that the same questions are asked of both.

-- The revision of keys and teams, and a digest by which a gateway with another pepper is told.
CREATE TABLE store (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL,
    pepper   BYTEA
);

INSERT INTO store (one, revision) VALUES (1, 1);

-- Times are milliseconds since 1970 in UTC.
CREATE TABLE keys (
    id                 TEXT   PRIMARY KEY,
    name               TEXT   NOT NULL,
    team               TEXT,
    digest             BYTEA  NOT NULL CONSTRAINT keys_digest UNIQUE CHECK (length(digest) = 32),
    last_four          TEXT   NOT NULL,
    prefix             TEXT   NOT NULL,
    scopes             TEXT   NOT NULL,
    models             TEXT,
    limits             TEXT   NOT NULL,
    budget             TEXT,
    allow_ips          TEXT,
    created            BIGINT NOT NULL,
    created_by         TEXT,
    expires            BIGINT,
    revoked            BIGINT,
    rotated            BIGINT,
    previous_digest    BYTEA  CONSTRAINT keys_previous_digest UNIQUE CHECK (length(previous_digest) = 32),
    previous_last_four TEXT,
    previous_until     BIGINT,
    owner_kind         TEXT   CHECK (owner_kind IN ('user', 'service')),
    owner              TEXT   CHECK ((owner IS NULL) = (owner_kind IS NULL)),
    version            BIGINT NOT NULL
);

CREATE UNIQUE INDEX keys_name ON keys (name) WHERE revoked IS NULL;

CREATE TABLE teams (
    name     TEXT   PRIMARY KEY,
    settings TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    changed  BIGINT NOT NULL,
    version  BIGINT NOT NULL
);

CREATE TABLE sessions (
    digest  BYTEA  PRIMARY KEY CHECK (length(digest) = 32),
    id      TEXT   NOT NULL UNIQUE,
    issuer  TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    sid     TEXT,
    name    TEXT   NOT NULL,
    role    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE INDEX sessions_expires ON sessions (expires);

-- One chain of all gateways.
CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT   NOT NULL,
    action TEXT   NOT NULL,
    object TEXT   NOT NULL,
    before TEXT,
    after  TEXT,
    hash   BYTEA  NOT NULL CHECK (length(hash) = 32)
);

CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit log is only added to'; END $$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit EXECUTE FUNCTION audit_stays();

-- Times are microseconds since 1970 in UTC, money is millionths of a US dollar.
CREATE TABLE records (
    place        BIGINT PRIMARY KEY,
    id           TEXT   NOT NULL,
    key          TEXT,
    team         TEXT,
    model        TEXT,
    provider     TEXT,
    status       BIGINT NOT NULL,
    code         TEXT   NOT NULL,
    input        BIGINT,
    output       BIGINT,
    cached_input BIGINT,
    cache_write  BIGINT,
    reasoning    BIGINT,
    estimated    BIGINT NOT NULL,
    cost         BIGINT,
    tags         TEXT,
    detail       TEXT   NOT NULL
);

CREATE INDEX records_id ON records (id);

CREATE TABLE hours (
    hour             BIGINT NOT NULL,
    key              TEXT   NOT NULL,
    team             TEXT   NOT NULL,
    model            TEXT   NOT NULL,
    requests         BIGINT NOT NULL,
    input            BIGINT NOT NULL,
    output           BIGINT NOT NULL,
    cached_input     BIGINT NOT NULL,
    cache_write      BIGINT NOT NULL,
    reasoning        BIGINT NOT NULL,
    estimated        BIGINT NOT NULL,
    estimated_input  BIGINT NOT NULL,
    estimated_output BIGINT NOT NULL,
    cost             BIGINT NOT NULL,
    unpriced         BIGINT NOT NULL,
    PRIMARY KEY (hour, key, team, model)
);

CREATE TABLE contents (
    place       BIGINT PRIMARY KEY,
    expires     BIGINT NOT NULL,
    request     BYTEA  NOT NULL,
    request_cut BIGINT NOT NULL,
    answer      BYTEA  NOT NULL,
    answer_cut  BIGINT NOT NULL,
    form        TEXT   NOT NULL,
    dialect     TEXT
);

CREATE INDEX contents_expires ON contents (expires);

-- Which gateways live, by the clock of this server.
CREATE TABLE gateways (
    id   TEXT        PRIMARY KEY,
    seen TIMESTAMPTZ NOT NULL
);

CREATE TABLE ledger_entries (
    place           BIGINT PRIMARY KEY,
    id              TEXT   NOT NULL UNIQUE,
    kind            BIGINT NOT NULL,
    begun           BIGINT NOT NULL,
    key             TEXT   NOT NULL,
    team            TEXT,
    model           TEXT,
    reserved_input  BIGINT NOT NULL,
    reserved_output BIGINT NOT NULL,
    reserved_cost   BIGINT NOT NULL,
    input           BIGINT,
    output          BIGINT,
    cached_input    BIGINT,
    cache_write     BIGINT,
    reasoning       BIGINT,
    estimated       BIGINT NOT NULL,
    cost            BIGINT,
    tags            TEXT
);

CREATE TABLE ledger_open (
    id              TEXT   PRIMARY KEY,
    gateway         TEXT   NOT NULL,
    begun           BIGINT NOT NULL,
    key             TEXT   NOT NULL,
    team            TEXT,
    model           TEXT,
    reserved_input  BIGINT NOT NULL,
    reserved_output BIGINT NOT NULL,
    reserved_cost   BIGINT NOT NULL,
    input           BIGINT,
    output          BIGINT,
    cost            BIGINT,
    tags            TEXT
);

CREATE INDEX ledger_open_gateway ON ledger_open (gateway);

CREATE TABLE ledger_hours (LIKE hours INCLUDING ALL);

CREATE TABLE ledger_totals (
    level BIGINT NOT NULL,
    name  TEXT   NOT NULL,
    cost  BIGINT NOT NULL,
    PRIMARY KEY (level, name)
);

-- Times are milliseconds since 1970 in UTC.
CREATE TABLE responses (
    place    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner    TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    previous TEXT,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    response BYTEA  NOT NULL,
    input    BYTEA  NOT NULL,
    UNIQUE (owner, id)
);

CREATE INDEX responses_expires ON responses (expires);

CREATE TABLE items (
    owner TEXT   NOT NULL,
    item  TEXT   NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (owner, item, place)
);

CREATE INDEX items_place ON items (place);

CREATE TABLE owners (
    owner TEXT   PRIMARY KEY,
    bytes BIGINT NOT NULL
);

CREATE FUNCTION responses_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO owners (owner, bytes) VALUES (new.owner, new.bytes)
        ON CONFLICT (owner) DO UPDATE SET bytes = owners.bytes + excluded.bytes;
    RETURN NULL;
END $$;
CREATE TRIGGER responses_come AFTER INSERT ON responses FOR EACH ROW EXECUTE FUNCTION responses_come();

CREATE FUNCTION responses_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM items WHERE place = old.place;
    UPDATE owners SET bytes = bytes - old.bytes WHERE owner = old.owner;
    DELETE FROM owners WHERE owner = old.owner AND bytes <= 0;
    RETURN NULL;
END $$;
CREATE TRIGGER responses_go AFTER DELETE ON responses FOR EACH ROW EXECUTE FUNCTION responses_go();
