-- +goose Up
-- What was paid and paid back on each day (UTC) on which a payment or refund was made, in minor units, kept by triggers in the
-- transaction of each payment. A day is in sixteen parts, so that payments of one moment do not wait for each other.
CREATE TABLE qs_billing_days (
    day      TEXT NOT NULL,
    currency TEXT NOT NULL,
    shard    TEXT NOT NULL,
    paid     BIGINT NOT NULL,
    payments BIGINT NOT NULL,
    refunded BIGINT NOT NULL,
    refunds  BIGINT NOT NULL,
    -- Millionths of a credit that were sold.
    credits  BIGINT NOT NULL,
    PRIMARY KEY (day, currency, shard)
);
INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
    SELECT to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), p.currency, right(p.id::text, 1),
        SUM(CASE WHEN p.type <> 'refund' AND p.status IN ('succeeded', 'partially_refunded', 'refunded') THEN p.amount ELSE 0 END),
        SUM(CASE WHEN p.type <> 'refund' AND p.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END),
        SUM(CASE WHEN p.type = 'refund' AND p.status IN ('pending', 'succeeded') THEN -p.amount ELSE 0 END),
        SUM(CASE WHEN p.type = 'refund' AND p.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END),
        SUM(CASE WHEN p.type <> 'refund' AND p.status IN ('succeeded', 'partially_refunded', 'refunded') THEN p.credits ELSE 0 END)
    FROM qs_billing_payments p GROUP BY to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), p.currency, right(p.id::text, 1);
-- +goose StatementBegin
CREATE FUNCTION qs_billing_days_follow() RETURNS trigger AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
        VALUES (to_char(OLD.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), OLD.currency, right(OLD.id::text, 1),
            -(CASE WHEN OLD.type <> 'refund' AND OLD.status IN ('succeeded', 'partially_refunded', 'refunded') THEN OLD.amount ELSE 0 END),
            -(CASE WHEN OLD.type <> 'refund' AND OLD.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END),
            -(CASE WHEN OLD.type = 'refund' AND OLD.status IN ('pending', 'succeeded') THEN -OLD.amount ELSE 0 END),
            -(CASE WHEN OLD.type = 'refund' AND OLD.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END),
            -(CASE WHEN OLD.type <> 'refund' AND OLD.status IN ('succeeded', 'partially_refunded', 'refunded') THEN OLD.credits ELSE 0 END))
        ON CONFLICT (day, currency, shard) DO UPDATE SET paid = qs_billing_days.paid + excluded.paid, payments = qs_billing_days.payments + excluded.payments, refunded = qs_billing_days.refunded + excluded.refunded, refunds = qs_billing_days.refunds + excluded.refunds, credits = qs_billing_days.credits + excluded.credits;
    END IF;
    INSERT INTO qs_billing_days (day, currency, shard, paid, payments, refunded, refunds, credits)
    VALUES (to_char(NEW.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), NEW.currency, right(NEW.id::text, 1),
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN NEW.amount ELSE 0 END,
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN 1 ELSE 0 END,
        CASE WHEN NEW.type = 'refund' AND NEW.status IN ('pending', 'succeeded') THEN -NEW.amount ELSE 0 END,
        CASE WHEN NEW.type = 'refund' AND NEW.status IN ('pending', 'succeeded') THEN 1 ELSE 0 END,
        CASE WHEN NEW.type <> 'refund' AND NEW.status IN ('succeeded', 'partially_refunded', 'refunded') THEN NEW.credits ELSE 0 END)
    ON CONFLICT (day, currency, shard) DO UPDATE SET paid = qs_billing_days.paid + excluded.paid, payments = qs_billing_days.payments + excluded.payments, refunded = qs_billing_days.refunded + excluded.refunded, refunds = qs_billing_days.refunds + excluded.refunds, credits = qs_billing_days.credits + excluded.credits;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_billing_days_insert AFTER INSERT ON qs_billing_payments FOR EACH ROW EXECUTE FUNCTION qs_billing_days_follow();
CREATE TRIGGER qs_billing_days_update AFTER UPDATE ON qs_billing_payments FOR EACH ROW
    WHEN ((OLD.type, OLD.status, OLD.amount, OLD.credits, OLD.currency, OLD.created_at) IS DISTINCT FROM (NEW.type, NEW.status, NEW.amount, NEW.credits, NEW.currency, NEW.created_at))
    EXECUTE FUNCTION qs_billing_days_follow();

-- What each account pays for its plan in a month, in minor units, as of the last change that was followed. Zero: nothing any more.
CREATE TABLE qs_billing_mrr (
    account_id TEXT PRIMARY KEY,
    currency   TEXT NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount >= 0)
);
-- How that moved on each day. The sums of all days are what is paid in a month now.
CREATE TABLE qs_billing_mrr_days (
    day      TEXT NOT NULL,
    currency TEXT NOT NULL,
    movement TEXT NOT NULL CHECK (movement IN ('new', 'expansion', 'contraction', 'churn', 'reactivation')),
    amount   BIGINT NOT NULL,
    accounts BIGINT NOT NULL,
    PRIMARY KEY (day, currency, movement)
);

-- Accounts whose plan changed since, once for each change, so that none is lost between two readers.
CREATE TABLE qs_billing_mrr_due (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id TEXT NOT NULL
);
INSERT INTO qs_billing_mrr_due (account_id) SELECT account_id FROM qs_billing_subscriptions;
-- +goose StatementBegin
CREATE FUNCTION qs_billing_mrr_note() RETURNS trigger AS $$
BEGIN
    INSERT INTO qs_billing_mrr_due (account_id) VALUES (NEW.account_id);
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_billing_mrr_insert AFTER INSERT ON qs_billing_subscriptions FOR EACH ROW EXECUTE FUNCTION qs_billing_mrr_note();
CREATE TRIGGER qs_billing_mrr_update AFTER UPDATE ON qs_billing_subscriptions FOR EACH ROW
    WHEN ((OLD.status, OLD.price_id, OLD.quantity, OLD.pause_behavior) IS DISTINCT FROM (NEW.status, NEW.price_id, NEW.quantity, NEW.pause_behavior))
    EXECUTE FUNCTION qs_billing_mrr_note();
-- A price that becomes known, or changes.
-- +goose StatementBegin
CREATE FUNCTION qs_billing_mrr_price() RETURNS trigger AS $$
BEGIN
    INSERT INTO qs_billing_mrr_due (account_id) SELECT account_id FROM qs_billing_subscriptions WHERE price_id = NEW.id;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_billing_mrr_price_insert AFTER INSERT ON qs_billing_prices FOR EACH ROW EXECUTE FUNCTION qs_billing_mrr_price();
CREATE TRIGGER qs_billing_mrr_price_update AFTER UPDATE ON qs_billing_prices FOR EACH ROW
    WHEN ((OLD.unit_amount, OLD.interval, OLD.interval_count, OLD.currency) IS DISTINCT FROM (NEW.unit_amount, NEW.interval, NEW.interval_count, NEW.currency))
    EXECUTE FUNCTION qs_billing_mrr_price();
