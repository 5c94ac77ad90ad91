-- How urgent a key's requests are: interactive, standard or batch; null is as its team.
ALTER TABLE keys ADD COLUMN priority TEXT;
