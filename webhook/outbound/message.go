package outbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// The types of events that this library's packages have. A host may add its own by [Config.Types].
const (
	TypeCreditsLow            = "credits.low"
	TypeCreditsExpiring       = "credits.expiring"
	TypePurchaseCompleted     = "purchase.completed"
	TypePaymentRefunded       = "payment.refunded"
	TypeSubscriptionCreated   = "subscription.created"
	TypeSubscriptionRenewed   = "subscription.renewed"
	TypeSubscriptionChanged   = "subscription.changed"
	TypeSubscriptionCanceled  = "subscription.canceled"
	TypeSubscriptionResumed   = "subscription.resumed"
	TypeSubscriptionPaused    = "subscription.paused"
	TypeSubscriptionPastDue   = "subscription.past_due"
	TypeSubscriptionRecovered = "subscription.recovered"
	TypeSubscriptionEnded     = "subscription.ended"
	// TypeTest is what [Outbound.SendTest] sends. Endpoints cannot ask for it.
	TypeTest = "webhook.test"
)

// DefaultTypes are all types of the library's packages.
func DefaultTypes() []string {
	return []string{TypeCreditsLow, TypeCreditsExpiring, TypePurchaseCompleted, TypePaymentRefunded, TypeSubscriptionCreated, TypeSubscriptionRenewed,
		TypeSubscriptionChanged, TypeSubscriptionCanceled, TypeSubscriptionResumed, TypeSubscriptionPaused, TypeSubscriptionPastDue,
		TypeSubscriptionRecovered, TypeSubscriptionEnded}
}

// CreditsLow is the data of [TypeCreditsLow]. Amounts of credits are decimal texts.
type CreditsLow struct {
	Account   string `json:"account"`
	Available string `json:"available"`
	Threshold string `json:"threshold"`
}

// CreditsExpiring is the data of [TypeCreditsExpiring]. Amount is of credits, and First is when the first of them expire.
type CreditsExpiring struct {
	Account string    `json:"account"`
	Amount  string    `json:"amount"`
	First   time.Time `json:"first"`
}

// PaymentRefunded is the data of [TypePaymentRefunded]. Amount is in the currency's minor unit.
type PaymentRefunded struct {
	Account  string `json:"account"`
	Payment  string `json:"payment"`
	Refund   string `json:"refund"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// PurchaseCompleted is the data of [TypePurchaseCompleted]. Type is what was paid for, such as credit_purchase. Amount is in the currency's minor unit.
type PurchaseCompleted struct {
	Account  string `json:"account"`
	Payment  string `json:"payment"`
	Type     string `json:"type"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	Credits  string `json:"credits"`
}

// SubscriptionChanged is the data of all types that begin with "subscription.": the subscription as it is then. Status
// is Stripe's word. NextPrice is the plan that begins with the next period, when it is another.
type SubscriptionChanged struct {
	Account           string     `json:"account"`
	Subscription      string     `json:"subscription"`
	Status            string     `json:"status"`
	Price             string     `json:"price"`
	NextPrice         string     `json:"next_price,omitempty"`
	Quantity          int64      `json:"quantity"`
	PeriodEnd         *time.Time `json:"period_end,omitempty"`
	CancelAtPeriodEnd bool       `json:"cancel_at_period_end"`
}

// Message is what is sent.
type Message struct {
	// Account is whose endpoints get it. Required.
	Account string
	// Type is one of [Config.Types]. Required.
	Type string
	// Data is encoded as JSON. Required.
	Data any
	// Key is what the message is about, such as "payment/0198…": a second message with it is not sent. Required.
	Key string
	// At is when it happened. Zero: now.
	At time.Time
}

// envelope is the body, as Standard Webhooks advises ("Payload structure").
type envelope struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

const (
	maxKeyBytes = 255
	maxPayload  = 256 << 10
)

// Send is [Outbound.SendTx] in a transaction of its own.
func (o *Outbound) Send(ctx context.Context, m Message) (id uuid.UUID, err error) {
	err = o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		id, err = o.SendTx(ctx, tx, m)
		return err
	})
	return id, err
}

// SendTx writes a message and a delivery for each enabled endpoint of the account that wants its type, in tx: it goes out
// when tx commits. A message whose key was sent before is not sent again, and the id is that of the first. The error is
// one of a programmer's: a type that is not in [Config.Types], a missing field, data that cannot be encoded or is
// larger than 256 KiB.
func (o *Outbound) SendTx(ctx context.Context, tx *sqlx.Tx, m Message) (uuid.UUID, error) {
	switch {
	case m.Account == "" || m.Key == "" || len(m.Key) > maxKeyBytes || m.Data == nil:
		return uuid.Nil, errors.New("outbound: a message needs Account, Data and a Key of up to 255 bytes")
	case !slices.Contains(o.cfg.Types, m.Type):
		return uuid.Nil, fmt.Errorf("outbound: the type %q is not in Config.Types", m.Type)
	}
	id, fresh, err := o.write(ctx, tx, m)
	if err != nil || !fresh {
		return id, err
	}
	var endpoints []endpointRow
	const query = `SELECT ` + endpointColumns + ` FROM qs_outbound_endpoints WHERE account = ? AND enabled = 1 ORDER BY id`
	if err := o.db.SelectTx(ctx, tx, &endpoints, query, m.Account); err != nil {
		return uuid.Nil, fmt.Errorf("outbound: endpoints for message %s: %w", id, err)
	}
	for _, row := range endpoints {
		e, err := row.endpoint()
		if err != nil {
			return uuid.Nil, err
		}
		if len(e.Types) > 0 && !slices.Contains(e.Types, m.Type) {
			continue
		}
		if _, err := o.schedule(ctx, tx, id, e); err != nil {
			return uuid.Nil, err
		}
	}
	return id, nil
}

