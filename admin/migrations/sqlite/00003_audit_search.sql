-- +goose Up
-- What was done to one person or thing, and what was done in a span of time.
CREATE INDEX qs_admin_audit_subject ON qs_admin_audit (subject, id DESC);
CREATE INDEX qs_admin_audit_created ON qs_admin_audit (created_at);
