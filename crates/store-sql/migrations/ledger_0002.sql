-- Which gateway process has the reservation open. An empty text: one from before ids were kept.
ALTER TABLE open ADD COLUMN gateway TEXT NOT NULL DEFAULT '';
