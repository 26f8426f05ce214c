-- +goose Up
CREATE TABLE qs_credit_accounts (
    id             TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 200),
    -- available and held are what the open lots add up to, as of the last change; next_change_at is when an expiry
    -- will change that although nobody wrote. available may be negative: a clawback may take more than is left.
    available      BIGINT NOT NULL DEFAULT 0,
    held           BIGINT NOT NULL DEFAULT 0 CHECK (held >= 0),
    next_change_at TIMESTAMPTZ,
    last_seq       BIGINT NOT NULL DEFAULT 0,
    created_at     TIMESTAMPTZ NOT NULL
);
-- For the sweep of accounts with something to expire.
CREATE INDEX qs_credit_accounts_due ON qs_credit_accounts (next_change_at) WHERE next_change_at IS NOT NULL;

CREATE TABLE qs_credit_entries (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    seq             BIGINT NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('grant', 'debit', 'expire')),
    amount          BIGINT NOT NULL,
    balance         BIGINT NOT NULL,
    available       BIGINT NOT NULL,
    source          TEXT NOT NULL DEFAULT '',
    reason          TEXT NOT NULL CHECK (reason <> ''),
    reference       TEXT NOT NULL DEFAULT '',
    metadata        TEXT NOT NULL DEFAULT '{}',
    idempotency_key TEXT,
    fingerprint     TEXT,
    created_at      TIMESTAMPTZ NOT NULL,
    CHECK ((kind = 'grant' AND amount > 0) OR (kind = 'debit' AND amount <= 0) OR (kind = 'expire' AND amount < 0)),
    -- History pages run along this key.
    UNIQUE (account_id, seq)
);
CREATE UNIQUE INDEX qs_credit_entries_key ON qs_credit_entries (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE qs_credit_lots (
    id         UUID PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    entry_id   UUID NOT NULL UNIQUE REFERENCES qs_credit_entries (id),
    seq        BIGINT NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('subscription', 'purchase', 'admin', 'bonus')),
    priority   INTEGER NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount > 0),
    -- remaining counts what is held too.
    remaining  BIGINT NOT NULL CHECK (remaining BETWEEN 0 AND amount),
    held       BIGINT NOT NULL DEFAULT 0 CHECK (held BETWEEN 0 AND remaining),
    expires_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL
);
-- The order in which lots are used, over those that have something left.
CREATE INDEX qs_credit_lots_open ON qs_credit_lots (account_id, priority, expires_at NULLS LAST, seq) WHERE remaining > 0;

CREATE TABLE qs_credit_allocations (
    entry_id UUID NOT NULL REFERENCES qs_credit_entries (id),
    lot_id   UUID NOT NULL REFERENCES qs_credit_lots (id),
    amount   BIGINT NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (entry_id, lot_id)
);
CREATE INDEX qs_credit_allocations_lot ON qs_credit_allocations (lot_id);

CREATE TABLE qs_credit_holds (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    amount          BIGINT NOT NULL CHECK (amount > 0),
    status          TEXT NOT NULL CHECK (status IN ('open', 'settled', 'released', 'expired')),
    entry_id        UUID REFERENCES qs_credit_entries (id),
    reason          TEXT NOT NULL CHECK (reason <> ''),
    reference       TEXT NOT NULL DEFAULT '',
    idempotency_key TEXT,
    fingerprint     TEXT,
    expires_at      TIMESTAMPTZ NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    CHECK ((status = 'settled') = (entry_id IS NOT NULL))
);
CREATE INDEX qs_credit_holds_open ON qs_credit_holds (account_id, expires_at) WHERE status = 'open';
-- A hold that was given back frees its key for another try.
CREATE UNIQUE INDEX qs_credit_holds_key ON qs_credit_holds (account_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND status IN ('open', 'settled');

CREATE TABLE qs_credit_hold_lots (
    hold_id UUID NOT NULL REFERENCES qs_credit_holds (id),
    lot_id  UUID NOT NULL REFERENCES qs_credit_lots (id),
    amount  BIGINT NOT NULL CHECK (amount > 0),
    PRIMARY KEY (hold_id, lot_id)
);

-- +goose StatementBegin
CREATE FUNCTION qs_credit_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_credit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_credit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_allocations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_credit_allocations
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
