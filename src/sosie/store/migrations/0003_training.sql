-- Training runs, failed ones too: what was learned, on what, how, how it went and why it ended.

CREATE TABLE training_runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run INTEGER NOT NULL REFERENCES runs (id),  -- the command that began it; findings stand with each command
  job TEXT NOT NULL,                 -- SHA-256 of all that decides its numbers
  characters TEXT NOT NULL,          -- JSON list of names
  recipe TEXT NOT NULL,
  family TEXT NOT NULL,
  base TEXT NOT NULL,
  base_sha256 TEXT NOT NULL,
  dataset TEXT NOT NULL,             -- digest of pictures, texts and faces
  images INTEGER NOT NULL,
  steps INTEGER NOT NULL,            -- asked for
  settings TEXT NOT NULL,            -- JSON: the recipe's [training]
  machine TEXT NOT NULL REFERENCES environments (id),
  folder TEXT NOT NULL,
  started TEXT NOT NULL,
  finished TEXT,                     -- NULL: still running, or killed
  cause TEXT,                        -- why it ended; NULL as above
  message TEXT NOT NULL DEFAULT '',  -- what a failure said
  step INTEGER NOT NULL DEFAULT 0,   -- done
  seconds REAL NOT NULL DEFAULT 0,   -- of the steps, without judgements
  best INTEGER,                      -- the step of the delivered checkpoint
  path TEXT,                         -- the delivered file
  sha256 TEXT,
  scores TEXT                        -- JSON, of the delivered checkpoint
) STRICT;
CREATE INDEX training_runs_job ON training_runs (job);

CREATE TABLE training_losses (
  training INTEGER NOT NULL REFERENCES training_runs (id) ON DELETE CASCADE,
  step INTEGER NOT NULL,
  loss REAL NOT NULL,
  gradient REAL NOT NULL,
  learning_rate REAL NOT NULL,
  PRIMARY KEY (training, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE training_judgements (
  training INTEGER NOT NULL REFERENCES training_runs (id) ON DELETE CASCADE,
  step INTEGER NOT NULL,
  scores TEXT NOT NULL,              -- JSON
  PRIMARY KEY (training, step)
) STRICT, WITHOUT ROWID;
