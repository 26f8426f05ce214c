-- +goose Up
-- Log-ins by a code or a link of a mail.
CREATE TABLE qs_auth_magic (
    -- Of the secret that the browser which asked holds in a cookie.
    browser_hash BYTEA PRIMARY KEY CHECK (length(browser_hash) = 32),
    -- NULL where no account can be entered: such a row is as any other, and no code fits.
    user_id      UUID REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    email_key    TEXT NOT NULL,
    -- Keyed by the browser's secret, so that the few digits cannot be tried out on a copy of the table.
    code_hash    BYTEA NOT NULL CHECK (length(code_hash) = 32),
    link_hash    BYTEA NOT NULL UNIQUE CHECK (length(link_hash) = 32),
    remember     BOOLEAN NOT NULL,
    next         TEXT NOT NULL,
    tries        INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    expires_at   TIMESTAMPTZ NOT NULL,
    ended_at     TIMESTAMPTZ
);
CREATE INDEX qs_auth_magic_user ON qs_auth_magic (user_id);
CREATE INDEX qs_auth_magic_expiry ON qs_auth_magic (expires_at);

-- Changes of an account's address.
CREATE TABLE qs_auth_email_changes (
    id            UUID PRIMARY KEY,
    user_id       UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    old_email     TEXT NOT NULL,
    old_email_key TEXT NOT NULL,
    new_email     TEXT NOT NULL CHECK (length(new_email) BETWEEN 3 AND 254),
    new_email_key TEXT NOT NULL,
    -- Of the token that was mailed to the new address.
    confirm_hash  BYTEA NOT NULL UNIQUE CHECK (length(confirm_hash) = 32),
    -- Of the latest token that was mailed to the old address.
    undo_hash     BYTEA NOT NULL UNIQUE CHECK (length(undo_hash) = 32),
    created_at    TIMESTAMPTZ NOT NULL,
    -- Until when it can be confirmed, and once it is, undone.
    expires_at    TIMESTAMPTZ NOT NULL CHECK (expires_at > created_at),
    confirmed_at  TIMESTAMPTZ,
    -- When it was undone, or given up for another one or a new password.
    ended_at      TIMESTAMPTZ,
    CHECK (old_email_key <> new_email_key)
);
-- At most one waits to be confirmed.
CREATE UNIQUE INDEX qs_auth_email_changes_live ON qs_auth_email_changes (user_id) WHERE confirmed_at IS NULL AND ended_at IS NULL;
CREATE INDEX qs_auth_email_changes_user ON qs_auth_email_changes (user_id, id);
CREATE INDEX qs_auth_email_changes_expiry ON qs_auth_email_changes (expires_at);

-- The browsers in which somebody has logged in.
CREATE TABLE qs_auth_devices (
    -- Of the secret that the browser holds in a cookie.
    device_hash  BYTEA NOT NULL CHECK (length(device_hash) = 32),
    user_id      UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    last_used_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, device_hash)
);
CREATE INDEX qs_auth_devices_used ON qs_auth_devices (last_used_at);
