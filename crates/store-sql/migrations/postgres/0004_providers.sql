-- Told in ledger_0003.sql and 0005_priority.sql for SQLite.
ALTER TABLE ledger_entries ADD COLUMN provider TEXT;
ALTER TABLE ledger_open ADD COLUMN provider TEXT;

CREATE TABLE ledger_provider_hours (
    hour     BIGINT NOT NULL,
    provider TEXT   NOT NULL,
    cost     BIGINT NOT NULL,
    PRIMARY KEY (hour, provider)
);

ALTER TABLE keys ADD COLUMN priority TEXT;
