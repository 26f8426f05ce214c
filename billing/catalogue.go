package billing

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// creditsKey is the product metadata that carries the credits of one unit, a decimal.
const creditsKey = "credits"

// Pack is a one-time price that gives credits.
type Pack struct {
	PriceID     string         `json:"price"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Credits     credits.Amount `json:"credits"`
	Price       Money          `json:"amount"`
}

// PerCredit is the price of one credit for people to compare, with three decimals; empty when the pack is free.
func (p Pack) PerCredit() string {
	if p.Price.Amount == 0 {
		return ""
	}
	price := new(big.Rat).SetFrac(big.NewInt(p.Price.Amount), big.NewInt(p.Price.unit()))
	return price.Quo(price, new(big.Rat).SetFrac(big.NewInt(int64(p.Credits)), big.NewInt(int64(credits.Credit)))).FloatString(3)
}

const selectPacks = `SELECT r.id AS price_id, p.name, p.description, p.credits, r.unit_amount, r.currency, r.interval
	FROM qs_billing_prices r JOIN qs_billing_products p ON p.id = r.product_id
	WHERE r.active = ? AND p.active = ? AND p.credits IS NOT NULL`

type packRow struct {
	PriceID     string         `db:"price_id"`
	Name        string         `db:"name"`
	Description string         `db:"description"`
	Credits     credits.Amount `db:"credits"`
	UnitAmount  int64          `db:"unit_amount"`
	Currency    string         `db:"currency"`
	Interval    string         `db:"interval"`
}

func (r packRow) pack() Pack {
	return Pack{r.PriceID, r.Name, r.Description, r.Credits, Money{r.UnitAmount, r.Currency}}
}

// Packs returns what is for sale, cheapest first.
func (b *Billing) Packs(ctx context.Context) ([]Pack, error) {
	var rows []packRow
	if err := b.db.Select(ctx, &rows, selectPacks+` AND r.interval = '' ORDER BY r.unit_amount, r.id`, true, true); err != nil {
		return nil, fmt.Errorf("billing: packs: %w", err)
	}
	packs := make([]Pack, len(rows))
	for i, r := range rows {
		packs[i] = r.pack()
	}
	return packs, nil
}

// pack finds one that is for sale.
func (b *Billing) pack(ctx context.Context, price string) (Pack, error) {
	var row packRow
	err := b.db.Get(ctx, &row, selectPacks+` AND r.id = ?`, true, true, price)
	switch {
	case database.IsNoRows(err):
		return Pack{}, ErrNotForSale
	case err != nil:
		return Pack{}, fmt.Errorf("billing: price %s: %w", price, err)
	case row.Interval != "":
		return Pack{}, ErrSubscribing
	}
	return row.pack(), nil
}

// SyncCatalogue mirrors all of Stripe's products and prices. Webhooks keep the mirror fresh; this is for the first
// start, and for what was missed.
func (b *Billing) SyncCatalogue(ctx context.Context) error {
	products := b.cfg.Stripe.Products.List(&stripe.ProductListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}})
	for products.Next() {
		if err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveProduct(ctx, tx, products.Product()) }); err != nil {
			return err
		}
	}
	if err := products.Err(); err != nil {
		return fmt.Errorf("billing: list products: %w", err)
	}
	prices := b.cfg.Stripe.Prices.List(&stripe.PriceListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}})
	for prices.Next() {
		if err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.savePrice(ctx, tx, prices.Price()) }); err != nil {
			return err
		}
	}
	if err := prices.Err(); err != nil {
		return fmt.Errorf("billing: list prices: %w", err)
	}
	return nil
}

func (b *Billing) inTx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	return b.db.InTx(ctx, fn)
}

func (b *Billing) saveProduct(ctx context.Context, tx *sqlx.Tx, p *stripe.Product) error {
	var worth *credits.Amount
	if text := p.Metadata[creditsKey]; text != "" {
		amount, err := credits.ParseAmount(text)
		if err != nil || amount <= 0 {
			// Not sold rather than sold wrongly: the mistake is in Stripe's Dashboard, for a person to mend.
			b.cfg.Logger.ErrorContext(ctx, "product metadata is wrong", slog.String("product", p.ID), slog.String(creditsKey, text))
		} else {
			worth = &amount
		}
	}
	const upsert = `INSERT INTO qs_billing_products (id, name, description, active, credits, updated_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, active = excluded.active,
			credits = excluded.credits, updated_at = excluded.updated_at`
	active := p.Active && !p.Deleted
	if _, err := b.db.ExecTx(ctx, tx, upsert, p.ID, p.Name, p.Description, active, worth, database.At(b.now())); err != nil {
		return fmt.Errorf("billing: save product %s: %w", p.ID, err)
	}
	return nil
}

func (b *Billing) savePrice(ctx context.Context, tx *sqlx.Tx, p *stripe.Price) error {
	interval, product := "", ""
	if p.Recurring != nil {
		interval = string(p.Recurring.Interval)
	}
	if p.Product != nil {
		product = p.Product.ID
	}
	const upsert = `INSERT INTO qs_billing_prices (id, product_id, active, currency, unit_amount, interval, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET product_id = excluded.product_id, active = excluded.active, currency = excluded.currency,
			unit_amount = excluded.unit_amount, interval = excluded.interval, updated_at = excluded.updated_at`
	active := p.Active && !p.Deleted
	if _, err := b.db.ExecTx(ctx, tx, upsert, p.ID, product, active, string(p.Currency), p.UnitAmount, interval, database.At(b.now())); err != nil {
		return fmt.Errorf("billing: save price %s: %w", p.ID, err)
	}
	return nil
}
