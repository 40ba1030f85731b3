-- Which task has which exclusive key, whatever service guards the keys; and the store's own such service.

CREATE TABLE holds (
    name TEXT NOT NULL PRIMARY KEY,
    job TEXT NOT NULL,                  -- empty: another program has the key
    idx BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    owner TEXT NOT NULL,                -- by which the guard knows it
    token BIGINT NOT NULL,
    state TEXT NOT NULL                 -- queued, taken, over, foreign
) {clustered};
INSERT INTO holds SELECT l.name, l.holder_job, l.holder_idx, t.attempt, 'earlier version', l.counter, 'queued'
    FROM locks l JOIN tasks t ON t.job = l.holder_job AND t.idx = l.holder_idx;

-- One row for each key that was ever held: the counter is its fencing token and never goes back.
ALTER TABLE locks ADD COLUMN owner TEXT;
UPDATE locks SET owner = 'earlier version' WHERE holder_job IS NOT NULL;
ALTER TABLE locks DROP COLUMN holder_job;
ALTER TABLE locks DROP COLUMN holder_idx;
