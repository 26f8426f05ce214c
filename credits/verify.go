package credits

import (
	"context"
	"fmt"
	"slices"
)

// VerifyParams choose what [Ledger.Verify] goes through.
type VerifyParams struct {
	// After is the account after which to go on: the Next of the report before. Empty: begin with the first.
	After string
	// Accounts is how many accounts are checked at most. 0: [DefaultVerifyAccounts].
	Accounts int
}

// DefaultVerifyAccounts is the size of a batch of [Ledger.Verify].
const DefaultVerifyAccounts = 1000

// maxDiscrepancies bounds what one rule reports of one batch.
const maxDiscrepancies = 100

// Discrepancy is something that does not agree with the entries.
type Discrepancy struct {
	// Account and ID are where: ID is an entry, a lot, a hold or a seal, and empty for the account itself.
	Account string `db:"account_id" json:"account,omitempty"`
	ID      string `db:"id"         json:"id,omitempty"`
	// Rule says what should hold and does not.
	Rule string `db:"-" json:"rule"`
	// Want is what the entries say, Got what is stored, where the rule is about an amount.
	Want Amount `db:"want" json:"want"`
	Got  Amount `db:"got"  json:"got"`
}

// VerifyReport is what [Ledger.Verify] found.
type VerifyReport struct {
	// Accounts is how many were checked.
	Accounts int `json:"accounts"`
	// Next goes into the next call's After. Empty: the last account was reached.
	Next          string        `json:"next,omitempty"`
	Discrepancies []Discrepancy `json:"discrepancies"`
}

