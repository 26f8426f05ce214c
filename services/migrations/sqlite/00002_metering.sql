-- +goose Up
-- The rules of the first version said that every call is charged its price; SQLite changes rules by a new table.
CREATE TABLE qs_service_calls_new (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL CHECK (length(account_id) BETWEEN 1 AND 200),
    service         TEXT NOT NULL CHECK (service <> ''),
    version         TEXT NOT NULL DEFAULT '',
    status          TEXT NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'partial', 'failed')),
    price           INTEGER NOT NULL CHECK (price >= 0),
    charged         INTEGER NOT NULL DEFAULT 0 CHECK (charged BETWEEN 0 AND price),
    hold_id         TEXT,
    entry_id        TEXT,
    idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    fingerprint     TEXT NOT NULL,
    output          TEXT,
    error_code      TEXT NOT NULL DEFAULT '',
    error_text      TEXT NOT NULL DEFAULT '',
    created_at      TEXT NOT NULL,
    -- expires_at is when a call that is still running is given up for dead.
    expires_at      TEXT NOT NULL,
    finished_at     TEXT,
    latency_us      INTEGER NOT NULL DEFAULT 0 CHECK (latency_us >= 0),
    -- units and tags are JSON objects.
    units           TEXT NOT NULL DEFAULT '{}',
    tags            TEXT NOT NULL DEFAULT '{}',
    -- input is kept while a call waits or runs in the background.
    input           TEXT,
    notify          INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    started_at      TEXT,
    cancel_at       TEXT,
    cached          INTEGER NOT NULL DEFAULT 0,
    -- cached_until is until when the output answers equal inputs.
    cached_until    TEXT,
    -- A call that is not charged in one step has its price set aside from its first moment.
    CHECK (status NOT IN ('queued', 'running') OR (price > 0) = (hold_id IS NOT NULL)),
    CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
    CHECK (status NOT IN ('queued', 'running') OR (entry_id IS NULL AND charged = 0)),
    CHECK (input IS NULL OR status IN ('queued', 'running')),
    -- An output is removed after its time.
    CHECK (output IS NULL OR status IN ('succeeded', 'partial')),
    CHECK ((status NOT IN ('succeeded', 'partial') AND charged = 0) OR entry_id IS NOT NULL),
    CHECK ((status IN ('partial', 'failed')) = (error_code <> ''))
);
INSERT INTO qs_service_calls_new (id, account_id, service, version, status, price, charged, hold_id, entry_id, idempotency_key, fingerprint, output,
    error_code, error_text, created_at, expires_at, finished_at, latency_us)
SELECT id, account_id, service, version, status, price, charged, hold_id, entry_id, idempotency_key, fingerprint, output,
    error_code, error_text, created_at, expires_at, finished_at, latency_us FROM qs_service_calls;
DROP TABLE qs_service_calls;
ALTER TABLE qs_service_calls_new RENAME TO qs_service_calls;
-- A call that failed for free gives its key free.
CREATE UNIQUE INDEX qs_service_calls_key ON qs_service_calls (account_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND (status <> 'failed' OR charged > 0);
CREATE UNIQUE INDEX qs_service_calls_hold_once ON qs_service_calls (hold_id) WHERE hold_id IS NOT NULL;
-- Pages of usage run along these and the primary key.
CREATE INDEX qs_service_calls_account ON qs_service_calls (account_id, id);
CREATE INDEX qs_service_calls_service ON qs_service_calls (service, id);
-- For the counts of a span of time, and for the sweep.
CREATE INDEX qs_service_calls_created ON qs_service_calls (created_at);
CREATE INDEX qs_service_calls_running ON qs_service_calls (expires_at) WHERE status IN ('queued', 'running');
-- For limits of concurrency.
CREATE INDEX qs_service_calls_busy ON qs_service_calls (service, account_id) WHERE status = 'running';
-- For answers to equal inputs.
CREATE INDEX qs_service_calls_equal ON qs_service_calls (service, fingerprint, cached_until) WHERE cached_until IS NOT NULL;
-- For the removal of what has been kept long enough.
CREATE INDEX qs_service_calls_kept ON qs_service_calls (finished_at) WHERE output IS NOT NULL;

-- The tags of calls, for their filters.
CREATE TABLE qs_service_call_tags (
    account_id TEXT NOT NULL,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 40),
    value      TEXT NOT NULL CHECK (length(value) BETWEEN 1 AND 100),
    call_id    TEXT NOT NULL REFERENCES qs_service_calls (id) ON DELETE CASCADE,
    PRIMARY KEY (account_id, name, value, call_id)
) WITHOUT ROWID;
CREATE INDEX qs_service_call_tags_call ON qs_service_call_tags (call_id);

CREATE TABLE qs_service_settings (
    service    TEXT PRIMARY KEY CHECK (service <> ''),
    enabled    INTEGER,
    rates      TEXT,
    updated_at TEXT NOT NULL
);

-- full_at is the microsecond at which an account has its whole quota again.
CREATE TABLE qs_service_quotas (
    account_id TEXT PRIMARY KEY,
    full_at    INTEGER NOT NULL
);
