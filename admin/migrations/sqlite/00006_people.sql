-- +goose Up
-- How many users there were on each day (UTC), as they were counted last on it.
CREATE TABLE qs_admin_people (
    day          TEXT PRIMARY KEY,
    total        INTEGER NOT NULL,
    new          INTEGER NOT NULL,
    active_day   INTEGER NOT NULL,
    active_month INTEGER NOT NULL,
    counted_at   TEXT NOT NULL
);
