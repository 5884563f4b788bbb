-- What people decided, noted, tried and rented. Nothing in it is changed or removed: what is new is a row more.

CREATE TABLE entries (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,                -- decision, note, task, trial, rental, file
  number INTEGER NOT NULL,           -- of the entry, among those of its kind
  version INTEGER NOT NULL,          -- 1, 2, ...: the newest is what counts
  character TEXT NOT NULL,           -- '': of the whole workspace
  created TEXT NOT NULL,
  json TEXT NOT NULL,                -- the whole noun
  UNIQUE (kind, number, version)
) STRICT;

CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN
  SELECT RAISE(ABORT, 'entries are never deleted');
END;

CREATE TRIGGER entries_are_as_written BEFORE UPDATE ON entries BEGIN
  SELECT RAISE(ABORT, 'entries are never changed');
END;