// write stores a message; fresh is false when its key was there before.
func (o *Outbound) write(ctx context.Context, tx *sqlx.Tx, m Message) (id uuid.UUID, fresh bool, err error) {
	now := o.now()
	if m.At.IsZero() {
		m.At = now
	}
	body, err := json.Marshal(envelope{m.Type, database.Canonical(m.At), m.Data})
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("outbound: encode the data of a message of type %s: %w", m.Type, err)
	}
	if len(body) > maxPayload {
		return uuid.Nil, false, fmt.Errorf("outbound: the data of a message of type %s is larger than %d bytes", m.Type, maxPayload)
	}
	if id, err = uuid.NewV7(); err != nil {
		return uuid.Nil, false, fmt.Errorf("outbound: make an id: %w", err)
	}
	const insert = `INSERT INTO qs_outbound_messages (id, account, type, key, payload, created_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account, key) DO NOTHING`
	n, err := o.db.ExecTx(ctx, tx, insert, id, m.Account, m.Type, m.Key, string(body), database.At(now))
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("outbound: store a message: %w", err)
	}
	if n == 1 {
		return id, true, nil
	}
	if err := o.db.GetTx(ctx, tx, &id, `SELECT id FROM qs_outbound_messages WHERE account = ? AND key = ?`, m.Account, m.Key); err != nil {
		return uuid.Nil, false, fmt.Errorf("outbound: find the message of key %s: %w", m.Key, err)
	}
	return id, false, nil
}

// schedule makes a delivery with its job.
func (o *Outbound) schedule(ctx context.Context, tx *sqlx.Tx, message uuid.UUID, e Endpoint) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("outbound: make an id: %w", err)
	}
	now := database.At(o.now())
	const insert = `INSERT INTO qs_outbound_deliveries (id, account, message_id, endpoint_id, status, created_at, next_at) VALUES (?, ?, ?, ?, 'waiting', ?, ?)`
	if _, err := o.db.ExecTx(ctx, tx, insert, id, e.Account, message, e.ID, now, now); err != nil {
		return uuid.Nil, fmt.Errorf("outbound: store a delivery: %w", err)
	}
	return id, o.enqueue(ctx, tx, id)
}

func (o *Outbound) enqueue(ctx context.Context, tx *sqlx.Tx, delivery uuid.UUID) error {
	if _, err := o.cfg.Jobs.InsertTx(ctx, tx.Tx, jobArgs{Delivery: delivery}, nil); err != nil {
		return fmt.Errorf("outbound: insert the job of delivery %s: %w", delivery, err)
	}
	return nil
}

// SendTest sends a message of type [TypeTest] to one enabled endpoint, whatever types it wants, and returns the delivery's
// id. Errors: [ErrNotFound], [ErrDisabled].
func (o *Outbound) SendTest(ctx context.Context, account string, endpoint uuid.UUID) (delivery uuid.UUID, err error) {
	err = o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		e, err := o.lockEndpoint(ctx, tx, account, endpoint)
		if err != nil {
			return err
		}
		if !e.Enabled {
			return ErrDisabled
		}
		key, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("outbound: make an id: %w", err)
		}
		id, _, err := o.write(ctx, tx, Message{Account: account, Type: TypeTest, Key: "test/" + key.String(), Data: map[string]string{"endpoint": endpoint.String()}})
		if err != nil {
			return err
		}
		delivery, err = o.schedule(ctx, tx, id, e)
		return err
	})
	return delivery, err
}

// DefaultKeep is how long [Outbound.Prune] keeps messages.
const DefaultKeep = 90 * 24 * time.Hour

const pruneBatch = 500

// Prune removes messages older than keep (0: 90 days) with their deliveries and log, in small transactions, and returns
// how many. Those that still wait for a delivery stay. Call it once a day; it can be interrupted.
func (o *Outbound) Prune(ctx context.Context, keep time.Duration) (total int, err error) {
	if keep == 0 {
		keep = DefaultKeep
	}
	if keep < 0 {
		return 0, problem.Invalid(map[string]string{"keep": "Messages are kept for no negative time."})
	}
	// Runs along qs_outbound_messages_age.
	const remove = `DELETE FROM qs_outbound_messages WHERE id IN (SELECT m.id FROM qs_outbound_messages m WHERE m.created_at < ?
		AND NOT EXISTS (SELECT 1 FROM qs_outbound_deliveries d WHERE d.message_id = m.id AND d.status = 'waiting') ORDER BY m.created_at LIMIT ?)`
	for {
		var n int64
		err := o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = o.db.ExecTx(ctx, tx, remove, database.At(o.now().Add(-keep)), pruneBatch)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("outbound: prune: %w", err)
		}
		if total += int(n); n < pruneBatch {
			return total, nil
		}
	}
}

// messageID is a message's id as receivers see it.
func messageID(id uuid.UUID) string { return "msg_" + strings.ReplaceAll(id.String(), "-", "") }
