-- +goose Up
-- What the development outbox caught, in clear. An application that sends through SMTP leaves it empty.
CREATE TABLE qs_mail_outbox (
    -- A UUIDv7, so that the key's order is that of arrival.
    id         UUID PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind <> ''),
    to_address TEXT NOT NULL CHECK (to_address <> ''),
    to_name    TEXT NOT NULL DEFAULT '',
    subject    TEXT NOT NULL CHECK (subject <> ''),
    body_text  TEXT NOT NULL CHECK (body_text <> ''),
    body_html  TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL
);
