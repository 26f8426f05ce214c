-- +goose Up
-- Rules of single columns are domains: those of tables are read from the catalogue anew for each statement, which in a
-- ledger's shortest statements is a good part of the time.
CREATE DOMAIN qs_credit_natural AS BIGINT CHECK (VALUE >= 0);
CREATE DOMAIN qs_credit_account AS TEXT CHECK (length(VALUE) BETWEEN 1 AND 200);
CREATE DOMAIN qs_credit_words AS TEXT CHECK (VALUE <> '');
CREATE DOMAIN qs_credit_hold_status AS TEXT CHECK (VALUE IN ('open', 'settled', 'released', 'expired'));
CREATE DOMAIN qs_credit_over AS TEXT CHECK (VALUE IN ('debt', 'cap', 'refuse'));
CREATE DOMAIN qs_credit_kind AS TEXT CHECK (VALUE IN ('grant', 'debit', 'expire', 'adjust', 'transfer', 'revoke', 'repay'));

CREATE TABLE qs_credit_accounts (
    id             qs_credit_account PRIMARY KEY,
    -- What the account can spend, what its open holds have set aside, and what it owes.
    available      qs_credit_natural NOT NULL DEFAULT 0,
    held           qs_credit_natural NOT NULL DEFAULT 0,
    debt           qs_credit_natural NOT NULL DEFAULT 0,
    -- The head is the lot that is used next. What is free in it is kept here and not in its own row, so that a debit
    -- changes one row; the lot's row is written when another lot becomes the head. The rest of available is told by
    -- source in the four columns after it.
    head_lot       UUID,
    head_source    TEXT NOT NULL DEFAULT '',
    head_free      qs_credit_natural NOT NULL DEFAULT 0,
    subscription   qs_credit_natural NOT NULL DEFAULT 0,
    purchase       qs_credit_natural NOT NULL DEFAULT 0,
    admin          qs_credit_natural NOT NULL DEFAULT 0,
    bonus          qs_credit_natural NOT NULL DEFAULT 0,
    -- When an expiry will change the above although nobody wrote; it may be too early, never too late.
    next_change_at TIMESTAMPTZ,
    -- The last entry. Times of entries never go back within an account, whatever the clocks of its writers say.
    last_seq       qs_credit_natural NOT NULL DEFAULT 0,
    last_at        TIMESTAMPTZ NOT NULL,
    -- Why debits are refused; empty: they are not.
    frozen         TEXT NOT NULL DEFAULT '',
    -- Below low_at the account counts as low (NULL: the ledger's default); low tells that the crossing was noted.
    low_at         BIGINT,
    low            BOOLEAN NOT NULL DEFAULT TRUE,
    -- Limits of use, and what was used on the day spent_on (UTC) and in its month. Kept only where there is a limit.
    day_limit      qs_credit_natural,
    month_limit    qs_credit_natural,
    spent_on       TEXT NOT NULL DEFAULT '',
    spent_day      BIGINT NOT NULL DEFAULT 0,
    spent_month    BIGINT NOT NULL DEFAULT 0,
    erased_at      TIMESTAMPTZ,
    created_at     TIMESTAMPTZ NOT NULL,
    -- One rule and not two, for the same reason as the domains.
    CHECK (available = head_free + subscription + purchase + admin + bonus AND (debt = 0 OR available = 0))
) WITH (fillfactor = 70);
-- For the sweep of accounts with something to expire.
CREATE INDEX qs_credit_accounts_due ON qs_credit_accounts (next_change_at) WHERE next_change_at IS NOT NULL;

CREATE TABLE qs_credit_lots (
    id         UUID PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    entry_id   UUID NOT NULL,
    seq        BIGINT NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('subscription', 'purchase', 'admin', 'bonus')),
    priority   INTEGER NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount > 0),
    -- free is what is neither used nor held. For the head of the account its row there is right, and this one stale.
    free       BIGINT NOT NULL CHECK (free BETWEEN 0 AND amount),
    expires_at TIMESTAMPTZ,
    warned     BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMPTZ NOT NULL,
    -- In the predicates of the indexes in place of free, so that an update of free alone need not touch them.
    open       BOOLEAN GENERATED ALWAYS AS (free > 0) STORED
) WITH (fillfactor = 80);
-- The order in which lots are used.
CREATE INDEX qs_credit_lots_open ON qs_credit_lots (account_id, priority, (expires_at IS NULL), expires_at, seq, id) WHERE open;
CREATE INDEX qs_credit_lots_expiry ON qs_credit_lots (account_id, expires_at) WHERE open AND expires_at IS NOT NULL;
-- For warnings of what expires soon.
CREATE INDEX qs_credit_lots_unwarned ON qs_credit_lots (expires_at, id) WHERE open AND NOT warned AND expires_at IS NOT NULL;

