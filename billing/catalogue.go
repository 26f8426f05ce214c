package billing

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Metadata of products in Stripe.
const (
	creditsKey      = "credits"       // credits of one unit, a decimal; a price may have its own, which goes first
	trialDaysKey    = "trial_days"    // days of trial of a plan, at most 730
	trialCreditsKey = "trial_credits" // credits of a trial, a decimal; none where it is missing
	featuresKey     = "features"      // what a plan entitles to: names between commas
	orderKey        = "order"         // the place on the pages at first sight, a whole number; staff may change it
)

// maxTrialDays is Stripe's limit (docs.stripe.com/api/checkout/sessions/create, trial_period_days).
const maxTrialDays = 730

// Offer is a price that gives credits: a pack when it is paid once, a plan when it renews.
type Offer struct {
	PriceID     string `json:"price"`
	ProductID   string `json:"product"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Credits are those of one unit; a plan's of one period.
	Credits credits.Amount `json:"credits"`
	Price   Money          `json:"amount"`
	// Interval is day, week, month or year, and a plan renews every IntervalCount of them. Empty and 0 for packs.
	Interval      string `json:"interval,omitempty"`
	IntervalCount int64  `json:"interval_count,omitempty"`
	// TrialDays come before the first payment of who never subscribed, with TrialCredits to use in them.
	TrialDays    int64          `json:"trial_days,omitempty"`
	TrialCredits credits.Amount `json:"trial_credits,omitzero"`
	// Features are what a plan entitles to; see [Billing.Entitled].
	Features []string `json:"features,omitempty"`
	// SavesPercent is by how many percent, rounded down, a credit is cheaper than by the product's plan of the shortest
	// period. Only [Billing.Plans] fills it.
	SavesPercent int64 `json:"saves_percent,omitempty"`
}

// PerCredit is the price of one credit for people to compare, with three decimals; empty when it is free.
func (o Offer) PerCredit() string {
	if o.Price.Amount == 0 || o.Credits == 0 {
		return ""
	}
	price := new(big.Rat).SetFrac(big.NewInt(o.Price.Amount), big.NewInt(o.Price.unit()))
	return price.Quo(price, new(big.Rat).SetFrac(big.NewInt(int64(o.Credits)), big.NewInt(int64(credits.Credit)))).FloatString(3)
}

// Every is how often a plan renews, such as "month" or "3 months"; empty for packs.
func (o Offer) Every() string {
	if o.IntervalCount <= 1 {
		return o.Interval
	}
	return fmt.Sprintf("%d %ss", o.IntervalCount, o.Interval)
}

// isPlan tells plans from packs.
func (o Offer) isPlan() bool { return o.Interval != "" }

// days are the length of a plan's period for comparing plans, not for reckoning dates.
func (o Offer) days() int64 {
	return map[string]int64{"day": 1, "week": 7, "month": 30, "year": 365}[o.Interval] * o.IntervalCount
}

const offerColumns = `r.id AS price_id, p.id AS product_id, p.name, p.description, COALESCE(r.credits, p.credits) AS credits, r.unit_amount, r.currency,
	r.interval, r.interval_count, p.trial_days, p.trial_credits, p.features`

const offerTables = ` FROM qs_billing_prices r JOIN qs_billing_products p ON p.id = r.product_id`

// forSale is what both the price and the product must be, with true, true and false as arguments.
const forSale = ` WHERE r.active = ? AND p.active = ? AND p.hidden = ? AND COALESCE(r.credits, p.credits) IS NOT NULL`

type offerRow struct {
	PriceID       string          `db:"price_id"`
	ProductID     string          `db:"product_id"`
	Name          string          `db:"name"`
	Description   string          `db:"description"`
	Credits       *credits.Amount `db:"credits"`
	UnitAmount    int64           `db:"unit_amount"`
	Currency      string          `db:"currency"`
	Interval      string          `db:"interval"`
	IntervalCount int64           `db:"interval_count"`
	TrialDays     int64           `db:"trial_days"`
	TrialCredits  credits.Amount  `db:"trial_credits"`
	Features      string          `db:"features"`
}

func (r offerRow) offer() Offer {
	o := Offer{PriceID: r.PriceID, ProductID: r.ProductID, Name: r.Name, Description: r.Description, Price: Money{r.UnitAmount, r.Currency},
		Interval: r.Interval, IntervalCount: r.IntervalCount}
	if r.Credits != nil {
		o.Credits = *r.Credits
	}
	if o.isPlan() {
		o.TrialDays, o.TrialCredits, o.Features = r.TrialDays, r.TrialCredits, unpackNames(r.Features)
	}
	return o
}

// Packs returns the one-time prices that are for sale, in the staff's order and then the cheapest first.
func (b *Billing) Packs(ctx context.Context) ([]Offer, error) {
	return b.offers(ctx, ` AND r.interval = ''`)
}

// Plans returns the recurring prices that are for sale, in the staff's order and then the cheapest first.
func (b *Billing) Plans(ctx context.Context) ([]Offer, error) {
	plans, err := b.offers(ctx, ` AND r.interval <> ''`)
	withSavings(plans)
	return plans, err
}

func (b *Billing) offers(ctx context.Context, which string) ([]Offer, error) {
	var rows []offerRow
	query := `SELECT ` + offerColumns + offerTables + forSale + which + ` ORDER BY p.position, r.unit_amount, r.id`
	if err := b.db.Select(ctx, &rows, query, true, true, false); err != nil {
		return nil, fmt.Errorf("billing: offers: %w", err)
	}
	offers := make([]Offer, len(rows))
	for i, r := range rows {
		offers[i] = r.offer()
	}
	return offers, nil
}

// offer finds one that is for sale.
func (b *Billing) offer(ctx context.Context, price string) (Offer, error) {
	var row offerRow
	err := b.db.Get(ctx, &row, `SELECT `+offerColumns+offerTables+forSale+` AND r.id = ?`, true, true, false, price)
	if database.IsNoRows(err) {
		return Offer{}, ErrNotForSale
	}
	if err != nil {
		return Offer{}, fmt.Errorf("billing: price %s: %w", price, err)
	}
	return row.offer(), nil
}

const selectOffer = `SELECT ` + offerColumns + offerTables + ` WHERE r.id = ?`

// offerTx finds one, for sale or not any more. It has no name and no credits where the mirror does not know the price.
func (b *Billing) offerTx(ctx context.Context, tx *sqlx.Tx, price string) (Offer, error) {
	var row offerRow
	err := b.db.GetTx(ctx, tx, &row, selectOffer, price)
	if database.IsNoRows(err) {
		return Offer{PriceID: price}, nil
	}
	if err != nil {
		return Offer{}, fmt.Errorf("billing: price %s: %w", price, err)
	}
	return row.offer(), nil
}

// SyncCatalogue mirrors all of Stripe's products and prices. Webhooks keep the mirror fresh; this is for the first
// start, and for what was missed. The errors are [ErrStripe] and the database's.
func (b *Billing) SyncCatalogue(ctx context.Context) error {
	asOf := b.now()
	products := b.cfg.Stripe.Products.List(&stripe.ProductListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}})
	for products.Next() {
		if err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveProduct(ctx, tx, products.Product(), asOf) }); err != nil {
			return err
		}
	}
	if err := products.Err(); err != nil {
		return stripeError("list products", err)
	}
	return b.syncPrices(ctx, "")
}

// SyncProduct mirrors one product and its prices. The errors are those of [Billing.SyncCatalogue].
func (b *Billing) SyncProduct(ctx context.Context, id string) error {
	asOf := b.now()
	product, err := b.fetchProduct(ctx, id)
	if err != nil {
		return stripeError("read product "+id, err)
	}
	if err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveProduct(ctx, tx, product, asOf) }); err != nil {
		return err
	}
	return b.syncPrices(ctx, id)
}

func (b *Billing) syncPrices(ctx context.Context, product string) error {
	asOf := b.now()
	params := &stripe.PriceListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}}
	if product != "" {
		params.Product = &product
	}
	prices := b.cfg.Stripe.Prices.List(params)
	for prices.Next() {
		if err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.savePrice(ctx, tx, prices.Price(), asOf) }); err != nil {
			return err
		}
	}
	if err := prices.Err(); err != nil {
		return stripeError("list prices", err)
	}
	return nil
}

// ArrangeParams are what staff decide about a product; Stripe has no place for it.
type ArrangeParams struct {
	Product string
	// Position orders the pages: lower ones first.
	Position int64
	// Hidden takes it off the pages and out of sale. Who subscribes to it already keeps it.
	Hidden bool
}

// Arrange places a product; [ErrNoProduct] when there is none.
func (b *Billing) Arrange(ctx context.Context, p ArrangeParams) error {
	return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.ArrangeTx(ctx, tx, p) })
}

// ArrangeTx is [Billing.Arrange] inside the caller's transaction.
func (b *Billing) ArrangeTx(ctx context.Context, tx *sqlx.Tx, p ArrangeParams) error {
	n, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_products SET position = ?, hidden = ? WHERE id = ?`, p.Position, p.Hidden, p.Product)
	if err != nil {
		return fmt.Errorf("billing: arrange product %s: %w", p.Product, err)
	}
	if n == 0 {
		return ErrNoProduct
	}
	return nil
}

