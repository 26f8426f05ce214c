-- +goose Up
-- Stripe repeats an error of its own under the same key for a day: after one the next try has another generation of the key,
-- and waits until it is plain whether the call had its effect.
ALTER TABLE qs_billing_refunds ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE qs_billing_refunds ADD COLUMN doubt_until TIMESTAMPTZ;

-- Grants that gave a payment's credits back, besides the one that it began with.
CREATE TABLE qs_billing_payment_grants (
    entry_id   UUID PRIMARY KEY,
    payment_id UUID NOT NULL REFERENCES qs_billing_payments (id)
);
CREATE INDEX qs_billing_payment_grants_payment ON qs_billing_payment_grants (payment_id);

-- What happened to a dispute, step by step.
CREATE TABLE qs_billing_dispute_steps (
    id         UUID PRIMARY KEY,
    dispute_id UUID NOT NULL REFERENCES qs_billing_disputes (id),
    status     TEXT NOT NULL,
    -- In minor units of the dispute's currency, as it was then.
    amount     BIGINT NOT NULL,
    at         TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_billing_dispute_steps_dispute ON qs_billing_dispute_steps (dispute_id, id);
