-- The addresses that a key may be sent from, with spaces between; null is everywhere.
ALTER TABLE keys ADD COLUMN allow_ips TEXT;
