-- +goose Up
CREATE TABLE qs_stripetest_objects (
    id   TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    -- The order of creation.
    seq  BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX qs_stripetest_objects_kind ON qs_stripetest_objects (kind, seq);
-- One row, locked by each request: the double does one thing at a time. last_seq is the last seq that was given.
CREATE TABLE qs_stripetest_lock (id INTEGER PRIMARY KEY CHECK (id = 1), last_seq BIGINT NOT NULL);
INSERT INTO qs_stripetest_lock (id, last_seq) VALUES (1, 0);
