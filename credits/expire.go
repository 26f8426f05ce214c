package credits

import (
	"context"
	"errors"
	"fmt"

	"github.com/quickscale/quickscale/internal/database"
)

// sweepBatch is how many accounts one statement of a sweep finds.
const sweepBatch = 100

// Expire writes the expiries whose time has come, for all accounts, and returns how many accounts it went through.
// Balances are right without it; it makes the histories show expiries that nobody came by to trigger. Each account is
// a transaction of its own, and an account that fails does not stop the others: the errors are joined.
func (l *Ledger) Expire(ctx context.Context) (accounts int, err error) {
	const due = `SELECT id FROM qs_credit_accounts WHERE next_change_at <= ? AND id > ? ORDER BY id LIMIT ?`
	now, last := l.now(), ""
	for {
		var ids []string
		if err := l.db.Select(ctx, &ids, due, database.At(now), last, sweepBatch); err != nil {
			return accounts, fmt.Errorf("credits: accounts to expire: %w", err)
		}
		if len(ids) == 0 {
			return accounts, err
		}
		for _, id := range ids {
			if one := l.alone(ctx, expireOp(id)); one != nil {
				err = errors.Join(err, one)
				continue
			}
			accounts++
		}
		last = ids[len(ids)-1]
	}
}

// expireOp does nothing but look at an account, which lets it catch up with the clock.
type expireOp string

func (o expireOp) needs(n *needs) { n.account(string(o)) }

func (o expireOp) apply(context.Context, *work) error { return nil }
