-- +goose Up
ALTER TABLE qs_admin_audit ADD COLUMN reason TEXT NOT NULL DEFAULT '';
-- What the act changed, as it was and as it became. Empty where nothing was changed.
ALTER TABLE qs_admin_audit ADD COLUMN before TEXT NOT NULL DEFAULT '';
ALTER TABLE qs_admin_audit ADD COLUMN after TEXT NOT NULL DEFAULT '';
-- Each line's number, and the SHA-256 over it and the hash of the line before. NULL: the line is from before there was a chain.
ALTER TABLE qs_admin_audit ADD COLUMN n INTEGER CHECK (n > 0);
ALTER TABLE qs_admin_audit ADD COLUMN hash TEXT CHECK ((hash IS NULL) = (n IS NULL));
CREATE UNIQUE INDEX qs_admin_audit_n ON qs_admin_audit (n);
CREATE INDEX qs_admin_audit_unlinked ON qs_admin_audit (id) WHERE n IS NULL;

-- The end of the chain, which writers lock, and how many lines are from before it.
CREATE TABLE qs_admin_audit_head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    n        INTEGER NOT NULL CHECK (n >= 0),
    hash     TEXT NOT NULL,
    unlinked INTEGER NOT NULL CHECK (unlinked >= 0)
);
INSERT INTO qs_admin_audit_head (id, n, hash, unlinked) SELECT 1, 0, '', COUNT(*) FROM qs_admin_audit;
-- +goose StatementBegin
CREATE TRIGGER qs_admin_audit_head_stays BEFORE DELETE ON qs_admin_audit_head
BEGIN
    SELECT RAISE(ABORT, 'table qs_admin_audit_head is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_admin_audit_head_grows BEFORE UPDATE ON qs_admin_audit_head WHEN NEW.n <> OLD.n + 1 OR NEW.unlinked <> OLD.unlinked
BEGIN
    SELECT RAISE(ABORT, 'table qs_admin_audit_head is append-only');
END;
-- +goose StatementEnd
