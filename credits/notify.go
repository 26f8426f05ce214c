package credits

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/quickscale/quickscale/internal/database"
)

// Jobs inserts jobs; a River client over database/sql (*river.Client[*sql.Tx]) is one.
type Jobs interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// LowBalance tells that an account's available credits fell below a mark. It is told once; again only after they were
// at or above it in between.
type LowBalance struct {
	Account   string    `json:"account"`
	Available Amount    `json:"available"` // when it crossed
	LowAt     Amount    `json:"low_at"`
	At        time.Time `json:"at"`
}

// Kind implements river.JobArgs.
func (LowBalance) Kind() string { return "credits_low_balance" }

// ExpiringSoon tells that credits of an account will expire. Each lot is told of once.
type ExpiringSoon struct {
	Account string    `json:"account"`
	Amount  Amount    `json:"amount"`
	First   time.Time `json:"first"` // when the first of them expires
	At      time.Time `json:"at"`
}

// Kind implements river.JobArgs.
func (ExpiringSoon) Kind() string { return "credits_expiring_soon" }

// watch notes a crossing of the low mark.
func (w *work) watch(a *account) {
	mark := w.l.lowAt
	if a.LowAt != nil {
		mark = *a.LowAt
	}
	low := a.Available < mark
	if low && !a.Low {
		w.low = append(w.low, LowBalance{Account: a.ID, Available: a.Available, LowAt: mark, At: a.now})
	}
	a.more = a.more || low != a.Low
	a.Low = low
}

// notify inserts the jobs of crossings, in the transaction of their cause.
func (w *work) notify(ctx context.Context) error {
	if w.l.jobs == nil {
		return nil
	}
	for _, low := range w.low {
		if _, err := w.l.jobs.InsertTx(ctx, w.tx.Tx, low, nil); err != nil {
			return w.broke(fmt.Errorf("credits: tell of the low balance of account %s: %w", low.Account, err))
		}
	}
	return nil
}

// WarnExpiring inserts a job for each account with credits that expire within [Config.WarnBefore] and were not told of
// yet, and returns how many. Without [Config.Jobs] there is nobody to tell, and it does nothing.
func (l *Ledger) WarnExpiring(ctx context.Context) (accounts int, err error) {
	if l.jobs == nil {
		return 0, nil
	}
	for {
		told, lots, err := l.warnSome(ctx)
		accounts += told
		if err != nil || lots < sweepBatch {
			return accounts, err
		}
	}
}

func (l *Ledger) warnSome(ctx context.Context) (accounts, lots int, err error) {
	now := l.now()
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		accounts = 0
		// Along qs_credit_lots_unwarned. Two sweeps at once: the second waits for the rows and finds them marked.
		find := `SELECT id, account_id, expires_at FROM qs_credit_lots WHERE open AND NOT warned AND expires_at IS NOT NULL AND expires_at < ?
			ORDER BY expires_at, id LIMIT ?` + l.db.Dialect().ForUpdate()
		var found []struct {
			ID        uuid.UUID     `db:"id"`
			Account   string        `db:"account_id"`
			ExpiresAt database.Time `db:"expires_at"`
		}
		if err := l.db.SelectTx(ctx, tx, &found, find, database.At(now.Add(l.warnBefore)), sweepBatch); err != nil {
			return fmt.Errorf("credits: lots that expire soon: %w", err)
		}
		lots = len(found)
		warnings := map[string]*ExpiringSoon{}
		var order []*ExpiringSoon
		for _, f := range found {
			if _, err := l.db.ExecTx(ctx, tx, `UPDATE qs_credit_lots SET warned = TRUE WHERE id = ?`, f.ID); err != nil {
				return fmt.Errorf("credits: mark lot %s: %w", f.ID, err)
			}
			// The head's row does not know what is left of it.
			var free Amount
			if err := l.db.GetTx(ctx, tx, &free, `SELECT free FROM qs_credit_lots_now WHERE id = ?`, f.ID); err != nil {
				return fmt.Errorf("credits: rest of lot %s: %w", f.ID, err)
			}
			if free == 0 || !f.ExpiresAt.After(now) {
				continue
			}
			x := warnings[f.Account]
			if x == nil {
				x = &ExpiringSoon{Account: f.Account, First: f.ExpiresAt.Time, At: now}
				warnings[f.Account] = x
				order = append(order, x)
			}
			x.Amount += free
		}
		for _, x := range order {
			if _, err := l.jobs.InsertTx(ctx, tx.Tx, *x, nil); err != nil {
				return fmt.Errorf("credits: tell of expiring credits of account %s: %w", x.Account, err)
			}
		}
		accounts = len(order)
		return nil
	})
	return accounts, lots, err
}

// sweepArgs, and the others below, are the arguments of the ledger's own work.
type sweepArgs struct{}

// Kind implements river.JobArgs.
func (sweepArgs) Kind() string { return "credits_sweep" }

type sealArgs struct{}

// Kind implements river.JobArgs.
func (sealArgs) Kind() string { return "credits_seal" }

// How often the periodic jobs run.
const (
	sweepEvery = time.Minute
	sealEvery  = 10 * time.Minute
)

// AddWorkers adds the workers of the ledger's jobs: sweeps, seals, verification, and the notifications that call [Config.OnLow] and
// [Config.OnExpiring]. Call it before the River client starts.
func (l *Ledger) AddWorkers(workers *river.Workers) error {
	err := errors.Join(
		river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[LowBalance]) error {
			if l.onLow == nil {
				return nil
			}
			return l.onLow(ctx, job.Args)
		})),
		river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[ExpiringSoon]) error {
			if l.onExpiring == nil {
				return nil
			}
			return l.onExpiring(ctx, job.Args)
		})),
		river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[sweepArgs]) error {
			_, err := l.Expire(ctx)
			_, warn := l.WarnExpiring(ctx)
			return errors.Join(err, warn)
		})),
		river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[sealArgs]) error {
			_, err := l.Seal(ctx)
			return err
		})),
		river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[verifyArgs]) error {
			return l.verifySome(ctx, job.Args)
		})),
	)
	if err != nil {
		return fmt.Errorf("credits: %w", err)
	}
	return nil
}

// PeriodicJobs are the ledger's regular work, for the River client's PeriodicJobs().AddMany: each minute expiries and
// warnings, every ten minutes a seal, and each at the start; once a day everything is verified. River runs each once, however many processes there are.
func (l *Ledger) PeriodicJobs() []*river.PeriodicJob {
	return []*river.PeriodicJob{
		river.NewPeriodicJob(river.PeriodicInterval(sweepEvery), func() (river.JobArgs, *river.InsertOpts) {
			return sweepArgs{}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByPeriod: sweepEvery}}
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(sealEvery), func() (river.JobArgs, *river.InsertOpts) {
			return sealArgs{}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByPeriod: sealEvery}}
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		verifyJob(),
	}
}
