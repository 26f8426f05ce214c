-- +goose Up
-- For staff who look for one kind of events among those of all users.
CREATE INDEX qs_auth_events_kind ON qs_auth_events (kind, id DESC);
