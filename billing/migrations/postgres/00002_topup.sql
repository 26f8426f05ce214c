-- +goose Up
-- Auto top-up: what an account has asked for.
CREATE TABLE qs_billing_auto_topups (
    account_id   TEXT PRIMARY KEY REFERENCES qs_billing_customers (account_id),
    enabled      BOOLEAN NOT NULL,
    -- Millionths of a credit: a pack is bought when fewer are available.
    threshold    BIGINT NOT NULL CHECK (threshold > 0),
    price_id     TEXT NOT NULL,
    -- The most in a calendar month (UTC), in minor units of currency.
    monthly_cap  BIGINT NOT NULL CHECK (monthly_cap > 0),
    currency     TEXT NOT NULL,
    -- The text that the person agreed to, and when.
    consent      TEXT NOT NULL CHECK (consent <> ''),
    consented_at TIMESTAMPTZ NOT NULL,
    -- Purchases that were refused one after the other, and when the next may be tried.
    failures     BIGINT NOT NULL DEFAULT 0 CHECK (failures >= 0),
    not_before   TIMESTAMPTZ NOT NULL,
    paused_at    TIMESTAMPTZ,
    pause_reason TEXT NOT NULL DEFAULT '' CHECK ((pause_reason = '') = (paused_at IS NULL)),
    -- The month, such as 2026-11, in which the person was told that the cap is reached.
    capped_in    TEXT NOT NULL DEFAULT '',
    created_at   TIMESTAMPTZ NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_billing_auto_topups_on ON qs_billing_auto_topups (account_id) WHERE enabled AND paused_at IS NULL;

-- Purchases by auto top-up, written down before Stripe is asked, with all that the call says; the id makes its
-- idempotency key.
CREATE TABLE qs_billing_topups (
    id          UUID PRIMARY KEY,
    account_id  TEXT NOT NULL,
    price_id    TEXT NOT NULL,
    credits     BIGINT NOT NULL CHECK (credits > 0),
    amount      BIGINT NOT NULL CHECK (amount > 0),
    currency    TEXT NOT NULL,
    description TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    method_id   TEXT NOT NULL,
    -- The calendar month that it counts for, such as 2026-11.
    month       TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('requested', 'processing', 'succeeded', 'failed')),
    intent_id   TEXT UNIQUE,
    payment_id  UUID UNIQUE REFERENCES qs_billing_payments (id),
    code        TEXT NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL,
    CHECK ((status = 'succeeded') = (payment_id IS NOT NULL))
);
-- At most one in flight.
CREATE UNIQUE INDEX qs_billing_topups_flying ON qs_billing_topups (account_id) WHERE status IN ('requested', 'processing');
CREATE INDEX qs_billing_topups_open ON qs_billing_topups (updated_at) WHERE status IN ('requested', 'processing');
-- A month's sum, and an account's purchases, newest first.
CREATE INDEX qs_billing_topups_month ON qs_billing_topups (account_id, month);
CREATE INDEX qs_billing_topups_account ON qs_billing_topups (account_id, id DESC);

-- When the card that pays an account's plan or top-ups was looked at, and the expiry that its person was told of.
CREATE TABLE qs_billing_card_checks (
    account_id TEXT PRIMARY KEY REFERENCES qs_billing_customers (account_id),
    checked_at TIMESTAMPTZ NOT NULL,
    told       TEXT NOT NULL DEFAULT ''
);
CREATE INDEX qs_billing_card_checks_due ON qs_billing_card_checks (checked_at);

-- A pause of the payments: Stripe's behavior, empty while there is none, when it ends by itself, and until when the plan
-- is paid for, which it is not for periods that begin in a pause.
ALTER TABLE qs_billing_subscriptions ADD COLUMN pause_behavior TEXT NOT NULL DEFAULT '' CHECK (pause_behavior IN ('', 'void', 'keep_as_draft', 'mark_uncollectible'));
ALTER TABLE qs_billing_subscriptions ADD COLUMN resumes_at TIMESTAMPTZ;
ALTER TABLE qs_billing_subscriptions ADD COLUMN paid_through TIMESTAMPTZ;

-- Raised when Stripe has answered a checkout's call with an error of its own, which it repeats under the same key.
ALTER TABLE qs_billing_checkouts ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
