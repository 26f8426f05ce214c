package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/mail"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var schema = dbtest.Schema{Name: "auth", Migrate: func(ctx context.Context, db *database.DB) error {
	if err := database.Migrate(ctx, db, auth.Migrations()); err != nil {
		return err
	}
	const table = `CREATE TABLE test_mails (n INTEGER PRIMARY KEY, kind TEXT NOT NULL, recipient TEXT NOT NULL, text TEXT NOT NULL)`
	_, err := db.Writer().ExecContext(ctx, table)
	return err
}}

// mailbox keeps mails in a table, so that they exist if and only if their transaction was committed.
type mailbox struct{ db *database.DB }

func (m mailbox) EnqueueTx(ctx context.Context, tx *sqlx.Tx, msg mail.Message) error {
	if err := msg.Validate(); err != nil {
		return err
	}
	const insert = `INSERT INTO test_mails (n, kind, recipient, text) SELECT COUNT(*) + 1, ?, ?, ? FROM test_mails`
	if m.db.Dialect() == database.Postgres {
		if _, err := tx.ExecContext(ctx, `LOCK TABLE test_mails IN EXCLUSIVE MODE`); err != nil {
			return err
		}
	}
	_, err := m.db.ExecTx(ctx, tx, insert, msg.Kind, msg.To, msg.Subject+"\n"+msg.Text)
	return err
}

type sentMail struct {
	Kind      string `db:"kind"`
	Recipient string `db:"recipient"`
	Text      string `db:"text"`
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const (
	base     = "https://app.example"
	email    = "Ada@Example.com"
	password = "correct horse wire"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// kit is an application with accounts.
type kit struct {
	*auth.Auth
	t     testing.TB
	db    *database.DB
	clock *clock
	log   *lockedBuffer
	h     http.Handler
}

func newKit(t testing.TB, db *database.DB, change ...func(*auth.Config)) *kit {
	t.Helper()
	k := &kit{t: t, db: db, clock: &clock{now: start}, log: &lockedBuffer{}}
	logger := slog.New(slog.NewTextHandler(k.log, nil))
	site, err := web.New(web.Config{Name: "Acme Text", Secure: true, Logger: logger, Chrome: func(r *http.Request) web.Chrome {
		c := web.Chrome{LoginURL: "/auth/login", LogoutURL: "/auth/logout"}
		if u, ok := auth.UserFrom(r.Context()); ok {
			c.Person = &web.Person{Name: u.Name, Email: u.Email, AccountURL: "/account/"}
		}
		return c
	}})
	require.NoError(t, err)
	many := auth.Limit{Max: 10_000, Per: time.Hour}
	cfg := auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: mailbox{db}, BaseURL: base, Site: site, Clock: k.clock.Now, Logger: logger, Secret: bytes.Repeat([]byte("k"), 32),
		Limits: auth.Limits{LogIn: many, SignUp: many, Forgot: many, Resend: many, Mail: many, Code: many}}
	for _, c := range change {
		c(&cfg)
	}
	k.Auth, err = auth.New(cfg)
	require.NoError(t, err)
	require.NoError(t, k.UseHashMemory(64))
	k.h = k.Handler()
	return k
}

func run(t *testing.T, fn func(t *testing.T, k *kit), change ...func(*auth.Config)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) { fn(t, newKit(t, db, change...)) })
}

// user makes a verified account.
func (k *kit) user(address string) auth.User {
	k.t.Helper()
	u, err := k.CreateUser(k.t.Context(), auth.CreateUserParams{Email: address, Password: password, Name: "Ada", Verified: true})
	require.NoError(k.t, err)
	return u
}

func (k *kit) mails() (all []sentMail) {
	k.t.Helper()
	require.NoError(k.t, k.db.Writer().Select(&all, `SELECT kind, recipient, text FROM test_mails ORDER BY n`))
	return all
}

var linkPattern = regexp.MustCompile(`https://app\.example(/auth/\S+\?token=(\S+))`)

// link is the path and the token of the latest mail of a kind.
func (k *kit) link(kind string) (path, token string) {
	k.t.Helper()
	all := k.mails()
	for _, sent := range slices.Backward(all) {
		if sent.Kind == kind {
			m := linkPattern.FindStringSubmatch(sent.Text)
			require.NotNil(k.t, m, sent.Text)
			return m[1], m[2]
		}
	}
	require.Fail(k.t, "there is no mail "+kind)
	return "", ""
}

