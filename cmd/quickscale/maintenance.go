package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/maintenance"
)

func newMaintenance() *cobra.Command {
	cmd := group("maintenance", "Shut the application to people for a while: on, off, status")
	addJSON(cmd)
	cmd.AddCommand(maintenanceOn(), maintenanceOff(), maintenanceStatus())
	return cmd
}

func maintenanceOn() *cobra.Command {
	var message, by string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use: "on", Args: args(cobra.NoArgs), Short: "Answer people with 503 and Retry-After, in all processes within seconds",
		Long: "Answer people with 503 and Retry-After, in all processes within seconds. The staff passes, and everybody can log in,\n" +
			"to be known as staff. Stripe's webhooks are taken, probes answer and jobs go on. It ends with maintenance off, and not\n" +
			"by itself. Given again, it changes what people are told.",
		Example: "  quickscale maintenance on --for 30m --message \"We are moving to a larger database.\"",
	}
	f := cmd.Flags()
	f.StringVar(&message, "message", "", "what people are told, at most 500 characters")
	f.DurationVar(&lasts, "for", 0, "how long it is expected to last, such as 30m; people are told the time")
	f.StringVar(&by, "by", "", "who asks; you, unless given")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if lasts < 0 {
			return usageError{fmt.Errorf("--for %s: give how long it lasts, such as 30m", lasts)}
		}
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			now := time.Now()
			var until *time.Time
			if lasts > 0 {
				at := now.Add(lasts)
				until = &at
			}
			if err := maintenance.Begin(ctx, db, message, who(by), until, now); err != nil {
				return err
			}
			return printMaintenance(ctx, db, out)
		})
	}
	return cmd
}

func maintenanceOff() *cobra.Command {
	cmd := &cobra.Command{Use: "off", Args: args(cobra.NoArgs), Short: "Open the application again"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			if _, err := maintenance.End(ctx, db); err != nil {
				return err
			}
			return printMaintenance(ctx, db, out)
		})
	}
	return cmd
}

func maintenanceStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Args: args(cobra.NoArgs), Short: "Tell whether the application is shut, by whom and until when"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, printMaintenance)
	}
	return cmd
}

func printMaintenance(ctx context.Context, db *database.DB, out output) error {
	state, err := maintenance.Find(ctx, db)
	if err != nil {
		return err
	}
	return out.print(state, func(t table) {
		if !state.On {
			t.linef("off: the application is open")
			return
		}
		t.linef("on since\t%s\nby\t%s", stamp(*state.Since), state.By)
		if state.Until != nil {
			t.linef("expected until\t%s", stamp(*state.Until))
		}
		if state.Message != "" {
			t.linef("message\t%s", state.Message)
		}
	})
}
