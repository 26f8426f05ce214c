package database

import "github.com/jmoiron/sqlx"

// Dialect is one of the two kinds of SQL that the library speaks.
type Dialect string

// The dialects.
const (
	Postgres Dialect = "postgres"
	SQLite   Dialect = "sqlite"
)

// Rebind turns ? placeholders into those of the dialect.
func (d Dialect) Rebind(query string) string {
	if d == Postgres {
		return sqlx.Rebind(sqlx.DOLLAR, query)
	}
	return query
}

// ForUpdate is the clause that locks the rows of a SELECT until the transaction ends. SQLite has none and needs
// none: its write transactions exclude each other.
func (d Dialect) ForUpdate() string {
	if d == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// Query is a statement whose text differs between the dialects. Placeholders are ? in both.
type Query struct {
	Postgres string
	SQLite   string
}

// For returns the text for the dialect.
func (q Query) For(d Dialect) string {
	if d == Postgres {
		return q.Postgres
	}
	return q.SQLite
}
