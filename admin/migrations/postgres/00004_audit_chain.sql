-- +goose Up
ALTER TABLE qs_admin_audit ADD COLUMN reason TEXT NOT NULL DEFAULT '';
-- What the act changed, as it was and as it became. Empty where nothing was changed.
ALTER TABLE qs_admin_audit ADD COLUMN before TEXT NOT NULL DEFAULT '';
ALTER TABLE qs_admin_audit ADD COLUMN after TEXT NOT NULL DEFAULT '';
-- Each line's number, and the SHA-256 over it and the hash of the line before. NULL: the line is from before there was a chain.
ALTER TABLE qs_admin_audit ADD COLUMN n BIGINT CHECK (n > 0);
ALTER TABLE qs_admin_audit ADD COLUMN hash TEXT CHECK ((hash IS NULL) = (n IS NULL));
CREATE UNIQUE INDEX qs_admin_audit_n ON qs_admin_audit (n);
CREATE INDEX qs_admin_audit_unlinked ON qs_admin_audit (id) WHERE n IS NULL;

-- The end of the chain, which writers lock, and how many lines are from before it.
CREATE TABLE qs_admin_audit_head (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    n        BIGINT NOT NULL CHECK (n >= 0),
    hash     TEXT NOT NULL,
    unlinked BIGINT NOT NULL CHECK (unlinked >= 0)
);
INSERT INTO qs_admin_audit_head (id, n, hash, unlinked) SELECT 1, 0, '', COUNT(*) FROM qs_admin_audit;
CREATE TRIGGER qs_admin_audit_head_stays BEFORE DELETE OR TRUNCATE ON qs_admin_audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION qs_admin_append_only();
CREATE TRIGGER qs_admin_audit_head_grows BEFORE UPDATE ON qs_admin_audit_head
    FOR EACH ROW WHEN (NEW.n <> OLD.n + 1 OR NEW.unlinked <> OLD.unlinked) EXECUTE FUNCTION qs_admin_append_only();
