package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/mail"
)

// printer stands for *mail.Queue, which sends once the transaction is committed.
type printer struct{}

func (printer) EnqueueTx(_ context.Context, _ *sqlx.Tx, m mail.Message) error {
	fmt.Println("mail to", m.To+":", m.Subject)
	return nil
}

func Example() {
	dir, err := os.MkdirTemp("", "accounts")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "accounts.db")+"?_txlock=immediate&_pragma=foreign_keys(1)")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)

	ctx := context.Background()
	accounts, err := auth.New(auth.Config{DB: db, Mail: printer{}, BaseURL: "https://app.example"})
	if err != nil {
		panic(err)
	}
	if err := accounts.Migrate(ctx); err != nil {
		panic(err)
	}

	// The pages, and a page of the host's own that only who is signed in sees.
	mux := http.NewServeMux()
	mux.Handle("/auth/", accounts.Handler())
	mux.Handle("/account/", accounts.Handler())
	mux.Handle("/reports/", accounts.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := auth.UserFrom(r.Context())
		fmt.Fprintln(w, "Hello", u.Name)
	})))

	// What the handlers do can be called too.
	ada, err := accounts.CreateUser(ctx, auth.CreateUserParams{Email: "Ada@example.com", Password: "correct horse wire", Name: "Ada", Verified: true})
	if err != nil {
		panic(err)
	}
	_, token, err := accounts.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: ada.ID, Name: "Server"})
	if err != nil {
		panic(err)
	}
	owner, key, err := accounts.AuthenticateKey(ctx, token)
	if err != nil {
		panic(err)
	}
	fmt.Println(owner.Name, "calls with", key.Name)

	_, err = accounts.LogIn(ctx, auth.LogInParams{Email: "ada@example.com", Password: "a guess"})
	fmt.Println(errors.Is(err, auth.ErrCredentials))
	if err := accounts.ForgotPassword(ctx, "ada@example.com", auth.Client{}); err != nil {
		panic(err)
	}
	// Output:
	// Ada calls with Server
	// true
	// mail to Ada@example.com: Choose a new password for QuickScale
}
