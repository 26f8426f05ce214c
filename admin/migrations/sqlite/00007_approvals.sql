-- +goose Up
-- Changes of credits that a second person has to let happen.
CREATE TABLE qs_admin_approvals (
    id           TEXT PRIMARY KEY,
    -- The preview's, so that a form that is sent twice asks once.
    key          TEXT NOT NULL UNIQUE,
    user_id      TEXT NOT NULL,
    account_id   TEXT NOT NULL,
    -- Millionths of a credit.
    amount       INTEGER NOT NULL CHECK (amount <> 0),
    reason       TEXT NOT NULL CHECK (reason <> ''),
    asked_by     TEXT NOT NULL CHECK (asked_by <> ''),
    asked_email  TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('waiting', 'approved', 'refused')),
    -- Never who asked.
    decided_by    TEXT NOT NULL DEFAULT '' CHECK (decided_by <> asked_by AND (decided_by = '') = (status = 'waiting')),
    decided_email TEXT NOT NULL DEFAULT '',
    decided_at    TEXT,
    note         TEXT NOT NULL DEFAULT '',
    entry_id     TEXT,
    created_at   TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    CHECK ((entry_id IS NOT NULL) = (status = 'approved'))
);
CREATE INDEX qs_admin_approvals_waiting ON qs_admin_approvals (expires_at) WHERE status = 'waiting';
