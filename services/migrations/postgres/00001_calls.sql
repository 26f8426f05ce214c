-- +goose Up
CREATE TABLE qs_service_calls (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL CHECK (length(account_id) BETWEEN 1 AND 200),
    service         TEXT NOT NULL CHECK (service <> ''),
    version         TEXT NOT NULL DEFAULT '',
    status          TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'failed')),
    price           BIGINT NOT NULL CHECK (price >= 0),
    charged         BIGINT NOT NULL DEFAULT 0 CHECK (charged BETWEEN 0 AND price),
    -- A call that costs something has a hold from its first moment; one that was charged, be it nothing, has an entry.
    hold_id         UUID UNIQUE,
    entry_id        UUID UNIQUE,
    idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    fingerprint     TEXT NOT NULL,
    output          TEXT,
    error_code      TEXT NOT NULL DEFAULT '',
    error_text      TEXT NOT NULL DEFAULT '',
    created_at      TIMESTAMPTZ NOT NULL,
    -- expires_at is when a call that is still running is given up for dead.
    expires_at      TIMESTAMPTZ NOT NULL,
    finished_at     TIMESTAMPTZ,
    latency_us      BIGINT NOT NULL DEFAULT 0 CHECK (latency_us >= 0),
    CHECK ((price > 0) = (hold_id IS NOT NULL)),
    CHECK ((status = 'running') = (finished_at IS NULL)),
    CHECK ((status = 'succeeded') = (output IS NOT NULL)),
    CHECK (status <> 'succeeded' OR (entry_id IS NOT NULL AND charged = price)),
    CHECK (status <> 'running' OR (entry_id IS NULL AND charged = 0)),
    CHECK (charged = 0 OR entry_id IS NOT NULL),
    CHECK ((status = 'failed') = (error_code <> ''))
);
-- A call that failed for free gives its key free.
CREATE UNIQUE INDEX qs_service_calls_key ON qs_service_calls (account_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND (status <> 'failed' OR charged > 0);
-- Pages of usage run along these and the primary key.
CREATE INDEX qs_service_calls_account ON qs_service_calls (account_id, id);
CREATE INDEX qs_service_calls_account_service ON qs_service_calls (account_id, service, id);
CREATE INDEX qs_service_calls_service ON qs_service_calls (service, id);
-- For the counts of a span of time, and for the sweep.
CREATE INDEX qs_service_calls_created ON qs_service_calls (created_at);
CREATE INDEX qs_service_calls_running ON qs_service_calls (expires_at) WHERE status = 'running';
