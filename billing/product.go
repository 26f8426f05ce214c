package billing

import (
	"context"
	"fmt"

	"github.com/quickscale/quickscale/credits"
)

// Product is a product of the mirror as staff see it, for sale or not.
type Product struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Active is Stripe's, Position and Hidden the staff's; see [Billing.Arrange].
	Active   bool  `json:"active"`
	Position int64 `json:"position"`
	Hidden   bool  `json:"hidden"`
	// Prices are all prices that the mirror has, the cheapest first.
	Prices []ProductPrice `json:"prices"`
}

// ProductPrice is a price of a product.
type ProductPrice struct {
	Offer

	// Active says that Stripe sells at it. One whose Credits are zero gives none, and so is not for sale here.
	Active bool `json:"active"`
}

// Products returns all products with their prices, in the staff's order.
func (b *Billing) Products(ctx context.Context) ([]Product, error) {
	return b.products(ctx, ``)
}

// FindProduct returns one; [ErrNoProduct] when there is none.
func (b *Billing) FindProduct(ctx context.Context, id string) (Product, error) {
	found, err := b.products(ctx, ` WHERE p.id = ?`, id)
	if err != nil {
		return Product{}, err
	}
	if len(found) == 0 {
		return Product{}, ErrNoProduct
	}
	return found[0], nil
}

func (b *Billing) products(ctx context.Context, which string, args ...any) ([]Product, error) {
	var rows []struct {
		ID            string          `db:"id"`
		Name          string          `db:"name"`
		Description   string          `db:"description"`
		Active        bool            `db:"active"`
		Position      int64           `db:"position"`
		Hidden        bool            `db:"hidden"`
		PriceID       *string         `db:"price_id"`
		PriceActive   *bool           `db:"price_active"`
		UnitAmount    *int64          `db:"unit_amount"`
		Currency      *string         `db:"currency"`
		Interval      *string         `db:"interval"`
		IntervalCount *int64          `db:"interval_count"`
		Credits       *credits.Amount `db:"credits"`
	}
	query := `SELECT p.id, p.name, p.description, p.active, p.position, p.hidden, r.id AS price_id, r.active AS price_active, r.unit_amount, r.currency,
			r.interval, r.interval_count, COALESCE(r.credits, p.credits) AS credits
		FROM qs_billing_products p LEFT JOIN qs_billing_prices r ON r.product_id = p.id` + which + ` ORDER BY p.position, p.name, p.id, r.unit_amount, r.id`
	if err := b.db.Select(ctx, &rows, query, args...); err != nil {
		return nil, fmt.Errorf("billing: list products: %w", err)
	}
	products := []Product{}
	for _, r := range rows {
		if len(products) == 0 || products[len(products)-1].ID != r.ID {
			products = append(products, Product{ID: r.ID, Name: r.Name, Description: r.Description, Active: r.Active, Position: r.Position, Hidden: r.Hidden,
				Prices: []ProductPrice{}})
		}
		if r.PriceID == nil {
			continue
		}
		price := ProductPrice{Active: *r.PriceActive, Offer: Offer{PriceID: *r.PriceID, ProductID: r.ID, Name: r.Name, Price: Money{*r.UnitAmount, *r.Currency},
			Interval: *r.Interval, IntervalCount: *r.IntervalCount}}
		if r.Credits != nil {
			price.Credits = *r.Credits
		}
		p := &products[len(products)-1]
		p.Prices = append(p.Prices, price)
	}
	return products, nil
}
