-- +goose Up
-- One Stripe customer per account. The row is the intent; its id makes the idempotency key of the call. It is also what
-- is locked before anything of the account's billing changes.
CREATE TABLE qs_billing_customers (
    account_id  TEXT PRIMARY KEY,
    intent_id   UUID NOT NULL,
    customer_id TEXT UNIQUE,
    email       TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);

-- Pictures of Stripe's catalogue; Stripe is the truth. Position and hidden are the staff's.
CREATE TABLE qs_billing_products (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL DEFAULT '',
    active        BOOLEAN NOT NULL,
    -- Millionths of a credit for one unit; NULL where the product's metadata names none.
    credits       BIGINT CHECK (credits > 0),
    trial_days    BIGINT NOT NULL DEFAULT 0 CHECK (trial_days >= 0),
    trial_credits BIGINT NOT NULL DEFAULT 0 CHECK (trial_credits >= 0),
    -- Names between commas: ,api,export,
    features      TEXT NOT NULL DEFAULT '',
    position      BIGINT NOT NULL DEFAULT 0,
    hidden        BOOLEAN NOT NULL DEFAULT FALSE,
    updated_at    TIMESTAMPTZ NOT NULL
);
CREATE TABLE qs_billing_prices (
    id             TEXT PRIMARY KEY,
    product_id     TEXT NOT NULL,
    active         BOOLEAN NOT NULL,
    currency       TEXT NOT NULL,
    unit_amount    BIGINT NOT NULL CHECK (unit_amount >= 0),
    -- Empty for one-time prices; day, week, month or year.
    interval       TEXT NOT NULL DEFAULT '' CHECK (interval IN ('', 'day', 'week', 'month', 'year')),
    interval_count BIGINT NOT NULL DEFAULT 0 CHECK ((interval = '') = (interval_count = 0)),
    -- Goes before the product's; NULL where the price's own metadata names none.
    credits        BIGINT CHECK (credits > 0),
    updated_at     TIMESTAMPTZ NOT NULL
);

CREATE TABLE qs_billing_checkouts (
    id          UUID PRIMARY KEY,
    account_id  TEXT NOT NULL,
    mode        TEXT NOT NULL CHECK (mode IN ('payment', 'subscription')),
    -- What makes a repeated request find the first one's checkout.
    request_key TEXT,
    price_id    TEXT NOT NULL,
    quantity    BIGINT NOT NULL CHECK (quantity > 0),
    trial_days  BIGINT NOT NULL DEFAULT 0,
    credits     BIGINT NOT NULL CHECK (credits > 0),
    amount      BIGINT NOT NULL,
    currency    TEXT NOT NULL,
    description TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('created', 'open', 'waiting', 'paid', 'failed', 'expired')),
    session_id  TEXT UNIQUE,
    url         TEXT NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL,
    UNIQUE (account_id, request_key)
);
-- Nobody can pay for two subscriptions: an account has one page for it at a time.
CREATE UNIQUE INDEX qs_billing_checkouts_subscribing ON qs_billing_checkouts (account_id) WHERE mode = 'subscription' AND status IN ('created', 'open');

CREATE TABLE qs_billing_payments (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL,
    type            TEXT NOT NULL CHECK (type IN ('credit_purchase', 'subscription', 'plan_change', 'invoice', 'refund')),
    status          TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed', 'canceled', 'partially_refunded', 'refunded')),
    -- Below zero for refunds.
    amount          BIGINT NOT NULL,
    currency        TEXT NOT NULL,
    -- What of amount went back by refunds, or is on its way, and what disputes hold or have taken.
    refunded        BIGINT NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    disputed        BIGINT NOT NULL DEFAULT 0 CHECK (disputed >= 0),
    -- What was granted; for refunds what was taken back, below zero.
    credits         BIGINT NOT NULL,
    -- What of credits was taken back because of refunds and disputes.
    clawed          BIGINT NOT NULL DEFAULT 0 CHECK (clawed >= 0),
    -- NULL: they do not expire.
    credits_expire  TIMESTAMPTZ,
    description     TEXT NOT NULL,
    receipt_number  TEXT NOT NULL UNIQUE,
    checkout_id     UUID UNIQUE REFERENCES qs_billing_checkouts (id),
    session_id      TEXT UNIQUE,
    invoice_id      TEXT UNIQUE,
    subscription_id TEXT,
    -- NULL where nothing was to pay.
    intent_id       TEXT UNIQUE,
    charge_id       TEXT NOT NULL DEFAULT '',
    receipt_url     TEXT NOT NULL DEFAULT '',
    -- Where an invoice is seen and paid.
    invoice_url     TEXT NOT NULL DEFAULT '',
    attempts        BIGINT NOT NULL DEFAULT 0,
    -- The ledger's entry of the grant; NULL where nothing was granted.
    entry_id        UUID,
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL,
    CHECK (refunded <= amount OR amount < 0),
    CHECK (clawed <= credits OR credits < 0)
);
-- Pages of one account's payments and of all, newest first; ids are UUIDv7 and grow with time.
CREATE INDEX qs_billing_payments_account ON qs_billing_payments (account_id, id DESC);
CREATE INDEX qs_billing_payments_charge ON qs_billing_payments (charge_id);

