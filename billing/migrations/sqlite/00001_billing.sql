-- +goose Up
-- One Stripe customer per account. The row is the intent; its id makes the idempotency key of the call.
CREATE TABLE qs_billing_customers (
    account_id  TEXT PRIMARY KEY,
    intent_id   TEXT NOT NULL,
    customer_id TEXT UNIQUE,
    email       TEXT NOT NULL,
    created_at  TEXT NOT NULL
);

-- Pictures of Stripe's catalogue; Stripe is the truth.
CREATE TABLE qs_billing_products (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    active      INTEGER NOT NULL,
    -- Millionths of a credit for one unit; NULL where the product's metadata names none.
    credits     INTEGER CHECK (credits > 0),
    updated_at  TEXT NOT NULL
);
CREATE TABLE qs_billing_prices (
    id          TEXT PRIMARY KEY,
    product_id  TEXT NOT NULL,
    active      INTEGER NOT NULL,
    currency    TEXT NOT NULL,
    unit_amount INTEGER NOT NULL CHECK (unit_amount >= 0),
    -- Empty for one-time prices; day, week, month or year.
    interval    TEXT NOT NULL DEFAULT '',
    updated_at  TEXT NOT NULL
);

CREATE TABLE qs_billing_checkouts (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL,
    price_id    TEXT NOT NULL,
    credits     INTEGER NOT NULL CHECK (credits > 0),
    amount      INTEGER NOT NULL,
    currency    TEXT NOT NULL,
    description TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('created', 'open', 'waiting', 'paid', 'failed', 'expired')),
    session_id  TEXT UNIQUE,
    url         TEXT NOT NULL DEFAULT '',
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);

CREATE TABLE qs_billing_payments (
    id             TEXT PRIMARY KEY,
    account_id     TEXT NOT NULL,
    checkout_id    TEXT NOT NULL UNIQUE REFERENCES qs_billing_checkouts (id),
    type           TEXT NOT NULL CHECK (type IN ('credit_purchase')),
    status         TEXT NOT NULL CHECK (status IN ('succeeded')),
    amount         INTEGER NOT NULL,
    currency       TEXT NOT NULL,
    credits        INTEGER NOT NULL,
    description    TEXT NOT NULL,
    receipt_number TEXT NOT NULL UNIQUE,
    session_id     TEXT NOT NULL UNIQUE,
    -- NULL where nothing was to pay.
    intent_id      TEXT UNIQUE,
    charge_id      TEXT NOT NULL DEFAULT '',
    receipt_url    TEXT NOT NULL DEFAULT '',
    entry_id       TEXT NOT NULL,
    created_at     TEXT NOT NULL
);
-- Pages of one account's payments and of all, newest first; ids are UUIDv7 and grow with time.
CREATE INDEX qs_billing_payments_account ON qs_billing_payments (account_id, id DESC);
