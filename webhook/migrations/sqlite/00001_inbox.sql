-- +goose Up
CREATE TABLE qs_webhook_events (
    -- Stripe's event id. Rows are kept after success: they are what a repetition is recognised by.
    id           TEXT PRIMARY KEY,
    type         TEXT NOT NULL,
    object_id    TEXT NOT NULL,
    account      TEXT NOT NULL DEFAULT '',
    api_version  TEXT NOT NULL DEFAULT '',
    livemode     INTEGER NOT NULL,
    payload      TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('received', 'done', 'ignored', 'dead')),
    attempts     INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT NOT NULL DEFAULT '',
    created_at   TEXT NOT NULL,
    received_at  TEXT NOT NULL,
    processed_at TEXT
);
-- Pages of the list, newest first, of all events and of one status.
CREATE INDEX qs_webhook_events_page ON qs_webhook_events (received_at DESC, id DESC);
CREATE INDEX qs_webhook_events_status ON qs_webhook_events (status, received_at DESC, id DESC);

-- One row per object that events are about. It is locked while an event of the object takes effect, and its count
-- tells whether one did since the object was read from Stripe.
CREATE TABLE qs_webhook_objects (
    id      TEXT PRIMARY KEY,
    effects INTEGER NOT NULL DEFAULT 0
);