-- The subscription of an account as Stripe has it: the one that lives, or the last one that did.
CREATE TABLE qs_billing_subscriptions (
    account_id           TEXT PRIMARY KEY,
    subscription_id      TEXT NOT NULL UNIQUE,
    customer_id          TEXT NOT NULL,
    item_id              TEXT NOT NULL,
    status               TEXT NOT NULL CHECK (status IN ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'paused')),
    price_id             TEXT NOT NULL,
    quantity             BIGINT NOT NULL,
    currency             TEXT NOT NULL,
    period_start         TIMESTAMPTZ NOT NULL,
    period_end           TIMESTAMPTZ NOT NULL,
    cancel_at_period_end BOOLEAN NOT NULL,
    cancel_at            TIMESTAMPTZ,
    canceled_at          TIMESTAMPTZ,
    ended_at             TIMESTAMPTZ,
    trial_end            TIMESTAMPTZ,
    past_due_since       TIMESTAMPTZ,
    -- The plan that a schedule brings, and when.
    schedule_id          TEXT NOT NULL DEFAULT '',
    next_price_id        TEXT NOT NULL DEFAULT '',
    next_at              TIMESTAMPTZ,
    -- A change that waits for its payment.
    pending_price_id     TEXT NOT NULL DEFAULT '',
    pay_url              TEXT NOT NULL DEFAULT '',
    -- Grows with every picture that was taken over: one that was read before the last is stale.
    version              BIGINT NOT NULL,
    created_at           TIMESTAMPTZ NOT NULL,
    updated_at           TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_billing_subscriptions_status ON qs_billing_subscriptions (status, account_id);

-- Changes of plan, written down before Stripe is asked. The same change at the same proration date is the same row, and
-- so the same idempotency key.
CREATE TABLE qs_billing_changes (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    from_price      TEXT NOT NULL,
    to_price        TEXT NOT NULL,
    at_once         BOOLEAN NOT NULL,
    proration_at    BIGINT NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('requested', 'done', 'failed')),
    -- Raised after a definite failure only: Stripe repeats a key's first answer.
    generation      BIGINT NOT NULL DEFAULT 0,
    error           TEXT NOT NULL DEFAULT '',
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL,
    UNIQUE (subscription_id, from_price, to_price, proration_at)
);
CREATE INDEX qs_billing_changes_open ON qs_billing_changes (updated_at) WHERE status = 'requested';

-- Refunds, written down before Stripe is asked; its id makes the idempotency key. Those made in Stripe's Dashboard come
-- with their event, without staff.
CREATE TABLE qs_billing_refunds (
    id         UUID PRIMARY KEY,
    payment_id UUID NOT NULL REFERENCES qs_billing_payments (id),
    account_id TEXT NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount > 0),
    currency   TEXT NOT NULL,
    reason     TEXT NOT NULL CHECK (reason IN ('', 'duplicate', 'fraudulent', 'requested_by_customer', 'expired_uncaptured_charge')),
    note       TEXT NOT NULL DEFAULT '',
    staff      TEXT NOT NULL DEFAULT '',
    status     TEXT NOT NULL CHECK (status IN ('requested', 'pending', 'succeeded', 'failed', 'canceled')),
    refund_id  TEXT UNIQUE,
    -- The row of the history of payments, once Stripe has the refund.
    row_id     UUID UNIQUE REFERENCES qs_billing_payments (id),
    error      TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_billing_refunds_payment ON qs_billing_refunds (payment_id, id);
CREATE INDEX qs_billing_refunds_account ON qs_billing_refunds (account_id, id DESC);
CREATE INDEX qs_billing_refunds_open ON qs_billing_refunds (updated_at) WHERE status = 'requested';

-- What happened to a refund, step by step.
CREATE TABLE qs_billing_refund_steps (
    id        UUID PRIMARY KEY,
    refund_id UUID NOT NULL REFERENCES qs_billing_refunds (id),
    status    TEXT NOT NULL,
    note      TEXT NOT NULL DEFAULT '',
    at        TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_billing_refund_steps_refund ON qs_billing_refund_steps (refund_id, id);

CREATE TABLE qs_billing_disputes (
    id         UUID PRIMARY KEY,
    dispute_id TEXT NOT NULL UNIQUE,
    payment_id UUID NOT NULL REFERENCES qs_billing_payments (id),
    account_id TEXT NOT NULL,
    amount     BIGINT NOT NULL,
    currency   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    status     TEXT NOT NULL,
    due_by     TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_billing_disputes_payment ON qs_billing_disputes (payment_id);
CREATE INDEX qs_billing_disputes_account ON qs_billing_disputes (account_id, id DESC);

-- Runs of the reconciliation with Stripe. The last one that finished says where the next begins.
CREATE TABLE qs_billing_reconciliations (
    id          UUID PRIMARY KEY,
    started_at  TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    checked     BIGINT NOT NULL DEFAULT 0,
    repaired    BIGINT NOT NULL DEFAULT 0,
    failed      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX qs_billing_reconciliations_finished ON qs_billing_reconciliations (started_at) WHERE finished_at IS NOT NULL;
