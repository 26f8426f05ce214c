-- +goose Up
-- When an object wants to be looked at, in milliseconds, 0 for never, and by whom: '' is the double's own clock, a test
-- clock's id, or the deliveries of webhooks.
ALTER TABLE qs_stripetest_objects ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE qs_stripetest_objects ADD COLUMN due BIGINT NOT NULL DEFAULT 0;
CREATE INDEX qs_stripetest_objects_due ON qs_stripetest_objects (queue, due, seq) WHERE due > 0;
CREATE UNIQUE INDEX qs_stripetest_objects_seq ON qs_stripetest_objects (seq);
-- What an object is found by: kind.field=value.
CREATE TABLE qs_stripetest_terms (term TEXT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (term, seq));
-- What was there before is put in the index, and gets its times.
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'charge.customer=' || (body::json->>'customer'), seq FROM qs_stripetest_objects WHERE kind = 'charge' AND (body::json->>'customer') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'charge.payment_intent=' || (body::json->>'payment_intent'), seq FROM qs_stripetest_objects WHERE kind = 'charge' AND (body::json->>'payment_intent') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'checkout.session.customer=' || (body::json->>'customer'), seq FROM qs_stripetest_objects WHERE kind = 'checkout.session' AND (body::json->>'customer') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'checkout.session.payment_intent=' || (body::json->>'payment_intent'), seq FROM qs_stripetest_objects WHERE kind = 'checkout.session' AND (body::json->>'payment_intent') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'checkout.session.status=' || (body::json->>'status'), seq FROM qs_stripetest_objects WHERE kind = 'checkout.session' AND (body::json->>'status') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'customer.email=' || (body::json->>'email'), seq FROM qs_stripetest_objects WHERE kind = 'customer' AND (body::json->>'email') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'event.type=' || (body::json->>'type'), seq FROM qs_stripetest_objects WHERE kind = 'event' AND (body::json->>'type') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'payment_intent.customer=' || (body::json->>'customer'), seq FROM qs_stripetest_objects WHERE kind = 'payment_intent' AND (body::json->>'customer') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'price.product=' || (body::json->>'product'), seq FROM qs_stripetest_objects WHERE kind = 'price' AND (body::json->>'product') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'price.lookup_key=' || (body::json->>'lookup_key'), seq FROM qs_stripetest_objects WHERE kind = 'price' AND (body::json->>'lookup_key') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'price.active=true', seq FROM qs_stripetest_objects WHERE kind = 'price' AND (body::json->>'active') = 'true';
UPDATE qs_stripetest_objects SET due = (body::json->>'expires_at')::BIGINT * 1000 WHERE kind = 'checkout.session' AND (body::json->>'status') = 'open';
UPDATE qs_stripetest_objects SET queue = 'webhooks', due = (body::json->>'next')::BIGINT WHERE kind = 'delivery';
