-- +goose Up
CREATE TABLE qs_outbound_endpoints (
    id            UUID PRIMARY KEY,
    account       TEXT NOT NULL CHECK (account <> ''),
    url           TEXT NOT NULL,
    description   TEXT NOT NULL DEFAULT '',
    -- A JSON array of event types; an empty one means all.
    types         TEXT NOT NULL,
    -- Sealed: they must be read again to sign.
    secret        BYTEA NOT NULL,
    old_secret    BYTEA,
    old_until     TIMESTAMPTZ,
    enabled       INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    disabled_why  TEXT NOT NULL DEFAULT '',
    -- The first failure since the last success.
    failing_since TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL,
    CHECK ((old_secret IS NULL) = (old_until IS NULL))
);
CREATE INDEX qs_outbound_endpoints_account ON qs_outbound_endpoints (account, id);

CREATE TABLE qs_outbound_messages (
    id         UUID PRIMARY KEY,
    account    TEXT NOT NULL CHECK (account <> ''),
    type       TEXT NOT NULL,
    -- What the message is about, chosen by its sender, so that it is sent once. Unique in the account.
    key        TEXT NOT NULL,
    payload    TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (account, key)
);
CREATE INDEX qs_outbound_messages_age ON qs_outbound_messages (created_at);

CREATE TABLE qs_outbound_deliveries (
    id          UUID PRIMARY KEY,
    account     TEXT NOT NULL,
    message_id  UUID NOT NULL REFERENCES qs_outbound_messages (id) ON DELETE CASCADE,
    endpoint_id UUID NOT NULL REFERENCES qs_outbound_endpoints (id) ON DELETE CASCADE,
    status      TEXT NOT NULL CHECK (status IN ('waiting', 'delivered', 'failed')),
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_status INTEGER NOT NULL DEFAULT 0,
    last_error  TEXT NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL,
    ended_at    TIMESTAMPTZ,
    next_at     TIMESTAMPTZ NOT NULL,
    CHECK ((status = 'waiting') = (ended_at IS NULL))
);
-- Pages of an account's deliveries, of all endpoints and of one, and the cascades.
CREATE INDEX qs_outbound_deliveries_account ON qs_outbound_deliveries (account, id);
CREATE INDEX qs_outbound_deliveries_endpoint ON qs_outbound_deliveries (endpoint_id, id);
CREATE INDEX qs_outbound_deliveries_message ON qs_outbound_deliveries (message_id);

-- The log of every try. Rows are never changed.
CREATE TABLE qs_outbound_attempts (
    id          UUID PRIMARY KEY,
    delivery_id UUID NOT NULL REFERENCES qs_outbound_deliveries (id) ON DELETE CASCADE,
    -- The answer's HTTP status; 0 when there was none.
    status      INTEGER NOT NULL,
    error       TEXT NOT NULL DEFAULT '',
    -- Microseconds.
    took        BIGINT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_outbound_attempts_delivery ON qs_outbound_attempts (delivery_id, id);
