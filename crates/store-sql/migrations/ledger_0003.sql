-- Who answered, or was asked last. Null: nobody, or an entry from before this was kept.
ALTER TABLE entries ADD COLUMN provider TEXT;
ALTER TABLE open ADD COLUMN provider TEXT;

-- What was paid to each provider in each hour, kept in the same transaction: one request may have to pay several. What was paid
-- ever stands in `totals` under level 4.
CREATE TABLE provider_hours (
    hour     INTEGER NOT NULL,
    provider TEXT    NOT NULL,
    cost     INTEGER NOT NULL,
    PRIMARY KEY (hour, provider)
) STRICT, WITHOUT ROWID;