func (k *kit) events(userID string) (kinds []auth.EventKind) {
	k.t.Helper()
	events, _, err := k.SecurityEvents(k.t.Context(), auth.EventsParams{UserID: userID, Limit: 500})
	require.NoError(k.t, err)
	for _, e := range slices.Backward(events) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (k *kit) count(query string, args ...any) (n int) {
	k.t.Helper()
	require.NoError(k.t, k.db.Writer().Get(&n, k.db.Rebind(query), args...))
	return n
}

// browser keeps cookies and follows no redirect.
type browser struct {
	k      *kit
	h      http.Handler
	jar    *cookiejar.Jar
	addr   string
	header map[string]string
}

func (k *kit) browser() *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(k.t, err)
	return &browser{k: k, h: k.h, jar: jar, addr: "192.0.2.1:4711", header: map[string]string{"Accept": "text/html", "User-Agent": "Test/1.0"}}
}

var site, _ = url.Parse(base)

type answer struct {
	*http.Response
	body string
}

func (b *browser) do(method, path, kind, body string) answer {
	b.k.t.Helper()
	r := httptest.NewRequest(method, base+path, strings.NewReader(body))
	r.RemoteAddr = b.addr
	for name, value := range b.header {
		r.Header.Set(name, value)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for _, c := range b.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	res := w.Result()
	b.jar.SetCookies(site, res.Cookies())
	text, err := io.ReadAll(res.Body)
	require.NoError(b.k.t, err)
	return answer{res, string(text)}
}

func (b *browser) get(path string) answer {
	b.k.t.Helper()
	return b.do(http.MethodGet, path, "", "")
}

func (b *browser) post(path string, fields ...string) answer {
	b.k.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.do(http.MethodPost, path, "application/x-www-form-urlencoded", form.Encode())
}

// json makes the browser a program.
func (b *browser) json() *browser {
	b.header["Accept"] = "application/json"
	return b
}

func (b *browser) logIn(address, pass string) answer {
	b.k.t.Helper()
	return b.post("/auth/login", "email", address, "password", pass)
}

// in tells whether somebody is signed in.
func (b *browser) in() bool {
	b.k.t.Helper()
	return b.get("/account/").StatusCode == http.StatusOK
}

func (b *browser) cookie(name string) string {
	for _, c := range b.jar.Cookies(site) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// copy is another browser with the same cookies: a thief's.
func (b *browser) copy() *browser {
	other := b.k.browser()
	other.jar.SetCookies(site, secure(b.jar.Cookies(site)))
	return other
}

func secure(cookies []*http.Cookie) []*http.Cookie {
	for _, c := range cookies {
		c.Secure, c.Path = true, "/"
	}
	return cookies
}

func (a answer) leadsTo(t testing.TB, want string) {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, a.StatusCode, a.body)
	assert.Equal(t, want, a.Header.Get("Location"))
}

func code(t *testing.T, a answer) string {
	t.Helper()
	var body struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	return body.Error.Code
}

func codeOf(err error) string {
	if c := problem.From(err); c != nil {
		return c.ErrorCode()
	}
	return ""
}

func TestNew_TellsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := auth.New(auth.Config{BaseURL: "ftp://x", Path: "auth/", AccountPath: "//evil", Home: "https://evil", AdminEmail: "nobody", MinPassword: 7,
		MaxFailures: 2, LockFor: time.Second, SessionIdle: -1, HashConcurrency: -1, Limits: auth.Limits{Mail: auth.Limit{Max: -1, Per: time.Hour}}})
	require.Error(t, err)
	for _, name := range []string{"DB", "Mail", "BaseURL", "Path", "AccountPath", "Home", "AdminEmail", "MinPassword", "MaxFailures", "LockFor", "SessionIdle", "HashConcurrency", "Limits.Mail"} {
		require.ErrorContains(t, err, "Config."+name+" ")
	}
	for _, bad := range []auth.Config{{MaxFailures: 21}, {LockFor: 25 * time.Hour}, {MinPassword: 129}, {Path: "/x", AccountPath: "/x"}} {
		bad.BaseURL, bad.DB, bad.Mail = base, &sqlx.DB{}, mailbox{}
		_, err := auth.New(bad)
		require.ErrorContains(t, err, "auth: Config.")
	}
}

