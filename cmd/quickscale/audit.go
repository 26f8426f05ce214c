package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/internal/database"
)

func newAudit() *cobra.Command {
	cmd := group("audit", "The audit log of the back office: verify it")
	addJSON(cmd)
	cmd.AddCommand(auditVerify())
	return cmd
}

// errAudit says that the audit log is not as it was written.
var errAudit = errors.New("the audit log is not as it was written")

// auditVerified is what verify prints.
type auditVerified struct {
	Lines    int64              `json:"lines"`
	Unlinked int64              `json:"unlinked"`
	N        int64              `json:"n"`
	Hash     string             `json:"hash"`
	Faults   []admin.AuditFault `json:"faults"`
}

func auditVerify() *cobra.Command {
	var kept string
	cmd := &cobra.Command{
		Use: "verify", Args: args(cobra.NoArgs), Short: "Recompute the chain of the audit log",
		Long: "Recompute every line of the audit log from the line before it, and print what was changed, removed or inserted.\n" +
			"It ends with the number and the hash of the last line. Kept where the database's owner cannot change it, that shows\n" +
			"later, with --kept, that nothing before it was rewritten. It fails with 1 when something does not add up.",
	}
	cmd.Flags().StringVar(&kept, "kept", "", "number:hash of a last line that was kept from an earlier run")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		number, hash, err := parseKept(kept)
		if err != nil {
			return err
		}
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			a, err := admin.New(admin.Config{DB: db.Writer(), ReadDB: db.Reader(), Staff: func(*http.Request) (admin.Staff, bool) { return admin.Staff{}, false }})
			if err != nil {
				return err
			}
			result := auditVerified{Faults: []admin.AuditFault{}}
			if err := verifyAuditLog(ctx, cmd, a, &result); err != nil {
				return err
			}
			if kept != "" {
				same, err := a.CheckAuditEnd(ctx, number, hash)
				if err != nil {
					return err
				}
				if !same {
					result.Faults = append(result.Faults, admin.AuditFault{N: number, Rule: "a line has the hash that was kept of it: the log was rewritten"})
				}
			}
			err = out.print(result, func(t table) {
				for _, f := range result.Faults {
					t.linef("%d\t%s", f.N, f.Rule)
				}
				t.linef("%d lines checked, %d from before the chain, %d faults", result.Lines, result.Unlinked, len(result.Faults))
				if result.N > 0 {
					t.linef("last line %d:%s", result.N, result.Hash)
				}
			})
			if err == nil && len(result.Faults) > 0 {
				err = errAudit
			}
			return err
		})
	}
	return cmd
}

func verifyAuditLog(ctx context.Context, cmd *cobra.Command, a *admin.Admin, result *auditVerified) error {
	for after := int64(0); ; {
		report, err := a.VerifyAudit(ctx, after, 0)
		if err != nil {
			return fmt.Errorf("verify after line %d: %w", after, err)
		}
		result.Lines += report.Lines
		result.Faults = append(result.Faults, report.Faults...)
		if report.Next == 0 {
			result.Unlinked, result.N, result.Hash = report.Unlinked, report.N, report.Hash
			return nil
		}
		after = report.Next
		cmd.PrintErrf("%d lines\n", result.Lines)
	}
}

// parseKept reads number:hash.
func parseKept(kept string) (n int64, hash string, err error) {
	if kept == "" {
		return 0, "", nil
	}
	number, hash, ok := strings.Cut(kept, ":")
	if n, err = strconv.ParseInt(number, 10, 64); !ok || err != nil || n < 1 || hash == "" {
		return 0, "", errors.New("--kept is number:hash, as an earlier run printed it")
	}
	return n, hash, nil
}
