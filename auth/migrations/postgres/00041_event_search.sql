-- +goose Up
-- For staff who look for what came from a network address, or happened in a span of time.
CREATE INDEX qs_auth_events_ip ON qs_auth_events (ip, id DESC);
CREATE INDEX qs_auth_events_created ON qs_auth_events (created_at);
