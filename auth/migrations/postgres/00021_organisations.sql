-- +goose Up
-- Accounts that several people share. An organisation's id is its account in the ledger and billing. A person's own
-- account has no row here.
CREATE TABLE qs_auth_organisations (
    id         UUID PRIMARY KEY,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE qs_auth_members (
    organisation_id UUID NOT NULL REFERENCES qs_auth_organisations (id) ON DELETE CASCADE,
    -- Who is a member cannot just vanish: an organisation would be left without an owner.
    user_id         UUID NOT NULL REFERENCES qs_auth_users (id),
    role            TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'billing')),
    joined_at       TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organisation_id, user_id)
);
CREATE INDEX qs_auth_members_user ON qs_auth_members (user_id, organisation_id);

CREATE TABLE qs_auth_invitations (
    id              UUID PRIMARY KEY,
    organisation_id UUID NOT NULL REFERENCES qs_auth_organisations (id) ON DELETE CASCADE,
    token_hash      BYTEA NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    email           TEXT NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    email_key       TEXT NOT NULL,
    -- Nobody is invited as an owner: ownership is given to members.
    role            TEXT NOT NULL CHECK (role IN ('admin', 'member', 'billing')),
    invited_by      UUID REFERENCES qs_auth_users (id) ON DELETE SET NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    expires_at      TIMESTAMPTZ NOT NULL CHECK (expires_at > created_at),
    -- When it was accepted or revoked.
    ended_at        TIMESTAMPTZ
);
CREATE UNIQUE INDEX qs_auth_invitations_live ON qs_auth_invitations (organisation_id, email_key) WHERE ended_at IS NULL;
CREATE INDEX qs_auth_invitations_inviter ON qs_auth_invitations (invited_by);
CREATE INDEX qs_auth_invitations_expiry ON qs_auth_invitations (expires_at);

-- A person's own account. NULL: the user's id, until that account became an organisation's.
ALTER TABLE qs_auth_users ADD COLUMN account_id UUID;
CREATE UNIQUE INDEX qs_auth_users_account ON qs_auth_users (account_id) WHERE account_id IS NOT NULL;
-- The organisation that a new session begins in. NULL: the person's own account.
ALTER TABLE qs_auth_users ADD COLUMN organisation_id UUID REFERENCES qs_auth_organisations (id) ON DELETE SET NULL;
CREATE INDEX qs_auth_users_organisation ON qs_auth_users (organisation_id) WHERE organisation_id IS NOT NULL;
-- The organisation that a session acts for. NULL: the person's own account.
ALTER TABLE qs_auth_sessions ADD COLUMN organisation_id UUID REFERENCES qs_auth_organisations (id) ON DELETE SET NULL;
CREATE INDEX qs_auth_sessions_organisation ON qs_auth_sessions (organisation_id) WHERE organisation_id IS NOT NULL;
-- The account that a key acts as. NULL: the user's id.
ALTER TABLE qs_auth_api_keys ADD COLUMN account_id UUID;
CREATE INDEX qs_auth_api_keys_account ON qs_auth_api_keys (account_id, id) WHERE account_id IS NOT NULL;
