-- Stages that work on an image: what they said and measured, and the images that came from elsewhere.

ALTER TABLE renders ADD COLUMN notes TEXT NOT NULL DEFAULT '{"findings":[],"measures":[]}';  -- JSON

-- An image that a plan works on and that no render of this store made.
CREATE TABLE sources (
  pixels TEXT PRIMARY KEY,           -- what plans name it by
  image TEXT NOT NULL REFERENCES images (sha256),
  created TEXT NOT NULL
) STRICT;
