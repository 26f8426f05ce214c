package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale"
)

// settingNames are the settings that are always listed, with their defaults or unset.
var settingNames = []string{
	"QUICKSCALE_ADDR", "QUICKSCALE_ADMIN_EMAIL", "QUICKSCALE_BASE_URL", envDatabase, "QUICKSCALE_ENV", "QUICKSCALE_SECRET_KEY", "QUICKSCALE_SMTP_URL",
	"STRIPE_API_BASE", envStripeKey, "STRIPE_WEBHOOK_SECRET",
}

// setting is one setting as it is printed.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"` // what is secret in it, masked
	// Source is environment, .env or default.
	Source string `json:"source"`
}

var errFaults = errors.New("the settings have faults")

func newConfig() *cobra.Command {
	cmd := group("config", "The settings: print them")
	addJSON(cmd)
	printing := &cobra.Command{
		Use: "print", Args: args(cobra.NoArgs), Short: "Print the settings, with what is secret masked, and all their faults",
		Long: "Print the settings, from the environment and a project's .env, with what is secret masked, and all their faults. It\n" +
			"fails with 1 when there is one.",
	}
	printing.RunE = func(cmd *cobra.Command, _ []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		p, err := findProject()
		if errors.Is(err, errNoProject) {
			p, err = &project{settings: map[string]string{}}, nil
		}
		if err != nil {
			return err
		}
		env, err := quickscale.FromEnvironment(p.plainEnv)
		if err == nil {
			err = settingsFaults(cmd.Context(), env)
		}
		faults := []string{}
		if err != nil {
			faults = strings.Split(err.Error(), "\n")
		}
		list := settingsOf(p, env)
		err = out.print(map[string]any{"settings": list, "faults": faults}, func(t table) {
			for _, s := range list {
				t.linef("%s\t%s\t%s", s.Name, s.Value, s.Source)
			}
			for _, f := range faults {
				t.linef("fault: %s", f)
			}
		})
		if err == nil && len(faults) > 0 {
			err = errFaults
		}
		return err
	}
	cmd.AddCommand(printing)
	return cmd
}

func settingsOf(p *project, env quickscale.Environment) []setting {
	found := map[string]setting{}
	for _, name := range settingNames {
		found[name] = setting{Name: name, Source: "default"}
	}
	defaults := map[string]string{
		"QUICKSCALE_ADDR": env.Addr, "QUICKSCALE_BASE_URL": env.Config.BaseURL, envDatabase: env.DatabaseURL, "QUICKSCALE_ENV": string(env.Config.Mode),
	}
	for name, value := range defaults {
		found[name] = setting{name, shown(name, value), "default"}
	}
	ours := func(name string) bool {
		return strings.HasPrefix(name, "QUICKSCALE_") || strings.HasPrefix(name, "STRIPE_")
	}
	for name, value := range p.settings {
		if ours(name) && value != "" {
			found[name] = setting{name, shown(name, value), settingsFile}
		}
	}
	for _, line := range os.Environ() {
		if name, value, _ := strings.Cut(line, "="); ours(name) && value != "" {
			found[name] = setting{name, shown(name, value), "environment"}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b setting) int { return strings.Compare(a.Name, b.Name) })
}

// shown is a setting's value for a person; what may be secret is masked.
func shown(name, value string) string {
	for _, secret := range []string{"SECRET", "KEY", "PASSWORD", "TOKEN"} {
		if strings.Contains(name, secret) {
			return masked(value)
		}
	}
	if strings.Contains(value, "://") || strings.HasSuffix(name, "_URL") {
		return maskURL(value)
	}
	return value
}

// settingsFaults tells all that would keep the application from starting. It needs a database for that, and takes one
// of its own.
func settingsFaults(ctx context.Context, env quickscale.Environment) (err error) {
	dir, err := os.MkdirTemp("", "quickscale-check")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pools, err := quickscale.Open(ctx, "sqlite:"+filepath.Join(dir, "empty.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pools.Close()) }()
	env.Config.DB, env.Config.ReadDB, env.Config.Logger = pools.DB, pools.ReadDB, slog.New(slog.DiscardHandler)
	_, err = quickscale.New(env.Config)
	return err
}
