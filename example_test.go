package quickscale_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

type words struct {
	Text string `json:"text" validate:"required"`
}

type length struct {
	Characters int `json:"characters"`
}

// An application with one service, in development.
func Example() {
	if err := example(); err != nil {
		log.Fatal(err)
	}
	// Output: 200 simulated: [stripe mail]
}

func example() error {
	dir, err := os.MkdirTemp("", "quickscale")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	pools, err := quickscale.Open(ctx, "sqlite:"+filepath.Join(dir, "app.db"))
	if err != nil {
		return err
	}
	defer pools.Close()
	app, err := quickscale.New(quickscale.Config{
		DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: "http://127.0.0.1:8080", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	price := services.Fixed(credits.MustAmount("0.1"))
	count := func(_ context.Context, _ *services.Call, in words) (length, error) {
		return length{len([]rune(in.Text))}, nil
	}
	if err := services.Register(app.Services, services.Func(services.Info{Name: "length", Title: "Length"}, price, count)); err != nil {
		return err
	}
	if err := app.Migrate(ctx); err != nil {
		return err
	}
	if err := app.Start(ctx); err != nil {
		return err
	}
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/services/length", nil))
	fmt.Println(w.Code, "simulated:", app.Simulated())
	return app.Stop(ctx)
}
