-- What the autoscaler plans from, beside what waits and runs.

-- All that was ever accepted, under the smallest lane that fits, and its seconds as they were predicted then: counters that
-- never go down, so that whoever reads them from time to time sees what arrived in between.
ALTER TABLE backlog ADD COLUMN arrived BIGINT NOT NULL DEFAULT 0;
ALTER TABLE backlog ADD COLUMN arrived_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;

-- When it should be done; of jobs that are older than this column it is not known here.
ALTER TABLE jobs ADD COLUMN deadline BIGINT;
CREATE INDEX jobs_by_deadline ON jobs (deadline) WHERE deadline IS NOT NULL AND finished_at IS NULL;
