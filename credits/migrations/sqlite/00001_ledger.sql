-- +goose Up
CREATE TABLE qs_credit_accounts (
    id             TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 200),
    -- What the account can spend, what its open holds have set aside, and what it owes.
    available      INTEGER NOT NULL DEFAULT 0 CHECK (available >= 0),
    held           INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    debt           INTEGER NOT NULL DEFAULT 0 CHECK (debt >= 0),
    -- The head is the lot that is used next. What is free in it is kept here and not in its own row, so that a debit
    -- changes one row; the lot's row is written when another lot becomes the head. The rest of available is told by
    -- source in the four columns after it.
    head_lot       TEXT REFERENCES qs_credit_lots (id),
    head_source    TEXT NOT NULL DEFAULT '',
    head_free      INTEGER NOT NULL DEFAULT 0 CHECK (head_free >= 0),
    subscription   INTEGER NOT NULL DEFAULT 0 CHECK (subscription >= 0),
    purchase       INTEGER NOT NULL DEFAULT 0 CHECK (purchase >= 0),
    admin          INTEGER NOT NULL DEFAULT 0 CHECK (admin >= 0),
    bonus          INTEGER NOT NULL DEFAULT 0 CHECK (bonus >= 0),
    -- When an expiry will change the above although nobody wrote; it may be too early, never too late.
    next_change_at TEXT,
    -- The last entry. Times of entries never go back within an account, whatever the clocks of its writers say.
    last_seq       INTEGER NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    last_at        TEXT NOT NULL,
    -- Why debits are refused; empty: they are not.
    frozen         TEXT NOT NULL DEFAULT '',
    -- Below low_at the account counts as low (NULL: the ledger's default); low tells that the crossing was noted.
    low_at         INTEGER,
    low            BOOLEAN NOT NULL DEFAULT TRUE,
    -- Limits of use, and what was used on the day spent_on (UTC) and in its month. Kept only where there is a limit.
    day_limit      INTEGER CHECK (day_limit >= 0),
    month_limit    INTEGER CHECK (month_limit >= 0),
    spent_on       TEXT NOT NULL DEFAULT '',
    spent_day      INTEGER NOT NULL DEFAULT 0,
    spent_month    INTEGER NOT NULL DEFAULT 0,
    erased_at      TEXT,
    created_at     TEXT NOT NULL,
    CHECK (available = head_free + subscription + purchase + admin + bonus),
    CHECK (debt = 0 OR available = 0),
    CHECK (head_lot IS NOT NULL OR head_free = 0)
) WITHOUT ROWID;
-- For the sweep of accounts with something to expire.
CREATE INDEX qs_credit_accounts_due ON qs_credit_accounts (next_change_at) WHERE next_change_at IS NOT NULL;

CREATE TABLE qs_credit_lots (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    entry_id   TEXT NOT NULL REFERENCES qs_credit_entries (id),
    seq        INTEGER NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('subscription', 'purchase', 'admin', 'bonus')),
    priority   INTEGER NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),
    -- free is what is neither used nor held. For the head of the account its row there is right, and this one stale.
    free       INTEGER NOT NULL CHECK (free BETWEEN 0 AND amount),
    expires_at TEXT,
    warned     BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TEXT NOT NULL,
    -- In the predicates of the indexes in place of free, so that an update of free alone need not touch them.
    open       BOOLEAN GENERATED ALWAYS AS (free > 0) STORED
) WITHOUT ROWID;
-- The order in which lots are used.
CREATE INDEX qs_credit_lots_open ON qs_credit_lots (account_id, priority, (expires_at IS NULL), expires_at, seq, id) WHERE open;
CREATE INDEX qs_credit_lots_expiry ON qs_credit_lots (account_id, expires_at) WHERE open AND expires_at IS NOT NULL;
-- For warnings of what expires soon.
CREATE INDEX qs_credit_lots_unwarned ON qs_credit_lots (expires_at, id) WHERE open AND NOT warned AND expires_at IS NOT NULL;

