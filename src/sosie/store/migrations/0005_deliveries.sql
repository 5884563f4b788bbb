-- A delivery is recorded once, with the bytes that its file has, and counts when they are there.

ALTER TABLE deliveries ADD COLUMN sha256 TEXT;    -- of the file's bytes; NULL: recorded by an earlier version
ALTER TABLE deliveries ADD COLUMN finished TEXT;  -- NULL: begun, and the file may not be there

UPDATE deliveries SET finished = created;
DELETE FROM deliveries WHERE id NOT IN (SELECT max(id) FROM deliveries GROUP BY plan, path);
CREATE UNIQUE INDEX deliveries_once ON deliveries (plan, path);
CREATE INDEX deliveries_begun ON deliveries (id) WHERE finished IS NULL;
