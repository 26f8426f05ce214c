-- +goose Up
-- Where an answer goes. Empty: to the sender.
ALTER TABLE qs_mail_outbox ADD COLUMN reply_to TEXT NOT NULL DEFAULT '';