// No answer but the session cookie's own holds what a browser must not show to others.
func TestPages_AreCompleteAndNeedNoScript(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: `<b>"key"`})
		require.NoError(t, err)
		in, out := k.browser(), k.browser()
		in.logIn(email, password).leadsTo(t, "/account/")
		check := func(b *browser, path string) {
			res := b.get(path)
			assert.Equal(t, http.StatusOK, res.StatusCode, path)
			assert.Len(t, regexp.MustCompile(`<h1[ >]`).FindAllString(res.body, -1), 1, path)
			assert.NotRegexp(t, `<script>|\sstyle=|\son[a-z]+=|<b>"key"`, res.body, path)
			assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), path)
			for _, input := range regexp.MustCompile(`<input[^>]* id="([^"]+)"`).FindAllStringSubmatch(res.body, -1) {
				assert.Contains(t, res.body, `<label class="label" for="`+input[1]+`"`, path)
			}
			b.header["Accept"] = "application/json"
			res = b.get(path)
			b.header["Accept"] = "text/html"
			assert.Equal(t, http.StatusOK, res.StatusCode, path)
			assert.Contains(t, res.body, `"success":true`, path)
			assert.NotContains(t, res.body, "argon2id", path)
		}
		for _, path := range []string{"/auth/signup", "/auth/login?next=%2Fx", "/auth/verify/resend", "/auth/password/forgot"} {
			check(out, path)
		}
		for _, path := range []string{"/account/", "/account/profile", "/account/security", "/account/api-keys"} {
			check(in, path)
			out.get(path).leadsTo(t, "/auth/login?next="+url.QueryEscape(path))
			res := out.copy().json().get(path)
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, path)
			assert.Equal(t, problem.CodeUnauthenticated, code(t, res))
		}
		in.get("/auth/login?next=%2Fthere").leadsTo(t, "/there")
		for _, path := range []string{"/auth/nowhere", "/account/nowhere"} {
			assert.Equal(t, http.StatusNotFound, in.get(path).StatusCode)
		}
		assert.Equal(t, http.StatusMethodNotAllowed, in.get("/auth/logout").StatusCode)
		in.get("/account/security/password").leadsTo(t, "/account/security")
	}, func(c *auth.Config) {
		c.Panels = func(*http.Request, auth.User) ([]auth.Panel, error) {
			return []auth.Panel{{Label: "Credits", Value: "12.5", URL: "/credits/", Action: "History"}}, nil
		}
	})
}

func TestDashboard_ShowsPanelsAndFirstSteps(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		body := b.get("/account/").body
		for _, want := range []string{"Hello, Ada", "12.5", `href="/credits/"`, "First steps", "Create an API key"} {
			assert.Contains(t, body, want)
		}
		_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		assert.NotContains(t, b.get("/account/").body, "First steps", "all are done")
		u2 := k.user("broken@example.com")
		b = k.browser()
		b.logIn(u2.Email, password)
		res := b.get("/account/")
		assert.Equal(t, http.StatusInternalServerError, res.StatusCode)
		assert.NotContains(t, res.body, "the ledger is away")
	}, func(c *auth.Config) {
		c.Panels = func(_ *http.Request, u auth.User) ([]auth.Panel, error) {
			if u.Email == "broken@example.com" {
				return nil, errors.New("the ledger is away")
			}
			return []auth.Panel{{Label: "Credits", Value: "12.5", URL: "/credits/", Action: "History"}}, nil
		}
	})
}

func TestProfile_TakesANameAndNothingElse(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		b.post("/account/profile", "name", " Ada L. ", "role", "admin", "id", "x", "email", "eve@example.com", "verified_at", "x").leadsTo(t, "/account/profile")
		got, err := k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		want := u
		want.Name, want.LastLoginAt = "Ada L.", got.LastLoginAt
		assert.Equal(t, want, got, "a form's other fields are ignored")
		for _, body := range []string{`{"name":"x","role":"admin"}`, `{"name":"x","id":"1"}`} {
			res := b.json().do(http.MethodPost, "/account/profile", "application/json", body)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode, "and a JSON object's are refused")
		}
		for _, bad := range []string{strings.Repeat("x", 101), "a\x00b", "a\nb", "a\u2028b", "\xff", "\u202emoc.elpmaxe@nimda"} {
			res := b.post("/account/profile", "name", bad)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode, "%q", bad)
		}
		require.ErrorIs(t, k.SetName(t.Context(), "0197d9a0-0000-7000-8000-000000000000", "x"), auth.ErrNotFound)
	})
}

