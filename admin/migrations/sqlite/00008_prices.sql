-- +goose Up
-- Prices of services that hold from a moment on.
CREATE TABLE qs_admin_prices (
    id           TEXT PRIMARY KEY,
    service      TEXT NOT NULL CHECK (service <> ''),
    -- A JSON object of rates; {} takes the override away.
    rates        TEXT NOT NULL,
    reason       TEXT NOT NULL CHECK (reason <> ''),
    staff_id     TEXT NOT NULL,
    staff_email  TEXT NOT NULL,
    effective_at TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('waiting', 'applied', 'canceled', 'failed')),
    error        TEXT NOT NULL DEFAULT '',
    created_at   TEXT NOT NULL,
    ended_at     TEXT CHECK ((ended_at IS NULL) = (status = 'waiting'))
);
CREATE INDEX qs_admin_prices_due ON qs_admin_prices (effective_at) WHERE status = 'waiting';
CREATE INDEX qs_admin_prices_service ON qs_admin_prices (service, id DESC);
