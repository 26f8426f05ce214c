-- +goose Up
-- Customers that are to be deleted in Stripe because their account was erased, written down with the erasure.
CREATE TABLE qs_billing_customer_erasures (
    id          UUID PRIMARY KEY,
    account_id  TEXT NOT NULL,
    customer_id TEXT NOT NULL UNIQUE,
    -- missing: Stripe had deleted it before.
    status      TEXT NOT NULL CHECK (status IN ('requested', 'deleted', 'missing')),
    attempts    BIGINT NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- What Stripe answered last, when that was no success.
    error       TEXT NOT NULL DEFAULT '',
    next_at     TIMESTAMPTZ NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    ended_at    TIMESTAMPTZ,
    CHECK ((status = 'requested') = (ended_at IS NULL))
);
CREATE INDEX qs_billing_customer_erasures_due ON qs_billing_customer_erasures (next_at) WHERE status = 'requested';
