package webhook

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// envelope is what is read of an event whatever its API version.
type envelope struct {
	ID         string `json:"id"`
	Object     string `json:"object"`
	Type       string `json:"type"`
	APIVersion string `json:"api_version"`
	Account    string `json:"account"`
	Created    int64  `json:"created"`
	Livemode   bool   `json:"livemode"`
	Data       struct {
		Object struct {
			ID string `json:"id"`
		} `json:"object"`
	} `json:"data"`
}

// Bounds of an envelope: Stripe's ids have up to 255 characters (docs.stripe.com/upgrades, "What changes does Stripe
// consider to be backwards-compatible?"), and times that a database takes end with the year 9999.
const (
	maxIDBytes = 255
	maxCreated = 253402300799
)

var errNoEvent = errors.New("webhook: the body is not an event")

// parse reads an event's envelope. Whatever it takes, the database takes too.
func parse(body []byte) (e envelope, err error) {
	if !utf8.Valid(body) {
		return e, errNoEvent
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, errors.Join(errNoEvent, err)
	}
	if e.ID == "" || e.Type == "" || e.Object != "event" || e.Created <= 0 || e.Created > maxCreated {
		return e, errNoEvent
	}
	for _, s := range []string{e.ID, e.Type, e.APIVersion, e.Account, e.Data.Object.ID} {
		if len(s) > maxIDBytes || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return e, errNoEvent
		}
	}
	return e, nil
}

// object is the id of what the event is about. An object without one, such as a balance, shares nothing with other
// events.
func (e envelope) object() string {
	if e.Data.Object.ID == "" {
		return e.ID
	}
	return e.Data.Object.ID
}

func (e envelope) at() time.Time { return time.Unix(e.Created, 0).UTC() }
