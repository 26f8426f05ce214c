package credits

import (
	"embed"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

//go:embed all:templates
var pageTemplates embed.FS

// DefaultPath is where the pages are unless the host says otherwise.
const DefaultPath = "/credits"

// errSignedOut: nobody is signed in.
var errSignedOut = problem.New(problem.CodeUnauthenticated, "Log in first.")

// PagesConfig is what [NewPages] takes.
type PagesConfig struct {
	// Ledger keeps the credits. Required.
	Ledger *Ledger
	// Account tells whose credits a request may see; false for nobody. Required.
	Account func(r *http.Request) (string, bool)
	// Path is where the host mounts the handler. Empty: /credits.
	Path string
	// LoginURL is where who is signed out is sent, with ?next=. Empty: they are told so instead.
	LoginURL string
	// BuyURL is where credits are sold. Empty: no link.
	BuyURL string
	// Site draws the pages. Nil: a plain one.
	Site *web.Site
	// Logger is the plain site's. Nil: slog.Default.
	Logger *slog.Logger
}

// Pages show people their own credits.
type Pages struct {
	cfg   PagesConfig
	views *web.Views
}

// NewPages checks cfg.
func NewPages(cfg PagesConfig) (*Pages, error) {
	switch {
	case cfg.Ledger == nil:
		return nil, errors.New("credits: PagesConfig.Ledger is required")
	case cfg.Account == nil:
		return nil, errors.New("credits: PagesConfig.Account is required")
	}
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	var err error
	if cfg.Site == nil {
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Logger}); err != nil {
			return nil, err
		}
	}
	p := &Pages{cfg: cfg}
	if p.views, err = cfg.Site.Views("credits", pageTemplates, pageData()); err != nil {
		return nil, err
	}
	return p, nil
}

// Handler serves the pages below PagesConfig.Path, which the host mounts without stripping it. The page answers JSON
// too.
func (p *Pages) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+p.cfg.Path+"/{$}", p.signedIn(p.showCredits))
	mux.HandleFunc("GET "+p.cfg.Path+"/history.csv", p.signedIn(p.exportHistory))
	mux.HandleFunc(p.cfg.Path+"/", p.cfg.Site.Missing(mux))
	return p.cfg.Site.Protect(mux)
}

// signedIn lets only those through who are.
func (p *Pages) signedIn(next func(w http.ResponseWriter, r *http.Request, account string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		account, ok := p.cfg.Account(r)
		switch {
		case ok:
			next(w, r, account)
		case p.cfg.LoginURL != "" && !web.WantsJSON(r):
			p.cfg.Site.Redirect(w, r, p.cfg.LoginURL+"?next="+url.QueryEscape(r.URL.RequestURI()))
		default:
			p.cfg.Site.Fail(w, r, errSignedOut)
		}
	}
}

// kinds are those that the history can be filtered by.
var kinds = []Kind{KindGrant, KindDebit, KindExpire, KindAdjust, KindTransfer, KindRevoke, KindRepay}

// creditsPage is the data of credits.html.
type creditsPage struct {
	Path    string  `json:"-"`
	BuyURL  string  `json:"-"`
	Balance Balance `json:"balance"`
	// Kind is the filter of the history, and Kinds are those that it offers.
	Kind    Kind    `json:"-"`
	Kinds   []Kind  `json:"-"`
	Entries []Entry `json:"entries"`
	// Next is the URL of the page with older entries, empty on the last one. CSV is that of the whole history.
	Next string `json:"next,omitempty"`
	CSV  string `json:"-"`
}

func (p *Pages) showCredits(w http.ResponseWriter, r *http.Request, account string) {
	balance, err := p.cfg.Ledger.Balance(r.Context(), account)
	if err != nil {
		p.cfg.Site.Fail(w, r, err)
		return
	}
	history := historyParams(r, account)
	entries, more, err := p.cfg.Ledger.History(r.Context(), history)
	if err != nil {
		p.cfg.Site.Fail(w, r, err)
		return
	}
	for i := range entries {
		entries[i].Metadata = nil // the host's own notes
	}
	page := creditsPage{Path: p.cfg.Path, BuyURL: p.cfg.BuyURL, Balance: balance, Kind: history.Kind, Kinds: kinds,
		Entries: entries, CSV: p.cfg.Path + "/history.csv"}
	query := url.Values{}
	if history.Kind != "" {
		query.Set("kind", string(history.Kind))
		page.CSV += "?" + query.Encode()
	}
	if more {
		query.Set("before", strconv.FormatInt(entries[len(entries)-1].Seq, 10))
		page.Next = p.cfg.Path + "/?" + query.Encode()
	}
	p.views.Respond(w, r, http.StatusOK, "credits", page)
}

// historyParams reads the filter and the place of a page. A place that is none begins with the newest.
func historyParams(r *http.Request, account string) HistoryParams {
	before, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err != nil {
		before = 0
	}
	return HistoryParams{Account: account, Before: before, Kind: Kind(r.URL.Query().Get("kind"))}
}

// exportHistory sends the history page by page as it is read, so that its length costs no memory.
func (p *Pages) exportHistory(w http.ResponseWriter, r *http.Request, account string) {
	p.cfg.Site.Download(w, r, "credits.csv", func(w io.Writer) error { return p.cfg.Ledger.HistoryCSV(r.Context(), w, historyParams(r, account)) })
}
