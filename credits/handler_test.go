package credits_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// desk is the pages on a ledger of their own, with a clock that stands still.
type desk struct {
	t      *testing.T
	ledger *credits.Ledger
	pages  http.Handler
	now    time.Time
}

func atDesk(t *testing.T, fn func(t *testing.T, d *desk)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, dbtest.Of(credits.Migrations()), func(t *testing.T, db *database.DB) {
		d := &desk{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		var err error
		d.ledger, err = credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: func() time.Time { return d.now }})
		require.NoError(t, err)
		pages, err := credits.NewPages(credits.PagesConfig{Ledger: d.ledger, LoginURL: "/auth/login", BuyURL: "/billing/",
			Account: func(r *http.Request) (string, bool) {
				account := r.Header.Get("X-User")
				return account, account != ""
			}})
		require.NoError(t, err)
		d.pages = pages.Handler()
		fn(t, d)
	})
}

func (d *desk) get(target, user, accept string) (*http.Response, string) {
	d.t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("X-User", user)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	d.pages.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(d.t, err)
	return w.Result(), string(body)
}

func (d *desk) grant(account, amount, reason string, source credits.Source, expires *time.Time) {
	d.t.Helper()
	_, err := d.ledger.Grant(context.Background(), credits.GrantParams{Account: account, Amount: credits.MustAmount(amount), Source: source, Reason: reason,
		ExpiresAt: expires, Metadata: map[string]string{"note": "internal"}})
	require.NoError(d.t, err)
}

func (d *desk) debit(account, amount, reason string) {
	d.t.Helper()
	_, err := d.ledger.Debit(context.Background(), credits.DebitParams{Account: account, Amount: credits.MustAmount(amount), Reason: reason})
	require.NoError(d.t, err)
}

const html = "text/html"

