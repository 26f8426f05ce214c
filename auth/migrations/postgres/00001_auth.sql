-- +goose Up
CREATE TABLE qs_auth_users (
    id            UUID PRIMARY KEY,
    -- email is as the person wrote it, for display and mail; email_key is what two addresses are compared by.
    email         TEXT NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    email_key     TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL DEFAULT '' CHECK (length(name) <= 100),
    -- name_key is the name in lower case, for search.
    name_key      TEXT NOT NULL DEFAULT '',
    role          TEXT NOT NULL CHECK (role IN ('user', 'staff', 'admin')),
    -- Empty: the account has no password.
    password_hash TEXT NOT NULL CHECK (password_hash = '' OR password_hash LIKE '$argon2id$%'
        -- Imported, until the next log-in.
        OR password_hash LIKE '$2_$%' OR password_hash LIKE 'pbkdf2_sha256$%'),
    -- The SHA-256 of the ticket that the browser of the latest sign-up holds, until the address is verified.
    signup_ticket BYTEA CHECK (length(signup_ticket) = 32),
    failed_logins INTEGER NOT NULL DEFAULT 0 CHECK (failed_logins >= 0),
    locked_until  TIMESTAMPTZ,
    verified_at   TIMESTAMPTZ,
    disabled_at   TIMESTAMPTZ,
    last_login_at TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL
);
-- Search by the beginning of an address or a name. Pages run along the primary key: ids are UUIDv7 and grow with time.
CREATE INDEX qs_auth_users_email ON qs_auth_users (email_key text_pattern_ops);
CREATE INDEX qs_auth_users_name ON qs_auth_users (name_key text_pattern_ops);
-- For the sweep of accounts that nobody verified.
CREATE INDEX qs_auth_users_unverified ON qs_auth_users (created_at) WHERE verified_at IS NULL;

CREATE TABLE qs_auth_sessions (
    id           UUID PRIMARY KEY,
    token_hash   BYTEA NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    user_id      UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    remember     BOOLEAN NOT NULL,
    ip           TEXT NOT NULL,
    agent        TEXT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    -- When the person last proved who they are in it.
    auth_at      TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    idle_until   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL,
    revoked_at   TIMESTAMPTZ,
    CHECK (expires_at > created_at)
);
CREATE INDEX qs_auth_sessions_user ON qs_auth_sessions (user_id, id DESC);
CREATE INDEX qs_auth_sessions_expiry ON qs_auth_sessions (expires_at);

CREATE TABLE qs_auth_tokens (
    token_hash BYTEA PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    purpose    TEXT NOT NULL CHECK (purpose IN ('verify', 'reset')),
    email_key  TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL CHECK (expires_at > created_at),
    -- When it was spent, or cancelled by a newer one.
    ended_at   TIMESTAMPTZ
);
-- At most one of each purpose is alive.
CREATE UNIQUE INDEX qs_auth_tokens_live ON qs_auth_tokens (user_id, purpose) WHERE ended_at IS NULL;
CREATE INDEX qs_auth_tokens_user ON qs_auth_tokens (user_id, created_at);
CREATE INDEX qs_auth_tokens_expiry ON qs_auth_tokens (expires_at);

CREATE TABLE qs_auth_api_keys (
    id           UUID PRIMARY KEY,
    user_id      UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    name         TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix       TEXT NOT NULL UNIQUE CHECK (length(prefix) = 20),
    secret_hash  BYTEA NOT NULL CHECK (length(secret_hash) = 32),
    -- What it may do, in order and between spaces; never nothing.
    scopes       TEXT NOT NULL CHECK (scopes <> ''),
    -- From where it works, as CIDRs between spaces. Empty: from everywhere.
    networks     TEXT NOT NULL DEFAULT '',
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    revoked_at   TIMESTAMPTZ
);
CREATE INDEX qs_auth_api_keys_user ON qs_auth_api_keys (user_id, id DESC);

-- Events outlive their user, so there is no foreign key. user_id is NULL where an unknown address was tried.
CREATE TABLE qs_auth_events (
    id         UUID PRIMARY KEY,
    user_id    UUID,
    -- One of event.go, which a host's database may be older than.
    kind       TEXT NOT NULL CHECK (kind <> ''),
    detail     TEXT NOT NULL DEFAULT '',
    ip         TEXT NOT NULL,
    agent      TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_auth_events_user ON qs_auth_events (user_id, id DESC);

-- Attempts within a window, by the hash of what they are counted for.
CREATE TABLE qs_auth_limits (
    key        TEXT PRIMARY KEY,
    count      INTEGER NOT NULL CHECK (count > 0),
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_auth_limits_expiry ON qs_auth_limits (expires_at);

-- +goose StatementBegin
CREATE FUNCTION qs_auth_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_auth_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_auth_events
    FOR EACH STATEMENT EXECUTE FUNCTION qs_auth_append_only();
