package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

func newWebhook() *cobra.Command {
	cmd := group("webhook", "Stripe's events: look at them, try them again, measure them")
	addJSON(cmd)
	cmd.AddCommand(webhookList(), webhookShow(),
		webhookAct(webhook.VerbRetry, "Try dead events again, at once and with all tries ahead", (*webhook.Processor).Retry),
		webhookAct(webhook.VerbSkip, "End dead or waiting events without an effect", (*webhook.Processor).Skip),
		webhookReplay(), webhookStats(), webhookPrune())
	return cmd
}

// withInbox opens the inbox for a command.
func withInbox(cmd *cobra.Command, fn func(ctx context.Context, p *webhook.Processor, out output) error) error {
	return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
		logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		engine, err := jobs.New(jobs.Config{DB: db, Logger: logger})
		if err != nil {
			return err
		}
		p, err := webhook.New(webhook.Config{
			DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Logger: logger,
			// This process receives nothing; a secret that nobody knows keeps it so.
			Secrets:  []string{"whsec_" + rand.Text()},
			Livemode: isLive(os.Getenv(envStripeKey)),
		})
		if err != nil {
			return err
		}
		if err := p.AddWorkers(engine.Workers()); err != nil { // River inserts jobs of known kinds only; none is worked here
			return err
		}
		return fn(ctx, p, out)
	})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func writeEvents(t table, events []webhook.Record) {
	t.linef("RECEIVED\tEVENT\tTYPE\tOBJECT\tSTATUS\tATTEMPTS\tFAILURE")
	for _, e := range events {
		t.linef("%s\t%s\t%s\t%s\t%s\t%d\t%s", stamp(e.ReceivedAt), e.ID, e.Type, e.ObjectID, e.Status, e.Attempts, e.Failure)
	}
}

func webhookList() *cobra.Command {
	var params webhook.ListParams
	var status, before string
	cmd := &cobra.Command{Use: "list", Short: "List events, the latest received first", Args: args(cobra.NoArgs)}
	f := cmd.Flags()
	f.StringVar(&status, "status", "", "only this status: received, done, ignored, skipped, dead")
	f.StringVar(&params.Type, "type", "", "only this type, such as invoice.paid")
	f.StringVar(&params.Object, "object", "", "only events about this object, such as cs_…")
	f.IntVar(&params.Limit, "limit", webhook.DefaultPage, "how many, at most 500")
	f.StringVar(&before, "before", "", "go on after this event, the last of the page before")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withInbox(cmd, func(ctx context.Context, p *webhook.Processor, out output) (err error) {
			if params.Status, err = parseStatus(status); err != nil {
				return err
			}
			if before != "" {
				last, err := p.Find(ctx, before)
				if err != nil {
					return err
				}
				params.After = &last
			}
			events, more, err := p.List(ctx, params)
			if err != nil {
				return err
			}
			return out.print(map[string]any{"events": events, "more": more}, func(t table) {
				writeEvents(t, events)
				if more {
					t.linef("older ones follow: --before %s", events[len(events)-1].ID)
				}
			})
		})
	}
	return cmd
}

func parseStatus(s string) (webhook.Status, error) {
	switch status := webhook.Status(s); status {
	case "", webhook.StatusReceived, webhook.StatusDone, webhook.StatusIgnored, webhook.StatusSkipped, webhook.StatusDead:
		return status, nil
	}
	return "", usageError{fmt.Errorf("there is no status %q: it is received, done, ignored, skipped or dead", s)}
}

func parseFailure(s string) (webhook.Class, error) {
	switch class := webhook.Class(s); class {
	case "", webhook.ClassRetry, webhook.ClassPermanent, webhook.ClassPerson:
		return class, nil
	}
	return "", usageError{fmt.Errorf("there is no class %q: it is retry, permanent or person", s)}
}

// who is the name under which the commands act.
func who(given string) string {
	if given != "" {
		return given
	}
	if u, err := user.Current(); err == nil {
		return "cli:" + u.Username
	}
	return "cli:" + strconv.Itoa(os.Getuid())
}

