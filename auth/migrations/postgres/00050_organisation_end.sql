-- +goose Up
-- When an organisation is to be erased, as one of its owners asked.
ALTER TABLE qs_auth_organisations ADD COLUMN delete_at TIMESTAMPTZ;
CREATE INDEX qs_auth_organisations_delete ON qs_auth_organisations (delete_at) WHERE delete_at IS NOT NULL;
-- For the invitations of who takes their data along or leaves.
CREATE INDEX qs_auth_invitations_email ON qs_auth_invitations (email_key);
