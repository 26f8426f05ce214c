package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/database"
)

// The states of a finding.
const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "fail"
	stateSkip = "skip"
)

// finding is what one check found.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"`
	Says  string `json:"says"`
	// Mend is what to do about it.
	Mend string `json:"mend,omitempty"`
}

func ok(says string) finding         { return finding{State: stateOK, Says: says} }
func skip(says string) finding       { return finding{State: stateSkip, Says: says} }
func warn(says, mend string) finding { return finding{State: stateWarn, Says: says, Mend: mend} }
func fail(says, mend string) finding { return finding{State: stateFail, Says: says, Mend: mend} }

var errUnhealthy = errors.New("something is wrong")

// doctor is one run of the checks.
type doctor struct {
	p         *project
	env       quickscale.Environment
	stripeURL string
	db        *database.DB // nil when it cannot be opened
}

// checkWait bounds each check that asks another machine.
const checkWait = 10 * time.Second

func newCheck() *cobra.Command {
	d := doctor{}
	cmd := &cobra.Command{
		Use: "check", Args: args(cobra.NoArgs), Short: "Look for what would keep the project from running, and say how to mend it",
		Long: "Look for what would keep the project from running, and say how to mend it: Go, Docker, the port, the settings, secrets,\n" +
			"the database and its migrations, Stripe's key and its way to the webhooks, mail, the clock and the disk. It changes\n" +
			"no data. It fails with 1 when something is wrong; a warning is no failure.",
	}
	addJSON(cmd)
	addStripeURL(cmd, &d.stripeURL)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		if d.p, err = findProject(); err != nil {
			return err
		}
		findings := d.examine(cmd.Context())
		err = out.print(map[string]any{"findings": findings}, func(t table) {
			for _, f := range findings {
				t.linef("%s\t%s\t%s", f.State, f.Check, f.Says)
				if f.Mend != "" {
					t.linef("\t\t→ %s", f.Mend)
				}
			}
		})
		for _, f := range findings {
			if err == nil && f.State == stateFail {
				err = errUnhealthy
			}
		}
		return err
	}
	return cmd
}

func (d *doctor) examine(ctx context.Context) []finding {
	env, err := d.p.environment()
	settings := ok("they can be meant")
	if err == nil {
		d.env = env
		err = settingsFaults(ctx, env)
	}
	if err != nil {
		settings = fail(strings.ReplaceAll(err.Error(), "\n", "; "), "change "+settingsFile+" or the environment; .env.example explains each")
	}
	findings := []finding{}
	for _, c := range []struct {
		name string
		look func(ctx context.Context) finding
	}{
		{"settings", func(context.Context) finding { return settings }},
		{"go", d.goTool},
		{"docker", d.docker},
		{"port", d.port},
		{"secrets", d.secrets},
		{"database", d.database},
		{"migrations", d.migrations},
		{"stripe", d.stripe},
		{"webhook", d.webhook},
		{"mail", d.mail},
		{"clock", d.clock},
		{"disk", d.disk},
	} {
		limited, cancel := context.WithTimeout(ctx, checkWait)
		f := c.look(limited)
		cancel()
		f.Check = c.name
		findings = append(findings, f)
	}
	if d.db != nil {
		if err := d.db.Close(); err != nil {
			findings = append(findings, finding{"database", stateFail, err.Error(), "look at the database's log"})
		}
	}
	return findings
}

func (d *doctor) goTool(ctx context.Context) finding {
	cmd := exec.CommandContext(ctx, "go", "version")
	cmd.Dir = d.p.dir // go.mod may ask for another toolchain
	said, err := cmd.Output()
	if err != nil {
		return fail("there is no go that works here", "install Go from https://go.dev/dl/; go.mod says which version is needed")
	}
	return ok(strings.TrimSpace(string(said)))
}

func (d *doctor) docker(ctx context.Context) finding {
	if err := dockerAnswers(ctx); err != nil {
		return warn(err.Error(), "nothing, if plain processes will do: quickscale up uses them")
	}
	return ok("the engine answers")
}

func (d *doctor) port(context.Context) finding {
	if run, up := (plain{d.p}).process(); up {
		return ok(fmt.Sprintf("%s is the project's own, process %d", run.Addr, run.PID))
	}
	if d.env.Addr == "" {
		return skip("the settings come first")
	}
	if err := portFree(d.env.Addr); err != nil {
		return fail(err.Error(), "stop what has it, or set QUICKSCALE_ADDR")
	}
	return ok(d.env.Addr + " is free")
}

// othersMayRead are the bits of a file's mode that let others than its owner read it.
const othersMayRead = 0o044

func (d *doctor) secrets(ctx context.Context) finding {
	file := filepath.Join(d.p.dir, settingsFile)
	info, err := os.Stat(file)
	if err != nil {
		return ok("there is no " + settingsFile)
	}
	if info.Mode().Perm()&othersMayRead != 0 {
		return warn(settingsFile+" can be read by others on this machine", "chmod 600 "+file)
	}
	tracked := exec.CommandContext(ctx, "git", "ls-files", "--error-unmatch", settingsFile)
	tracked.Dir = d.p.dir
	if tracked.Run() == nil {
		return fail(settingsFile+" is in Git, and with it what is secret", "git rm --cached "+settingsFile+", then replace each secret in it: they are in the history")
	}
	return ok(settingsFile + " is yours alone, and not in Git")
}