-- The account, the lot and the amounts are checked by qs_credit_entries_check below, for all rows of a statement at once.
CREATE TABLE qs_credit_entries (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL,
    seq             qs_credit_natural NOT NULL,
    kind            qs_credit_kind NOT NULL,
    amount          BIGINT NOT NULL,
    -- What the entry adds to the account's debt; below zero where it pays some.
    debt            BIGINT NOT NULL DEFAULT 0,
    balance         BIGINT NOT NULL,
    available       qs_credit_natural NOT NULL,
    -- The lot, where the entry touched one alone that was there before; its share is amount + debt. Other shares are in
    -- qs_credit_allocations.
    lot_id          UUID,
    source          TEXT NOT NULL DEFAULT '',
    service         TEXT NOT NULL DEFAULT '',
    reason          qs_credit_words NOT NULL,
    reference       TEXT NOT NULL DEFAULT '',
    metadata        TEXT NOT NULL DEFAULT '{}',
    idempotency_key TEXT,
    fingerprint     TEXT,
    created_at      TIMESTAMPTZ NOT NULL,
    -- Set when the texts were erased: SHA-256 of what they were, in hexadecimal.
    erased          TEXT,
    -- History pages run along this key.
    UNIQUE (account_id, seq)
);
CREATE UNIQUE INDEX qs_credit_entries_key ON qs_credit_entries (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
ALTER TABLE qs_credit_lots ADD FOREIGN KEY (entry_id) REFERENCES qs_credit_entries (id);
ALTER TABLE qs_credit_accounts ADD FOREIGN KEY (head_lot) REFERENCES qs_credit_lots (id);

CREATE TABLE qs_credit_allocations (
    entry_id UUID NOT NULL REFERENCES qs_credit_entries (id),
    lot_id   UUID NOT NULL REFERENCES qs_credit_lots (id),
    amount   BIGINT NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (entry_id, lot_id)
);
CREATE INDEX qs_credit_allocations_lot ON qs_credit_allocations (lot_id);

-- The account, the lot, the entry and the amounts are checked by qs_credit_holds_check below.
CREATE TABLE qs_credit_holds (
    id              UUID PRIMARY KEY,
    account_id      TEXT NOT NULL,
    amount          qs_credit_natural NOT NULL,
    -- What is still set aside.
    remaining       qs_credit_natural NOT NULL,
    status          qs_credit_hold_status NOT NULL,
    over            qs_credit_over NOT NULL,
    -- The lot, where the hold is of one alone. Several are in qs_credit_hold_lots.
    lot_id          UUID,
    entry_id        UUID,
    service         TEXT NOT NULL DEFAULT '',
    reason          qs_credit_words NOT NULL,
    reference       TEXT NOT NULL DEFAULT '',
    idempotency_key TEXT,
    fingerprint     TEXT,
    expires_at      TIMESTAMPTZ NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX qs_credit_holds_open ON qs_credit_holds (account_id, expires_at) WHERE status = 'open';
-- A hold that was given back frees its key for another try.
CREATE UNIQUE INDEX qs_credit_holds_key ON qs_credit_holds (account_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND status IN ('open', 'settled');

CREATE TABLE qs_credit_hold_lots (
    hold_id UUID NOT NULL REFERENCES qs_credit_holds (id),
    lot_id  UUID NOT NULL REFERENCES qs_credit_lots (id),
    amount  BIGINT NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (hold_id, lot_id)
);

-- The chain of sealed batches: root = SHA-256 over the batch's number, the root before it and its entries.
CREATE TABLE qs_credit_seals (
    n          BIGINT PRIMARY KEY CHECK (n > 0),
    previous   TEXT NOT NULL,
    root       TEXT NOT NULL UNIQUE,
    entries    BIGINT NOT NULL CHECK (entries > 0),
    created_at TIMESTAMPTZ NOT NULL
);
-- Which entries a batch holds: of each account a run of its history.
CREATE TABLE qs_credit_seal_spans (
    n          BIGINT NOT NULL REFERENCES qs_credit_seals (n),
    account_id TEXT NOT NULL REFERENCES qs_credit_accounts (id),
    from_seq   BIGINT NOT NULL,
    to_seq     BIGINT NOT NULL CHECK (to_seq >= from_seq),
    PRIMARY KEY (account_id, to_seq)
);
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

-- +goose StatementBegin
CREATE FUNCTION qs_credit_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
-- The one change that an entry can suffer is the erasure of its texts, once, against their hash.
CREATE TRIGGER qs_credit_entries_no_update BEFORE UPDATE ON qs_credit_entries FOR EACH ROW
    WHEN ((NEW.id, NEW.account_id, NEW.seq, NEW.kind, NEW.amount, NEW.debt, NEW.balance, NEW.available, NEW.lot_id, NEW.source, NEW.service,
        NEW.idempotency_key, NEW.fingerprint, NEW.created_at) IS DISTINCT FROM
        (OLD.id, OLD.account_id, OLD.seq, OLD.kind, OLD.amount, OLD.debt, OLD.balance, OLD.available, OLD.lot_id, OLD.source, OLD.service,
        OLD.idempotency_key, OLD.fingerprint, OLD.created_at)
        OR OLD.erased IS NOT NULL OR NEW.erased IS NULL OR NEW.reason <> 'Erased' OR NEW.reference <> '' OR NEW.metadata <> '{}')
    EXECUTE FUNCTION qs_credit_append_only();
-- What foreign keys and CHECKs would do with a lock on each lot and a look into the catalogue for each statement: an
-- entry's account exists, its lot is the account's, and its amounts are right for its kind. Accounts and lots are never
-- deleted. A lot has an account, so that only entries without one need the look at it.
-- +goose StatementBegin
CREATE FUNCTION qs_credit_entries_check() RETURNS trigger AS $$
BEGIN
    IF NEW.lot_id IS NULL THEN
        PERFORM 1 FROM qs_credit_accounts WHERE id = NEW.account_id;
    ELSE
        PERFORM 1 FROM qs_credit_lots WHERE id = NEW.lot_id AND account_id = NEW.account_id;
    END IF;
    IF NOT FOUND OR NOT (CASE NEW.kind WHEN 'debit' THEN NEW.amount <= 0 WHEN 'grant' THEN NEW.amount > 0 WHEN 'expire' THEN NEW.amount < 0
            WHEN 'revoke' THEN NEW.amount <= 0 WHEN 'repay' THEN NEW.amount = 0 AND NEW.debt < 0 ELSE NEW.amount <> 0 END)
        OR (NEW.debt <> 0 AND NEW.kind NOT IN ('debit', 'revoke', 'repay'))
    THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'an entry refers to no account, or to no lot of it, or its amounts are not of its kind';
    END IF;
    RETURN NEW;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_credit_entries_check BEFORE INSERT ON qs_credit_entries
    FOR EACH ROW EXECUTE FUNCTION qs_credit_entries_check();
-- The same for holds. An update touches status, remaining and entry_id.
-- +goose StatementBegin
CREATE FUNCTION qs_credit_holds_check() RETURNS trigger AS $$
BEGIN
    -- A lot has an account, so that only holds without one need the look at it; and many are of one lot.
    IF EXISTS (SELECT 1 FROM (SELECT DISTINCT account_id, lot_id FROM written) AS h
            LEFT JOIN LATERAL (SELECT account_id FROM qs_credit_lots WHERE id = h.lot_id LIMIT 1) AS l ON TRUE
            WHERE h.lot_id IS NOT NULL AND l.account_id IS DISTINCT FROM h.account_id)
        OR EXISTS (SELECT 1 FROM written AS h
            LEFT JOIN LATERAL (SELECT account_id FROM qs_credit_entries WHERE id = h.entry_id LIMIT 1) AS e ON TRUE
            WHERE (h.entry_id IS NOT NULL AND e.account_id IS DISTINCT FROM h.account_id) OR (h.status = 'settled') <> (h.entry_id IS NOT NULL)
                OR h.amount = 0 OR h.remaining > h.amount OR (h.status <> 'open' AND h.remaining > 0)
                OR (h.lot_id IS NULL AND NOT EXISTS (SELECT 1 FROM qs_credit_accounts WHERE id = h.account_id)))
    THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'a hold refers to no account, or to no lot or entry of it, or its amounts are not of its status';
    END IF;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
CREATE TRIGGER qs_credit_holds_check AFTER INSERT ON qs_credit_holds REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_holds_check();
CREATE TRIGGER qs_credit_holds_check_update AFTER UPDATE ON qs_credit_holds REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_holds_check();
CREATE TRIGGER qs_credit_holds_stay BEFORE DELETE OR TRUNCATE ON qs_credit_holds
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_accounts_stay BEFORE DELETE OR TRUNCATE ON qs_credit_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_lots_stay BEFORE DELETE OR TRUNCATE ON qs_credit_lots
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_entries_append_only BEFORE DELETE OR TRUNCATE ON qs_credit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_allocations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_credit_allocations
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_credit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
CREATE TRIGGER qs_credit_seal_spans_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qs_credit_seal_spans
    FOR EACH STATEMENT EXECUTE FUNCTION qs_credit_append_only();
