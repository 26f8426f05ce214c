-- +goose Up
-- What was paid and paid back on each day (UTC) on which a payment or refund was made, in minor units, kept by triggers in the
-- transaction of each payment. A day is in sixteen parts, so that payments of one moment do not wait for each other.
CREATE TABLE qs_billing_days (
    day      TEXT NOT NULL,
    currency TEXT NOT NULL,
    shard    TEXT NOT NULL,
    paid     INTEGER NOT NULL,
    payments INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    refunds  INTEGER NOT NULL,
    -- Millionths of a credit that were sold.
    credits  INTEGER NOT NULL,
    PRIMARY KEY (day, currency, shard)
);
INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
    SELECT substr(p.created_at, 1, 10), p.currency, substr(p.id, -1),
        SUM(CASE WHEN p.type <> 'refund' AND p.status IN ('succeeded', 'partially_refunded', 'refunded') THEN p.amount ELSE 0 END),
        SUM(CASE WHEN p.type <> 'refund' AND p.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END),
        SUM(CASE WHEN p.type = 'refund' AND p.status IN ('pending', 'succeeded') THEN -p.amount ELSE 0 END),
        SUM(CASE WHEN p.type = 'refund' AND p.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END),
        SUM(CASE WHEN p.type <> 'refund' AND p.status IN ('succeeded', 'partially_refunded', 'refunded') THEN p.credits ELSE 0 END)
    FROM qs_billing_payments p GROUP BY substr(p.created_at, 1, 10), p.currency, substr(p.id, -1);
-- +goose StatementBegin
CREATE TRIGGER qs_billing_days_insert AFTER INSERT ON qs_billing_payments
BEGIN
    INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
    VALUES (substr(NEW.created_at, 1, 10), NEW.currency, substr(NEW.id, -1),
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN NEW.amount ELSE 0 END,
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END,
        CASE WHEN NEW.type = 'refund' AND NEW.status IN ('pending', 'succeeded') THEN -NEW.amount ELSE 0 END,
        CASE WHEN NEW.type = 'refund' AND NEW.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END,
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN NEW.credits ELSE 0 END)
    ON CONFLICT (day, currency, shard) DO UPDATE SET paid = qs_billing_days.paid + excluded.paid, payments = qs_billing_days.payments + excluded.payments, refunded = qs_billing_days.refunded + excluded.refunded, refunds = qs_billing_days.refunds + excluded.refunds, credits = qs_billing_days.credits + excluded.credits;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_billing_days_update AFTER UPDATE ON qs_billing_payments
    WHEN OLD.type <> NEW.type OR OLD.status <> NEW.status OR OLD.amount <> NEW.amount OR OLD.credits <> NEW.credits OR OLD.currency <> NEW.currency OR OLD.created_at <> NEW.created_at
BEGIN
    INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
    VALUES (substr(OLD.created_at, 1, 10), OLD.currency, substr(OLD.id, -1),
        -(CASE WHEN OLD.type <> 'refund' AND OLD.status IN ('succeeded', 'partially_refunded', 'refunded') THEN OLD.amount ELSE 0 END),
        -(CASE WHEN OLD.type <> 'refund' AND OLD.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END),
        -(CASE WHEN OLD.type = 'refund' AND OLD.status IN ('pending', 'succeeded') THEN -OLD.amount ELSE 0 END),
        -(CASE WHEN OLD.type = 'refund' AND OLD.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END),
        -(CASE WHEN OLD.type <> 'refund' AND OLD.status IN ('succeeded', 'partially_refunded', 'refunded') THEN OLD.credits ELSE 0 END))
    ON CONFLICT (day, currency, shard) DO UPDATE SET paid = qs_billing_days.paid + excluded.paid, payments = qs_billing_days.payments + excluded.payments, refunded = qs_billing_days.refunded + excluded.refunded, refunds = qs_billing_days.refunds + excluded.refunds, credits = qs_billing_days.credits + excluded.credits;
    INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
    VALUES (substr(NEW.created_at, 1, 10), NEW.currency, substr(NEW.id, -1),
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN NEW.amount ELSE 0 END,
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END,
        CASE WHEN NEW.type = 'refund' AND NEW.status IN ('pending', 'succeeded') THEN -NEW.amount ELSE 0 END,
        CASE WHEN NEW.type = 'refund' AND NEW.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END,
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN NEW.credits ELSE 0 END)
    ON CONFLICT (day, currency, shard) DO UPDATE SET paid = qs_billing_days.paid + excluded.paid, payments = qs_billing_days.payments + excluded.payments, refunded = qs_billing_days.refunded + excluded.refunded, refunds = qs_billing_days.refunds + excluded.refunds, credits = qs_billing_days.credits + excluded.credits;
END;
-- +goose StatementEnd

-- What each account pays for its plan in a month, in minor units, as of the last change that was followed. Zero: nothing any more.
CREATE TABLE qs_billing_mrr (
    account_id TEXT PRIMARY KEY,
    currency   TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount >= 0)
);
-- How that moved on each day. The sums of all days are what is paid in a month now.
CREATE TABLE qs_billing_mrr_days (
    day      TEXT NOT NULL,
    currency TEXT NOT NULL,
    movement TEXT NOT NULL CHECK (movement IN ('new', 'expansion', 'contraction', 'churn', 'reactivation')),
    amount   INTEGER NOT NULL,
    accounts INTEGER NOT NULL,
    PRIMARY KEY (day, currency, movement)
);

-- Accounts whose plan changed since, once for each change, so that none is lost between two readers.
CREATE TABLE qs_billing_mrr_due (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL
);
INSERT INTO qs_billing_mrr_due (account_id) SELECT account_id FROM qs_billing_subscriptions;
-- +goose StatementBegin
CREATE TRIGGER qs_billing_mrr_insert AFTER INSERT ON qs_billing_subscriptions
BEGIN
    INSERT INTO qs_billing_mrr_due (account_id) VALUES (NEW.account_id);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_billing_mrr_update AFTER UPDATE ON qs_billing_subscriptions
    WHEN OLD.status <> NEW.status OR OLD.price_id <> NEW.price_id OR OLD.quantity <> NEW.quantity OR OLD.pause_behavior <> NEW.pause_behavior
BEGIN
    INSERT INTO qs_billing_mrr_due (account_id) VALUES (NEW.account_id);
END;
-- +goose StatementEnd
-- A price that becomes known, or changes.
-- +goose StatementBegin
CREATE TRIGGER qs_billing_mrr_price_insert AFTER INSERT ON qs_billing_prices
BEGIN
    INSERT INTO qs_billing_mrr_due (account_id) SELECT account_id FROM qs_billing_subscriptions WHERE price_id = NEW.id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_billing_mrr_price_update AFTER UPDATE ON qs_billing_prices
    WHEN OLD.unit_amount <> NEW.unit_amount OR OLD.interval <> NEW.interval OR OLD.interval_count <> NEW.interval_count OR OLD.currency <> NEW.currency
BEGIN
    INSERT INTO qs_billing_mrr_due (account_id) SELECT account_id FROM qs_billing_subscriptions WHERE price_id = NEW.id;
END;
-- +goose StatementEnd