func webhookShow() *cobra.Command {
	var payload, reveal bool
	var by, reason string
	cmd := &cobra.Command{Use: "show EVENT", Short: "Show one event, and what was done with it by hand", Args: args(cobra.ExactArgs(1))}
	f := cmd.Flags()
	f.BoolVar(&payload, "payload", false, "with the payload, personal data masked")
	f.BoolVar(&reveal, "reveal", false, "with the payload and the personal data in it; it is recorded that you asked")
	f.StringVar(&by, "by", "", "who asks; you, unless given")
	f.StringVar(&reason, "reason", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return withInbox(cmd, func(ctx context.Context, p *webhook.Processor, out output) error {
			event, err := p.Find(ctx, names[0])
			if err != nil {
				return err
			}
			var body json.RawMessage
			if payload || reveal {
				if body, err = p.Payload(ctx, webhook.PayloadParams{ID: event.ID, Reveal: reveal, By: who(by), Reason: reason}); err != nil {
					return err
				}
			}
			actions, _, err := p.Actions(ctx, webhook.ActionsParams{Event: event.ID})
			if err != nil {
				return err
			}
			result := map[string]any{"event": event, "actions": actions}
			if body != nil {
				result["payload"] = body
			}
			return out.print(result, func(t table) { writeEvent(t, event, actions, body) })
		})
	}
	return cmd
}

func writeEvent(t table, e webhook.Record, actions []webhook.Action, payload json.RawMessage) {
	for _, line := range [][2]string{
		{"event", e.ID}, {"type", e.Type}, {"object", e.ObjectID}, {"account", e.Account}, {"status", string(e.Status)}, {"attempts", strconv.Itoa(e.Attempts)},
		{"created", stamp(e.CreatedAt)}, {"received", stamp(e.ReceivedAt)}, {"api version", e.APIVersion}, {"live", strconv.FormatBool(e.Livemode)},
		{"failure", string(e.Failure)}, {"last error", e.LastError},
	} {
		if line[1] != "" {
			t.linef("%s\t%s", line[0], strings.ReplaceAll(line[1], "\n", "\n\t"))
		}
	}
	if e.ProcessedAt != nil {
		t.linef("processed\t%s", stamp(*e.ProcessedAt))
	}
	if e.NextAt != nil {
		t.linef("next try\t%s", stamp(*e.NextAt))
	}
	for _, a := range actions {
		t.linef("%s\t%s by %s %s", a.Verb, stamp(a.At), a.By, a.Reason)
	}
	if payload != nil {
		t.linef("\n%s", payload)
	}
}

// choice are the flags that choose events.
type choice struct {
	status, failure, since, until string
	params                        webhook.ActParams
}

func (c *choice) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.status, "status", "", "events of this status")
	f.StringVar(&c.params.Type, "type", "", "events of this type, such as invoice.paid")
	f.StringVar(&c.failure, "failure", "", "events whose last failure was of this class: retry, permanent, person")
	f.StringVar(&c.since, "since", "", "events received since: 2026-01-31T12:00:00Z, or 24h for a day ago")
	f.StringVar(&c.until, "until", "", "events received before")
	f.BoolVar(&c.params.DryRun, "dry-run", false, "tell what would be done and do nothing")
	f.StringVar(&c.params.By, "by", "", "who asks; you, unless given")
	f.StringVar(&c.params.Reason, "reason", "", "why, for the record")
}

func (c *choice) parse(ids []string) (err error) {
	c.params.IDs, c.params.By = ids, who(c.params.By)
	if c.params.Status, err = parseStatus(c.status); err != nil {
		return err
	}
	if c.params.Failure, err = parseFailure(c.failure); err != nil {
		return err
	}
	if c.params.ReceivedFrom, err = parseTime("since", c.since); err != nil {
		return err
	}
	c.params.ReceivedTo, err = parseTime("until", c.until)
	return err
}

