package stripetest

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// shelf is one list of the overview.
type shelf struct {
	Title, Kind string
	Columns     []string
	Objects     []object
}

// shelves are what the overview lists; columns are fields, and where there are dots fields within.
var shelves = []shelf{
	{Title: "Checkout sessions", Kind: "checkout.session", Columns: []string{"mode", "amount_total", "currency", "status", "payment_status"}},
	{Title: "Customers", Kind: "customer", Columns: []string{"email", "balance", "test_clock"}},
	{Title: "Subscriptions", Kind: "subscription", Columns: []string{"customer", "status", "current_period_end", "cancel_at_period_end"}},
	{Title: "Schedules", Kind: scheduleKind, Columns: []string{"subscription", "status"}},
	{Title: "Invoices", Kind: "invoice", Columns: []string{"number", "billing_reason", "amount_due", "currency", "status", "next_payment_attempt"}},
	{Title: "Payment intents", Kind: "payment_intent", Columns: []string{"amount", "currency", "status"}},
	{Title: "Setup intents", Kind: "setup_intent", Columns: []string{"customer", "status"}},
	{Title: "Charges", Kind: "charge", Columns: []string{"amount", "amount_refunded", "currency", "status", "disputed"}},
	{Title: "Refunds", Kind: "refund", Columns: []string{"charge", "amount", "currency", "status"}},
	{Title: "Disputes", Kind: "dispute", Columns: []string{"charge", "amount", "currency", "status"}},
	{Title: "Products", Kind: "product", Columns: []string{"name", "active"}},
	{Title: "Prices", Kind: "price", Columns: []string{"product", "unit_amount", "currency", "type", "active"}},
	{Title: "Coupons", Kind: "coupon", Columns: []string{"percent_off", "amount_off", "duration", "times_redeemed"}},
	{Title: "Promotion codes", Kind: "promotion_code", Columns: []string{"code", "active", "times_redeemed"}},
	{Title: "Test clocks", Kind: testClock, Columns: []string{"name", "frozen_time", "status"}},
	{Title: "Webhook endpoints", Kind: "webhook_endpoint", Columns: []string{"url", "status"}},
	{Title: "Events", Kind: "event", Columns: []string{"type", "pending_webhooks", "created"}},
	{Title: "Deliveries that wait", Kind: deliveryOpen, Columns: []string{"type", "attempts", "status"}},
	{Title: "Deliveries that were given up", Kind: deliveryDead, Columns: []string{"type", "attempts", "status"}},
}

// How many objects the overview and a list show.
const (
	shelfRows = 5
	listRows  = 50
)

// showIndex lists what the double holds and offers what can be made to happen, for the developer.
func (s *Server) showIndex(w http.ResponseWriter, r *http.Request) {
	s.indexPage(w, r, http.StatusOK, "")
}

