package credits

import (
	"context"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
)

// verifyArgs are the arguments of the job that verifies the ledger day by day. Where there is much, a job goes on where the one
// before it stopped.
type verifyArgs struct {
	After string `json:"after,omitempty"` // as in [VerifyParams]
	Seals bool   `json:"seals,omitempty"` // the accounts are done,
	Seal  int64  `json:"seal,omitempty"`  // and of the seals those up to this one
}

// Kind implements river.JobArgs.
func (verifyArgs) Kind() string { return "credits_verify" }

const (
	// verifyPeriod is how often everything is verified, and verifyEvery how often it is looked whether it is time:
	// a process that is started anew each day would otherwise never come to it.
	verifyPeriod = 24 * time.Hour
	verifyEvery  = time.Hour
	// verifyFor is how long one job works: well below River's time limit of a minute.
	verifyFor = 20 * time.Second
)

// verifySome works through the ledger for a while, and leaves the rest to a new job.
func (l *Ledger) verifySome(ctx context.Context, at verifyArgs) error {
	for began := l.now(); ; {
		next, more, err := l.verifyStep(ctx, at)
		if err != nil || !more {
			return err
		}
		if at = next; l.jobs != nil && l.now().Sub(began) > verifyFor {
			return l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := l.jobs.InsertTx(ctx, tx.Tx, at, nil)
				return err
			})
		}
	}
}

// verifyStep is a batch of accounts or seals. Metrics, log and [Ledger.Faults] have what it finds.
func (l *Ledger) verifyStep(ctx context.Context, at verifyArgs) (next verifyArgs, more bool, err error) {
	if !at.Seals {
		report, err := l.Verify(ctx, VerifyParams{After: at.After})
		err = errors.Join(err, l.keepFaults(ctx, report.Discrepancies))
		return verifyArgs{After: report.Next, Seals: report.Next == ""}, true, err
	}
	report, err := l.VerifySeals(ctx, at.Seal, DefaultVerifySeals)
	err = errors.Join(err, l.keepFaults(ctx, report.Discrepancies))
	return verifyArgs{Seals: true, Seal: report.Next}, report.Next != 0, err
}

func verifyJob() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(verifyEvery), func() (river.JobArgs, *river.InsertOpts) {
		return verifyArgs{}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: verifyPeriod}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
