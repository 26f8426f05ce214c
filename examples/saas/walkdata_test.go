package main

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/examples/services/textanalysis"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// What strangers may enter. Each would set window.hacked if a page took it for markup; the last turns the order of letters.
const (
	sentinel = "hacked"
	attack   = `"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{{.}}`
	rtl      = "\u202e"
)

// hostile is an attack and one word without an end, n characters in all.
func hostile(n int) string { return attack + strings.Repeat("W", n-len(attack)) }

// turned is hostile with a change of direction, which names may not hold and other texts may.
func turned(n int) string { return rtl + hostile(n-1) }

const (
	longEmail = "a.very.long.address.of.one.person.who.likes.dots@some.subdomain.of.an.example.com"
	orgEmail  = "o'hara+owner@example.com"
	newEmail  = "new@example.com"
	appEmail  = "with.app@example.com"
)

// site is the example in this process, so that a test can prepare it without clicks.
type site struct {
	*process

	app *quickscale.App
	db  *database.DB
}

// serveSite serves the example as main does, and stops it at the test's end.
func serveSite(tb testing.TB, change ...func(*quickscale.Config)) *site {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	// Passkeys need a name: localhost, where browsers take compressed files too as they do over https.
	base := "http://localhost:" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	db := dbtest.SQLite(tb, dbtest.Empty)
	cfg := quickscale.Config{
		DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: base, Name: "Acme Text", Public: words(), OutboundLoopback: true, ApproveCreditsAbove: 1000 * credits.Credit,
		OAuth:  []auth.OAuthProvider{auth.OpenID("acme", "Acme", "http://127.0.0.1:1", "id", "secret")},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	app, err := quickscale.New(cfg)
	require.NoError(tb, err)
	require.NoError(tb, services.Register(app.Services, textanalysis.Service{}))
	require.NoError(tb, services.Register(app.Services, echo{"echo"}))
	require.NoError(tb, services.Register(app.Services, echo{"echo-later"}, services.Background()))
	handler := routes(app)
	ctx := context.Background() // the server outlives what asks it
	require.NoError(tb, app.Migrate(ctx))
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}}
	server.Start()
	require.NoError(tb, app.Start(ctx))
	tb.Cleanup(func() {
		server.Close()
		end, cancel := context.WithTimeout(ctx, quickscale.ShutdownTimeout)
		defer cancel()
		require.NoError(tb, app.Stop(end))
	})
	require.NoError(tb, seed(ctx, app, quickscale.Environment{Config: cfg}))
	return &site{&process{base: base}, app, db}
}

// echo is a service that gives back what it gets, with a title and a summary that would be markup.
type echo struct{ name string }

type echoed struct {
	Text  string   `json:"text"  title:"Text"`
	Words []string `json:"words" title:"Words"`
}

type echoInput struct {
	Text string `description:"What comes back." json:"text" title:"Text" validate:"required,max=2000"`
}

func (e echo) Info() services.Info {
	return services.Info{Name: e.name, Title: "Echo " + hostile(90), Summary: turned(150), Version: "1.0.0", Tags: []string{hostile(90)}}
}

func (echo) Pricing() services.Pricing { return services.Fixed(credits.MustAmount("0.000001")) }

func (echo) Execute(_ context.Context, _ *services.Call, in echoInput) (echoed, error) {
	if in.Text == "fail" {
		return echoed{}, services.Failure(turned(200))
	}
	return echoed{in.Text, []string{in.Text, in.Text}}, nil
}

// person makes an account that is confirmed, and logs a visitor in to it.
func (s *site) person(t *testing.T, email, name string, role auth.Role) (auth.User, *visitor) {
	t.Helper()
	u, err := s.app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Name: name, Password: password, Verified: true, Role: role})
	require.NoError(t, err)
	v := visit(t, s.process)
	v.login(email, password)
	return u, v
}

// shown are what the walk leads to: visitors by who they are, and addresses of pages by the name of what they are about.
type shown struct {
	who   map[string]*visitor
	paths map[string]string
}

