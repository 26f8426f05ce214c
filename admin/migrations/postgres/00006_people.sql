-- +goose Up
-- How many users there were on each day (UTC), as they were counted last on it.
CREATE TABLE qs_admin_people (
    day          TEXT PRIMARY KEY,
    total        BIGINT NOT NULL,
    new          BIGINT NOT NULL,
    active_day   BIGINT NOT NULL,
    active_month BIGINT NOT NULL,
    counted_at   TIMESTAMPTZ NOT NULL
);
