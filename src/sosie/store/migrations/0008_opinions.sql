-- What people say of images, beside what the machine says. Nothing in it is changed: the newest row of a render counts.

CREATE TABLE opinions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  render INTEGER NOT NULL REFERENCES renders (id) ON DELETE CASCADE,
  verdict TEXT NOT NULL CHECK (verdict IN ('keep', 'reject', '')),  -- '': none, or taken back
  stars INTEGER CHECK (stars BETWEEN 1 AND 5),                      -- NULL: none
  created TEXT NOT NULL
) STRICT;
CREATE INDEX opinions_render ON opinions (render, id);
CREATE INDEX scores_name ON scores (name) WHERE passed = 0;
