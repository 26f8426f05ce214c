package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

// PriceStatus is where a change of price stands.
type PriceStatus string

// The statuses.
const (
	PriceWaiting  PriceStatus = "waiting"
	PriceApplied  PriceStatus = "applied"
	PriceCanceled PriceStatus = "canceled"
	PriceFailed   PriceStatus = "failed" // the service or its rate was gone when it was due
)

// PriceChange is an override of a service's rates from a moment on.
type PriceChange struct {
	ID      uuid.UUID `json:"id"`
	Service string    `json:"service"`
	// Rates override those of the same name. None: the override is taken away.
	Rates       services.Rates `json:"rates"`
	Reason      string         `json:"reason"`
	StaffID     string         `json:"staff_id"`
	StaffEmail  string         `json:"staff_email"`
	EffectiveAt time.Time      `json:"effective_at"`
	Status      PriceStatus    `json:"status"`
	Error       string         `json:"error,omitempty"`
	CreatedAt   time.Time      `json:"created_at"`
}

// Text are the rates in words.
func (c PriceChange) Text() string { return ratesText(c.Rates) }

// ratesText are rates in words, by name.
func ratesText(rates services.Rates) string {
	parts := []string{}
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		part := name + " " + rates[name].Amount.String()
		if rates[name].Per > 1 {
			part += " per " + strconv.FormatInt(rates[name].Per, 10)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

type priceRow struct {
	ID          uuid.UUID      `db:"id"`
	Service     string         `db:"service"`
	Rates       string         `db:"rates"`
	Reason      string         `db:"reason"`
	StaffID     string         `db:"staff_id"`
	StaffEmail  string         `db:"staff_email"`
	EffectiveAt database.Time  `db:"effective_at"`
	Status      PriceStatus    `db:"status"`
	Error       string         `db:"error"`
	CreatedAt   database.Time  `db:"created_at"`
	EndedAt     *database.Time `db:"ended_at"`
}

const priceColumns = `id, service, rates, reason, staff_id, staff_email, effective_at, status, error, created_at, ended_at`

func (r priceRow) change() (PriceChange, error) {
	c := PriceChange{ID: r.ID, Service: r.Service, Reason: r.Reason, StaffID: r.StaffID, StaffEmail: r.StaffEmail, EffectiveAt: r.EffectiveAt.Time,
		Status: r.Status, Error: r.Error, CreatedAt: r.CreatedAt.Time}
	if err := json.Unmarshal([]byte(r.Rates), &c.Rates); err != nil {
		return c, fmt.Errorf("admin: rates of change %s: %w", r.ID, err)
	}
	return c, nil
}

// setPriceTx writes a change down, and makes it when it is due.
func (a *Admin) setPriceTx(ctx context.Context, tx *sqlx.Tx, c PriceChange) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("admin: make an id: %w", err)
	}
	rates, err := json.Marshal(c.Rates)
	if err != nil {
		return fmt.Errorf("admin: write rates: %w", err)
	}
	now := a.now()
	row := priceRow{ID: id, Service: c.Service, Rates: string(rates), Reason: c.Reason, StaffID: c.StaffID, StaffEmail: c.StaffEmail,
		EffectiveAt: database.At(c.EffectiveAt), Status: PriceWaiting, CreatedAt: database.At(now)}
	if !c.EffectiveAt.After(now) {
		if err := a.cfg.Services.SetRatesTx(ctx, tx, c.Service, c.Rates); err != nil {
			return err
		}
		row.Status, row.EndedAt = PriceApplied, &row.CreatedAt
	}
	const insert = `INSERT INTO qs_admin_prices (` + priceColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, row.ID, row.Service, row.Rates, row.Reason, row.StaffID, row.StaffEmail, row.EffectiveAt, row.Status, row.Error,
		row.CreatedAt, row.EndedAt); err != nil {
		return fmt.Errorf("admin: write a change of price: %w", err)
	}
	return nil
}