func urlEscape(s string) string { return url.QueryEscape(s) }

// failingMailbox takes no mail.
type failingMailbox struct{}

func (failingMailbox) EnqueueTx(context.Context, *sqlx.Tx, mail.Message) error {
	return errors.New("the queue is away")
}

// A mail that cannot be queued undoes what it would tell of, and nobody is told that something was done.
func TestMails_CommitWithTheirCause(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		before := k.dump()
		for _, path := range []string{"/auth/signup", "/auth/password/forgot", "/auth/verify/resend"} {
			for _, address := range []string{email, "new@example.com"} {
				res := k.browser().post(path, "email", address, "password", password)
				assert.Equal(t, http.StatusInternalServerError, res.StatusCode, path)
				assert.NotContains(t, res.body, "queue")
				assert.Empty(t, res.Cookies())
			}
		}
		assert.Equal(t, http.StatusInternalServerError, b.post("/account/security/password", "current", password, "password", "brand new words").StatusCode)
		require.Error(t, k.SetPassword(t.Context(), u.ID, "brand new words"))
		_, err := k.db.Writer().Exec(`DELETE FROM qs_auth_limits`) // attempts count, whatever comes of them
		require.NoError(t, err)
		before, _, _ = strings.Cut(before, "\nlimits\n")
		after, _, _ := strings.Cut(k.dump(), "\nlimits\n")
		assert.Equal(t, before, after)
		assert.True(t, b.in())
		b.copy().logIn(email, password).leadsTo(t, "/account/")
	}, func(c *auth.Config) { c.Mail = failingMailbox{} })
}

// The host chooses the driver.
func TestAuth_WorksOverPgx(t *testing.T) {
	t.Parallel()
	pool, err := sqlx.Open("pgx", dbtest.PostgresURL(t, schema))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close()) })
	db, err := database.New(pool, nil)
	require.NoError(t, err)
	k := newKit(t, db)
	b := k.browser()
	b.post("/auth/signup", "email", email, "password", password)
	_, token := k.link("auth.verify")
	b.post("/auth/verify", "token", token).leadsTo(t, "/account/")
	for _, path := range []string{"/account/", "/account/profile", "/account/security", "/account/api-keys"} {
		assert.Equal(t, http.StatusOK, b.get(path).StatusCode, path)
	}
	assert.Equal(t, http.StatusCreated, b.post("/account/api-keys", "name", "k").StatusCode)
	for range 6 {
		assert.Equal(t, http.StatusUnauthorized, k.browser().logIn(email, "wrong password").StatusCode)
	}
	b.post("/auth/password/forgot", "email", email)
	_, token = k.link("auth.reset")
	b.post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login")
	b.post("/auth/login", "email", email, "password", "brand new words", "remember", "on").leadsTo(t, "/account/")
	users, _, err := k.Users(t.Context(), auth.UsersParams{Query: "ada"})
	require.NoError(t, err)
	require.Len(t, users, 1)
	require.NoError(t, k.SetDisabled(t.Context(), users[0].ID, true))
	assert.False(t, b.in())
	k.clock.Advance(60 * 24 * time.Hour)
	_, err = k.Sweep(t.Context())
	require.NoError(t, err)
}

func TestTokenPages_KeepTheirAddressToThemselves(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		// Over http to another machine browsers send no Sec-Fetch-Site, and under no-referrer no origin either.
		for host, want := range map[string]string{"localhost:8080": "no-referrer", "127.0.0.1:8080": "no-referrer", "[::1]:8080": "no-referrer", "192.0.2.7:8080": "same-origin", "app.example": "same-origin"} {
			b := k.browser()
			b.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Host = host
				k.h.ServeHTTP(w, r)
			})
			for _, path := range []string{"/auth/verify?token=x", "/auth/password/reset?token=x"} {
				assert.Equal(t, want, b.get(path).Header.Get("Referrer-Policy"), host)
			}
		}
	}, func(c *auth.Config) { c.Site = nil; c.BaseURL = "http://app.example" })
}
