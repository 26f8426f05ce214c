-- +goose Up
CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL CHECK (n >= 0));
CREATE TABLE marks (counter TEXT NOT NULL REFERENCES counters (name), at TEXT NOT NULL);
