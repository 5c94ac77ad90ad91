-- Answers to requests with an idempotency key, and who runs one. Digests are keyed and answers sealed: nothing here can be
-- read without the server's pepper and the client's key. Times are milliseconds since 1970 in UTC.

CREATE TABLE answers (
    -- Counts up: the smallest is the oldest.
    place  INTEGER PRIMARY KEY AUTOINCREMENT,
    slot   BLOB    NOT NULL UNIQUE,
    tenant BLOB    NOT NULL,
    print  BLOB    NOT NULL,
    -- Who runs, or ran.
    ticket BLOB    NOT NULL,
    -- When the lease runs out, or the answer.
    until  INTEGER NOT NULL,
    -- What it counts as; 0 while it runs.
    weight INTEGER NOT NULL,
    -- Nothing while it runs.
    answer BLOB
) STRICT;

CREATE INDEX answers_until ON answers (until);
CREATE INDEX answers_tenant ON answers (tenant, place) WHERE answer IS NOT NULL;

-- How much each tenant keeps, and under x'00' all together.
CREATE TABLE tenants (
    tenant BLOB    PRIMARY KEY,
    weight INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER answers_come AFTER INSERT ON answers WHEN new.weight > 0 BEGIN
    INSERT INTO tenants (tenant, weight) VALUES (new.tenant, new.weight), (x'00', new.weight)
        ON CONFLICT (tenant) DO UPDATE SET weight = weight + excluded.weight;
END;

-- A slot whose answer's time is over is taken anew.
CREATE TRIGGER answers_anew AFTER UPDATE OF weight ON answers WHEN old.weight > 0 BEGIN
    UPDATE tenants SET weight = weight - old.weight WHERE tenant IN (old.tenant, x'00');
    DELETE FROM tenants WHERE tenant = old.tenant AND weight <= 0;
END;

CREATE TRIGGER answers_go AFTER DELETE ON answers WHEN old.weight > 0 BEGIN
    UPDATE tenants SET weight = weight - old.weight WHERE tenant IN (old.tenant, x'00');
    DELETE FROM tenants WHERE tenant = old.tenant AND weight <= 0;
END;
