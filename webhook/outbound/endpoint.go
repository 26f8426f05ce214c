package outbound

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// MaxEndpoints is how many endpoints an account can have.
const MaxEndpoints = 20

// Endpoint is an address that an account's messages go to. Its secret is shown by [Outbound.CreateEndpoint] and
// [Outbound.RollSecret] only.
type Endpoint struct {
	ID          uuid.UUID `json:"id"`
	Account     string    `json:"account"`
	URL         string    `json:"url"`
	Description string    `json:"description,omitempty"`
	// Types are the types of events that it gets; empty: all.
	Types   []string `json:"types"`
	Enabled bool     `json:"enabled"`
	// DisabledWhy says why it is not enabled.
	DisabledWhy string `json:"disabled_why,omitempty"`
	// FailingSince is the first failure since the last success, nil when the last try was one.
	FailingSince *time.Time `json:"failing_since,omitempty"`
	// OldSecretUntil is how long messages are signed with the secret before the current one too; nil when they are not.
	OldSecretUntil *time.Time `json:"old_secret_until,omitempty"`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

type endpointRow struct {
	ID           uuid.UUID      `db:"id"`
	Account      string         `db:"account"`
	URL          string         `db:"url"`
	Description  string         `db:"description"`
	Types        string         `db:"types"`
	Secret       []byte         `db:"secret"`
	OldSecret    []byte         `db:"old_secret"`
	OldUntil     *database.Time `db:"old_until"`
	Enabled      int            `db:"enabled"`
	DisabledWhy  string         `db:"disabled_why"`
	FailingSince *database.Time `db:"failing_since"`
	CreatedAt    database.Time  `db:"created_at"`
	UpdatedAt    database.Time  `db:"updated_at"`
}

const endpointColumns = `id, account, url, description, types, secret, old_secret, old_until, enabled, disabled_why, failing_since, created_at, updated_at`

func (r endpointRow) endpoint() (Endpoint, error) {
	e := Endpoint{ID: r.ID, Account: r.Account, URL: r.URL, Description: r.Description, Enabled: r.Enabled == 1, DisabledWhy: r.DisabledWhy,
		FailingSince: r.FailingSince.Std(), OldSecretUntil: r.OldUntil.Std(), CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time}
	if err := json.Unmarshal([]byte(r.Types), &e.Types); err != nil {
		return e, fmt.Errorf("outbound: types of endpoint %s: %w", r.ID, err)
	}
	return e, nil
}

// EndpointParams describe an endpoint.
type EndpointParams struct {
	// Account is whose it is. Required.
	Account string
	// URL is where it is: https, on the public internet. Required.
	URL string
	// Types are the types of events that it gets, of [Config.Types]; empty: all.
	Types []string
	// Description is for the owner, up to 200 characters.
	Description string
}

const maxDescription = 200

func (o *Outbound) validate(p *EndpointParams) error {
	fields := map[string]string{}
	p.URL, p.Description = strings.TrimSpace(p.URL), strings.TrimSpace(p.Description)
	if wrong := (guard{loopback: o.cfg.AllowLoopback}).checkURL(p.URL); wrong != "" {
		fields["url"] = wrong
	}
	p.Types = slices.Compact(slices.Sorted(slices.Values(p.Types)))
	for _, t := range p.Types {
		if !slices.Contains(o.cfg.Types, t) {
			fields["types"] = "Choose of these: " + strings.Join(o.cfg.Types, ", ") + "."
		}
	}
	if utf8.RuneCountInString(p.Description) > maxDescription || !utf8.ValidString(p.Description) || strings.ContainsRune(p.Description, 0) {
		fields["description"] = "Up to 200 characters."
	}
	if len(fields) > 0 {
		return problem.Invalid(fields)
	}
	return nil
}

// secretPrefix marks a secret, as Standard Webhooks has it.
const secretPrefix = "whsec_"

const secretBytes = 32

func newSecret() string {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand documentation)
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// CreateEndpoint adds an enabled endpoint and returns its secret, which is not shown again. Errors: a [problem.Error] for
// fields, [ErrTooMany].
func (o *Outbound) CreateEndpoint(ctx context.Context, p EndpointParams) (Endpoint, string, error) {
	if p.Account == "" {
		return Endpoint{}, "", errors.New("outbound: an endpoint needs an account")
	}
	if err := o.validate(&p); err != nil {
		return Endpoint{}, "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("outbound: make an id: %w", err)
	}
	types, err := encodeTypes(p.Types)
	if err != nil {
		return Endpoint{}, "", err
	}
	secret, now := newSecret(), database.At(o.now())
	var e Endpoint
	err = o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		const insert = `INSERT INTO qs_outbound_endpoints (id, account, url, description, types, secret, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
		if _, err := o.db.ExecTx(ctx, tx, insert, id, p.Account, p.URL, p.Description, types, o.box.Seal([]byte(secret)), now, now); err != nil {
			return err
		}
		// Those that come in the same moment do not see each other; the limit is there against floods and not to the one.
		var n int
		if err := o.db.GetTx(ctx, tx, &n, `SELECT COUNT(*) FROM qs_outbound_endpoints WHERE account = ?`, p.Account); err != nil {
			return err
		}
		if n > MaxEndpoints {
			return ErrTooMany
		}
		e, err = o.lockEndpoint(ctx, tx, p.Account, id)
		return err
	})
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("outbound: create an endpoint: %w", err)
	}
	return e, secret, nil
}

func encodeTypes(types []string) (string, error) {
	if types == nil {
		types = []string{}
	}
	text, err := json.Marshal(types)
	if err != nil {
		return "", fmt.Errorf("outbound: encode types: %w", err)
	}
	return string(text), nil
}

// lockEndpoint finds an account's endpoint and locks it; [ErrNotFound].
func (o *Outbound) lockEndpoint(ctx context.Context, tx *sqlx.Tx, account string, id uuid.UUID) (Endpoint, error) {
	var row endpointRow
	query := `SELECT ` + endpointColumns + ` FROM qs_outbound_endpoints WHERE id = ? AND account = ?` + o.db.Dialect().ForUpdate()
	err := o.db.GetTx(ctx, tx, &row, query, id, account)
	if database.IsNoRows(err) {
		return Endpoint{}, ErrNotFound
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("outbound: lock endpoint %s: %w", id, err)
	}
	return row.endpoint()
}

// change runs a statement on an account's endpoint and returns what it is then.
func (o *Outbound) change(ctx context.Context, account string, id uuid.UUID, set string, args ...any) (e Endpoint, err error) {
	err = o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := o.lockEndpoint(ctx, tx, account, id); err != nil {
			return err
		}
		all := append(slices.Clone(args), database.At(o.now()), id, account)
		if _, err := o.db.ExecTx(ctx, tx, `UPDATE qs_outbound_endpoints SET `+set+`, updated_at = ? WHERE id = ? AND account = ?`, all...); err != nil {
			return fmt.Errorf("outbound: change endpoint %s: %w", id, err)
		}
		e, err = o.lockEndpoint(ctx, tx, account, id)
		return err
	})
	return e, err
}

// UpdateEndpoint changes the address, types and description of the endpoint id of p.Account. Errors: a [problem.Error] for
// fields, [ErrNotFound].
func (o *Outbound) UpdateEndpoint(ctx context.Context, id uuid.UUID, p EndpointParams) (Endpoint, error) {
	if err := o.validate(&p); err != nil {
		return Endpoint{}, err
	}
	types, err := encodeTypes(p.Types)
	if err != nil {
		return Endpoint{}, err
	}
	return o.change(ctx, p.Account, id, `url = ?, types = ?, description = ?`, p.URL, types, p.Description)
}

// EnableEndpoint lets messages go to the endpoint again; those of the time in between are not made up for, but can be
// sent by [Outbound.Redeliver] where they were written. Error: [ErrNotFound].
func (o *Outbound) EnableEndpoint(ctx context.Context, account string, id uuid.UUID) (Endpoint, error) {
	return o.change(ctx, account, id, `enabled = 1, disabled_why = '', failing_since = NULL`)
}

// DisableEndpoint stops messages to the endpoint. Error: [ErrNotFound].
func (o *Outbound) DisableEndpoint(ctx context.Context, account string, id uuid.UUID) (Endpoint, error) {
	return o.change(ctx, account, id, `enabled = 0, disabled_why = 'disabled by its owner'`)
}

// Limits of how long an old secret is used on.
const (
	DefaultRollOverlap = 24 * time.Hour
	MaxRollOverlap     = 7 * 24 * time.Hour
)

// RollSecret gives the endpoint a new secret and returns it; it is not shown again. For overlap (0: 24 hours, at most
// seven days; negative: not at all) messages are signed with the old one too, so that the receiver can change over.
// Error: [ErrNotFound].
func (o *Outbound) RollSecret(ctx context.Context, account string, id uuid.UUID, overlap time.Duration) (Endpoint, string, error) {
	if overlap == 0 {
		overlap = DefaultRollOverlap
	}
	secret := newSecret()
	set, args := `old_secret = secret, old_until = ?, secret = ?`, []any{database.At(o.now().Add(min(overlap, MaxRollOverlap))), o.box.Seal([]byte(secret))}
	if overlap < 0 {
		set, args = `old_secret = NULL, old_until = NULL, secret = ?`, args[1:]
	}
	e, err := o.change(ctx, account, id, set, args...)
	if err != nil {
		return Endpoint{}, "", err
	}
	return e, secret, nil
}

// DeleteEndpoint removes the endpoint and its deliveries. Error: [ErrNotFound].
func (o *Outbound) DeleteEndpoint(ctx context.Context, account string, id uuid.UUID) error {
	return o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := o.db.ExecTx(ctx, tx, `DELETE FROM qs_outbound_endpoints WHERE id = ? AND account = ?`, id, account)
		if err != nil {
			return fmt.Errorf("outbound: delete endpoint %s: %w", id, err)
		}
		if n == 0 {
			return ErrNotFound
		}
		return nil
	})
}

// FindEndpoint returns an account's endpoint. Error: [ErrNotFound].
func (o *Outbound) FindEndpoint(ctx context.Context, account string, id uuid.UUID) (Endpoint, error) {
	var row endpointRow
	err := o.db.Get(ctx, &row, `SELECT `+endpointColumns+` FROM qs_outbound_endpoints WHERE id = ? AND account = ?`, id, account)
	if database.IsNoRows(err) {
		return Endpoint{}, ErrNotFound
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("outbound: find endpoint %s: %w", id, err)
	}
	return row.endpoint()
}

// ListEndpoints returns all endpoints of an account, at most [MaxEndpoints], the oldest first.
func (o *Outbound) ListEndpoints(ctx context.Context, account string) ([]Endpoint, error) {
	var rows []endpointRow
	if err := o.db.Select(ctx, &rows, `SELECT `+endpointColumns+` FROM qs_outbound_endpoints WHERE account = ? ORDER BY id`, account); err != nil {
		return nil, fmt.Errorf("outbound: list endpoints: %w", err)
	}
	list := make([]Endpoint, len(rows))
	for i, r := range rows {
		var err error
		if list[i], err = r.endpoint(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