// fill makes something of every kind, with texts that are as bad as can be entered.
func (s *site) fill(t *testing.T) shown {
	t.Helper()
	ctx := t.Context()
	out := shown{map[string]*visitor{"guest": visit(t, s.process)}, map[string]string{}}
	evil, err := billing.ParseSeed([]byte("products:\n" +
		"  - {key: evil, name: " + strconv.Quote(attack) + ", description: " + strconv.Quote(attack+strings.Repeat("W", 100)) + ", credits: 123456789.123456, order: 9, prices: [{price: 999999.99 USD}]}\n" +
		"  - {key: evil-plan, name: " + strconv.Quote(attack) + ", credits: 5, order: 9, features: [evil], prices: [{price: 1.00 USD, every: month}]}\n"))
	require.NoError(t, err)
	plan, err := billing.PlanSeed(ctx, s.app.Stripe(), evil)
	require.NoError(t, err)
	require.NoError(t, plan.Apply(ctx, nil))
	require.NoError(t, s.app.Billing.SyncCatalogue(ctx))

	_, out.who["new"] = s.person(t, newEmail, "", auth.RoleUser)
	u, v := s.person(t, longEmail, hostile(100), auth.RoleUser)
	out.who["user"] = v
	s.fillAccount(t, u, v, out)
	s.fillBilling(t, u, v, out)
	s.fillServices(t, u, v, out)
	s.fillHooks(t, u, out)
	s.fillOrganisation(t, out)
	s.fillStaff(t, u, out)
	return out
}

func (s *site) fillAccount(t *testing.T, u auth.User, v *visitor, out shown) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, s.app.Auth.SetProfile(ctx, u.ID, auth.Profile{Name: hostile(100), Bio: hostile(400), JobTitle: hostile(100), Company: hostile(100),
		Location: hostile(100), GitHub: strings.Repeat("W", 39), Website: "https://example.com/" + url.PathEscape(attack)}))
	var picture bytes.Buffer
	require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8))))
	require.NoError(t, s.app.Auth.SetPicture(ctx, u.ID, picture.Bytes()))
	var last auth.APIKey
	for _, name := range []string{hostile(100), "laptop", "revoked"} {
		key, _, err := s.app.Auth.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: u.ID, Name: name})
		require.NoError(t, err)
		last = key
	}
	require.NoError(t, s.app.Auth.RevokeAPIKey(ctx, u.ID, last.ID, auth.Client{}))
	visit(t, s.process).login(longEmail, password) // another device
	v.post("/auth/password/forgot", "email", longEmail)
	out.paths["reset"] = s.mailed(t, v, longEmail, "(?i)choose a new password")
	v.post("/account/security/email", "email", "another."+longEmail)
	out.paths["email-confirm"] = s.mailed(t, v, "another."+longEmail, ".")
	out.paths["email-undo"] = s.mailed(t, v, longEmail, "(?i)address")
	guest := visit(t, s.process)
	guest.post("/auth/signup", "email", "grace@example.com", "password", password, "name", hostile(100))
	out.paths["verify"] = s.mailed(t, guest, "grace@example.com", "(?i)confirm")
	guest.post("/auth/magic", "email", longEmail)
	out.who["magic"] = guest
	out.paths["magic-link"] = s.mailed(t, guest, longEmail, "(?i)log-in code")

	app, err := s.app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: appEmail, Name: "With App", Password: password, Verified: true})
	require.NoError(t, err)
	setup, err := s.app.Auth.BeginTOTP(ctx, app.ID)
	require.NoError(t, err)
	code, err := totp.GenerateCode(strings.ReplaceAll(setup.Secret, " ", ""), time.Now())
	require.NoError(t, err)
	_, err = s.app.Auth.ConfirmTOTP(ctx, app.ID, code, auth.Client{})
	require.NoError(t, err)
	second := visit(t, s.process)
	second.post("/auth/login", "email", appEmail, "password", password)
	out.who["second"] = second
	_, err = s.app.Auth.BeginTOTP(ctx, u.ID)
	require.NoError(t, err)
}

// mailed waits for a mail and returns the path of its first link.
func (s *site) mailed(t *testing.T, v *visitor, to, subject string) string {
	t.Helper()
	links := v.mailTo(to, subject)
	require.NotEmpty(t, links, "links in the mail to %s about %s", to, subject)
	return strings.TrimPrefix(links[0], s.base)
}

