package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Setting is what the database says of a service. It is the same in every process, within [SettingsAge].
type Setting struct {
	Service string `json:"service"`
	// Enabled switches the service on or off. Nil: as it was registered.
	Enabled *bool `json:"enabled,omitempty"`
	// Rates override those of the price that have the same name. Nil: none.
	Rates     Rates     `json:"rates,omitempty"`
	UpdatedAt time.Time `json:"updated_at"`
}

// SettingsAge is how old at most what a process knows of the settings is.
const SettingsAge = 2 * time.Second

type settingRow struct {
	Service   string        `db:"service"`
	Enabled   *bool         `db:"enabled"`
	Rates     *string       `db:"rates"`
	UpdatedAt database.Time `db:"updated_at"`
}

const settingColumns = `service, enabled, rates, updated_at`

func (r settingRow) setting() (Setting, error) {
	set := Setting{Service: r.Service, Enabled: r.Enabled, UpdatedAt: r.UpdatedAt.Time}
	if r.Rates != nil {
		if err := json.Unmarshal([]byte(*r.Rates), &set.Rates); err != nil {
			return Setting{}, fmt.Errorf("services: rates of %s: %w", r.Service, err)
		}
	}
	return set, nil
}

// SetEnabled switches a service on or off in every process, within [SettingsAge]; calls that run go on. Nil: as it was
// registered. The error is [ErrNotFound].
func (s *Services) SetEnabled(ctx context.Context, service string, enabled *bool) error {
	return s.change(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return s.SetEnabledTx(ctx, tx, service, enabled) })
}

// SetEnabledTx is [Services.SetEnabled] inside the caller's transaction.
func (s *Services) SetEnabledTx(ctx context.Context, tx *sqlx.Tx, service string, enabled *bool) error {
	if _, err := s.find(service, ""); err != nil {
		return err
	}
	defer s.settings.forget()
	const upsert = `INSERT INTO qs_service_settings (service, enabled, updated_at) VALUES (?, ?, ?)
		ON CONFLICT (service) DO UPDATE SET enabled = excluded.enabled, updated_at = excluded.updated_at`
	if _, err := s.db.ExecTx(ctx, tx, upsert, service, enabled, database.At(s.now())); err != nil {
		return fmt.Errorf("services: switch %s: %w", service, err)
	}
	return nil
}

// SetRates overrides rates of a service's price by their name, in every process, within [SettingsAge]; calls that have
// begun keep theirs. An empty map removes the override. The errors are [ErrNotFound] and one of code invalid for names
// that the price does not have and amounts below zero.
func (s *Services) SetRates(ctx context.Context, service string, rates Rates) error {
	return s.change(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return s.SetRatesTx(ctx, tx, service, rates) })
}

// SetRatesTx is [Services.SetRates] inside the caller's transaction.
func (s *Services) SetRatesTx(ctx context.Context, tx *sqlx.Tx, service string, rates Rates) error {
	r, err := s.find(service, "")
	if err != nil {
		return err
	}
	wrong := map[string]string{}
	for name, rate := range rates {
		switch _, ok := r.pricing.rates[name]; {
		case !ok:
			wrong["rates."+name] = "The price has no such rate. Choose one of: " + strings.Join(slices.Sorted(maps.Keys(r.pricing.rates)), ", ") + "."
		case rate.Amount < 0 || rate.Per < 0:
			wrong["rates."+name] = "This must be zero or more."
		}
	}
	if len(wrong) > 0 {
		return problem.Invalid(wrong)
	}
	var text *string
	if len(rates) > 0 {
		made, err := json.Marshal(rates)
		if err != nil {
			return fmt.Errorf("services: write the rates of %s: %w", service, err)
		}
		text = new(string(made))
	}
	defer s.settings.forget()
	const upsert = `INSERT INTO qs_service_settings (service, rates, updated_at) VALUES (?, ?, ?)
		ON CONFLICT (service) DO UPDATE SET rates = excluded.rates, updated_at = excluded.updated_at`
	if _, err := s.db.ExecTx(ctx, tx, upsert, service, text, database.At(s.now())); err != nil {
		return fmt.Errorf("services: price %s: %w", service, err)
	}
	return nil
}

// change runs a change of settings and makes this process see it at once.
func (s *Services) change(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	defer s.settings.forget()
	return s.db.InTx(ctx, fn)
}

// Settings are what the database says now, by service, without those of which it says nothing.
func (s *Services) Settings(ctx context.Context) (map[string]Setting, error) {
	return s.settings.read(ctx)
}

// settings keeps what the database says for a moment, so that calls need not ask.
type settings struct {
	db     *database.DB
	logger *slog.Logger

	mu    sync.Mutex
	known map[string]Setting
	at    time.Time // when known was read; zero: it has to be read again
}

// of is the setting of one service.
func (k *settings) of(ctx context.Context, service string) (Setting, error) {
	all, err := k.all(ctx)
	return all[service], err
}

// last is what is known when the database does not answer.
func (k *settings) last(ctx context.Context) map[string]Setting {
	all, err := k.all(ctx)
	if err != nil {
		k.logger.ErrorContext(ctx, "settings of services", slog.Any("error", err))
	}
	return all
}

// all are the settings, read again when they are too old. One caller reads and the others wait for it.
func (k *settings) all(ctx context.Context) (map[string]Setting, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.at.IsZero() && time.Since(k.at) < SettingsAge {
		return k.known, nil
	}
	at := time.Now()
	read, err := k.read(ctx)
	if err != nil {
		return k.known, err
	}
	k.known, k.at = read, at
	return read, nil
}

// forget makes the next look read again.
func (k *settings) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = time.Time{}
}

func (k *settings) read(ctx context.Context) (map[string]Setting, error) {
	var rows []settingRow
	// By the writer: a replica may be behind, and a switch is meant at once.
	query := `SELECT ` + settingColumns + ` FROM qs_service_settings`
	if err := k.db.Writer().SelectContext(ctx, &rows, query); err != nil {
		return nil, fmt.Errorf("services: read the settings: %w", err)
	}
	all := make(map[string]Setting, len(rows))
	for _, row := range rows {
		set, err := row.setting()
		if err != nil {
			return nil, err
		}
		all[set.Service] = set
	}
	return all, nil
}