// ErrNoProduct says that the mirror has no such product.
var ErrNoProduct error = problem.New(problem.CodeNotFound, "There is no such product.")

func (b *Billing) inTx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	if b.rehearsing != nil {
		return b.rehearsing(ctx, fn)
	}
	return b.db.InTx(ctx, fn)
}

func (b *Billing) fetchProduct(ctx context.Context, id string) (*stripe.Product, error) {
	params := &stripe.ProductParams{}
	params.Context = ctx
	return b.cfg.Stripe.Products.Get(id, params)
}

func (b *Billing) fetchPrice(ctx context.Context, id string) (*stripe.Price, error) {
	params := &stripe.PriceParams{}
	params.Context = ctx
	return b.cfg.Stripe.Prices.Get(id, params)
}

// knowPrice makes sure that the mirror has a price and its product: an event about a use of it may be faster than the
// one about the price itself.
func (b *Billing) knowPrice(ctx context.Context, id string) error {
	var known []offerRow
	if err := b.db.Select(ctx, &known, selectOffer, id); err != nil {
		return fmt.Errorf("billing: price %s: %w", id, err)
	}
	if len(known) > 0 {
		return nil
	}
	asOf := b.now()
	price, err := b.fetchPrice(ctx, id)
	if err != nil {
		return stripeError("read price "+id, err)
	}
	product, err := b.fetchProduct(ctx, price.Product.ID)
	if err != nil {
		return stripeError("read product "+price.Product.ID, err)
	}
	return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.saveProduct(ctx, tx, product, asOf); err != nil {
			return err
		}
		return b.savePrice(ctx, tx, price, asOf)
	})
}

