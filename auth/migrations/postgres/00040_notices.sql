-- +goose Up
-- Mails about what has happened to an account that the queue would not take. They hold nothing that lets anybody in.
CREATE TABLE qs_auth_notices (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    -- One of those in notice.go.
    kind       TEXT NOT NULL CHECK (kind <> ''),
    -- Where the person was reached when it happened.
    address    TEXT NOT NULL CHECK (address <> ''),
    language   TEXT NOT NULL,
    -- What the text is executed with, as JSON.
    data       TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_auth_notices_user ON qs_auth_notices (user_id);

-- The language that a person reads (BCP 47). Empty: they have not said.
ALTER TABLE qs_auth_users ADD COLUMN language TEXT NOT NULL DEFAULT '' CHECK (length(language) <= 35);
