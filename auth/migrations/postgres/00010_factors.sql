-- +goose Up
-- A person's authenticator app (RFC 6238).
CREATE TABLE qs_auth_totp (
    user_id      UUID PRIMARY KEY REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    -- Sealed with the application's key.
    secret       BYTEA NOT NULL CHECK (length(secret) > 29),
    -- The last step of 30 seconds whose code was accepted: none up to it is accepted again.
    last_step    BIGINT NOT NULL DEFAULT 0 CHECK (last_step >= 0),
    created_at   TIMESTAMPTZ NOT NULL,
    -- When a first code showed that the app has the secret. Until then it is asked of nobody.
    confirmed_at TIMESTAMPTZ
);

-- Codes for who has lost the other factors. The codes of one set have one salt, so that an attempt costs one hash.
CREATE TABLE qs_auth_backup_codes (
    user_id    UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    n          INTEGER NOT NULL CHECK (n BETWEEN 1 AND 10),
    hash       TEXT NOT NULL CHECK (hash LIKE '$argon2id$%'),
    created_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ,
    PRIMARY KEY (user_id, n)
);

CREATE TABLE qs_auth_passkeys (
    id            UUID PRIMARY KEY,
    user_id       UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    credential_id BYTEA NOT NULL UNIQUE CHECK (length(credential_id) BETWEEN 1 AND 1023),
    name          TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    -- The credential record of WebAuthn as JSON: public key, counter, flags, attestation.
    credential    TEXT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    last_used_at  TIMESTAMPTZ,
    -- When its counter ran backwards, after which it lets nobody in.
    cloned_at     TIMESTAMPTZ
);
CREATE INDEX qs_auth_passkeys_user ON qs_auth_passkeys (user_id, id);

-- What a browser was asked to sign. A row goes when the answer comes, whatever it is.
CREATE TABLE qs_auth_ceremonies (
    -- Of the secret that the browser holds in a cookie.
    browser_hash BYTEA PRIMARY KEY CHECK (length(browser_hash) = 32),
    kind         TEXT NOT NULL CHECK (kind IN ('register', 'login', 'confirm')),
    user_id      UUID REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    -- The challenge and what else the answer is checked against, as JSON.
    data         TEXT NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL,
    CHECK ((kind = 'login') = (user_id IS NULL))
);
CREATE INDEX qs_auth_ceremonies_expiry ON qs_auth_ceremonies (expires_at);
CREATE INDEX qs_auth_ceremonies_user ON qs_auth_ceremonies (user_id);

-- Accounts at other sites by which people log in. The subject is the other site's name for the person and never changes;
-- the address there is kept to be shown only.
CREATE TABLE qs_auth_identities (
    id           UUID PRIMARY KEY,
    user_id      UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    provider     TEXT NOT NULL CHECK (length(provider) BETWEEN 1 AND 50),
    -- The issuer of OpenID Connect; empty for providers that have none.
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    email        TEXT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    last_used_at TIMESTAMPTZ,
    UNIQUE (provider, issuer, subject)
);
-- One of each provider for each person.
CREATE UNIQUE INDEX qs_auth_identities_user ON qs_auth_identities (user_id, provider);

-- Log-ins that are under way at another site. A row goes when the browser comes back, whatever it brings.
CREATE TABLE qs_auth_oauth_flows (
    state_hash   BYTEA PRIMARY KEY CHECK (length(state_hash) = 32),
    -- Of the secret that the browser holds in a cookie.
    browser_hash BYTEA NOT NULL CHECK (length(browser_hash) = 32),
    provider     TEXT NOT NULL,
    -- Who asked to link an account; NULL for who wants in.
    user_id      UUID REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    next         TEXT NOT NULL,
    remember     BOOLEAN NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_auth_oauth_flows_expiry ON qs_auth_oauth_flows (expires_at);
CREATE INDEX qs_auth_oauth_flows_user ON qs_auth_oauth_flows (user_id);

-- Identities that wait until the person shows, by logging in, that the account with their address is theirs.
CREATE TABLE qs_auth_oauth_offers (
    browser_hash BYTEA PRIMARY KEY CHECK (length(browser_hash) = 32),
    user_id      UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    provider     TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    email        TEXT NOT NULL,
    next         TEXT NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_auth_oauth_offers_expiry ON qs_auth_oauth_offers (expires_at);
CREATE INDEX qs_auth_oauth_offers_user ON qs_auth_oauth_offers (user_id);

-- Log-ins that have passed the first step and wait for the second. They let nobody in.
CREATE TABLE qs_auth_pending (
    token_hash BYTEA PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    UUID NOT NULL REFERENCES qs_auth_users (id) ON DELETE CASCADE,
    -- How the first step was passed.
    method     TEXT NOT NULL CHECK (method <> ''),
    remember   BOOLEAN NOT NULL,
    -- Who has no second step and needs one sets it up first.
    enrol      BOOLEAN NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX qs_auth_pending_user ON qs_auth_pending (user_id);
CREATE INDEX qs_auth_pending_expiry ON qs_auth_pending (expires_at);