// saveProduct mirrors a product as it was at a moment. A picture that is newer stays: a list that was asked for may be
// overtaken by an event while its pages are written.
func (b *Billing) saveProduct(ctx context.Context, tx *sqlx.Tx, p *stripe.Product, asOf time.Time) error {
	worth := b.worth(ctx, p.ID, creditsKey, p.Metadata)
	var trialCredits credits.Amount
	if trial := b.worth(ctx, p.ID, trialCreditsKey, p.Metadata); trial != nil {
		trialCredits = *trial
	}
	trialDays := int64(0)
	if text := p.Metadata[trialDaysKey]; text != "" {
		days, err := strconv.ParseInt(text, 10, 64)
		if err != nil || days < 1 || days > maxTrialDays {
			b.wrongMetadata(ctx, p.ID, trialDaysKey, text)
		} else {
			trialDays = days
		}
	}
	position := int64(0)
	if text := p.Metadata[orderKey]; text != "" {
		var err error
		if position, err = strconv.ParseInt(text, 10, 64); err != nil {
			b.wrongMetadata(ctx, p.ID, orderKey, text)
		}
	}
	const upsert = `INSERT INTO qs_billing_products (id, name, description, active, credits, trial_days, trial_credits, features, position, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, active = excluded.active,
			credits = excluded.credits, trial_days = excluded.trial_days, trial_credits = excluded.trial_credits, features = excluded.features,
			updated_at = excluded.updated_at WHERE qs_billing_products.updated_at <= excluded.updated_at`
	active := p.Active && !p.Deleted
	_, err := b.db.ExecTx(ctx, tx, upsert, p.ID, p.Name, p.Description, active, worth, trialDays, trialCredits, packNames(p.Metadata[featuresKey]),
		position, database.At(asOf))
	if err != nil {
		return fmt.Errorf("billing: save product %s: %w", p.ID, err)
	}
	return nil
}

