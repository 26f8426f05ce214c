-- +goose Up
CREATE TABLE qs_webhook_events (
    -- Stripe's event id. Rows are kept after success: they are what a repetition is recognised by.
    id           TEXT PRIMARY KEY,
    type         TEXT NOT NULL,
    object_id    TEXT NOT NULL,
    account      TEXT NOT NULL DEFAULT '',
    api_version  TEXT NOT NULL DEFAULT '',
    livemode     INTEGER NOT NULL,
    -- Empty once it was pruned.
    payload      TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('received', 'done', 'ignored', 'skipped', 'dead')),
    attempts     INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- The class of the last failure, and its text without what differs from event to event, to count failures by.
    failure      TEXT NOT NULL DEFAULT '' CHECK (failure IN ('', 'retry', 'permanent', 'person')),
    reason       TEXT NOT NULL DEFAULT '',
    last_error   TEXT NOT NULL DEFAULT '',
    -- Microseconds from created_at to processed_at.
    lag          INTEGER,
    created_at   TEXT NOT NULL,
    received_at  TEXT NOT NULL,
    processed_at TEXT,
    -- When the event is tried next; of no meaning once it came to an end.
    next_at      TEXT NOT NULL,
    CHECK (status NOT IN ('done', 'ignored', 'skipped') OR processed_at IS NOT NULL)
);
-- Pages of the list, newest first, of all events and of one status.
CREATE INDEX qs_webhook_events_page ON qs_webhook_events (received_at DESC, id DESC);
CREATE INDEX qs_webhook_events_status ON qs_webhook_events (status, received_at DESC, id DESC);
-- Events that wait, the longest due first.
CREATE INDEX qs_webhook_events_due ON qs_webhook_events (next_at) WHERE status = 'received';
-- What came to an end in a span of time.
CREATE INDEX qs_webhook_events_processed ON qs_webhook_events (processed_at) WHERE processed_at IS NOT NULL;

-- One row per object that events are about. It is locked while an event of the object takes effect, and its count
-- tells whether one did since the object was read from Stripe. The id of a connected account's object is led by the
-- account's.
CREATE TABLE qs_webhook_objects (
    id         TEXT PRIMARY KEY,
    effects    INTEGER NOT NULL DEFAULT 0,
    touched_at TEXT NOT NULL
);

-- The ids of events whose rows were pruned: what they were repeated with is still recognised.
CREATE TABLE qs_webhook_seen (
    id      TEXT PRIMARY KEY,
    seen_at TEXT NOT NULL
);

-- Who retried, skipped or replayed an event, or saw the personal data in it. Rows are never changed.
CREATE TABLE qs_webhook_actions (
    id         TEXT PRIMARY KEY,
    event_id   TEXT NOT NULL,
    action     TEXT NOT NULL CHECK (action IN ('retry', 'skip', 'replay', 'reveal')),
    done_by    TEXT NOT NULL CHECK (done_by <> ''),
    reason     TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL
);
CREATE INDEX qs_webhook_actions_event ON qs_webhook_actions (event_id, id);
