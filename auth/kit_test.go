package auth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
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
	k.UseHashMemory(64)
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

func (k *kit) mails() []sentMail {
	k.t.Helper()
	return mailbox{k.db}.all(k.t)
}

func (m mailbox) all(t testing.TB) (all []sentMail) {
	t.Helper()
	require.NoError(t, m.db.Writer().Select(&all, `SELECT kind, recipient, text FROM test_mails ORDER BY n`))
	return all
}

var linkPattern = regexp.MustCompile(`https?://[^/\s]+(/auth/\S+\?token=(\S+))`)

// link is the path and the token of the latest mail of a kind.
func (k *kit) link(kind string) (path, token string) {
	k.t.Helper()
	return mailbox{k.db}.link(k.t, kind)
}

func (m mailbox) link(t testing.TB, kind string) (path, token string) {
	t.Helper()
	for _, sent := range slices.Backward(m.all(t)) {
		if sent.Kind == kind {
			found := linkPattern.FindStringSubmatch(sent.Text)
			require.NotNil(t, found, sent.Text)
			return found[1], found[2]
		}
	}
	require.Fail(t, "there is no mail "+kind)
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

func urlEscape(s string) string { return url.QueryEscape(s) }

// hashed is how a secret is stored.
func hashed(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
