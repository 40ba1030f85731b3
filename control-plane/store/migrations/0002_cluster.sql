CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,               -- empty: nobody
    token BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) {clustered};

CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    incarnation TEXT,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,               -- the state with what it carries, JSON
    lane TEXT NOT NULL,
    pool TEXT,
    slots BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
) {clustered};

CREATE TABLE models (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    pushed_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
) {clustered};

CREATE TABLE tokens (
    name TEXT NOT NULL PRIMARY KEY,
    sha256 TEXT NOT NULL,
    scopes TEXT NOT NULL,               -- JSON array
    created_at BIGINT NOT NULL
) {clustered};

CREATE TABLE launches (
    id TEXT NOT NULL PRIMARY KEY,
    pool TEXT NOT NULL,
    body TEXT NOT NULL,
    is_open BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
) {clustered};
CREATE INDEX launches_by_age ON launches (is_open, changed_at);

CREATE TABLE forecasts (
    model TEXT NOT NULL,
    device TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (model, device)
) {clustered};

-- Written to see whether writes go through.
CREATE TABLE probes (
    name TEXT NOT NULL PRIMARY KEY,
    written BIGINT NOT NULL
) {clustered};
