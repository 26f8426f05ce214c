package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// Exported is all that billing keeps of an account, in the shape in which [Billing.Export] writes it. Lists begin with
// the newest.
type Exported struct {
	Account string `json:"account"`
	// Customer is nil for who never began to buy.
	Customer     *ExportedCustomer `json:"customer"`
	Subscription *Subscription     `json:"subscription"`
	PlanChanges  []ExportedChange  `json:"plan_changes"`
	AutoTopUp    *AutoTopUp        `json:"auto_topup"`
	TopUps       []TopUp           `json:"topups"`
	Checkouts    []Checkout        `json:"checkouts"`
	Payments     []Payment         `json:"payments"`
	// Refunds are without what staff wrote about them.
	Refunds  []Refund  `json:"refunds"`
	Disputes []Dispute `json:"disputes"`
}

// ExportedCustomer is who Stripe knows.
type ExportedCustomer struct {
	ID        string    `json:"id,omitempty"`
	Email     string    `json:"email"`
	CreatedAt time.Time `json:"created_at"`
}

// ExportedChange is a change of plan, or one that was to be.
type ExportedChange struct {
	From      string    `json:"from"`
	To        string    `json:"to"`
	AtOnce    bool      `json:"at_once"`
	Status    string    `json:"status"`
	CreatedAt time.Time `json:"created_at"`
}

// Export writes all that billing keeps of an account as one JSON object, an [Exported], for its owner (GDPR, article 20).
// Cards are at Stripe alone.
func (b *Billing) Export(ctx context.Context, w io.Writer, account string) error {
	all := Exported{Account: account}
	if err := b.exportSettings(ctx, &all); err != nil {
		return err
	}
	if err := b.exportLists(ctx, &all); err != nil {
		return err
	}
	if err := json.NewEncoder(w).Encode(all); err != nil {
		return fmt.Errorf("billing: export account %s: %w", account, err)
	}
	return nil
}

// exportSettings reads what an account has one of.
func (b *Billing) exportSettings(ctx context.Context, all *Exported) error {
	var customer struct {
		ID        *string       `db:"customer_id"`
		Email     string        `db:"email"`
		CreatedAt database.Time `db:"created_at"`
	}
	err := b.db.Get(ctx, &customer, `SELECT customer_id, email, created_at FROM qs_billing_customers WHERE account_id = ?`, all.Account)
	switch {
	case err == nil:
		all.Customer = &ExportedCustomer{ID: deref(customer.ID), Email: customer.Email, CreatedAt: customer.CreatedAt.Time}
	case !database.IsNoRows(err):
		return fmt.Errorf("billing: customer of account %s: %w", all.Account, err)
	}
	s, err := b.FindSubscription(ctx, all.Account)
	switch {
	case err == nil:
		all.Subscription = &s
	case !errors.Is(err, ErrNoSubscription):
		return err
	}
	t, err := b.FindAutoTopUp(ctx, all.Account)
	if err != nil {
		return err
	}
	if t.Consent != "" {
		all.AutoTopUp = &t
	}
	return nil
}

// exportLists reads what grows.
func (b *Billing) exportLists(ctx context.Context, all *Exported) (err error) {
	all.Payments, err = pages(func(before uuid.UUID) ([]Payment, bool, error) {
		return b.Payments(ctx, PaymentsParams{Account: all.Account, Before: before, Limit: MaxPage})
	}, func(p Payment) uuid.UUID { return p.ID })
	if err != nil {
		return err
	}
	all.TopUps, err = pages(func(before uuid.UUID) ([]TopUp, bool, error) { return b.TopUps(ctx, all.Account, before, MaxPage) },
		func(t TopUp) uuid.UUID { return t.ID })
	if err != nil {
		return err
	}
	all.Refunds, err = pages(func(before uuid.UUID) ([]Refund, bool, error) {
		return b.Refunds(ctx, RefundsParams{Account: all.Account, Before: before, Limit: MaxPage})
	}, func(r Refund) uuid.UUID { return r.ID })
	if err != nil {
		return err
	}
	for i := range all.Refunds {
		all.Refunds[i].Note, all.Refunds[i].Staff, all.Refunds[i].Error = "", "", ""
	}
	all.Disputes, err = pages(func(before uuid.UUID) ([]Dispute, bool, error) {
		return b.Disputes(ctx, DisputesParams{Account: all.Account, Before: before, Limit: MaxPage})
	}, func(d Dispute) uuid.UUID { return d.ID })
	if err != nil {
		return err
	}
	all.Checkouts, err = pages(func(before uuid.UUID) ([]Checkout, bool, error) { return b.checkoutsPage(ctx, all.Account, before) },
		func(c Checkout) uuid.UUID { return c.ID })
	if err != nil {
		return err
	}
	var rows []struct {
		From      string        `db:"from_price"`
		To        string        `db:"to_price"`
		AtOnce    bool          `db:"at_once"`
		Status    string        `db:"status"`
		CreatedAt database.Time `db:"created_at"`
	}
	const changes = `SELECT from_price, to_price, at_once, status, created_at FROM qs_billing_changes WHERE account_id = ? ORDER BY id DESC`
	if err := b.db.Select(ctx, &rows, changes, all.Account); err != nil {
		return fmt.Errorf("billing: changes of account %s: %w", all.Account, err)
	}
	all.PlanChanges = make([]ExportedChange, len(rows))
	for i, r := range rows {
		all.PlanChanges[i] = ExportedChange{r.From, r.To, r.AtOnce, r.Status, r.CreatedAt.Time}
	}
	return nil
}

// checkoutsPage returns a page of an account's checkouts, newest first, and whether older ones follow.
func (b *Billing) checkoutsPage(ctx context.Context, account string, before uuid.UUID) ([]Checkout, bool, error) {
	query, args := `SELECT `+checkoutColumns+` FROM qs_billing_checkouts WHERE account_id = ?`, []any{account}
	if before != uuid.Nil {
		query, args = query+` AND id < ?`, append(args, before)
	}
	var rows []checkoutRow
	if err := b.db.Select(ctx, &rows, query+` ORDER BY id DESC LIMIT ?`, append(args, MaxPage+1)...); err != nil {
		return nil, false, fmt.Errorf("billing: checkouts of account %s: %w", account, err)
	}
	more := len(rows) > MaxPage
	if more {
		rows = rows[:MaxPage]
	}
	checkouts := make([]Checkout, len(rows))
	for i, r := range rows {
		checkouts[i] = r.checkout()
	}
	return checkouts, more, nil
}

// pages reads a whole list.
func pages[T any](page func(before uuid.UUID) ([]T, bool, error), id func(T) uuid.UUID) ([]T, error) {
	all := []T{}
	for before := uuid.Nil; ; {
		some, more, err := page(before)
		if err != nil {
			return nil, err
		}
		if all = append(all, some...); !more {
			return all, nil
		}
		before = id(some[len(some)-1])
	}
}