func (s *Server) indexPage(w http.ResponseWriter, r *http.Request, status int, problem string) {
	data := map[string]any{"Problem": problem, "Kinds": FaultKinds()}
	err := s.do(r.Context(), func(tx *work) (err error) {
		filled := slices.Clone(shelves)
		for i := range filled {
			if filled[i].Objects, err = all(tx, query{kind: filled[i].Kind, limit: shelfRows}); err != nil {
				return err
			}
		}
		data["Shelves"], data["Now"] = filled, tx.now.Format("2 Jan 2006 15:04:05 UTC")
		data["Faults"], err = all(tx, query{kind: faultKind, oldestFirst: true})
		return err
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, status, "index.html", data)
}

// showObjects lists one kind, page by page.
func (s *Server) showObjects(w http.ResponseWriter, r *http.Request) {
	i := slices.IndexFunc(shelves, func(l shelf) bool { return l.Kind == r.PathValue("kind") })
	if i < 0 {
		s.render(w, r, http.StatusNotFound, "closed.html", map[string]any{"Status": "not here", "Cancel": ""})
		return
	}
	list, next := shelves[i], int64(0)
	before, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err != nil {
		before = 0 // the first page
	}
	err = s.do(r.Context(), func(tx *work) error {
		docs, err := tx.find(query{kind: list.Kind, before: before, limit: listRows})
		if err != nil {
			return err
		}
		list.Objects = make([]object, len(docs))
		for i, d := range docs {
			if list.Objects[i], err = d.object(); err != nil {
				return err
			}
		}
		if next = 0; len(docs) == listRows {
			next = docs[listRows-1].Seq
		}
		return nil
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "objects.html", map[string]any{"Shelf": list, "Next": next})
}

// showObject shows an object as the API does.
func (s *Server) showObject(w http.ResponseWriter, r *http.Request) {
	var o object
	kind := ""
	err := s.do(r.Context(), func(tx *work) error {
		d, err := tx.get(r.PathValue("id"))
		if err != nil {
			return err
		}
		if d == nil || !slices.ContainsFunc(shelves, func(l shelf) bool { return l.Kind == d.Kind }) {
			return noSuch("object", r.PathValue("id"), "id")
		}
		kind = d.Kind
		o, err = d.object()
		return err
	})
	if err != nil {
		s.missingPage(w, r, err)
		return
	}
	body, err := json.MarshalIndent(public(o), "", "  ")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "object.html", map[string]any{"ID": o["id"], "Kind": kind, "Object": o, "JSON": string(body)})
}

func (s *Server) settleDelayedPage(w http.ResponseWriter, r *http.Request) {
	s.acted(w, r, s.SettleDelayed(r.Context(), r.PathValue("id"), r.FormValue("outcome") == "succeeded"))
}

// postAction does what the overview or the page of an object offers.
func (s *Server) postAction(w http.ResponseWriter, r *http.Request) {
	f, ok := form(w, r)
	if !ok {
		return
	}
	ctx, id := r.Context(), f("id")
	var err error
	switch r.PathValue("action") {
	case "advance":
		err = s.advanceForm(r, f)
	case "refund":
		if f("outcome") == "succeeded" {
			err = s.SettleRefund(ctx, id)
		} else {
			err = s.FailRefund(ctx, id, f("reason"))
		}
	case "dispute":
		err = s.disputeForm(r, f)
	case "authenticate":
		_, err = s.Authenticate(ctx, id, f("outcome") == "complete")
	case "roll":
		_, err = s.RollSecret(ctx, id, time.Hour)
	case "fault":
		err = s.faultForm(r, f)
	case "unfault":
		err = s.RemoveFaults(ctx, id)
	default:
		err = noSuch("action", r.PathValue("action"), "id")
	}
	s.acted(w, r, err)
}

// acted goes back to the overview, which says what went wrong.
func (s *Server) acted(w http.ResponseWriter, r *http.Request, err error) {
	e, isAPI := errors.AsType[*apiError](err)
	var wrong *formError
	switch {
	case err == nil:
		seeOther(w, s.cfg.BaseURL+"/")
	case isAPI:
		s.indexPage(w, r, http.StatusConflict, e.Message)
	case errors.As(err, &wrong):
		s.indexPage(w, r, http.StatusUnprocessableEntity, wrong.message)
	default:
		s.fail(w, r, err)
	}
}

// formError is a field that cannot be read.
type formError struct{ message string }

func (e *formError) Error() string { return e.message }

// advanceForm moves the double's time, or a test clock.
func (s *Server) advanceForm(r *http.Request, f func(string) string) error {
	n, err := strconv.Atoi(f("amount"))
	if err != nil || n < 1 || n > 1000 {
		return &formError{"Enter a number from 1 to 1000."}
	}
	var now time.Time
	clock := f("id")
	err = s.do(r.Context(), func(tx *work) error {
		if now = tx.now; clock == "" {
			return nil
		}
		o, err := load(tx, testClock, clock, "id")
		now = unixTime(number(o["frozen_time"]))
		return err
	})
	if err != nil {
		return err
	}
	switch f("unit") {
	case "hours":
		now = now.Add(time.Duration(n) * time.Hour)
	case "days":
		now = now.AddDate(0, 0, n)
	case "months":
		now = addMonths(now, n)
	default:
		return &formError{"Choose hours, days or months."}
	}
	if clock != "" {
		return s.AdvanceClock(r.Context(), clock, now)
	}
	return s.AdvanceTo(r.Context(), now)
}

func (s *Server) disputeForm(r *http.Request, f func(string) string) error {
	switch f("outcome") {
	case "open", "inquire":
		_, err := s.OpenDispute(r.Context(), f("id"), DisputeParams{Reason: f("reason"), Inquiry: f("outcome") == "inquire"})
		return err
	case "escalate":
		return s.EscalateDispute(r.Context(), f("id"))
	case "won", "lost":
		return s.CloseDispute(r.Context(), f("id"), f("outcome") == "won")
	}
	return &formError{"Choose what becomes of the dispute."}
}

func (s *Server) faultForm(r *http.Request, f func(string) string) error {
	fault := Fault{Kind: FaultKind(f("kind")), Route: f("route")}
	read := func(name string, into *float64) error {
		if f(name) == "" {
			return nil
		}
		n, err := strconv.ParseFloat(f(name), 64)
		if err != nil || n < 0 {
			return &formError{"Enter a number of 0 or more as " + name + "."}
		}
		*into = n
		return nil
	}
	var times, delay, seed float64
	err := errors.Join(read("probability", &fault.Probability), read("times", &times), read("delay", &delay), read("seed", &seed))
	if err != nil {
		return err
	}
	fault.Times, fault.Delay, fault.Seed = int(times), time.Duration(delay)*time.Millisecond, uint64(seed)
	if _, err := s.Inject(r.Context(), fault); err != nil {
		return &formError{err.Error()}
	}
	return nil
}
