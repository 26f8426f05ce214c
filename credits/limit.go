package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

const (
	dayLayout   = "2006-01-02"
	monthLayout = "2006-01"
)

// spentOn returns what was used on the day and in the month of the change.
func (a *account) spent() (day, month Amount) {
	today := a.now.Format(dayLayout)
	if a.SpentOn == "" || a.SpentOn[:len(monthLayout)] != today[:len(monthLayout)] {
		return 0, 0
	}
	if a.SpentOn == today {
		day = a.SpentDay
	}
	return day, a.SpentMonth
}

// withinLimits refuses a use above a limit. What open holds have set aside counts as used: it may be any moment.
func (a *account) withinLimits(amount Amount) error {
	if a.DayLimit == nil && a.MonthLimit == nil {
		return nil
	}
	day, month := a.spent()
	if a.DayLimit != nil && amount > *a.DayLimit-a.Held-day {
		return &LimitError{Period: "day", Limit: *a.DayLimit, Used: day + a.Held, Required: amount}
	}
	if a.MonthLimit != nil && amount > *a.MonthLimit-a.Held-month {
		return &LimitError{Period: "month", Limit: *a.MonthLimit, Used: month + a.Held, Required: amount}
	}
	return nil
}

// spend counts a use towards the limits.
func (a *account) spend(amount Amount) {
	if a.DayLimit == nil && a.MonthLimit == nil {
		return
	}
	day, month := a.spent()
	a.SpentOn, a.more = a.now.Format(dayLayout), true
	a.SpentDay = saturate(day, amount)
	a.SpentMonth = saturate(month, amount)
}

// saturate adds without overflow: beyond the range there is no limit left to reach.
func saturate(a, b Amount) Amount {
	sum, err := a.Add(b)
	if err != nil {
		return MaxAmount
	}
	return sum
}

// Limits bound what an account may use.
type Limits struct {
	// PerDay and PerMonth are the most that debits, settlements and open holds may come to in a day and a month (UTC).
	// Nil: no limit. Settlements of work that is done are never refused, and count.
	PerDay   *Amount `json:"per_day,omitempty"`
	PerMonth *Amount `json:"per_month,omitempty"`
	// LowAt is the available balance below which the account counts as low. Nil: the ledger's [Config.LowAt].
	LowAt *Amount `json:"low_at,omitempty"`
}

// SetLimits sets what bounds an account, all of it at once; what the account has used this day and month already
// counts. The errors are [ErrAccountRequired] and [ErrAmountNegative].
func (l *Ledger) SetLimits(ctx context.Context, account string, limits Limits) error {
	o, err := newLimits(account, limits)
	if err != nil {
		return err
	}
	return l.alone(ctx, o)
}

// SetLimitsTx is [Ledger.SetLimits] inside the caller's transaction.
func (l *Ledger) SetLimitsTx(ctx context.Context, tx *sqlx.Tx, account string, limits Limits) error {
	o, err := newLimits(account, limits)
	if err != nil {
		return err
	}
	return l.do(ctx, tx, o)
}

// Limits returns what bounds an account, and why it is frozen, if it is.
func (l *Ledger) Limits(ctx context.Context, account string) (limits Limits, frozen string, err error) {
	var row struct {
		Day    *Amount `db:"day_limit"`
		Month  *Amount `db:"month_limit"`
		LowAt  *Amount `db:"low_at"`
		Frozen string  `db:"frozen"`
	}
	err = l.db.Get(ctx, &row, `SELECT day_limit, month_limit, low_at, frozen FROM qs_credit_accounts WHERE id = ?`, account)
	if err != nil && !database.IsNoRows(err) {
		return Limits{}, "", fmt.Errorf("credits: limits of account %s: %w", account, err)
	}
	return Limits{PerDay: row.Day, PerMonth: row.Month, LowAt: row.LowAt}, row.Frozen, nil
}

type limitsOp struct {
	account string
	limits  Limits
}

func newLimits(account string, limits Limits) (*limitsOp, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	for _, limit := range []*Amount{limits.PerDay, limits.PerMonth, limits.LowAt} {
		if limit != nil && *limit < 0 {
			return nil, ErrAmountNegative
		}
	}
	return &limitsOp{account, limits}, nil
}

func (o *limitsOp) needs(n *needs) { n.account(o.account).make = true }

func (o *limitsOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.account)
	a.DayLimit, a.MonthLimit, a.LowAt, a.dirty, a.more = o.limits.PerDay, o.limits.PerMonth, o.limits.LowAt, true, true
	var err error
	if a.SpentDay, err = w.usedSince(ctx, a, a.now.Truncate(24*time.Hour)); err != nil {
		return err
	}
	a.SpentMonth, err = w.usedSince(ctx, a, time.Date(a.now.Year(), a.now.Month(), 1, 0, 0, 0, 0, time.UTC))
	a.SpentOn = a.now.Format(dayLayout)
	return err
}

// usedSince adds up debits and settlements.
func (w *work) usedSince(ctx context.Context, a *account, since time.Time) (Amount, error) {
	get := func(dest any, query string, args ...any) error {
		return w.broke(w.db().GetTx(ctx, w.tx, dest, query, args...))
	}
	var last int64 // of those that are written: this change may have closed lots, which is no use
	if err := get(&last, `SELECT last_seq FROM qs_credit_accounts WHERE id = ?`, a.ID); err != nil {
		return 0, fmt.Errorf("credits: last entry of account %s: %w", a.ID, err)
	}
	first, err := firstSeq(get, a.ID, last, since)
	if err != nil {
		return 0, err
	}
	var sum Amount
	err = get(&sum, `SELECT COALESCE(SUM(-amount), 0) FROM qs_credit_entries WHERE account_id = ? AND seq >= ? AND kind = 'debit'`, a.ID, first)
	if err != nil {
		return 0, fmt.Errorf("credits: use of account %s: %w", a.ID, err)
	}
	return sum, nil
}

// Freeze refuses all further use of an account until [Ledger.Unfreeze]: debits, holds and transfers out. What comes in
// and what ends holds goes on. Freezing a frozen account changes the reason. The errors are [ErrAccountRequired] and
// [ErrReasonRequired].
func (l *Ledger) Freeze(ctx context.Context, account, reason string) error {
	o, err := newFreeze(account, reason)
	if err != nil {
		return err
	}
	return l.alone(ctx, o)
}

// FreezeTx is [Ledger.Freeze] inside the caller's transaction.
func (l *Ledger) FreezeTx(ctx context.Context, tx *sqlx.Tx, account, reason string) error {
	o, err := newFreeze(account, reason)
	if err != nil {
		return err
	}
	return l.do(ctx, tx, o)
}

func newFreeze(account, reason string) (*freezeOp, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	if err := checkReason(&reason); err != nil {
		return nil, err
	}
	return &freezeOp{account, reason}, nil
}

// Unfreeze lets a frozen account be used again; one that is not frozen stays as it is.
func (l *Ledger) Unfreeze(ctx context.Context, account string) error {
	return l.alone(ctx, &freezeOp{account: account})
}

// UnfreezeTx is [Ledger.Unfreeze] inside the caller's transaction.
func (l *Ledger) UnfreezeTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	return l.do(ctx, tx, &freezeOp{account: account})
}

type freezeOp struct{ account, reason string }

func (o *freezeOp) needs(n *needs) { n.account(o.account).make = o.reason != "" }

func (o *freezeOp) apply(_ context.Context, w *work) error {
	a := w.account(o.account)
	a.Frozen, a.dirty, a.more = o.reason, true, true
	return nil
}
