package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// members are the application's own users. QuickScale knows them by their id only, which is the ledger's account.
type members struct{ db *sqlx.DB }

const createMembers = `CREATE TABLE IF NOT EXISTS members (id TEXT PRIMARY KEY, name TEXT NOT NULL, token_hash TEXT NOT NULL UNIQUE)`

func newMembers(ctx context.Context, db *sqlx.DB) (*members, error) {
	if _, err := db.ExecContext(ctx, createMembers); err != nil {
		return nil, fmt.Errorf("make the table of members: %w", err)
	}
	return &members{db}, nil
}

// welcome is what a new member gets.
const welcome = 20 * credits.Credit

// add makes a member with credits to begin with, both in one transaction, and returns the token, which is kept nowhere.
func (m *members) add(ctx context.Context, ledger *credits.Ledger, name string) (token string, err error) {
	token = rand.Text()
	tx, err := m.db.BeginTxx(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	id := "member-" + rand.Text()[:8]
	if _, err := tx.ExecContext(ctx, `INSERT INTO members (id, name, token_hash) VALUES (?, ?, ?)`, id, name, hash(token)); err != nil {
		return "", errors.Join(fmt.Errorf("add a member: %w", err), tx.Rollback())
	}
	grant := credits.GrantParams{Account: id, Amount: welcome, Source: credits.Bonus, Reason: "Welcome", IdempotencyKey: "welcome"}
	if _, err := ledger.GrantTx(ctx, tx, grant); err != nil {
		return "", errors.Join(err, tx.Rollback())
	}
	return token, tx.Commit()
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func (m *members) find(r *http.Request, token string) (services.Caller, bool) {
	var id string
	err := m.db.GetContext(r.Context(), &id, `SELECT id FROM members WHERE token_hash = ?`, hash(token))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		slog.ErrorContext(r.Context(), "find a member", slog.Any("error", err))
	}
	return services.Caller{Account: id}, err == nil
}

const cookieName = "member"

// signedIn tells who looks at the pages.
func (m *members) signedIn(r *http.Request) (services.Caller, bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return services.Caller{}, false
	}
	return m.find(r, c.Value)
}

// caller tells who calls the API.
func (m *members) caller(r *http.Request) (services.Caller, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	who, ok := m.find(r, token)
	if !ok {
		return services.Caller{}, services.ErrUnauthenticated
	}
	return who, nil
}

var entrance = template.Must(template.New("enter").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Enter</title></head>
<body><main><h1>Enter</h1>{{with .}}<p role="alert">{{.}}</p>{{end}}
<form method="post" action="/enter"><label for="token">Your token</label> <input id="token" name="token" type="password" autocomplete="current-password" required> <button>Enter</button></form>
</main></body></html>
`))

func (m *members) form(w http.ResponseWriter, r *http.Request) { m.show(w, r, http.StatusOK, "") }

func (m *members) show(w http.ResponseWriter, r *http.Request, status int, problem string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := entrance.Execute(w, problem); err != nil {
		slog.ErrorContext(r.Context(), "show the entrance", slog.Any("error", err))
	}
}

func (m *members) enter(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimSpace(r.PostFormValue("token"))
	if _, ok := m.find(r, token); !ok {
		m.show(w, r, http.StatusUnauthorized, "No member has this token.")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/services/", http.StatusSeeOther)
}
