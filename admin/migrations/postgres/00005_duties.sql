-- +goose Up
-- What a member of staff does in the back office, names between commas: ,support,finance,
CREATE TABLE qs_admin_duties (
    staff_id   TEXT PRIMARY KEY,
    duties     TEXT NOT NULL CHECK (duties <> ''),
    updated_at TIMESTAMPTZ NOT NULL
);
