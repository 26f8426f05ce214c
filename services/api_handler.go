package services

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// APIHandler serves the JSON API below Config.APIPath, which the host mounts without stripping it. Every answer is
// JSON, errors too, whatever the request accepts. Requests that a browser makes for another site are refused as they
// are on the pages, since a session may call the API too.
func (s *Services) APIHandler() http.Handler {
	mux := http.NewServeMux()
	at := s.cfg.APIPath
	mux.HandleFunc("GET "+at+"/services", s.called(s.apiList))
	mux.HandleFunc("POST "+at+"/services/{name}", s.called(s.apiCall))
	mux.HandleFunc("GET "+at+"/credits", s.called(s.apiCredits))
	mux.HandleFunc("GET "+at+"/usage", s.called(s.apiUsage))
	mux.HandleFunc(at+"/", s.cfg.Site.Missing(mux))
	return web.JSONOnly(s.cfg.Site.Protect(mux))
}

// called lets only those through whom Config.API knows.
func (s *Services) called(next func(w http.ResponseWriter, r *http.Request, who Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.cfg.API(r)
		if err != nil {
			if c := problem.From(err); c != nil && c.ErrorCode() == problem.CodeUnauthenticated {
				w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, section 11.6.1
			}
			s.cfg.Site.FailJSON(w, r, err)
			return
		}
		next(w, r, who)
	}
}

func (s *Services) apiList(w http.ResponseWriter, r *http.Request, _ Caller) {
	web.JSON(w, http.StatusOK, listData{Services: s.List(r.Context())})
}

// apiCall reads the body as JSON whatever its Content-Type says, since curl -d calls everything a form. That opens
// nothing to other sites: their simple requests are refused before.
func (s *Services) apiCall(w http.ResponseWriter, r *http.Request, who Caller) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); strings.HasPrefix(kind, "multipart/") {
		s.cfg.Site.FailJSON(w, r, web.ErrUnsupported)
		return
	}
	raw, err := readBody(w, r)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	key, err := readKey(r)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	result, err := s.Run(r.Context(), RunParams{Account: who.Account, Service: r.PathValue("name"), Input: raw, IdempotencyKey: key})
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	s.answer(w, result)
}

func (s *Services) answer(w http.ResponseWriter, result Result) {
	setCreditHeaders(w, result)
	web.JSON(w, http.StatusOK, result)
}

func setCreditHeaders(w http.ResponseWriter, result Result) {
	w.Header().Set("X-Credits-Charged", result.Charged.String())
	w.Header().Set("X-Credits-Remaining", result.Balance.String())
}

func (s *Services) apiCredits(w http.ResponseWriter, r *http.Request, who Caller) {
	b, err := s.cfg.Ledger.Balance(r.Context(), who.Account)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, struct {
		// Balance is what can be spent, under the name that calls give it.
		Balance credits.Amount `json:"balance"`
		funds
	}{b.Available, b})
}

// funds lets a credits.Balance be embedded beside a field of the name Balance.
type funds = credits.Balance

// usageData is a page of an account's calls.
type usageData struct {
	Calls []Record `json:"calls"`
	// Next is the URL of the page with older calls, empty on the last one.
	Next string `json:"next,omitempty"`
}

func (s *Services) apiUsage(w http.ResponseWriter, r *http.Request, who Caller) {
	p, err := usageParams(r.URL.Query())
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	p.Account = who.Account
	records, more, err := s.Usage(r.Context(), p)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	page := usageData{Calls: records}
	if more {
		q := r.URL.Query()
		q.Set("before", records[len(records)-1].ID.String())
		page.Next = s.cfg.APIPath + "/usage?" + q.Encode()
	}
	web.JSON(w, http.StatusOK, page)
}

func usageParams(q url.Values) (p UsageParams, err error) {
	wrong := map[string]string{}
	p.Service = q.Get("service")
	if before := q.Get("before"); before != "" {
		if p.Before, err = uuid.Parse(before); err != nil {
			wrong["before"] = "This must be the call_id of the last call of the page before."
		}
	}
	if limit := q.Get("limit"); limit != "" {
		if p.Limit, err = strconv.Atoi(limit); err != nil || p.Limit < 1 {
			wrong["limit"] = "This must be a whole number from 1 to " + strconv.Itoa(MaxPage) + "."
		}
	}
	if len(wrong) > 0 {
		return p, problem.Invalid(wrong)
	}
	return p, nil
}
