package services_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// Shout is what a caller sends.
type Shout struct {
	Text string `json:"text" title:"What to shout" validate:"required,max=100"`
}

// Shouted is what a caller gets.
type Shouted struct {
	Text string `json:"text"`
}

// shout makes a product and uses it by the API and from Go.
func shout(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "services")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "services.db")+"?_txlock=immediate&_pragma=foreign_keys(1)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)

	ledger, err := credits.New(credits.Config{DB: db})
	if err != nil {
		return err
	}
	products, err := services.New(services.Config{
		DB: db, Ledger: ledger,
		User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false },
		API: func(r *http.Request) (services.Caller, error) {
			if r.Header.Get("Authorization") != "Bearer adas-key" {
				return services.Caller{}, services.ErrUnauthenticated
			}
			return services.Caller{Account: "ada"}, nil
		},
	})
	if err != nil {
		return err
	}
	if err := errors.Join(ledger.Migrate(ctx), products.Migrate(ctx)); err != nil {
		return err
	}
	_, err = ledger.Grant(ctx, credits.GrantParams{Account: "ada", Amount: 100 * credits.Credit, Source: credits.Purchase, Reason: "Pack of 100"})
	if err != nil {
		return err
	}

	// The product: what it is, what it costs, what it does.
	err = services.Register(products, services.Func(
		services.Info{Name: "shout", Title: "Shout", Summary: "Makes text loud.", PriceText: "0.5 credits"},
		services.Fixed(credits.MustAmount("0.5")),
		func(_ context.Context, _ *services.Call, in Shout) (Shouted, error) {
			return Shouted{strings.ToUpper(in.Text)}, nil
		},
	))
	if err != nil {
		return err
	}

	r := httptest.NewRequest(http.MethodPost, "/api/v1/services/shout", strings.NewReader(`{"text":"hello"}`))
	r.Header.Set("Authorization", "Bearer adas-key")
	w := httptest.NewRecorder()
	products.APIHandler().ServeHTTP(w, r)
	fmt.Println(w.Code, "charged", w.Header().Get("X-Credits-Charged"), "left", w.Header().Get("X-Credits-Remaining"))

	result, err := products.Run(ctx, services.RunParams{Account: "ada", Service: "shout", Input: Shout{Text: "from Go"}})
	if err != nil {
		return err
	}
	fmt.Println(string(result.Output), result.Balance)
	return nil
}

func Example() {
	if err := shout(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 200 charged 0.5 left 99.5
	// {"text":"FROM GO"} 99
}
