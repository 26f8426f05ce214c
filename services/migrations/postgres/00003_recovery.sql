-- +goose Up
-- Up to which entry of the ledger every charge of a call has its usage row.
CREATE TABLE qs_service_recovery (
    one        BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    last_entry UUID NOT NULL
);
INSERT INTO qs_service_recovery (last_entry) VALUES ('00000000-0000-0000-0000-000000000000');
