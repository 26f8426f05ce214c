package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func newLedger() *cobra.Command {
	cmd := group("ledger", "The credit ledger: verify it, seal it")
	addJSON(cmd)
	cmd.AddCommand(ledgerVerify(), ledgerSeal())
	return cmd
}

func withLedger(cmd *cobra.Command, fn func(ctx context.Context, l *credits.Ledger, out output) error) error {
	return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		if err != nil {
			return err
		}
		return fn(ctx, l, out)
	})
}

// errDiscrepancies says that the ledger does not add up.
var errDiscrepancies = errors.New("the ledger has discrepancies")

// verified is what verify prints.
type verified struct {
	Accounts      int                   `json:"accounts"`
	Seals         int                   `json:"seals"`
	Discrepancies []credits.Discrepancy `json:"discrepancies"`
}

func ledgerVerify() *cobra.Command {
	var after string
	cmd := &cobra.Command{
		Use: "verify", Args: args(cobra.NoArgs), Short: "Recompute every account from its entries, and every seal",
		Long: "Recompute every account from its entries, and every seal from the entries under it, and print each discrepancy.\n" +
			"It runs beside a live system and locks nothing. Progress goes to standard error; a run that was stopped goes on\n" +
			"with --after and the last account that was told. It fails with 1 when there is a discrepancy.",
	}
	cmd.Flags().StringVar(&after, "after", "", "begin after this account")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *credits.Ledger, out output) error {
			result := verified{Discrepancies: []credits.Discrepancy{}}
			// At a terminal a bar says it, and elsewhere lines do, from which an interrupted run goes on.
			bar := newProgress(cmd, -1, "verifying")
			progress := func(n int, format string, args ...any) {
				if bar.add(n); !bar.shown() {
					cmd.PrintErrf(format+"\n", args...)
				}
			}
			err := verifyAccounts(ctx, l, after, &result, progress)
			if err == nil {
				err = verifySeals(ctx, l, &result, progress)
			}
			bar.end()
			if err != nil {
				return err
			}
			err = out.print(result, func(t table) {
				for _, d := range result.Discrepancies {
					t.linef("%s\t%s\t%s\twant %s\tgot %s", d.Account, d.ID, d.Rule, d.Want, d.Got)
				}
				t.linef("%d accounts and %d seals checked, %d discrepancies", result.Accounts, result.Seals, len(result.Discrepancies))
			})
			if err == nil && len(result.Discrepancies) > 0 {
				err = errDiscrepancies
			}
			return err
		})
	}
	return cmd
}

func verifyAccounts(ctx context.Context, l *credits.Ledger, after string, result *verified, progress func(n int, format string, args ...any)) error {
	for {
		report, err := l.Verify(ctx, credits.VerifyParams{After: after})
		if err != nil {
			return fmt.Errorf("verify after account %q: %w", after, err)
		}
		result.Accounts += report.Accounts
		result.Discrepancies = append(result.Discrepancies, report.Discrepancies...)
		if report.Next == "" {
			return nil
		}
		after = report.Next
		progress(report.Accounts, "%d accounts, up to %s", result.Accounts, after)
	}
}

func verifySeals(ctx context.Context, l *credits.Ledger, result *verified, progress func(n int, format string, args ...any)) error {
	for after := int64(0); ; {
		report, err := l.VerifySeals(ctx, after, credits.DefaultVerifySeals)
		if err != nil {
			return fmt.Errorf("verify after seal %d: %w", after, err)
		}
		result.Seals += report.Seals
		result.Discrepancies = append(result.Discrepancies, report.Discrepancies...)
		if report.Next == 0 {
			return nil
		}
		after = report.Next
		progress(report.Seals, "%d seals", result.Seals)
	}
}

func ledgerSeal() *cobra.Command {
	cmd := &cobra.Command{Use: "seal", Args: args(cobra.NoArgs), Short: "Seal the entries that are not sealed yet"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *credits.Ledger, out output) error {
			n, err := l.Seal(ctx)
			if err != nil {
				return err
			}
			return out.print(map[string]int{"entries": n}, func(t table) { t.linef("%d entries sealed", n) })
		})
	}
	return cmd
}
