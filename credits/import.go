package credits

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// ImportParams describe an import of opening balances.
type ImportParams struct {
	// Name tells imports apart. It and the number of the line make the idempotency key of each grant, so that an import
	// that broke off is simply run again. Required.
	Name string
	// DryRun checks everything and writes nothing.
	DryRun bool
	// Reason is that of lines without one. Empty: "Opening balance".
	Reason string
}

// ImportReport is what an import did, or in a dry run would do.
type ImportReport struct {
	Lines    int               `json:"lines"`
	Accounts int               `json:"accounts"`
	Total    Amount            `json:"total"`
	BySource map[Source]Amount `json:"by_source"`
	// Granted is how many lines were written, now or by an earlier run. It is 0 in a dry run.
	Granted int `json:"granted"`
	// Problems are the lines that cannot be imported. While there are any, nothing is written.
	Problems []ImportProblem `json:"problems"`
}

// ImportProblem is what is wrong with a line.
type ImportProblem struct {
	Line    int    `json:"line"` // the file's, from 1
	Message string `json:"message"`
}

// ErrImport is returned when lines of the file cannot be imported; the report has them. Nothing was written.
var ErrImport = errors.New("credits: the file has lines that cannot be imported")

const (
	// importAtOnce is how many grants are under way at once, which the ledger does in groups.
	importAtOnce = 64
	// maxImportProblems bounds what a report lists.
	maxImportProblems = 100
)

// Import grants opening balances from CSV. The first line names the columns: account and amount are required, source
// (empty: purchase), expires_at (RFC 3339 or a date, which means its first instant in UTC), reason and reference are
// not. The file is read whole and checked before the first grant; [ErrImport] when a line is wrong, and an error when
// the file is no such CSV.
func (l *Ledger) Import(ctx context.Context, r io.Reader, p ImportParams) (ImportReport, error) {
	if strings.TrimSpace(p.Name) == "" {
		return ImportReport{}, errors.New("credits: ImportParams.Name is required")
	}
	if p.Reason == "" {
		p.Reason = "Opening balance"
	}
	report := ImportReport{BySource: map[Source]Amount{}, Problems: []ImportProblem{}}
	grants, err := l.readImport(r, p, &report)
	if err != nil {
		return report, err
	}
	if len(report.Problems) > 0 {
		return report, ErrImport
	}
	if p.DryRun {
		return report, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(importAtOnce)
	for _, g := range grants {
		group.Go(func() error {
			if _, err := l.Grant(ctx, g); err != nil {
				return fmt.Errorf("credits: import %s: account %s: %w", g.IdempotencyKey, g.Account, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return report, err
	}
	report.Granted = len(grants)
	return report, nil
}

func (l *Ledger) readImport(r io.Reader, p ImportParams, report *ImportReport) ([]GrantParams, error) {
	in := csv.NewReader(r)
	in.TrimLeadingSpace = true
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("credits: read the line of column names: %w", err)
	}
	column := map[string]int{}
	known := []string{"account", "amount", "source", "expires_at", "reason", "reference"}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))) // spreadsheets begin with a mark
		if _, double := column[name]; double || !slices.Contains(known, name) {
			return nil, fmt.Errorf("credits: column %q is unknown or there twice; the columns are %s", name, strings.Join(known, ", "))
		}
		column[name] = i
	}
	for _, name := range known[:2] {
		if _, ok := column[name]; !ok {
			return nil, fmt.Errorf("credits: the column %q is missing", name)
		}
	}
	var grants []GrantParams
	accounts := map[string]bool{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("credits: read CSV: %w", err)
		}
		line, _ := in.FieldPos(0)
		field := func(name string) string {
			if i, ok := column[name]; ok {
				return strings.TrimSpace(record[i])
			}
			return ""
		}
		report.Lines++
		g, err := l.importLine(field, p, line)
		if err == nil {
			var total Amount
			if total, err = report.Total.Add(g.Amount); err == nil {
				report.Total = total
				report.BySource[g.Source] += g.Amount
				accounts[g.Account] = true
				grants = append(grants, g)
				continue
			}
		}
		if len(report.Problems) < maxImportProblems {
			report.Problems = append(report.Problems, ImportProblem{Line: line, Message: err.Error()})
		}
	}
	report.Accounts = len(accounts)
	return grants, nil
}

func (l *Ledger) importLine(field func(string) string, p ImportParams, line int) (GrantParams, error) {
	g := GrantParams{Account: field("account"), Source: Source(field("source")), Reason: field("reason"), Reference: field("reference"),
		IdempotencyKey: fmt.Sprintf("import:%s:%d", p.Name, line)}
	if g.Source == "" {
		g.Source = Purchase
	}
	if g.Reason == "" {
		g.Reason = p.Reason
	}
	var err error
	if g.Amount, err = ParseAmount(field("amount")); err != nil {
		return g, err
	}
	if text := field("expires_at"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			if at, err = time.Parse(time.DateOnly, text); err != nil {
				return g, fmt.Errorf("credits: %q is neither an RFC 3339 time nor a date", text)
			}
		}
		if !at.After(l.now()) {
			return g, ErrAlreadyExpired
		}
		g.ExpiresAt = &at
	}
	_, err = newGrant(g)
	return g, err
}
