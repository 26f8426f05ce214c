package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/web"
)

// productsPage is the data of products.html.
type productsPage struct {
	frame

	Products []billing.Product `json:"products"`
	// CanArrange and CanSync tell what who asks may do.
	CanArrange bool `json:"-"`
	CanSync    bool `json:"-"`
	// Wrong is the product whose form was refused.
	Wrong string `json:"-"`
}

func (a *Admin) listProducts(w http.ResponseWriter, r *http.Request) error {
	page, err := a.productsPage(r)
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "products", page)
	return nil
}

func (a *Admin) productsPage(r *http.Request) (page productsPage, err error) {
	page = productsPage{frame: a.frame(sectionProducts), CanArrange: a.mayDo(r, ActionProductArrange), CanSync: a.cfg.RunTask != nil && a.mayDo(r, ActionProductsSync)}
	page.Products, err = a.cfg.Catalogue.Products(r.Context())
	return page, err
}

// postArrange sets a product's place and whether it is shown. What it was before is in the audit log.
func (a *Admin) postArrange(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Position int64 `json:"position"`
		Hidden   bool  `json:"hidden"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		page, failed := a.productsPage(r)
		if failed != nil {
			return failed
		}
		page.Wrong = r.PathValue("id")
		a.views.Reject(w, r, "products", page, err)
		return nil
	}
	id := r.PathValue("id")
	before, err := a.cfg.Catalogue.FindProduct(r.Context(), id)
	if err != nil {
		return err
	}
	line := a.line(r, ActionProductArrange, id, "")
	line.Before, line.After = arranged(before.Position, before.Hidden), arranged(in.Position, in.Hidden)
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := a.recordTx(ctx, tx, line); err != nil {
			return err
		}
		return a.cfg.Catalogue.ArrangeTx(ctx, tx, billing.ArrangeParams{Product: id, Position: in.Position, Hidden: in.Hidden})
	})
	if err != nil {
		return err
	}
	return a.productDone(w, r, before.Name+" is saved.")
}

func arranged(position int64, hidden bool) string {
	return fmt.Sprintf("position %d, hidden %t", position, hidden)
}

// postSyncProduct reads one product from Stripe.
func (a *Admin) postSyncProduct(w http.ResponseWriter, r *http.Request) error {
	before, err := a.cfg.Catalogue.FindProduct(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := a.record(r.Context(), a.line(r, ActionProductSync, before.ID, "")); err != nil {
		return err
	}
	if err := a.cfg.Catalogue.SyncProduct(r.Context(), before.ID); err != nil {
		return err
	}
	return a.productDone(w, r, before.Name+" is as Stripe has it.")
}

func (a *Admin) postSyncProducts(w http.ResponseWriter, r *http.Request) error {
	return a.runTask(w, r, ActionProductsSync, TaskCatalogue, "/products")
}

func (a *Admin) productDone(w http.ResponseWriter, r *http.Request, said string) error {
	if web.WantsJSON(r) {
		return a.listProducts(w, r)
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, said)
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/products")
	return nil
}