func (d *doctor) database(ctx context.Context) finding {
	if file, isFile := d.p.databaseFile(); isFile {
		if _, err := os.Stat(file); err != nil {
			return ok("it is not there yet: " + file + " is made by the first start")
		}
	}
	address := d.p.databaseURL()
	db, err := database.Open(ctx, address)
	if err != nil {
		return fail(err.Error(), "start the database, or mend "+envDatabase+"; quickscale config print shows it")
	}
	d.db = db
	return ok(maskURL(address) + " answers")
}

func (d *doctor) migrations(ctx context.Context) finding {
	if d.db == nil {
		return skip("there is no database to look at")
	}
	list, err := migrationStatus(ctx, d.db)
	if err != nil {
		return fail(err.Error(), "look at the database's log")
	}
	if n := len(pendingOf(list)); n > 0 {
		return warn(fmt.Sprintf("%d are pending", n), "quickscale migrate up, or start the application, which does it")
	}
	return ok(fmt.Sprintf("all %d are applied", len(list)))
}

func (d *doctor) stripe(context.Context) finding {
	key := d.env.Config.StripeKey
	if key == "" {
		return ok("simulated by the double")
	}
	if isLive(key) && d.env.Config.Mode == quickscale.Development {
		return warn("the key is a live one, in development", "use a key that begins with sk_test_")
	}
	// Products are what every installation reads, so that also a restricted key may.
	products := stripeWith(key, d.stripeURL).Products.List(&stripe.ProductListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(1), Single: true}})
	products.Next()
	err := products.Err()
	// Stripe's own sentence about a wrong key repeats a part of it.
	if stripeErr, is := errors.AsType[*stripe.Error](err); is && stripeErr.HTTPStatusCode == http.StatusUnauthorized {
		return fail("Stripe does not know the key in "+envStripeKey, "copy it again from https://dashboard.stripe.com/apikeys")
	}
	if err != nil {
		return fail(err.Error(), "look at https://status.stripe.com and at this machine's way to the network")
	}
	return ok("the key works")
}

func (d *doctor) webhook(ctx context.Context) finding {
	if d.env.Config.StripeKey == "" {
		return ok("the double delivers within the process")
	}
	address := d.env.Config.BaseURL + "/webhooks/stripe"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader("{}"))
	if err != nil {
		return fail(err.Error(), "mend QUICKSCALE_BASE_URL")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return warn(err.Error(), "start the application; in development \"stripe listen --forward-to "+address+"\" brings Stripe's events")
	}
	if err := res.Body.Close(); err != nil {
		return fail(err.Error(), "try again")
	}
	if res.StatusCode != http.StatusBadRequest { // what is not signed is refused
		return fail(fmt.Sprintf("%s answered %s to what is not signed, and should refuse it with 400", address, res.Status), "a proxy may answer instead of the application: POSTs to /webhooks/stripe must reach it as they are")
	}
	return ok(address + " refuses what is not signed")
}

func (d *doctor) mail(ctx context.Context) finding {
	if d.env.Config.SMTPURL == "" {
		return ok("simulated by the outbox at /dev/mail")
	}
	u, err := url.Parse(d.env.Config.SMTPURL)
	if err != nil || u.Hostname() == "" {
		return fail("QUICKSCALE_SMTP_URL does not parse", "write it as smtp://user:password@host:587, special characters percent-encoded")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"smtps": "465"}[u.Scheme]
		if port == "" {
			port = "587"
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fail(err.Error(), "ask your provider for the host and port; many hosts close port 25, and 587 is open")
	}
	if err := conn.Close(); err != nil {
		return fail(err.Error(), "try again")
	}
	return ok(u.Hostname() + ":" + port + " answers")
}

// maxSkew is how wrong a clock may be: a code of two-factor log-in is good for 30 seconds.
const maxSkew = 30 * time.Second

func (d *doctor) clock(ctx context.Context) finding {
	before := time.Now()
	var theirs time.Time
	switch {
	case d.env.Config.StripeKey != "":
		r, err := http.NewRequestWithContext(ctx, http.MethodHead, d.stripeURL, nil)
		if err != nil {
			return fail(err.Error(), "mend --stripe-url")
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return skip("Stripe does not tell the time")
		}
		if err := res.Body.Close(); err != nil {
			return skip("Stripe does not tell the time")
		}
		if theirs, err = http.ParseTime(res.Header.Get("Date")); err != nil {
			return skip("Stripe does not tell the time")
		}
	case d.db != nil && d.db.Dialect() == database.Postgres:
		if err := d.db.Get(ctx, &theirs, "SELECT now()"); err != nil {
			return fail(err.Error(), "look at the database's log")
		}
	default:
		return skip("there is no other clock to compare with")
	}
	if skew := theirs.Sub(before).Abs(); skew > maxSkew+time.Since(before) {
		return fail(fmt.Sprintf("this machine's clock is off by %s", skew.Round(time.Second)), "switch time synchronization on: timedatectl set-ntp true")
	}
	return ok("it agrees with another one")
}

// The room that is enough, and the room without which a database stops.
const (
	roomEnough = 5 << 30
	roomLeast  = 1 << 30
)

func (d *doctor) disk(context.Context) finding {
	free, err := freeBytes(d.p.dir)
	if err != nil {
		return skip(err.Error())
	}
	says := fmt.Sprintf("%.1f GiB are free", float64(free)/(1<<30))
	switch {
	case free < roomLeast:
		return fail(says, "make room: a database that cannot write stops the application")
	case free < roomEnough:
		return warn(says, "make room before it runs out")
	}
	return ok(says)
}
