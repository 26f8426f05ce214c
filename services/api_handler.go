package services

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

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
	mux.HandleFunc("GET "+at+"/services/{name}", s.called(s.apiService))
	mux.HandleFunc("POST "+at+"/services/{name}", s.called(s.apiCall))
	mux.HandleFunc("POST "+at+"/services/{name}/quote", s.called(s.apiQuote))
	mux.HandleFunc("GET "+at+"/calls/{id}", s.called(s.apiFindCall))
	mux.HandleFunc("POST "+at+"/calls/{id}/cancel", s.called(s.apiCancel))
	mux.HandleFunc("GET "+at+"/credits", s.called(unlimited(s, s.apiCredits)))
	mux.HandleFunc("GET "+at+"/usage", s.called(unlimited(s, s.apiUsage)))
	s.addDocs(mux)
	mux.HandleFunc(at+"/", s.cfg.Site.Missing(mux))
	return markStreams(web.JSONOnly(s.cfg.Site.Protect(mux)))
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

func (s *Services) apiService(w http.ResponseWriter, r *http.Request, _ Caller) {
	d, err := s.Find(r.Context(), r.PathValue("name"), r.URL.Query().Get("version"))
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, d)
}

// apiParams read a call. The body is JSON whatever its Content-Type says, since curl -d calls everything a form, unless
// it is multipart/form-data. That opens nothing to other sites: their simple requests are refused before.
func (s *Services) apiParams(w http.ResponseWriter, r *http.Request, who Caller) (svc *registered, p RunParams, err error) {
	p = RunParams{Account: who.Account, Service: r.PathValue("name"), Version: r.URL.Query().Get("version")}
	if svc, err = s.find(p.Service, p.Version); err != nil {
		return nil, p, err
	}
	if err = who.may(p.Service); err != nil {
		return nil, p, err
	}
	svc.announce(w.Header())
	in, err := s.readInput(w, r, svc, false)
	if err != nil {
		return nil, p, err
	}
	p.Input = in.raw
	if p.IdempotencyKey, err = readKey(r); err != nil {
		return nil, p, err
	}
	p.Tags, err = readTags(r)
	return svc, p, err
}

// announce tells of the end of a service.
func (r *registered) announce(h http.Header) {
	d := r.opts.deprecation
	if d == nil {
		return
	}
	h.Set("Deprecation", "@"+strconv.FormatInt(d.Since.Unix(), 10))
	if !d.Sunset.IsZero() {
		h.Set("Sunset", d.Sunset.UTC().Format(http.TimeFormat))
	}
}

func (s *Services) apiCall(w http.ResponseWriter, r *http.Request, who Caller) {
	if s.limited(w, r, who.Account) {
		return
	}
	svc, p, err := s.apiParams(w, r, who)
	switch {
	case err != nil:
		s.cfg.Site.FailJSON(w, r, err)
	case wantsStream(r) && !svc.opts.background:
		s.apiStream(w, r, svc, p)
	case svc.opts.background || prefersAsync(r):
		s.apiEnqueue(w, r, p)
	default:
		svc.unhurried(w)
		result, err := s.Run(r.Context(), p)
		if err != nil {
			s.failCall(w, r, err)
			return
		}
		s.answer(w, result)
	}
}

// unhurried lifts the server's limit for answers where the work may take longer than what a server is likely to be set to.
func (r *registered) unhurried(w http.ResponseWriter) {
	if r.opts.timeout > DefaultTimeout {
		// Where there is no limit to set, none binds.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(r.opts.timeout + streamMargin))
	}
}

// failCall answers a call that failed, with what it cost.
func (s *Services) failCall(w http.ResponseWriter, r *http.Request, err error) {
	if failure, ok := errors.AsType[*CallError](err); ok {
		w.Header().Set("X-Credits-Charged", failure.Charged.String())
	}
	if errors.Is(err, ErrBusy) {
		w.Header().Set("Retry-After", "1")
	}
	s.cfg.Site.FailJSON(w, r, err)
}

func (s *Services) apiQuote(w http.ResponseWriter, r *http.Request, who Caller) {
	_, p, err := s.apiParams(w, r, who)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	quote, err := s.Quote(r.Context(), QuoteParams{Service: p.Service, Version: p.Version, Input: p.Input})
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, quote)
}

// prefersAsync tells that the caller asks for a job (RFC 7240, section 4.1).
func prefersAsync(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Prefer"), ","), ",") {
		if word, _, _ := strings.Cut(part, ";"); strings.EqualFold(strings.TrimSpace(word), "respond-async") {
			return true
		}
	}
	return false
}

// apiEnqueue makes a job of a call. With ?notify=true the host tells of its end, such as by a webhook.
func (s *Services) apiEnqueue(w http.ResponseWriter, r *http.Request, p RunParams) {
	notify := r.URL.Query().Get("notify")
	if notify != "" && notify != "true" && notify != "false" {
		s.cfg.Site.FailJSON(w, r, problem.Invalid(map[string]string{"notify": "This must be true or false."}))
		return
	}
	record, err := s.Enqueue(r.Context(), EnqueueParams{RunParams: p, Notify: notify == "true"})
	if err != nil {
		s.failCall(w, r, err)
		return
	}
	w.Header().Set("Location", s.cfg.APIPath+"/calls/"+record.ID.String())
	if prefersAsync(r) {
		w.Header().Set("Preference-Applied", "respond-async")
	}
	status := http.StatusAccepted
	if record.FinishedAt != nil {
		status = http.StatusOK
	}
	web.JSON(w, status, record)
}

// callID reads the id in the path. What is no id names no call.
func callID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return uuid.Nil, ErrNoCall
	}
	return id, nil
}

func (s *Services) apiFindCall(w http.ResponseWriter, r *http.Request, who Caller) {
	s.apiRecord(w, r, who, s.FindCall)
}

func (s *Services) apiCancel(w http.ResponseWriter, r *http.Request, who Caller) {
	s.apiRecord(w, r, who, s.Cancel)
}

func (s *Services) apiRecord(w http.ResponseWriter, r *http.Request, who Caller, do func(ctx context.Context, account string, id uuid.UUID) (Record, error)) {
	id, err := callID(r)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	record, err := s.recordFor(r.Context(), who, id, do)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, record)
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
	web.JSON(w, http.StatusOK, creditsData{b.Available, b})
}

// creditsData is what an account has.
type creditsData struct {
	// Balance is what can be spent, under the name that calls give it.
	Balance credits.Amount `json:"balance"`
	funds
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
	p.Service, p.Status = q.Get("service"), Status(q.Get("status"))
	if p.Status != "" && !slices.Contains(statuses, p.Status) {
		wrong["status"] = "Choose one of: queued, running, succeeded, partial, failed."
	}
	if tag := q.Get("tag"); tag != "" {
		var ok bool
		if p.Tag, p.Value, ok = strings.Cut(tag, ":"); !ok {
			wrong["tag"] = "This must be a name and a value, such as project:alpha."
		}
	}
	for name, at := range map[string]*time.Time{"since": &p.Since, "until": &p.Until} {
		if text := q.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				wrong[name] = "This must be a time such as 2026-03-01T00:00:00Z."
			}
		}
	}
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
