-- Read by SQLite and PostgreSQL. Types: BIGINT (numbers, microseconds since the epoch, 0/1), DOUBLE PRECISION, TEXT
-- (names, JSON). {clustered} is WITHOUT ROWID for SQLite: rows lie in the order of their key.

-- What changes of a job. Tasks 0..next_index have rows in `tasks`; the others are this row's range.
CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    priority BIGINT NOT NULL,
    lane TEXT NOT NULL,                 -- the smallest that fits
    device TEXT NOT NULL,               -- as asked for
    class TEXT NOT NULL,                -- lane/device/priority: what release looks through, by rank
    rank BIGINT NOT NULL,
    gpu_memory_bytes BIGINT NOT NULL,
    units DOUBLE PRECISION NOT NULL,    -- mean size of a task
    exclusive_key TEXT,
    max_retries BIGINT NOT NULL,
    status TEXT NOT NULL,
    version BIGINT NOT NULL,
    total BIGINT NOT NULL,
    next_index BIGINT NOT NULL,         -- the first task without a row
    unreleased BIGINT NOT NULL,         -- tasks without a row that still wait: total - next_index, or 0 once cancelled
    released BIGINT NOT NULL,
    running BIGINT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    error_index BIGINT,                 -- the first task that failed
    error TEXT,                         -- and why
    load_s DOUBLE PRECISION NOT NULL,
    run_s DOUBLE PRECISION NOT NULL
) {clustered};
CREATE INDEX jobs_unreleased ON jobs (class, rank, id) WHERE unreleased > 0 AND exclusive_key IS NULL;
CREATE INDEX jobs_unreleased_exclusive ON jobs (class, rank, id) WHERE unreleased > 0 AND exclusive_key IS NOT NULL;
CREATE INDEX jobs_oldest ON jobs (class, model, accepted_at) WHERE unreleased > 0;
CREATE INDEX jobs_by_status ON jobs (status, id);
CREATE INDEX jobs_by_model ON jobs (model, id);

-- What never changes of a job.
CREATE TABLE job_specs (
    job TEXT NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,                 -- JSON, without the input
    input TEXT                          -- JSON; NULL: the inputs are in job_inputs
) {clustered};

-- Long lists of inputs, in parts.
CREATE TABLE job_inputs (
    job TEXT NOT NULL,
    first_index BIGINT NOT NULL,        -- the task that the first element is for
    inputs TEXT NOT NULL,               -- JSON array
    PRIMARY KEY (job, first_index)
);

CREATE TABLE job_labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (name, value, job)
) {clustered};

CREATE TABLE idempotency (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    job TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
) {clustered};
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Tasks that were released at least once.
CREATE TABLE tasks (
    job TEXT NOT NULL,
    idx BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    charges BIGINT NOT NULL,
    evictions BIGINT NOT NULL,
    suspect BIGINT NOT NULL,
    checkpoint TEXT,
    not_before BIGINT,                  -- waiting, and not to be released before
    class TEXT,                         -- waiting, and may be released: its job's class
    rank BIGINT,                        -- likewise
    lane TEXT,
    released_at BIGINT,
    solo BIGINT NOT NULL,               -- released or running, alone
    node TEXT,
    incarnation TEXT,
    run TEXT,
    device TEXT,
    started_at BIGINT,
    ended_at BIGINT,
    won_attempt BIGINT,
    timings TEXT,
    outputs TEXT,
    error TEXT,
    PRIMARY KEY (job, idx)
) {clustered};
CREATE INDEX tasks_open ON tasks (state, job, idx) WHERE state IN ('waiting', 'released', 'running');
CREATE INDEX tasks_ready ON tasks (class, suspect, rank, job, idx) WHERE class IS NOT NULL;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX tasks_solo ON tasks (lane) WHERE solo = 1;
CREATE INDEX tasks_failed ON tasks (job, idx) WHERE state = 'failed';

-- Attempts that did not succeed.
CREATE TABLE task_attempts (
    job TEXT NOT NULL,
    idx BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    node TEXT,
    run TEXT,
    released_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    charged BIGINT NOT NULL,
    message TEXT NOT NULL,
    stderr_tail TEXT NOT NULL,
    PRIMARY KEY (job, idx, attempt)
) {clustered};

-- Counters, kept up by differences, once in each transaction. `waiting` under the smallest lane that fits, the others
-- under the lane that the tasks are in.
CREATE TABLE backlog (
    lane TEXT NOT NULL,
    device TEXT NOT NULL,
    priority BIGINT NOT NULL,
    model TEXT NOT NULL,
    waiting BIGINT NOT NULL,
    waiting_units DOUBLE PRECISION NOT NULL,
    waiting_squares DOUBLE PRECISION NOT NULL,
    released BIGINT NOT NULL,
    released_units DOUBLE PRECISION NOT NULL,
    released_squares DOUBLE PRECISION NOT NULL,
    running BIGINT NOT NULL,
    running_units DOUBLE PRECISION NOT NULL,
    running_squares DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (lane, device, priority, model)
) {clustered};

-- Exclusive keys. The counter grows with each hold and is its fencing token.
CREATE TABLE locks (
    name TEXT NOT NULL PRIMARY KEY,
    counter BIGINT NOT NULL,
    holder_job TEXT,                    -- NULL: free
    holder_idx BIGINT,
    lease_until BIGINT
) {clustered};
