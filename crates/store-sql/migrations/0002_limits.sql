-- What a key may ask for and spend, as JSON: there are more kinds of limit than columns are worth.

ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE keys ADD COLUMN budget TEXT;
UPDATE keys SET limits = json_object(
    'requests_per_minute', requests_per_minute,
    'concurrent_requests', concurrent_requests
);
ALTER TABLE keys DROP COLUMN requests_per_minute;
ALTER TABLE keys DROP COLUMN concurrent_requests;