func (s *site) fillBilling(t *testing.T, u auth.User, v *visitor, out shown) {
	t.Helper()
	ctx := t.Context()
	page := v.get("/billing/")
	price := func(name string) string {
		offers, err := s.app.Billing.Packs(ctx)
		require.NoError(t, err)
		plans, err := s.app.Billing.Plans(ctx)
		require.NoError(t, err)
		for _, o := range append(offers, plans...) {
			if o.Name == name {
				return o.PriceID
			}
		}
		t.Fatalf("%s is not for sale: %s", name, page.text())
		return ""
	}
	buy := func(name, card string) {
		a := v.post("/billing/checkout", "price", price(name))
		require.Contains(t, a.url.Path, "/dev/stripe/checkout/", a.text())
		a = v.pay(a, card)
		v.settled(a)
		out.paths["success"] = a.url.RequestURI()
	}
	buy("Starter", "4242424242424242")
	buy("Hobby", "4242424242424242")
	out.paths["change"] = "/billing/subscription/change?price=" + price("Pro")
	buy(attack, "4242424242424242")
	payments, _, err := s.app.Billing.Payments(ctx, billing.PaymentsParams{Account: u.ID})
	require.NoError(t, err)
	evil := payments[0]
	out.paths["payment"] = "/billing/payments/" + evil.ID.String()
	out.paths["admin-payment"] = "/admin/payments/" + evil.ID.String()
	_, err = s.app.Billing.Refund(ctx, billing.RefundParams{Payment: evil.ID, Amount: 100, Reason: billing.ReasonDuplicate, Note: turned(200), Staff: adminEmail})
	require.NoError(t, err)
	refunds, _, err := s.app.Billing.Refunds(ctx, billing.RefundsParams{})
	require.NoError(t, err)
	out.paths["refund"] = "/admin/refunds/" + refunds[0].ID.String()
	buy("Starter", "4000000000000259")
	require.Eventually(t, func() bool {
		disputes, _, err := s.app.Billing.Disputes(ctx, billing.DisputesParams{})
		if err != nil || len(disputes) == 0 {
			return false
		}
		out.paths["dispute"] = "/admin/disputes/" + disputes[0].ID.String()
		return true
	}, time.Minute, 20*time.Millisecond, "the dispute")
	a := v.post("/billing/checkout", "price", price("Studio"))
	out.paths["checkout"] = a.url.RequestURI()
	_, err = s.app.Billing.SetAutoTopUp(ctx, billing.AutoTopUpParams{Customer: billing.Customer{Account: u.ID, Email: u.Email, Name: u.Name, Verified: true},
		Threshold: 50 * credits.Credit, Price: price("Starter"), MonthlyCap: 3000, Consent: true})
	require.NoError(t, err)
}

// settled waits, as the success page does, until the purchase has come to an end.
func (v *visitor) settled(a answer) {
	v.t.Helper()
	require.Equal(v.t, "/billing/success", a.url.Path, a.text())
	where := a.url.String()
	require.Eventually(v.t, func() bool { return strings.Contains(v.get(where).text(), "Thank you") }, time.Minute, 20*time.Millisecond, "the purchase")
}

func (s *site) fillServices(t *testing.T, u auth.User, v *visitor, out shown) {
	t.Helper()
	ctx := t.Context()
	in, err := jsonOf(echoInput{turned(300)})
	require.NoError(t, err)
	record, err := s.app.Services.Enqueue(ctx, services.EnqueueParams{RunParams: services.RunParams{Account: u.ID, Service: "echo-later", Input: in}})
	require.NoError(t, err)
	out.paths["call"] = "/services/calls/" + record.ID.String()
	require.Eventually(t, func() bool { return strings.Contains(v.get(out.paths["call"]).text(), "This cost") }, time.Minute, 20*time.Millisecond, "the call")
	for _, name := range []string{turned(200), "plain"} {
		_, err = s.app.Credits.Debit(ctx, credits.DebitParams{Account: u.ID, Amount: 1, Reason: name})
		require.NoError(t, err)
	}
	_, err = s.app.Credits.Grant(ctx, credits.GrantParams{Account: u.ID, Amount: 5 * credits.Credit, Source: credits.Bonus, Reason: hostile(200), ExpiresAt: new(time.Now().Add(48 * time.Hour))})
	require.NoError(t, err)
}