// worth reads credits from metadata; nil where there are none or they are wrong.
func (b *Billing) worth(ctx context.Context, object, key string, metadata map[string]string) *credits.Amount {
	text := metadata[key]
	if text == "" {
		return nil
	}
	amount, err := credits.ParseAmount(text)
	if err != nil || amount <= 0 {
		b.wrongMetadata(ctx, object, key, text)
		return nil
	}
	return &amount
}

// wrongMetadata tells a mistake that is in Stripe's Dashboard, for a person to mend: not sold rather than sold wrongly.
func (b *Billing) wrongMetadata(ctx context.Context, object, key, text string) {
	b.cfg.Logger.ErrorContext(ctx, "metadata is wrong", slog.String("object", object), slog.String(key, text))
}

// savePrice is saveProduct for a price.
func (b *Billing) savePrice(ctx context.Context, tx *sqlx.Tx, p *stripe.Price, asOf time.Time) error {
	interval, count, product := "", int64(0), ""
	if p.Recurring != nil {
		interval, count = string(p.Recurring.Interval), p.Recurring.IntervalCount
	}
	if p.Product != nil {
		product = p.Product.ID
	}
	active := p.Active && !p.Deleted
	if !hasAmount(p) {
		active = false
	}
	const upsert = `INSERT INTO qs_billing_prices (id, product_id, active, currency, unit_amount, interval, interval_count, credits, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET product_id = excluded.product_id, active = excluded.active, currency = excluded.currency,
			unit_amount = excluded.unit_amount, interval = excluded.interval, interval_count = excluded.interval_count, credits = excluded.credits,
			updated_at = excluded.updated_at WHERE qs_billing_prices.updated_at <= excluded.updated_at`
	_, err := b.db.ExecTx(ctx, tx, upsert, p.ID, product, active, string(p.Currency), p.UnitAmount, interval, count,
		b.worth(ctx, p.ID, creditsKey, p.Metadata), database.At(asOf))
	if err != nil {
		return fmt.Errorf("billing: save price %s: %w", p.ID, err)
	}
	return nil
}

// hasAmount tells that a price can be shown before it is paid. It cannot where the amount depends on the quantity or on
// use, is the buyer's to choose, or is a fraction of the smallest unit.
func hasAmount(p *stripe.Price) bool {
	metered := p.Recurring != nil && p.Recurring.UsageType == stripe.PriceRecurringUsageTypeMetered
	fraction := p.UnitAmount == 0 && p.UnitAmountDecimal != 0
	return p.BillingScheme != stripe.PriceBillingSchemeTiered && p.CustomUnitAmount == nil && p.TransformQuantity == nil && !metered && !fraction
}

// packNames keeps a list of names so that each stands between commas.
func packNames(list string) string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "," + strings.Join(names, ",") + ","
}

func unpackNames(packed string) []string {
	if packed == "" {
		return nil
	}
	return strings.Split(strings.Trim(packed, ","), ",")
}
