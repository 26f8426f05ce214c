-- +goose Up
CREATE TABLE qs_admin_audit (
    id          TEXT PRIMARY KEY,
    staff_id    TEXT NOT NULL CHECK (staff_id <> ''),
    staff_email TEXT NOT NULL,
    action      TEXT NOT NULL CHECK (action <> ''),
    subject     TEXT NOT NULL DEFAULT '',
    detail      TEXT NOT NULL DEFAULT '',
    address     TEXT NOT NULL DEFAULT '',
    request_id  TEXT NOT NULL DEFAULT '',
    created_at  TEXT NOT NULL
);
-- Pages of one action and of one person, newest first; ids are UUIDv7 and grow with time.
CREATE INDEX qs_admin_audit_action ON qs_admin_audit (action, id DESC);
CREATE INDEX qs_admin_audit_staff ON qs_admin_audit (staff_id, id DESC);

-- +goose StatementBegin
CREATE TRIGGER qs_admin_audit_no_update BEFORE UPDATE ON qs_admin_audit
BEGIN
    SELECT RAISE(ABORT, 'table qs_admin_audit is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_admin_audit_no_delete BEFORE DELETE ON qs_admin_audit
BEGIN
    SELECT RAISE(ABORT, 'table qs_admin_audit is append-only');
END;
-- +goose StatementEnd
