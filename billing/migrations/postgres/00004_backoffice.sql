-- +goose Up
-- What a reconciliation repaired or could not take over, in its order.
CREATE TABLE qs_billing_reconciliation_items (
    run_id    UUID NOT NULL REFERENCES qs_billing_reconciliations (id),
    position  INTEGER NOT NULL CHECK (position >= 0),
    kind      TEXT NOT NULL,
    object_id TEXT NOT NULL,
    before    TEXT NOT NULL DEFAULT '',
    after     TEXT NOT NULL DEFAULT '',
    -- Why it failed; empty for what was repaired.
    error     TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, position)
);

-- The figures of refunds go over spans of time.
CREATE INDEX qs_billing_refunds_created ON qs_billing_refunds (created_at);
CREATE INDEX qs_billing_payments_created ON qs_billing_payments (created_at);
-- Pages of refunds and disputes by status, newest first.
CREATE INDEX qs_billing_refunds_status ON qs_billing_refunds (status, id DESC);
CREATE INDEX qs_billing_refunds_staff ON qs_billing_refunds (staff, id DESC);
CREATE INDEX qs_billing_disputes_status ON qs_billing_disputes (status, id DESC);
