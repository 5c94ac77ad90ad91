-- Who changed what, and who was turned away. Rows are only ever added; `hash` covers the row and the hash before it.
-- Times are milliseconds since 1970 in UTC.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    object TEXT    NOT NULL,
    before TEXT,
    after  TEXT,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Against slips, not against whoever may write the file: that is what the hashes are for.
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