// parseTime reads a moment, or how long ago it was.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, usageError{fmt.Errorf("--%s %s: give a time such as 2026-01-31T12:00:00Z, or how long ago, such as 24h", flag, text)}
	}
	return time.Now().Add(-d), nil
}

type act func(*webhook.Processor, context.Context, webhook.ActParams) (webhook.Acted, error)

func webhookAct(verb webhook.Verb, short string, do act) *cobra.Command {
	var c choice
	cmd := &cobra.Command{Use: string(verb) + " [EVENT…]", Short: short, Args: args(cobra.ArbitraryArgs)}
	c.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error { return c.run(cmd, verb, ids, do) }
	return cmd
}

// run acts on everything that was chosen, page after page.
func (c *choice) run(cmd *cobra.Command, verb webhook.Verb, ids []string, do act) error {
	if err := c.parse(ids); err != nil {
		return err
	}
	return withInbox(cmd, func(ctx context.Context, p *webhook.Processor, out output) error {
		all := webhook.Acted{Events: []webhook.Record{}, DryRun: c.params.DryRun}
		for more := true; more; {
			acted, err := do(p, ctx, c.params)
			if err != nil {
				return err
			}
			all.Events, all.Left = append(all.Events, acted.Events...), append(all.Left, acted.Left...)
			if more = acted.More; more {
				c.params.After = &acted.Events[len(acted.Events)-1]
			}
		}
		err := out.print(all, func(t table) {
			if len(all.Events) > 0 {
				writeEvents(t, all.Events)
			}
			done := "done"
			if all.DryRun {
				done = "not done, this is a dry run"
			}
			t.linef("%s: %d events, %s", verb, len(all.Events), done)
			for _, id := range all.Left {
				t.linef("left: %s is unknown, or its status does not allow it", id)
			}
		})
		if err == nil && len(all.Events) == 0 {
			err = errNothing
		}
		return err
	})
}

func webhookReplay() *cobra.Command {
	var c choice
	var span webhook.SpanParams
	var fromStripe bool
	var stripeURL string
	cmd := &cobra.Command{
		Use: "replay [EVENT…]", Short: "Run events again that came to an end, or take a span of time from Stripe's list",
		Long: "Run events again that came to an end: done, ignored, skipped or dead.\n\nWith --from-stripe the events that Stripe lists for --since to --until" +
			" (30 days at most) are taken:\nthose that are missing are stored and processed, and with --again the others run once more. STRIPE_SECRET_KEY is needed.",
		Args: args(cobra.ArbitraryArgs),
	}
	c.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&fromStripe, "from-stripe", false, "take the events of a span of time from Stripe's list")
	f.BoolVar(&span.Again, "again", false, "with --from-stripe: run those again that are in the inbox")
	f.BoolVar(&span.Undelivered, "undelivered", false, "with --from-stripe: only events that Stripe could not deliver")
	f.StringVar(&span.Account, "account", "", "with --from-stripe: of this connected account")
	f.StringVar(&stripeURL, "stripe-url", stripe.APIURL, "with --from-stripe: where Stripe's API is, such as that of a double")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if !fromStripe {
			if span.Again || span.Undelivered || span.Account != "" {
				return usageError{errors.New("--again, --undelivered and --account go with --from-stripe")}
			}
			return c.run(cmd, webhook.VerbReplay, ids, (*webhook.Processor).Replay)
		}
		if err := c.parse(ids); err != nil {
			return err
		}
		if len(ids) > 0 || c.status != "" || c.failure != "" {
			return usageError{errors.New("--from-stripe takes --since, --until and --type, and no events, status or failure")}
		}
		return replaySpan(cmd, c.params, span, stripeURL)
	}
	return cmd
}

