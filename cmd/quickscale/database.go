package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/internal/database"
)

const envDatabase = "QUICKSCALE_DATABASE_URL"

// databaseURL is the database that the environment names, or the project that the command stands in.
func databaseURL() (string, error) {
	if given := os.Getenv(envDatabase); given != "" {
		return given, nil
	}
	p, err := findProject()
	if errors.Is(err, errNoProject) {
		return "", usageError{errors.New(envDatabase + " is not set; it names the database, such as sqlite:quickscale.db or postgres://user@host/name")}
	}
	if err != nil {
		return "", err
	}
	return p.databaseURL(), nil
}

// withDatabase opens the database of [databaseURL] for a command, and closes it afterwards.
func withDatabase(cmd *cobra.Command, fn func(ctx context.Context, db *database.DB, out output) error) (err error) {
	given, err := databaseURL()
	if err != nil {
		return err
	}
	out, err := newOutput(cmd)
	if err != nil {
		return err
	}
	db, err := database.Open(cmd.Context(), given)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(cmd.Context(), db, out)
}