// fillHooks adds an endpoint that answers with markup and an error.
func (s *site) fillHooks(t *testing.T, u auth.User, out shown) {
	t.Helper()
	ctx := t.Context()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, turned(300), http.StatusInternalServerError)
	}))
	t.Cleanup(hook.Close)
	endpoint, _, err := s.app.Outbound.CreateEndpoint(ctx, outbound.EndpointParams{Account: u.ID, URL: hook.URL + "/" + url.PathEscape(attack) + strings.Repeat("W", 100), Description: turned(200)})
	require.NoError(t, err)
	delivery, err := s.app.Outbound.SendTest(ctx, u.ID, endpoint.ID)
	require.NoError(t, err)
	out.paths["endpoint"] = "/account/webhooks/" + endpoint.ID.String()
	out.paths["delivery"] = out.paths["endpoint"] + "/deliveries/" + delivery.String()
	require.Eventually(t, func() bool {
		tries, err := s.app.Outbound.Attempts(ctx, u.ID, delivery)
		return err == nil && len(tries) > 0
	}, time.Minute, 20*time.Millisecond, "a try")
}

func (s *site) fillOrganisation(t *testing.T, out shown) {
	t.Helper()
	ctx := t.Context()
	owner, v := s.person(t, orgEmail, hostile(100), auth.RoleUser)
	v.post("/account/organisation", "name", hostile(100))
	accounts, err := s.app.Auth.Accounts(ctx, owner.ID)
	require.NoError(t, err)
	require.Len(t, accounts, 2)
	out.paths["admin-account"] = "/admin/accounts/" + accounts[1].ID
	_, err = s.app.Credits.Grant(ctx, credits.GrantParams{Account: accounts[1].ID, Amount: 3 * credits.Credit, Source: credits.Bonus, Reason: hostile(200)})
	require.NoError(t, err)
	v.post("/account/organisation/invitations", "email", newEmail, "role", "member")
	out.paths["invitation"] = s.mailed(t, v, newEmail, "(?i)invit|join")
	out.who["new"].post("/auth/invitation", "token", mustQuery(t, out.paths["invitation"], "token"))
	// The person who has accepted acts for themselves again.
	own, err := s.app.Auth.FindUserByEmail(ctx, newEmail)
	require.NoError(t, err)
	out.who["new"].post("/account/organisation/switch", "account", own.ID)
	v.post("/account/organisation/invitations", "email", longEmail, "role", "admin")
	out.paths["invitation"] = s.mailed(t, v, longEmail, "(?i)invit|join")
	out.who["owner"] = v
}

func mustQuery(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	require.NotEmpty(t, u.Query().Get(name), address)
	return u.Query().Get(name)
}

func (s *site) fillStaff(t *testing.T, u auth.User, out shown) {
	t.Helper()
	staff := visit(t, s.process)
	staff.login(adminEmail, seedPassword)
	out.who["staff"] = staff
	out.paths["admin-user"] = "/admin/users/" + u.ID
	out.paths["event"] = staff.find(staff.get("/admin/webhooks"), `href="(/admin/webhooks/evt_[^"]+)"`)
	staff.post("/admin/reconcile")
	staff.get("/admin/users?q=" + url.QueryEscape(attack)) // what was searched for is in the audit log
	out.paths["mail"] = staff.find(staff.get("/dev/mail/"), `href="(/dev/mail/[0-9a-f]{8}-[^"?]+)"`)
	out.paths["stripe-object"] = staff.find(staff.get("/dev/stripe/objects/customer"), `href="[^"]*(/dev/stripe/object/[^"]+)"`)
	acting := visit(t, s.process)
	acting.login(adminEmail, seedPassword)
	acting.post("/account/impersonation/"+u.ID, "reason", hostile(200))
	out.who["acting"] = acting
}
