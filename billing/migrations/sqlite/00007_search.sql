-- +goose Up
-- What staff search payments by, beside what is unique already.
CREATE INDEX qs_billing_payments_subscription ON qs_billing_payments (subscription_id, id DESC) WHERE subscription_id IS NOT NULL;
CREATE INDEX qs_billing_payments_status ON qs_billing_payments (status, id DESC);
CREATE INDEX qs_billing_payments_type ON qs_billing_payments (type, id DESC);
CREATE INDEX qs_billing_payments_amount ON qs_billing_payments (amount, id DESC);
CREATE INDEX qs_billing_customers_email ON qs_billing_customers (lower(email));
