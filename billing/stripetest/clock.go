package stripetest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const testClock = "test_helpers.test_clock"

// How much happens in one transaction when time passes.
const dueAtOnce = 100

// AdvanceTo moves the double's time to at and lets everything happen that is due until then, in order, for all customers
// that are not bound to a test clock: sessions expire, trials end, subscriptions renew, invoices are paid and tried again.
// Time goes on from there, also in other processes that share the store. It does not go back. As
// Stripe's, the invoice of a renewal is a draft for an hour before it is paid, so at the end of a period it is not yet.
func (s *Server) AdvanceTo(ctx context.Context, at time.Time) error {
	for begun := false; ; begun = true {
		more := false
		err := s.do(ctx, func(tx *work) error {
			if !begun && at.Before(tx.now) {
				return wrongState("The double's time is %s already and does not go back.", tx.now.Format(time.RFC3339))
			}
			last, err := s.runDue(tx, at, dueAtOnce)
			if err != nil {
				return err
			}
			more = !last.IsZero()
			to := at
			if more {
				to = last
			}
			// A millisecond more, so that the second has come for certain.
			ahead := max(0, to.Sub(s.cfg.Clock()).Milliseconds()+1)
			return tx.put(timeID, "time", object{"id": timeID, "ahead": ahead})
		})
		if err != nil || !more {
			return err
		}
	}
}

// Now is the double's time, which [Server.AdvanceTo] moves.
func (s *Server) Now(ctx context.Context) (now time.Time, err error) {
	err = s.do(ctx, func(tx *work) error {
		now = tx.now
		return nil
	})
	return now, err
}

// AdvanceClock moves a test clock as POST /v1/test_helpers/test_clocks/{id}/advance does.
func (s *Server) AdvanceClock(ctx context.Context, clock string, at time.Time) error {
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, testClock, clock, "clock")
		if err != nil {
			return err
		}
		return s.advance(tx, o, at.Unix())
	})
}

// runDue does what is due on the transaction's clock until a time, each at its own time. It returns the time of the
// last when it stopped at the limit, and zero when nothing more is due.
func (s *Server) runDue(tx *work, until time.Time, limit int) (last time.Time, err error) {
	now := tx.now
	defer func() { tx.now = now }()
	for n := 0; limit == 0 || n < limit; n++ {
		docs, err := tx.due(tx.clock, until.UnixMilli(), 1)
		if err != nil || len(docs) == 0 {
			return time.Time{}, err
		}
		o, err := docs[0].object()
		if err != nil {
			return last, err
		}
		last = time.UnixMilli(docs[0].Due).UTC()
		tx.now = last
		if err := s.tick(tx, docs[0].Kind, o); err != nil {
			return last, err
		}
		if d, err := tx.get(docs[0].ID); err != nil || d != nil && d.Due == docs[0].Due && d.Body == docs[0].Body {
			return last, errors.Join(err, fmt.Errorf("stripetest: %s stays due without a change", docs[0].ID))
		}
	}
	return last, nil
}

// tick looks at an object whose time has come.
func (s *Server) tick(tx *work, kind string, o object) error {
	switch kind {
	case "checkout.session":
		return s.expire(tx, o)
	case "subscription":
		return s.tickSubscription(tx, o)
	case "invoice":
		return s.tickInvoice(tx, o)
	case "refund":
		return s.tickRefund(tx, o)
	}
	tx.wait(o, 0)
	return tx.put(text(o["id"]), kind, o)
}

// createClock is POST /v1/test_helpers/test_clocks (docs.stripe.com/api/test_clocks).
func (s *Server) createClock(c *call) (object, error) {
	frozen, err := c.p.timestamp("frozen_time", 0)
	if err != nil {
		return nil, err
	}
	if frozen == 0 {
		return nil, missing("frozen_time")
	}
	o := object{"id": newID("clock"), "object": testClock, "created": c.tx.unix(), "deletes_after": c.tx.now.AddDate(0, 0, 30).Unix(),
		"frozen_time": frozen, "livemode": false, "name": optional(c.p.str("name")), "status": "ready"}
	return o, s.save(c.tx, o, "test_helpers.test_clock.created")
}

// advanceClock is POST /v1/test_helpers/test_clocks/{id}/advance. Everything has happened when it answers, but as
// Stripe's, the answer says that it is under way.
func (s *Server) advanceClock(c *call) (object, error) {
	o, err := c.load(testClock, c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	to, err := c.p.timestamp("frozen_time", 0)
	if err != nil {
		return nil, err
	}
	if to == 0 {
		return nil, missing("frozen_time")
	}
	if err := s.advance(c.tx, o, to); err != nil {
		return nil, err
	}
	o["status"] = "advancing"
	return o, nil
}

func (s *Server) advance(tx *work, o object, to int64) error {
	if to <= number(o["frozen_time"]) {
		return invalid("frozen_time", "The frozen time must be after the clock's current frozen time.")
	}
	id := text(o["id"])
	o["status"] = "advancing"
	if err := s.save(tx, o, "test_helpers.test_clock.advancing"); err != nil {
		return err
	}
	tx.clock, tx.now = id, time.Unix(number(o["frozen_time"]), 0).UTC()
	if _, err := s.runDue(tx, time.Unix(to, 0), 0); err != nil {
		return err
	}
	tx.now = time.Unix(to, 0).UTC()
	o["frozen_time"], o["status"] = to, "ready"
	return s.save(tx, o, "test_helpers.test_clock.ready")
}

// deleteClock is DELETE /v1/test_helpers/test_clocks/{id}: its customers go with it.
func (s *Server) deleteClock(c *call) (object, error) {
	o, err := c.load(testClock, c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	customers, err := all(c.tx, query{kind: "customer", field: "test_clock", value: text(o["id"])})
	if err != nil {
		return nil, err
	}
	for _, customer := range customers {
		if err := c.tx.follow(customer); err != nil {
			return nil, err
		}
		if _, err := s.removeCustomer(c.tx, customer); err != nil {
			return nil, err
		}
	}
	gone := object{"id": o["id"], "object": testClock, "deleted": true}
	if err := c.tx.put(text(o["id"]), "deleted_test_clock", gone); err != nil {
		return nil, err
	}
	return gone, s.emit(c.tx, "test_helpers.test_clock.deleted", o)
}