CREATE TABLE qs_credit_entries (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    seq             INTEGER NOT NULL CHECK (seq > 0),
    kind            TEXT NOT NULL CHECK (kind IN ('grant', 'debit', 'expire', 'adjust', 'transfer', 'revoke', 'repay')),
    amount          INTEGER NOT NULL,
    -- What the entry adds to the account's debt; below zero where it pays some.
    debt            INTEGER NOT NULL DEFAULT 0,
    balance         INTEGER NOT NULL,
    available       INTEGER NOT NULL CHECK (available >= 0),
    -- The lot, where the entry touched one alone that was there before; its share is amount + debt. Other shares are in
    -- qs_credit_allocations.
    lot_id          TEXT REFERENCES qs_credit_lots (id),
    source          TEXT NOT NULL DEFAULT '',
    service         TEXT NOT NULL DEFAULT '',
    reason          TEXT NOT NULL CHECK (reason <> ''),
    reference       TEXT NOT NULL DEFAULT '',
    metadata        TEXT NOT NULL DEFAULT '{}',
    idempotency_key TEXT,
    fingerprint     TEXT,
    created_at      TEXT NOT NULL,
    -- Set when the texts were erased: SHA-256 of what they were, in hexadecimal.
    erased          TEXT,
    CHECK (CASE kind WHEN 'grant' THEN amount > 0 WHEN 'debit' THEN amount <= 0 WHEN 'expire' THEN amount < 0
        WHEN 'revoke' THEN amount <= 0 WHEN 'repay' THEN amount = 0 AND debt < 0 ELSE amount <> 0 END),
    CHECK (debt = 0 OR kind IN ('debit', 'revoke', 'repay')),
    -- History pages run along this key.
    UNIQUE (account_id, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX qs_credit_entries_key ON qs_credit_entries (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE qs_credit_allocations (
    entry_id TEXT NOT NULL REFERENCES qs_credit_entries (id),
    lot_id   TEXT NOT NULL REFERENCES qs_credit_lots (id),
    amount   INTEGER NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (entry_id, lot_id)
) WITHOUT ROWID;
CREATE INDEX qs_credit_allocations_lot ON qs_credit_allocations (lot_id);

CREATE TABLE qs_credit_holds (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    amount          INTEGER NOT NULL CHECK (amount > 0),
    -- What is still set aside.
    remaining       INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND amount),
    status          TEXT NOT NULL CHECK (status IN ('open', 'settled', 'released', 'expired')),
    over            TEXT NOT NULL CHECK (over IN ('debt', 'cap', 'refuse')),
    -- The lot, where the hold is of one alone. Several are in qs_credit_hold_lots.
    lot_id          TEXT REFERENCES qs_credit_lots (id),
    entry_id        TEXT REFERENCES qs_credit_entries (id),
    service         TEXT NOT NULL DEFAULT '',
    reason          TEXT NOT NULL CHECK (reason <> ''),
    reference       TEXT NOT NULL DEFAULT '',
    idempotency_key TEXT,
    fingerprint     TEXT,
    expires_at      TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    CHECK ((status = 'settled') = (entry_id IS NOT NULL)),
    CHECK (status = 'open' OR remaining = 0)
) WITHOUT ROWID;
CREATE INDEX qs_credit_holds_open ON qs_credit_holds (account_id, expires_at) WHERE status = 'open';
-- A hold that was given back frees its key for another try.
CREATE UNIQUE INDEX qs_credit_holds_key ON qs_credit_holds (account_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND status IN ('open', 'settled');

CREATE TABLE qs_credit_hold_lots (
    hold_id TEXT NOT NULL REFERENCES qs_credit_holds (id),
    lot_id  TEXT NOT NULL REFERENCES qs_credit_lots (id),
    amount  INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (hold_id, lot_id)
) WITHOUT ROWID;

-- The chain of sealed batches: root = SHA-256 over the batch's number, the root before it and its entries.
CREATE TABLE qs_credit_seals (
    n          INTEGER PRIMARY KEY CHECK (n > 0),
    previous   TEXT NOT NULL,
    root       TEXT NOT NULL UNIQUE,
    entries    INTEGER NOT NULL CHECK (entries > 0),
    created_at TEXT NOT NULL
);
-- Which entries a batch holds: of each account a run of its history.
CREATE TABLE qs_credit_seal_spans (
    n          INTEGER NOT NULL REFERENCES qs_credit_seals (n),
    account_id TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    from_seq   INTEGER NOT NULL,
    to_seq     INTEGER NOT NULL CHECK (to_seq >= from_seq),
    PRIMARY KEY (account_id, to_seq)
) WITHOUT ROWID;
CREATE INDEX qs_credit_seal_spans_batch ON qs_credit_seal_spans (n, account_id);

-- Lots as they are, the head's free amount from the account.
CREATE VIEW qs_credit_lots_now AS
    SELECT l.id, l.account_id, l.entry_id, l.seq, l.source, l.priority, l.amount, l.expires_at, l.warned, l.created_at, l.open,
        CASE WHEN l.id = a.head_lot THEN a.head_free ELSE l.free END AS free
    FROM qs_credit_lots l JOIN qs_credit_accounts a ON a.id = l.account_id;
-- The shares of lots in entries, from both places.
CREATE VIEW qs_credit_shares AS
    SELECT id AS entry_id, account_id, lot_id, amount + debt AS amount FROM qs_credit_entries WHERE lot_id IS NOT NULL
    UNION ALL
    SELECT x.entry_id, e.account_id, x.lot_id, x.amount FROM qs_credit_allocations x JOIN qs_credit_entries e ON e.id = x.entry_id;
-- The shares of lots in open holds.
CREATE VIEW qs_credit_held AS
    SELECT id AS hold_id, account_id, lot_id, remaining AS amount, expires_at FROM qs_credit_holds WHERE status = 'open' AND lot_id IS NOT NULL
    UNION ALL
    SELECT s.hold_id, h.account_id, s.lot_id, s.amount, h.expires_at FROM qs_credit_hold_lots s JOIN qs_credit_holds h ON h.id = s.hold_id
    WHERE h.status = 'open';

-- The one change that an entry can suffer is the erasure of its texts, once, against their hash.
-- +goose StatementBegin
CREATE TRIGGER qs_credit_entries_no_update BEFORE UPDATE ON qs_credit_entries
WHEN NEW.id IS NOT OLD.id OR NEW.account_id IS NOT OLD.account_id OR NEW.seq IS NOT OLD.seq OR NEW.kind IS NOT OLD.kind
    OR NEW.amount IS NOT OLD.amount OR NEW.debt IS NOT OLD.debt OR NEW.balance IS NOT OLD.balance OR NEW.available IS NOT OLD.available
    OR NEW.lot_id IS NOT OLD.lot_id OR NEW.source IS NOT OLD.source OR NEW.service IS NOT OLD.service
    OR NEW.idempotency_key IS NOT OLD.idempotency_key OR NEW.fingerprint IS NOT OLD.fingerprint OR NEW.created_at IS NOT OLD.created_at
    OR OLD.erased IS NOT NULL OR NEW.erased IS NULL OR NEW.reason <> 'Erased' OR NEW.reference <> '' OR NEW.metadata <> '{}'
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_entries is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_entries_no_delete BEFORE DELETE ON qs_credit_entries
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_entries is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_allocations_no_update BEFORE UPDATE ON qs_credit_allocations
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_allocations is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_allocations_no_delete BEFORE DELETE ON qs_credit_allocations
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_allocations is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_seals_no_update BEFORE UPDATE ON qs_credit_seals
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_seals is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_seals_no_delete BEFORE DELETE ON qs_credit_seals
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_seals is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_seal_spans_no_update BEFORE UPDATE ON qs_credit_seal_spans
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_seal_spans is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER qs_credit_seal_spans_no_delete BEFORE DELETE ON qs_credit_seal_spans
BEGIN
    SELECT RAISE(ABORT, 'table qs_credit_seal_spans is append-only');
END;
-- +goose StatementEnd
