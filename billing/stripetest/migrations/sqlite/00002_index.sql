-- +goose Up
-- When an object wants to be looked at, in milliseconds, 0 for never, and by whom: '' is the double's own clock, a test
-- clock's id, or the deliveries of webhooks.
ALTER TABLE qs_stripetest_objects ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE qs_stripetest_objects ADD COLUMN due INTEGER NOT NULL DEFAULT 0;
CREATE INDEX qs_stripetest_objects_due ON qs_stripetest_objects (queue, due, seq) WHERE due > 0;
CREATE UNIQUE INDEX qs_stripetest_objects_seq ON qs_stripetest_objects (seq);
-- What an object is found by: kind.field=value.
CREATE TABLE qs_stripetest_terms (term TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (term, seq)) WITHOUT ROWID;
-- What was there before is put in the index, and gets its times.
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'charge.customer=' || json_extract(body, '$.customer'), seq FROM qs_stripetest_objects WHERE kind = 'charge' AND json_extract(body, '$.customer') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'charge.payment_intent=' || json_extract(body, '$.payment_intent'), seq FROM qs_stripetest_objects WHERE kind = 'charge' AND json_extract(body, '$.payment_intent') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'checkout.session.customer=' || json_extract(body, '$.customer'), seq FROM qs_stripetest_objects WHERE kind = 'checkout.session' AND json_extract(body, '$.customer') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'checkout.session.payment_intent=' || json_extract(body, '$.payment_intent'), seq FROM qs_stripetest_objects WHERE kind = 'checkout.session' AND json_extract(body, '$.payment_intent') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'checkout.session.status=' || json_extract(body, '$.status'), seq FROM qs_stripetest_objects WHERE kind = 'checkout.session' AND json_extract(body, '$.status') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'customer.email=' || json_extract(body, '$.email'), seq FROM qs_stripetest_objects WHERE kind = 'customer' AND json_extract(body, '$.email') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'event.type=' || json_extract(body, '$.type'), seq FROM qs_stripetest_objects WHERE kind = 'event' AND json_extract(body, '$.type') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'payment_intent.customer=' || json_extract(body, '$.customer'), seq FROM qs_stripetest_objects WHERE kind = 'payment_intent' AND json_extract(body, '$.customer') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'price.product=' || json_extract(body, '$.product'), seq FROM qs_stripetest_objects WHERE kind = 'price' AND json_extract(body, '$.product') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'price.lookup_key=' || json_extract(body, '$.lookup_key'), seq FROM qs_stripetest_objects WHERE kind = 'price' AND json_extract(body, '$.lookup_key') <> '';
INSERT INTO qs_stripetest_terms (term, seq) SELECT 'price.active=true', seq FROM qs_stripetest_objects WHERE kind = 'price' AND json_extract(body, '$.active') = 1;
UPDATE qs_stripetest_objects SET due = json_extract(body, '$.expires_at') * 1000 WHERE kind = 'checkout.session' AND json_extract(body, '$.status') = 'open';
UPDATE qs_stripetest_objects SET queue = 'webhooks', due = json_extract(body, '$.next') WHERE kind = 'delivery';