// prices are the last changes of a service's price, the newest first.
func (a *Admin) prices(ctx context.Context, service string) ([]PriceChange, error) {
	var rows []priceRow
	// Runs along qs_admin_prices_service.
	if err := a.db.Select(ctx, &rows, `SELECT `+priceColumns+` FROM qs_admin_prices WHERE service = ? ORDER BY id DESC LIMIT ?`, service, DefaultPage); err != nil {
		return nil, fmt.Errorf("admin: changes of the price of %s: %w", service, err)
	}
	changes := make([]PriceChange, len(rows))
	for i, r := range rows {
		var err error
		if changes[i], err = r.change(); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

var errNoPrice = problem.New(problem.CodeConflict, "This change of price does not wait any more.")

// cancelPriceTx takes a change back that waits.
func (a *Admin) cancelPriceTx(ctx context.Context, tx *sqlx.Tx, service string, id uuid.UUID) error {
	n, err := a.db.ExecTx(ctx, tx, `UPDATE qs_admin_prices SET status = 'canceled', ended_at = ? WHERE id = ? AND service = ? AND status = 'waiting'`, database.At(a.now()), id, service)
	if err == nil && n == 0 {
		return errNoPrice
	}
	if err != nil {
		return fmt.Errorf("admin: cancel a change of price: %w", err)
	}
	return nil
}

// ApplyPrices makes the changes of prices that are due, in the order of their moments, for a job that runs every minute
// or so. Several at once do no harm. It does nothing without Config.Services.
func (a *Admin) ApplyPrices(ctx context.Context) (applied int, err error) {
	if a.cfg.Services == nil {
		return 0, nil
	}
	for {
		more := false
		err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			more, err = a.applyPrice(ctx, tx)
			return err
		})
		if err != nil || !more {
			return applied, err
		}
		applied++
	}
}

// applyPrice makes the change that has been due for longest.
func (a *Admin) applyPrice(ctx context.Context, tx *sqlx.Tx) (more bool, err error) {
	var rows []priceRow
	query := `SELECT ` + priceColumns + ` FROM qs_admin_prices WHERE status = 'waiting' AND effective_at <= ? ORDER BY effective_at, id LIMIT 1` + a.db.Dialect().ForUpdate()
	if err := a.db.SelectTx(ctx, tx, &rows, query, database.At(a.now())); err != nil || len(rows) == 0 {
		if err != nil {
			err = fmt.Errorf("admin: changes of prices that are due: %w", err)
		}
		return false, err
	}
	c, err := rows[0].change()
	if err != nil {
		return false, err
	}
	status, text := PriceApplied, ""
	switch err := a.cfg.Services.SetRatesTx(ctx, tx, c.Service, c.Rates); {
	case problem.From(err) != nil: // refused before anything was written
		status, text = PriceFailed, problem.From(err).ErrorMessage()
	case err != nil:
		return false, err
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_admin_prices SET status = ?, error = ?, ended_at = ? WHERE id = ?`, status, text, database.At(a.now()), c.ID); err != nil {
		return false, fmt.Errorf("admin: note a change of price: %w", err)
	}
	line := Record{StaffID: c.StaffID, StaffEmail: c.StaffEmail, Action: ActionServicePriceDue, Subject: c.Service, Detail: text, Reason: c.Reason, After: ratesText(c.Rates)}
	return true, a.recordTx(ctx, tx, line)
}

var errRate = errors.New("admin: no rate")

// parseRate reads an amount and for how many it is, such as 0.5 or 2 per 1000.
func parseRate(text string) (services.Rate, error) {
	amount, per, found := strings.Cut(text, " per ")
	rate := services.Rate{}
	var err error
	if rate.Amount, err = parseCredits(amount); err != nil {
		return rate, err
	}
	if found {
		if rate.Per, err = strconv.ParseInt(strings.TrimSpace(per), 10, 64); err != nil || rate.Per < 1 {
			return rate, errRate
		}
	}
	return rate, nil
}
