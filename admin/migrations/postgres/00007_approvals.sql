-- +goose Up
-- Changes of credits that a second person has to let happen.
CREATE TABLE qs_admin_approvals (
    id           UUID PRIMARY KEY,
    -- The preview's, so that a form that is sent twice asks once.
    key          UUID NOT NULL UNIQUE,
    user_id      TEXT NOT NULL,
    account_id   TEXT NOT NULL,
    -- Millionths of a credit.
    amount       BIGINT NOT NULL CHECK (amount <> 0),
    reason       TEXT NOT NULL CHECK (reason <> ''),
    asked_by     TEXT NOT NULL CHECK (asked_by <> ''),
    asked_email  TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('waiting', 'approved', 'refused')),
    -- Never who asked.
    decided_by    TEXT NOT NULL DEFAULT '' CHECK (decided_by <> asked_by AND (decided_by = '') = (status = 'waiting')),
    decided_email TEXT NOT NULL DEFAULT '',
    decided_at    TIMESTAMPTZ,
    note         TEXT NOT NULL DEFAULT '',
    entry_id     UUID,
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL,
    CHECK ((entry_id IS NOT NULL) = (status = 'approved'))
);
CREATE INDEX qs_admin_approvals_waiting ON qs_admin_approvals (expires_at) WHERE status = 'waiting';
