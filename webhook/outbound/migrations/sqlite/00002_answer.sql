-- +goose Up
-- The beginning of what the endpoint answered, for its owner.
ALTER TABLE qs_outbound_attempts ADD COLUMN answer TEXT NOT NULL DEFAULT '';