func replaySpan(cmd *cobra.Command, p webhook.ActParams, span webhook.SpanParams, stripeURL string) error {
	api, err := stripeClient(stripeURL)
	if err != nil {
		return err
	}
	span.From, span.To, span.By, span.Reason, span.DryRun = p.ReceivedFrom, p.ReceivedTo, p.By, p.Reason, p.DryRun
	if p.Type != "" {
		span.Types = []string{p.Type}
	}
	return withInbox(cmd, func(ctx context.Context, p *webhook.Processor, out output) error {
		result, err := p.ReplaySpan(ctx, api.Events, span)
		if err != nil {
			return err
		}
		err = out.print(result, func(t table) {
			t.linef("listed by Stripe\t%d\nmissing here\t%d\nrun again\t%d", result.Listed, result.Missing, result.Replayed)
			if result.DryRun {
				t.linef("nothing was done, this is a dry run")
			}
		})
		if err == nil && result.Listed == 0 {
			err = errNothing
		}
		return err
	})
}

func webhookStats() *cobra.Command {
	var since, until string
	cmd := &cobra.Command{Use: "stats", Short: "Count events, failures and how long they take", Args: args(cobra.NoArgs)}
	cmd.Flags().StringVar(&since, "since", "24h", "from when: a time, or how long ago; at most 31 days")
	cmd.Flags().StringVar(&until, "until", "", "until when; now, unless given")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := parseTime("since", since)
		if err != nil {
			return err
		}
		to, err := parseTime("until", until)
		if err != nil {
			return err
		}
		return withInbox(cmd, func(ctx context.Context, p *webhook.Processor, out output) error {
			s, err := p.Stats(ctx, webhook.StatsParams{From: from, To: to})
			if err != nil {
				return err
			}
			return out.print(s, func(t table) { writeStats(t, s) })
		})
	}
	return cmd
}

func writeStats(t table, s webhook.Stats) {
	t.linef("waiting\t%d\ndead\t%d", s.Backlog.Waiting, s.Backlog.Dead)
	if s.Backlog.Oldest != nil {
		t.linef("oldest waits since\t%s", stamp(*s.Backlog.Oldest))
	}
	t.linef("lag of %d events\tp50 %s, p95 %s, p99 %s", s.Lag.Events, s.Lag.P50, s.Lag.P95, s.Lag.P99)
	for _, c := range s.Counts {
		t.linef("%s\t%s\t%d", c.Type, c.Status, c.Events)
	}
	for _, a := range s.Attempts {
		t.linef("tried %d times\t%d", a.Attempts, a.Events)
	}
	for _, f := range s.Failures {
		t.linef("%d failures\t%s\t%s\t%s", f.Events, f.Class, f.Type, f.Reason)
	}
	for _, h := range s.Hours {
		if h.Received+h.Ended > 0 {
			t.linef("%s\treceived %d\tended %d", stamp(h.Hour), h.Received, h.Ended)
		}
	}
}

func webhookPrune() *cobra.Command {
	const day = 24 * time.Hour
	var payloads, rows int
	var dry bool
	cmd := &cobra.Command{Use: "prune", Short: "Take away old payloads and rows of events that came to an end; their ids stay", Args: args(cobra.NoArgs)}
	f := cmd.Flags()
	f.IntVar(&payloads, "payload-days", int(webhook.DefaultKeepPayloads/day), "keep payloads so many days")
	f.IntVar(&rows, "row-days", int(webhook.DefaultKeepRows/day), "keep rows so many days, at least 7")
	f.BoolVar(&dry, "dry-run", false, "tell what would be pruned and do nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if payloads < 1 || rows < 1 {
			return usageError{errors.New("give whole days, 1 or more")}
		}
		return withInbox(cmd, func(ctx context.Context, p *webhook.Processor, out output) error {
			pruned, err := p.Prune(ctx, webhook.PruneParams{Payloads: time.Duration(payloads) * day, Rows: time.Duration(rows) * day, DryRun: dry})
			if err != nil {
				return err
			}
			return out.print(pruned, func(t table) {
				t.linef("payloads\t%d\nrows\t%d", pruned.Payloads, pruned.Rows)
				if pruned.DryRun {
					t.linef("nothing was done, this is a dry run")
				}
			})
		})
	}
	return cmd
}
