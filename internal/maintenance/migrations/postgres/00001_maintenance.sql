-- +goose Up
-- The application is shut to people while there is a row. There is one at most.
CREATE TABLE qs_maintenance (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    -- What people are told.
    message  TEXT NOT NULL CHECK (length(message) <= 500),
    actor    TEXT NOT NULL CHECK (actor <> ''),
    began_at TIMESTAMPTZ NOT NULL,
    -- When it is expected to be over. It does not end by itself.
    until_at TIMESTAMPTZ
);
