-- +goose Up
-- What the sealed entries of each day (UTC) add up to, written with each seal.
CREATE TABLE qs_credit_days (
    day     TEXT NOT NULL,
    kind    TEXT NOT NULL,
    source  TEXT NOT NULL,
    amount  INTEGER NOT NULL,
    debt    INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (day, kind, source)
);
INSERT INTO qs_credit_days (day, kind, source, amount, debt, entries)
    SELECT substr(e.created_at, 1, 10), e.kind, e.source, SUM(e.amount), SUM(e.debt), COUNT(*)
    FROM qs_credit_seal_spans s JOIN qs_credit_entries e ON e.account_id = s.account_id AND e.seq BETWEEN s.from_seq AND s.to_seq
    GROUP BY substr(e.created_at, 1, 10), e.kind, e.source;

-- What did not add up when the ledger was verified by itself, and when that was seen last.
CREATE TABLE qs_credit_faults (
    account_id TEXT NOT NULL,
    object_id  TEXT NOT NULL,
    rule       TEXT NOT NULL,
    want       INTEGER NOT NULL,
    got        INTEGER NOT NULL,
    seen_at    TEXT NOT NULL,
    PRIMARY KEY (account_id, object_id, rule)
);
CREATE INDEX qs_credit_faults_seen ON qs_credit_faults (seen_at);
