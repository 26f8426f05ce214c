-- +goose Up
-- What a person tells about themselves. No row: nothing.
CREATE TABLE qs_auth_profiles (
    user_id    TEXT PRIMARY KEY REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    bio        TEXT NOT NULL CHECK (length(bio) <= 1000),
    phone      TEXT NOT NULL CHECK (length(phone) <= 20),
    job_title  TEXT NOT NULL CHECK (length(job_title) <= 100),
    company    TEXT NOT NULL CHECK (length(company) <= 100),
    website    TEXT NOT NULL CHECK (length(website) <= 300),
    location   TEXT NOT NULL CHECK (length(location) <= 100),
    twitter    TEXT NOT NULL CHECK (length(twitter) <= 15),
    linkedin   TEXT NOT NULL CHECK (length(linkedin) <= 100),
    github     TEXT NOT NULL CHECK (length(github) <= 39),
    notify     INTEGER NOT NULL CHECK (notify IN (0, 1)),
    updated_at TEXT NOT NULL
);

-- Pictures as they were encoded anew here, never the bytes that were sent.
CREATE TABLE qs_auth_pictures (
    user_id    TEXT PRIMARY KEY REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    id         TEXT NOT NULL UNIQUE,
    png        BLOB NOT NULL CHECK (length(png) BETWEEN 1 AND 2097152),
    created_at TEXT NOT NULL
);

-- Whose staff's session stands behind one that acts as somebody else.
ALTER TABLE qs_auth_sessions ADD COLUMN impersonator_id TEXT REFERENCES qs_auth_users (id) ON DELETE CASCADE;
ALTER TABLE qs_auth_sessions ADD COLUMN staff_session_id TEXT REFERENCES qs_auth_sessions (id) ON DELETE CASCADE;
CREATE INDEX qs_auth_sessions_staff ON qs_auth_sessions (staff_session_id) WHERE staff_session_id IS NOT NULL;
CREATE INDEX qs_auth_sessions_impersonator ON qs_auth_sessions (impersonator_id) WHERE impersonator_id IS NOT NULL;

-- When an account is to be erased, as its owner asked.
ALTER TABLE qs_auth_users ADD COLUMN delete_at TEXT;
CREATE INDEX qs_auth_users_delete ON qs_auth_users (delete_at) WHERE delete_at IS NOT NULL;
