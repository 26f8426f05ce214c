package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func newCredits() *cobra.Command {
	cmd := group("credits", "Credits of an account: see them, grant some, import balances")
	addJSON(cmd)
	cmd.AddCommand(creditsBalance(), creditsGrant(), creditsHistory(), creditsImport())
	return cmd
}

const accountHelp = "ACCOUNT is the account's id, or the e-mail address of its user."

// withAccount opens the ledger for a command about the account that its first argument names.
func withAccount(cmd *cobra.Command, given string, fn func(ctx context.Context, l *credits.Ledger, account string, out output) error) error {
	return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		if err != nil {
			return err
		}
		account := given
		if strings.Contains(given, "@") {
			a, err := people(db)
			if err != nil {
				return err
			}
			u, err := a.FindUserByEmail(ctx, given)
			if err != nil {
				return err
			}
			account = u.ID
		}
		return fn(ctx, l, account, out)
	})
}

func creditsBalance() *cobra.Command {
	cmd := &cobra.Command{Use: "balance ACCOUNT", Args: args(cobra.ExactArgs(1)), Short: "Show what an account has", Long: "Show what an account has. " + accountHelp}
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return withAccount(cmd, given[0], func(ctx context.Context, l *credits.Ledger, account string, out output) error {
			b, err := l.Balance(ctx, account)
			if err != nil {
				return err
			}
			return out.print(b, func(t table) {
				t.linef("available\t%s\nheld\t%s\ndebt\t%s", b.Available, b.Held, b.Debt)
				for _, source := range []credits.Source{credits.Subscription, credits.Purchase, credits.Admin, credits.Bonus} {
					if amount, has := b.BySource[source]; has {
						t.linef("  %s\t%s", source, amount)
					}
				}
				for _, e := range b.Expiring {
					t.linef("expires on %s\t%s", e.Day.Format(time.DateOnly), e.Amount)
				}
				if b.Frozen {
					t.linef("frozen: use is refused")
				}
			})
		})
	}
	return cmd
}

func creditsGrant() *cobra.Command {
	var p credits.GrantParams
	var source, expires string
	cmd := &cobra.Command{
		Use: "grant ACCOUNT AMOUNT", Args: args(cobra.ExactArgs(2)), Short: "Give an account credits", //nolint:mnd // two arguments
		Long: "Give an account credits. " + accountHelp + "\nWith --key a repetition grants nothing more, so that a script can be run again.",
	}
	f := cmd.Flags()
	f.StringVar(&source, "source", string(credits.Admin), "admin, bonus, purchase or subscription")
	f.StringVar(&p.Reason, "reason", "", "what the history shows; required")
	f.StringVar(&expires, "expires", "", "when what is left stops counting: 2026-01-31, or with a time 2026-01-31T12:00:00Z; never, unless given")
	f.StringVar(&p.IdempotencyKey, "key", "", "a name for this grant, by which a repetition is known")
	f.StringVar(&p.Reference, "reference", "", "the cause, such as a ticket")
	cmd.RunE = func(cmd *cobra.Command, given []string) (err error) {
		if p.Amount, err = credits.ParseAmount(given[1]); err != nil {
			return usageError{err}
		}
		if expires != "" {
			at, err := parseMoment(expires)
			if err != nil {
				return err
			}
			p.ExpiresAt = &at
		}
		return withAccount(cmd, given[0], func(ctx context.Context, l *credits.Ledger, account string, out output) error {
			p.Account, p.Source, p.Metadata = account, credits.Source(source), map[string]string{"by": who("")}
			e, err := l.Grant(ctx, p)
			if err != nil {
				return err
			}
			return out.print(e, func(t table) { t.linef("granted %s; %s are available", e.Amount, e.Available) })
		})
	}
	return cmd
}

func parseMoment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageError{errors.New("--expires " + text + ": give a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z")}
}

func creditsHistory() *cobra.Command {
	var p credits.HistoryParams
	var since string
	cmd := &cobra.Command{Use: "history ACCOUNT", Args: args(cobra.ExactArgs(1)), Short: "List an account's entries, the newest first", Long: "List an account's entries, the newest first. " + accountHelp}
	f := cmd.Flags()
	f.IntVar(&p.Limit, "limit", credits.DefaultPage, "how many, at most 500")
	f.Int64Var(&p.Before, "before", 0, "go on before this entry, the last of the page before")
	f.StringVar(&since, "since", "", "entries since: 2026-01-31T12:00:00Z, or 24h for a day ago")
	cmd.RunE = func(cmd *cobra.Command, given []string) (err error) {
		if p.From, err = parseTime("since", since); err != nil {
			return err
		}
		return withAccount(cmd, given[0], func(ctx context.Context, l *credits.Ledger, account string, out output) error {
			p.Account = account
			entries, more, err := l.History(ctx, p)
			if err != nil {
				return err
			}
			return out.print(map[string]any{"entries": entries, "more": more}, func(t table) {
				t.linef("SEQ\tTIME\tKIND\tAMOUNT\tAVAILABLE\tREASON")
				for _, e := range entries {
					t.linef("%d\t%s\t%s\t%s\t%s\t%s", e.Seq, stamp(e.CreatedAt), e.Kind, e.Amount, e.Available, e.Reason)
				}
				if more {
					t.linef("older ones follow: --before %d", entries[len(entries)-1].Seq)
				}
			})
		})
	}
	return cmd
}

func creditsImport() *cobra.Command {
	var p credits.ImportParams
	cmd := &cobra.Command{
		Use: "import FILE.csv", Args: args(cobra.ExactArgs(1)), Short: "Grant opening balances from a CSV file",
		Long: "Grant opening balances from a CSV file. Its first line names the columns: account and amount are required; source,\n" +
			"expires_at, reason and reference are not. It is checked whole before the first grant, and all faults are told. An\n" +
			"import that broke off is run again with the same name, and grants nothing twice.",
	}
	f := cmd.Flags()
	f.StringVar(&p.Name, "name", "", "the import's name, by which a repetition is known; required")
	f.StringVar(&p.Reason, "reason", "", "the reason of lines without one; Opening balance, unless given")
	f.BoolVar(&p.DryRun, "dry-run", false, "check everything and write nothing")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		if p.Name == "" {
			return usageError{errors.New("--name is required: it keeps a repetition from granting twice")}
		}
		return withLedger(cmd, func(ctx context.Context, l *credits.Ledger, out output) (err error) {
			file, err := os.Open(files[0])
			if err != nil {
				return usageError{err}
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			report, err := l.Import(ctx, file, p)
			if err != nil && !errors.Is(err, credits.ErrImport) {
				return err
			}
			return errors.Join(err, out.print(report, func(t table) {
				for _, problem := range report.Problems {
					t.linef("line %d\t%s", problem.Line, problem.Message)
				}
				t.linef("%d lines, %d accounts, %s credits: %d granted", report.Lines, report.Accounts, report.Total, report.Granted)
			}))
		})
	}
	return cmd
}

// people opens the accounts for a command, which sends no mail and serves no page.
func people(db *database.DB) (*auth.Auth, error) {
	return auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: noMail{}, BaseURL: "http://127.0.0.1"})
}