// rules are the checks of a batch of accounts, those with ? < id <= ?. Each finds account_id, id, want and got.
var rules = []struct{ rule, query string }{
	{"the account owns the sum of its entries", `SELECT a.id AS account_id, '' AS id, COALESCE(s.amount, 0) AS want, a.available + a.held - a.debt AS got
		FROM qs_credit_accounts a LEFT JOIN (SELECT account_id, SUM(amount) AS amount FROM qs_credit_entries
			WHERE account_id > ? AND account_id <= ? GROUP BY account_id) AS s ON s.account_id = a.id
		WHERE a.id > ? AND a.id <= ? AND a.available + a.held - a.debt <> COALESCE(s.amount, 0)`},
	{"the account owes what its entries say", `SELECT a.id AS account_id, '' AS id, COALESCE(s.amount, 0) AS want, a.debt AS got
		FROM qs_credit_accounts a LEFT JOIN (SELECT account_id, SUM(debt) AS amount FROM qs_credit_entries
			WHERE account_id > ? AND account_id <= ? GROUP BY account_id) AS s ON s.account_id = a.id
		WHERE a.id > ? AND a.id <= ? AND a.debt <> COALESCE(s.amount, 0)`},
	{"the entries are numbered without a gap", `SELECT a.id AS account_id, '' AS id, a.last_seq AS want, COALESCE(s.entries, 0) AS got
		FROM qs_credit_accounts a LEFT JOIN (SELECT account_id, COUNT(*) AS entries, MAX(seq) AS last FROM qs_credit_entries
			WHERE account_id > ? AND account_id <= ? GROUP BY account_id) AS s ON s.account_id = a.id
		WHERE a.id > ? AND a.id <= ? AND (a.last_seq <> COALESCE(s.entries, 0) OR a.last_seq <> COALESCE(s.last, 0))`},
	{"each balance follows from the one before", `SELECT account_id, id, before + amount AS want, balance AS got FROM (
			SELECT account_id, CAST(id AS TEXT) AS id, amount, balance, COALESCE(LAG(balance) OVER (PARTITION BY account_id ORDER BY seq), 0) AS before
			FROM qs_credit_entries WHERE account_id > ? AND account_id <= ?) AS e
		WHERE balance <> before + amount`},
	{"an entry is the sum of its shares", `SELECT e.account_id, CAST(e.id AS TEXT) AS id, e.amount + e.debt AS want, COALESCE(s.amount, 0) AS got
		FROM qs_credit_entries e LEFT JOIN (SELECT x.entry_id, SUM(x.amount) AS amount FROM qs_credit_allocations x
			JOIN qs_credit_entries b ON b.id = x.entry_id WHERE b.account_id > ? AND b.account_id <= ? GROUP BY x.entry_id) AS s ON s.entry_id = e.id
		WHERE e.account_id > ? AND e.account_id <= ? AND (CASE WHEN e.lot_id IS NULL THEN e.amount + e.debt <> COALESCE(s.amount, 0)
			ELSE s.amount IS NOT NULL END)`},
	{"what is free and held of a lot is the sum of its shares", `SELECT l.account_id, CAST(l.id AS TEXT) AS id, COALESCE(s.amount, 0) AS want,
			l.free + COALESCE(h.amount, 0) AS got
		FROM qs_credit_lots_now l
		LEFT JOIN (SELECT lot_id, SUM(amount) AS amount FROM qs_credit_shares WHERE account_id > ? AND account_id <= ? GROUP BY lot_id) AS s
			ON s.lot_id = l.id
		LEFT JOIN (SELECT lot_id, SUM(amount) AS amount FROM qs_credit_held WHERE account_id > ? AND account_id <= ? GROUP BY lot_id) AS h
			ON h.lot_id = l.id
		WHERE l.account_id > ? AND l.account_id <= ? AND l.free + COALESCE(h.amount, 0) <> COALESCE(s.amount, 0)`},
	{"the account has available what is free of its lots", `SELECT a.id AS account_id, '' AS id, COALESCE(s.amount, 0) AS want, a.available AS got
		FROM qs_credit_accounts a LEFT JOIN (SELECT account_id, SUM(free) AS amount FROM qs_credit_lots_now
			WHERE account_id > ? AND account_id <= ? GROUP BY account_id) AS s ON s.account_id = a.id
		WHERE a.id > ? AND a.id <= ? AND a.available <> COALESCE(s.amount, 0)`},
	{"the account has held what its open holds have left", `SELECT a.id AS account_id, '' AS id, COALESCE(s.amount, 0) AS want, a.held AS got
		FROM qs_credit_accounts a LEFT JOIN (SELECT account_id, SUM(remaining) AS amount FROM qs_credit_holds
			WHERE account_id > ? AND account_id <= ? AND status = 'open' GROUP BY account_id) AS s ON s.account_id = a.id
		WHERE a.id > ? AND a.id <= ? AND a.held <> COALESCE(s.amount, 0)`},
	{"a hold is the sum of its shares", `SELECT h.account_id, CAST(h.id AS TEXT) AS id, h.remaining AS want, COALESCE(s.amount, 0) AS got
		FROM qs_credit_holds h LEFT JOIN (SELECT hold_id, SUM(amount) AS amount FROM qs_credit_held
			WHERE account_id > ? AND account_id <= ? GROUP BY hold_id) AS s ON s.hold_id = h.id
		WHERE h.account_id > ? AND h.account_id <= ? AND h.status = 'open' AND h.remaining <> COALESCE(s.amount, 0)`},
	{"each source has available what is free of its lots", `SELECT a.id AS account_id, s.source AS id, s.free AS want,
			CASE s.source WHEN 'subscription' THEN a.subscription WHEN 'purchase' THEN a.purchase WHEN 'admin' THEN a.admin ELSE a.bonus END
				+ CASE WHEN a.head_source = s.source THEN a.head_free ELSE 0 END AS got
		FROM qs_credit_accounts a JOIN (SELECT account_id, source, SUM(free) AS free FROM qs_credit_lots_now
			WHERE account_id > ? AND account_id <= ? GROUP BY account_id, source) AS s ON s.account_id = a.id
		WHERE a.id > ? AND a.id <= ? AND s.free <>
			CASE s.source WHEN 'subscription' THEN a.subscription WHEN 'purchase' THEN a.purchase WHEN 'admin' THEN a.admin ELSE a.bonus END
				+ CASE WHEN a.head_source = s.source THEN a.head_free ELSE 0 END`},
	{"the head is the lot that is used next, and lots with something left are open", `SELECT l.account_id, CAST(l.id AS TEXT) AS id, l.free AS want, a.head_free AS got
		FROM qs_credit_lots_now l JOIN qs_credit_accounts a ON a.id = l.account_id LEFT JOIN qs_credit_lots h ON h.id = a.head_lot
		WHERE l.account_id > ? AND l.account_id <= ? AND l.free > 0 AND (NOT l.open OR (a.head_free > 0 AND
			(l.priority < h.priority OR (l.priority = h.priority AND (CASE WHEN l.expires_at IS NULL THEN 1 ELSE 0 END <
				CASE WHEN h.expires_at IS NULL THEN 1 ELSE 0 END OR l.expires_at < h.expires_at)))))`},
}

