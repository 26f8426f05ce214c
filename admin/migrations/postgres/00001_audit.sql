-- +goose Up
CREATE TABLE qs_admin_audit (
    id          UUID PRIMARY KEY,
    staff_id    TEXT NOT NULL CHECK (staff_id <> ''),
    staff_email TEXT NOT NULL,
    action      TEXT NOT NULL CHECK (action <> ''),
    subject     TEXT NOT NULL DEFAULT '',
    detail      TEXT NOT NULL DEFAULT '',
    address     TEXT NOT NULL DEFAULT '',
    request_id  TEXT NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL
);
-- Pages of one action and of one person, newest first; ids are UUIDv7 and grow with time.
CREATE INDEX qs_admin_audit_action ON qs_admin_audit (action, id DESC);
CREATE INDEX qs_admin_audit_staff ON qs_admin_audit (staff_id, id DESC);

-- +goose StatementBegin
CREATE FUNCTION qs_admin_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_admin_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_admin_audit
    FOR EACH STATEMENT EXECUTE FUNCTION qs_admin_append_only();
