package stripetest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"
	"golang.org/x/sync/errgroup"
)

// The kinds of deliveries in the store: those that are due some time, and those that came to an end.
const (
	deliveryOpen = "delivery"
	deliveryDone = "delivery_done"
	deliveryDead = "delivery_dead"
)

// deliveryQueue is where open deliveries wait. Its times are the wall's: retries go on while a test's clock stands still.
const deliveryQueue = "webhooks"

// deliveriesAtOnce bounds what one process claims at a time.
const deliveriesAtOnce = 50

// sendersAtOnce is how many of them it sends at the same time, so that they arrive in no order, as Stripe's do.
const sendersAtOnce = 8

// How deliveries go: much faster than Stripe's hours, since a person or a test is waiting.
const (
	deliveryTimeout  = 10 * time.Second
	deliveryLease    = 20 * time.Second
	firstRetry       = 200 * time.Millisecond
	lastRetry        = time.Minute
	deliveryAttempts = 20
	idlePause        = 500 * time.Millisecond
)

// Start enables the configured endpoint and delivers webhooks until Stop. Several processes that share a store share
// the work: each delivery is made at least once.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return nil
	}
	if s.cfg.WebhookURL != "" {
		id := s.ownEndpoint()
		err := s.do(ctx, func(tx *work) error {
			return tx.put(id, "webhook_endpoint", s.newEndpoint(tx, id, s.cfg.WebhookURL, s.cfg.WebhookSecret, []string{"*"}))
		})
		if err != nil {
			return err
		}
	}
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.done = cancel, make(chan struct{})
	go s.deliver(loop, s.done)
	return nil
}

// Stop ends the deliveries. Those that are not made yet stay in the store.
func (s *Server) Stop() {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.cancel = nil
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

func (s *Server) deliver(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for ctx.Err() == nil {
		made, err := s.deliverDue(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.ErrorContext(ctx, "stripe double could not deliver", slog.Any("error", err))
		}
		if made > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-time.After(idlePause):
		}
	}
}

// parcel is a delivery that this process has claimed.
type parcel struct {
	id, url string
	// secrets sign it, the current one first.
	secrets  []string
	event    []byte
	delivery object
}

// deliverDue claims what is due, sends it, and notes what became of it.
func (s *Server) deliverDue(ctx context.Context) (int, error) {
	var parcels []parcel
	err := s.quietly(ctx, func(tx *work) error {
		parcels = nil
		docs, err := tx.due(deliveryQueue, time.Now().UnixMilli(), deliveriesAtOnce)
		if err != nil {
			return err
		}
		for _, d := range docs {
			p, live, err := s.claim(tx, d)
			if err != nil {
				return err
			}
			if live {
				parcels = append(parcels, p)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var group errgroup.Group
	group.SetLimit(sendersAtOnce)
	for _, p := range parcels {
		group.Go(func() error {
			status := s.send(ctx, p)
			if ctx.Err() != nil {
				return ctx.Err() // the lease ends, and whoever delivers next sends it again
			}
			return s.quietly(ctx, func(tx *work) error { return s.note(tx, p, status) })
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return len(parcels), nil
}

// claim takes a delivery that is due; it is not live when its endpoint is gone.
func (s *Server) claim(tx *work, d *doc) (parcel, bool, error) {
	o, err := d.object()
	if err != nil {
		return parcel{}, false, err
	}
	endpoint, err := tx.get(text(o["endpoint"]))
	if err != nil {
		return parcel{}, false, err
	}
	event, err := tx.get(text(o["event"]))
	if err != nil {
		return parcel{}, false, err
	}
	if endpoint == nil || endpoint.Kind != "webhook_endpoint" || event == nil {
		o["_due"] = 0
		return parcel{}, false, tx.put(d.ID, deliveryDead, o)
	}
	to, err := endpoint.object()
	if err != nil {
		return parcel{}, false, err
	}
	ev, err := event.object()
	if err != nil {
		return parcel{}, false, err
	}
	body, err := json.MarshalIndent(public(ev), "", "  ")
	if err != nil {
		return parcel{}, false, fmt.Errorf("stripetest: encode event %s: %w", event.ID, err)
	}
	lease := time.Now().Add(deliveryLease).UnixMilli()
	o["attempts"], o["next"], o["_due"] = number(o["attempts"])+1, lease, lease
	secrets := []string{text(to["_secret"])}
	if old := text(to["_old_secret"]); old != "" && tx.unix() < number(to["_old_until"]) {
		secrets = append(secrets, old)
	}
	return parcel{id: d.ID, url: text(to["url"]), secrets: secrets, event: body, delivery: o}, true, tx.put(d.ID, deliveryOpen, o)
}

// send posts the event as Stripe does; 0 when there was no answer.
func (s *Server) send(ctx context.Context, p parcel) int {
	at := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(p.event))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	signature := []string{"t=" + itoa(at.Unix())}
	for _, secret := range p.secrets {
		signature = append(signature, "v1="+hex.EncodeToString(webhook.ComputeSignature(at, p.event, secret)))
	}
	r.Header.Set("Stripe-Signature", strings.Join(signature, ","))
	res, err := s.http.Do(r)
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "stripe double: webhook not delivered", slog.String("url", p.url), slog.Any("error", err))
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)) // so that the connection is used again; what it says does not matter
	return res.StatusCode
}

func (s *Server) note(tx *work, p parcel, status int) error {
	p.delivery["status"] = status
	attempts := number(p.delivery["attempts"])
	switch {
	case status >= 200 && status < 300:
		p.delivery["_due"] = 0
		if p.delivery["extra"] == true {
			return tx.put(p.id, deliveryDone, p.delivery)
		}
		event, err := load(tx, "event", text(p.delivery["event"]), "event")
		if err != nil {
			return err
		}
		left := max(0, number(event["pending_webhooks"])-1)
		event["pending_webhooks"], event["_undelivered"] = left, left > 0
		if err := tx.put(text(event["id"]), "event", event); err != nil {
			return err
		}
		return tx.put(p.id, deliveryDone, p.delivery)
	case attempts >= deliveryAttempts:
		p.delivery["_due"] = 0
		return tx.put(p.id, deliveryDead, p.delivery)
	}
	next := time.Now().Add(min(lastRetry, firstRetry<<min(attempts-1, 10))).UnixMilli()
	p.delivery["next"], p.delivery["_due"] = next, next
	return tx.put(p.id, deliveryOpen, p.delivery)
}