// Verify recomputes a batch of accounts from their entries and reports each discrepancy. A batch sees one state of the
// database and locks nothing, so that it runs beside everything else; go on with the report's Next until that is empty:
//
//	for next := ""; ; next = report.Next { report, err = ledger.Verify(ctx, credits.VerifyParams{After: next}) … }
//
// What it finds is counted and logged too: see [Config.Metrics]. That the entries themselves were not tampered with is for [Ledger.VerifySeals] to say.
func (l *Ledger) Verify(ctx context.Context, p VerifyParams) (VerifyReport, error) {
	if p.Accounts <= 0 {
		p.Accounts = DefaultVerifyAccounts
	}
	tx, err := l.snapshot(ctx)
	if err != nil {
		return VerifyReport{}, err
	}
	defer tx.end()
	var ids []string
	if err := tx.selectAll(ctx, &ids, `SELECT id FROM qs_credit_accounts WHERE id > ? ORDER BY id LIMIT ?`, p.After, p.Accounts+1); err != nil {
		return VerifyReport{}, fmt.Errorf("credits: accounts to verify: %w", err)
	}
	report := VerifyReport{Accounts: min(len(ids), p.Accounts), Discrepancies: []Discrepancy{}}
	if len(ids) == 0 {
		return report, nil
	}
	last := ids[report.Accounts-1]
	if len(ids) > p.Accounts {
		report.Next = last
	}
	for _, r := range rules {
		args := slices.Repeat([]any{p.After, last}, countMarks(r.query)/2)
		var found []Discrepancy
		if err := tx.selectAll(ctx, &found, fmt.Sprintf("%s LIMIT %d", r.query, maxDiscrepancies), args...); err != nil {
			return report, fmt.Errorf("credits: verify that %s: %w", r.rule, err)
		}
		for _, d := range found {
			d.Rule = r.rule
			report.Discrepancies = append(report.Discrepancies, d)
		}
	}
	l.metrics.verify(ctx, l.logger, "account", report.Accounts, report.Discrepancies)
	return report, nil
}

func countMarks(query string) (n int) {
	for _, c := range query {
		if c == '?' {
			n++
		}
	}
	return n
}

// VerifyAll is [Ledger.Verify] and [Ledger.VerifySeals] over everything. progress is called after each batch; nil:
// nobody is told.
func (l *Ledger) VerifyAll(ctx context.Context, progress func(VerifyReport)) ([]Discrepancy, error) {
	var all []Discrepancy
	for next, first := "", true; first || next != ""; first = false {
		report, err := l.Verify(ctx, VerifyParams{After: next})
		if err != nil {
			return all, err
		}
		all = append(all, report.Discrepancies...)
		next = report.Next
		if progress != nil {
			progress(report)
		}
	}
	for next, first := int64(0), true; first || next != 0; first = false {
		report, err := l.VerifySeals(ctx, next, DefaultVerifySeals)
		if err != nil {
			return all, err
		}
		all = append(all, report.Discrepancies...)
		next = report.Next
	}
	return all, nil
}
