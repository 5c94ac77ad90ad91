-- Answers to requests with an idempotency key, and who runs one: as in SQLite's file of them.

CREATE TABLE answers (
    place  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot   BYTEA  NOT NULL UNIQUE,
    tenant BYTEA  NOT NULL,
    print  BYTEA  NOT NULL,
    ticket BYTEA  NOT NULL,
    until  BIGINT NOT NULL,
    weight BIGINT NOT NULL,
    answer BYTEA
);

CREATE INDEX answers_until ON answers (until);
CREATE INDEX answers_tenant ON answers (tenant, place) WHERE answer IS NOT NULL;

CREATE TABLE tenants (
    tenant BYTEA  PRIMARY KEY,
    weight BIGINT NOT NULL
);

CREATE FUNCTION answers_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO tenants (tenant, weight) VALUES (new.tenant, new.weight), ('\x00', new.weight)
        ON CONFLICT (tenant) DO UPDATE SET weight = tenants.weight + excluded.weight;
    RETURN NULL;
END $$;
CREATE TRIGGER answers_come AFTER INSERT ON answers
    FOR EACH ROW WHEN (new.weight > 0) EXECUTE FUNCTION answers_come();

CREATE FUNCTION answers_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE tenants SET weight = weight - old.weight WHERE tenant IN (old.tenant, '\x00');
    DELETE FROM tenants WHERE tenant = old.tenant AND weight <= 0;
    RETURN NULL;
END $$;
CREATE TRIGGER answers_anew AFTER UPDATE OF weight ON answers
    FOR EACH ROW WHEN (old.weight > 0) EXECUTE FUNCTION answers_go();
CREATE TRIGGER answers_go AFTER DELETE ON answers
    FOR EACH ROW WHEN (old.weight > 0) EXECUTE FUNCTION answers_go();
