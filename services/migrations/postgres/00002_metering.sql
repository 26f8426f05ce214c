-- +goose Up
-- The rules of the first version said that every call is charged its price; they are written anew below.
-- +goose StatementBegin
DO $$
DECLARE rule TEXT;
BEGIN
    FOR rule IN SELECT conname FROM pg_constraint WHERE conrelid = 'qs_service_calls'::regclass AND contype = 'c' LOOP
        EXECUTE format('ALTER TABLE qs_service_calls DROP CONSTRAINT %I', rule);
    END LOOP;
END $$;
-- +goose StatementEnd
ALTER TABLE qs_service_calls
    -- units and tags are JSON objects.
    ADD COLUMN units TEXT NOT NULL DEFAULT '{}',
    ADD COLUMN tags TEXT NOT NULL DEFAULT '{}',
    -- input is kept while a call waits or runs in the background.
    ADD COLUMN input TEXT,
    ADD COLUMN notify BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN started_at TIMESTAMPTZ,
    ADD COLUMN cancel_at TIMESTAMPTZ,
    ADD COLUMN cached BOOLEAN NOT NULL DEFAULT FALSE,
    -- cached_until is until when the output answers equal inputs.
    ADD COLUMN cached_until TIMESTAMPTZ,
    ADD CONSTRAINT qs_service_calls_names CHECK (length(account_id) BETWEEN 1 AND 200 AND service <> ''),
    ADD CONSTRAINT qs_service_calls_keys CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    ADD CONSTRAINT qs_service_calls_status CHECK (status IN ('queued', 'running', 'succeeded', 'partial', 'failed')),
    ADD CONSTRAINT qs_service_calls_numbers CHECK (price >= 0 AND charged BETWEEN 0 AND price AND latency_us >= 0 AND attempts >= 0),
    -- A call that is not charged in one step has its price set aside from its first moment.
    ADD CONSTRAINT qs_service_calls_hold CHECK (status NOT IN ('queued', 'running') OR (price > 0) = (hold_id IS NOT NULL)),
    ADD CONSTRAINT qs_service_calls_end CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
    ADD CONSTRAINT qs_service_calls_open CHECK (status NOT IN ('queued', 'running') OR (entry_id IS NULL AND charged = 0)),
    ADD CONSTRAINT qs_service_calls_input CHECK (input IS NULL OR status IN ('queued', 'running')),
    -- An output is removed after its time.
    ADD CONSTRAINT qs_service_calls_output CHECK (output IS NULL OR status IN ('succeeded', 'partial')),
    ADD CONSTRAINT qs_service_calls_entry CHECK ((status NOT IN ('succeeded', 'partial') AND charged = 0) OR entry_id IS NOT NULL),
    ADD CONSTRAINT qs_service_calls_error CHECK ((status IN ('partial', 'failed')) = (error_code <> ''));
-- For limits of concurrency.
CREATE INDEX qs_service_calls_busy ON qs_service_calls (service, account_id) WHERE status = 'running';
-- For answers to equal inputs.
CREATE INDEX qs_service_calls_equal ON qs_service_calls (service, fingerprint, cached_until) WHERE cached_until IS NOT NULL;
-- For the removal of what has been kept long enough.
CREATE INDEX qs_service_calls_kept ON qs_service_calls (finished_at) WHERE output IS NOT NULL;
DROP INDEX qs_service_calls_running;
CREATE INDEX qs_service_calls_running ON qs_service_calls (expires_at) WHERE status IN ('queued', 'running');

-- A call writes to each index: those that others can serve, or a smaller kind, are not worth it.
DROP INDEX qs_service_calls_account_service;
DROP INDEX qs_service_calls_created;
CREATE INDEX qs_service_calls_created ON qs_service_calls USING brin (created_at) WITH (pages_per_range = 16);
ALTER TABLE qs_service_calls DROP CONSTRAINT qs_service_calls_hold_id_key, DROP CONSTRAINT qs_service_calls_entry_id_key;
CREATE UNIQUE INDEX qs_service_calls_hold_once ON qs_service_calls (hold_id) WHERE hold_id IS NOT NULL;

-- The tags of calls, for their filters.
CREATE TABLE qs_service_call_tags (
    account_id TEXT NOT NULL,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 40),
    value      TEXT NOT NULL CHECK (length(value) BETWEEN 1 AND 100),
    call_id    UUID NOT NULL REFERENCES qs_service_calls (id) ON DELETE CASCADE,
    PRIMARY KEY (account_id, name, value, call_id)
);
CREATE INDEX qs_service_call_tags_call ON qs_service_call_tags (call_id);

CREATE TABLE qs_service_settings (
    service    TEXT PRIMARY KEY CHECK (service <> ''),
    enabled    BOOLEAN,
    rates      TEXT,
    updated_at TIMESTAMPTZ NOT NULL
);

-- full_at is the microsecond at which an account has its whole quota again. A crash may empty the table.
CREATE UNLOGGED TABLE qs_service_quotas (
    account_id TEXT PRIMARY KEY,
    full_at    BIGINT NOT NULL
);
