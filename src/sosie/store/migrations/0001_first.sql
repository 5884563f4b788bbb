-- The first catalogue. Digests are 64 hex digits; times are ISO 8601 in UTC; `json` columns are
-- read back as the nouns they were written from, the other columns are there to be searched.

CREATE TABLE migrations (
  version INTEGER PRIMARY KEY,
  applied TEXT NOT NULL
) STRICT;

CREATE TABLE models (
  id INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL,              -- '' for a remote file that cannot be read
  name TEXT NOT NULL,
  role TEXT NOT NULL,                -- model, guide or encoder
  UNIQUE (sha256, name, role)
) STRICT;

CREATE TABLE environments (
  id TEXT PRIMARY KEY,               -- SHA-256 of the canonical JSON
  json TEXT NOT NULL
) STRICT;

CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  command TEXT NOT NULL,
  arguments TEXT NOT NULL,           -- JSON object
  started TEXT NOT NULL,
  finished TEXT,                     -- NULL: still running, or killed
  outcome TEXT
) STRICT;

CREATE TABLE findings (
  id INTEGER PRIMARY KEY,
  run INTEGER REFERENCES runs (id),  -- NULL: found by the store itself
  code TEXT NOT NULL,
  severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
  subject TEXT NOT NULL,
  message TEXT NOT NULL,
  hint TEXT NOT NULL
) STRICT;
CREATE INDEX findings_run ON findings (run);

CREATE TABLE plans (
  id TEXT PRIMARY KEY,
  json TEXT NOT NULL,
  recipe TEXT NOT NULL,
  character TEXT NOT NULL,
  prompt TEXT NOT NULL,
  seed INTEGER NOT NULL,
  parent TEXT,                       -- a plan that need not be stored: it may never have been rendered
  created TEXT NOT NULL
) STRICT;
CREATE INDEX plans_parent ON plans (parent);

CREATE TABLE plan_models (
  plan TEXT NOT NULL REFERENCES plans (id),
  model INTEGER NOT NULL REFERENCES models (id),
  PRIMARY KEY (plan, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
  sha256 TEXT PRIMARY KEY,           -- of the PNG file, and its name
  pixels TEXT NOT NULL,              -- of size, mode and decoded pixels
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE renders (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  plan TEXT NOT NULL REFERENCES plans (id),
  engine TEXT NOT NULL,
  image TEXT NOT NULL REFERENCES images (sha256),
  environment TEXT NOT NULL REFERENCES environments (id),
  seconds REAL NOT NULL,
  created TEXT NOT NULL,
  UNIQUE (plan, engine)
) STRICT;
CREATE INDEX renders_image ON renders (image);

CREATE TABLE scorecards (
  id INTEGER PRIMARY KEY,
  render INTEGER NOT NULL REFERENCES renders (id) ON DELETE CASCADE,
  gate TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('keep', 'retry', 'repair', 'reject')),
  reasons TEXT NOT NULL,             -- JSON list
  created TEXT NOT NULL,
  UNIQUE (render, gate)
) STRICT;

CREATE TABLE scores (
  scorecard INTEGER NOT NULL REFERENCES scorecards (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  value REAL,
  threshold REAL,
  passed INTEGER CHECK (passed IN (0, 1)),
  json TEXT NOT NULL,                -- the whole Score
  PRIMARY KEY (scorecard, position)
) STRICT, WITHOUT ROWID;

-- A delivery outlives its render: when an image is lost, what was delivered stays on record.
CREATE TABLE deliveries (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (id),
  render INTEGER REFERENCES renders (id) ON DELETE SET NULL,
  plan TEXT NOT NULL REFERENCES plans (id),
  pixels TEXT NOT NULL,
  path TEXT NOT NULL,
  provenance INTEGER NOT NULL CHECK (provenance IN (0, 1)),
  created TEXT NOT NULL
) STRICT;
CREATE INDEX deliveries_run ON deliveries (run);
CREATE INDEX deliveries_render ON deliveries (render);