func TestPages_ShowTheBalanceAndTheHistory(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		expires := d.now.Add(3 * 24 * time.Hour)
		d.grant("ada", "100", "Pack", credits.Purchase, nil)
		d.grant("ada", "20", "Plan", credits.Subscription, &expires)
		d.debit("ada", "0.5", "<script>alert(1)</script>")
		_, err := d.ledger.Reserve(t.Context(), credits.ReserveParams{Account: "ada", Amount: credits.Credit, TTL: time.Hour, Reason: "r"})
		require.NoError(t, err)

		res, page := d.get("/credits/", "ada", html)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		for _, want := range []string{
			`<p class="title is-3">118.5</p>`, `<p class="title is-3">1</p>`, `href="/billing/"`,
			`<th scope="row" class="is-capitalized">purchase</th><td class="qs-number">100</td>`,
			`<th scope="row" class="is-capitalized">subscription</th><td class="qs-number">18.5</td>`,
			`<time datetime="2026-03-04T00:00:00Z">4 Mar 2026</time></th><td class="qs-number">18.5</td>`,
			`<td class="qs-wrap">&lt;script&gt;alert(1)&lt;/script&gt; <span class="qs-note">Used</span></td><td class="qs-number">-0.5</td><td class="qs-number">119.5</td>`,
			`<td class="qs-wrap">Pack <span class="qs-note">Added</span></td>`, `href="/credits/history.csv"`,
		} {
			assert.Contains(t, page, want)
		}
		assert.NotContains(t, page, "<script>alert")
		assert.Equal(t, 1, strings.Count(page, "<h1"))

		_, page = d.get("/credits/?kind=debit", "ada", html)
		assert.Contains(t, page, `<span class="qs-note">Used</span>`)
		assert.NotContains(t, page, `<span class="qs-note">Added</span>`)
		assert.Contains(t, page, `<option value="debit" selected>Used</option>`)
		assert.Contains(t, page, `href="/credits/history.csv?kind=debit"`)

		_, body := d.get("/credits/", "ada", "application/json")
		var answer struct {
			Data struct {
				Balance credits.Balance `json:"balance"`
				Entries []credits.Entry `json:"entries"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &answer))
		assert.Equal(t, "118.5", answer.Data.Balance.Available.String())
		assert.Len(t, answer.Data.Entries, 3)
		assert.NotContains(t, body, "internal", "metadata is the host's")

		_, page = d.get("/credits/?account=ada", "bob", html)
		assert.Contains(t, page, "Nothing here yet")
		assert.NotContains(t, page, "Pack")
		res, _ = d.get("/credits/other", "ada", html)
		assert.Equal(t, http.StatusNotFound, res.StatusCode)
	})
}

func TestPages_HistoryIsPaged(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		d.grant("ada", "100", "Pack", credits.Purchase, nil)
		for range credits.DefaultPage + 5 {
			d.debit("ada", "0.1", "use")
		}
		next, seen := "/credits/?kind=debit&before=nonsense", []int64{}
		for pages := 0; next != ""; pages++ {
			require.Less(t, pages, 3)
			_, body := d.get(next, "ada", "application/json")
			var answer struct {
				Data struct {
					Entries []credits.Entry `json:"entries"`
					Next    string          `json:"next"`
				} `json:"data"`
			}
			require.NoError(t, json.Unmarshal([]byte(body), &answer))
			for _, e := range answer.Data.Entries {
				assert.Equal(t, credits.KindDebit, e.Kind)
				seen = append(seen, e.Seq)
			}
			next = answer.Data.Next
		}
		require.Len(t, seen, credits.DefaultPage+5)
		for i, seq := range seen {
			assert.EqualValues(t, credits.DefaultPage+6-i, seq)
		}
		_, page := d.get("/credits/", "ada", html)
		assert.Contains(t, page, `href="/credits/?before=7" rel="next"`)
	})
}

func TestPages_SignedOutAreSentToLogIn(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		for _, target := range []string{"/credits/?kind=debit", "/credits/history.csv"} {
			res, _ := d.get(target, "", html)
			assert.Equal(t, http.StatusSeeOther, res.StatusCode)
			assert.Equal(t, "/auth/login?next="+strings.NewReplacer("/", "%2F", "?", "%3F", "=", "%3D").Replace(target), res.Header.Get("Location"))
			res, body := d.get(target, "", "application/json")
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
			assert.Contains(t, body, `"code":"unauthenticated"`)
		}
	})
}

func TestPages_CSVIsWholeAndHasNoFormulas(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		d.grant("ada", "1000", "Pack, with \"quotes\"\nand lines", credits.Purchase, nil)
		d.grant("bob", "1", "Not Ada's", credits.Purchase, nil)
		hostile := []string{`=HYPERLINK("http://evil")`, "+1", "-1", "@SUM(A1)", "'=1", "plain"}
		for _, reason := range hostile {
			d.debit("ada", "0.5", reason)
		}
		for i := range credits.MaxPage {
			d.debit("ada", "0.000001", fmt.Sprint("use ", i))
		}
		res, body := d.get("/credits/history.csv", "ada", html)
		assert.Equal(t, "text/csv; charset=utf-8", res.Header.Get("Content-Type"))
		assert.Contains(t, res.Header.Get("Content-Disposition"), "attachment")
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 1+credits.MaxPage+len(hostile)+1, "more than one page of the ledger")
		assert.Equal(t, []string{"seq", "time", "kind", "amount", "debt", "balance", "available", "source", "service", "reason", "reference", "id"}, rows[0])
		assert.Equal(t, []string{"1", "2026-03-01T12:00:00Z", "grant", "1000", "0", "1000", "1000", "purchase", "", "Pack, with \"quotes\"\nand lines", ""}, rows[len(rows)-1][:11])
		for i, reason := range hostile {
			row := rows[len(rows)-2-i]
			assert.Equal(t, "-0.5", row[3], "numbers stay numbers")
			if strings.ContainsAny(reason[:1], "=+-@") {
				reason = "'" + reason
			}
			assert.Equal(t, reason, row[9])
		}
		assert.NotContains(t, body, "Not Ada's")
		_, body = d.get("/credits/history.csv?kind=grant", "ada", html)
		assert.Equal(t, 1, strings.Count(body, "2026-03-01"))
	})
}

func TestNewPages_NamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := credits.NewPages(credits.PagesConfig{})
	require.ErrorContains(t, err, "Ledger")
	db := dbtest.SQLite(t, dbtest.Of(credits.Migrations()))
	ledger, err := credits.New(credits.Config{DB: db.Writer()})
	require.NoError(t, err)
	_, err = credits.NewPages(credits.PagesConfig{Ledger: ledger})
	require.ErrorContains(t, err, "Account")
}
