-- Work that takes time: one queue for the page, the command line and other programs, and what was told of each job.

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,                -- generate, train, experiment, dataset, calibrate, fetch
  request TEXT NOT NULL,             -- JSON object
  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'stopped', 'done', 'failed', 'cancelled')),
  place REAL NOT NULL,               -- in the queue: the smallest comes next
  ending INTEGER NOT NULL DEFAULT 0 CHECK (ending IN (0, 1)),  -- 1: whoever works on it is to end it
  created TEXT NOT NULL,
  started TEXT,
  finished TEXT,
  message TEXT NOT NULL DEFAULT '',  -- why it failed
  hint TEXT NOT NULL DEFAULT '',
  what TEXT NOT NULL DEFAULT '',     -- what it is at
  done REAL NOT NULL DEFAULT 0,
  total REAL NOT NULL DEFAULT 0,     -- 0: not known
  remaining REAL                     -- seconds, as far as can be foretold
) STRICT;
CREATE INDEX jobs_queued ON jobs (place) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';

-- In the order in which they were told; of a job's progress the newest alone.
CREATE TABLE job_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  kind TEXT NOT NULL,                -- state, progress, note, finding, result
  json TEXT NOT NULL,
  created TEXT NOT NULL
) STRICT;
CREATE INDEX job_events_job ON job_events (job, kind);
