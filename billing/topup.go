package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// AutoTopUp is what an account has asked for: a pack is bought with the default card whenever fewer credits than the
// threshold are available. It is off until somebody turns it on.
type AutoTopUp struct {
	Account string `json:"-"`
	// On says that packs are bought; PausedAt and PauseReason, why they are not although the account asks for it.
	On          bool       `json:"on"`
	PausedAt    *time.Time `json:"paused_at,omitempty"`
	PauseReason string     `json:"pause_reason,omitempty"`
	// Threshold is in credits; Pack is what is bought, with only its price's id where it is not for sale any more.
	Threshold credits.Amount `json:"threshold,omitzero"`
	Pack      Offer          `json:"pack,omitzero"`
	// MonthlyCap is the most in a calendar month (UTC), and Spent what this month's purchases come to, those that are on
	// their way included.
	MonthlyCap Money `json:"monthly_cap,omitzero"`
	Spent      Money `json:"spent_this_month,omitzero"`
	// Failures are the purchases that were refused one after the other.
	Failures int64 `json:"failures"`
	// Consent is the text that was agreed to at ConsentedAt.
	Consent     string     `json:"consent,omitempty"`
	ConsentedAt *time.Time `json:"consented_at,omitempty"`
}

// AutoTopUpParams turn auto top-up on, or change it.
type AutoTopUpParams struct {
	// Customer is who asks. Required.
	Customer Customer
	// Threshold is the available balance below which a pack is bought: above zero, and at most what the pack gives, so that
	// one purchase is enough.
	Threshold credits.Amount
	// Price is the id of a pack that is for sale.
	Price string
	// MonthlyCap is in minor units of the price's currency, at least the price.
	MonthlyCap int64
	// Consent says that the person has agreed to [TopUpConsent].
	Consent bool
}

// TopUpConsent is what a person agrees to. It is kept with the figures and the time.
const TopUpConsent = "I agree that my default card is charged the price of the pack, without asking me each time, whenever my credits fall below the threshold, " +
	"and at most the cap in a calendar month. I can turn this off at any time."

// MaxTopUpFailures is how many purchases may be refused one after the other before auto top-up pauses itself.
const MaxTopUpFailures = 3

// Errors of auto top-up. [ErrTopUpSettings] comes with what is wrong, by field.
var (
	ErrTopUpOff      error = problem.New("topup_off", "Auto top-up is off.")
	ErrTopUpSettings       = errors.New("billing: the settings of an auto top-up are not valid")
	ErrNoDefaultCard error = problem.New("no_default_card", "Save a card and make it the default first: top-ups are paid with it.")
)

type autoTopUpRow struct {
	Account     string         `db:"account_id"`
	Enabled     bool           `db:"enabled"`
	Threshold   credits.Amount `db:"threshold"`
	PriceID     string         `db:"price_id"`
	MonthlyCap  int64          `db:"monthly_cap"`
	Currency    string         `db:"currency"`
	Consent     string         `db:"consent"`
	ConsentedAt database.Time  `db:"consented_at"`
	Failures    int64          `db:"failures"`
	NotBefore   database.Time  `db:"not_before"`
	PausedAt    *database.Time `db:"paused_at"`
	PauseReason string         `db:"pause_reason"`
	CappedIn    string         `db:"capped_in"`
	CreatedAt   database.Time  `db:"created_at"`
	UpdatedAt   database.Time  `db:"updated_at"`
}

const autoTopUpColumns = `account_id, enabled, threshold, price_id, monthly_cap, currency, consent, consented_at, failures, not_before, paused_at, pause_reason,
	capped_in, created_at, updated_at`

const selectAutoTopUp = `SELECT ` + autoTopUpColumns + ` FROM qs_billing_auto_topups WHERE account_id = ?`

// runs says that packs are bought.
func (r autoTopUpRow) runs() bool { return r.Enabled && r.PausedAt == nil }

// FindAutoTopUp returns what an account has asked for; one that never asked has auto top-up off.
func (b *Billing) FindAutoTopUp(ctx context.Context, account string) (AutoTopUp, error) {
	var row autoTopUpRow
	err := b.db.Get(ctx, &row, selectAutoTopUp, account)
	if database.IsNoRows(err) {
		return AutoTopUp{Account: account}, nil
	}
	if err != nil {
		return AutoTopUp{}, fmt.Errorf("billing: auto top-up of account %s: %w", account, err)
	}
	a := AutoTopUp{Account: account, On: row.runs(), PausedAt: row.PausedAt.Std(), PauseReason: row.PauseReason, Threshold: row.Threshold,
		Pack: Offer{PriceID: row.PriceID}, MonthlyCap: Money{row.MonthlyCap, row.Currency}, Failures: row.Failures, Consent: row.Consent,
		ConsentedAt: row.ConsentedAt.Std()}
	if pack, err := b.offer(ctx, row.PriceID); err == nil {
		a.Pack = pack
	} else if !errors.Is(err, ErrNotForSale) {
		return AutoTopUp{}, err
	}
	a.Spent.Currency = row.Currency
	if err := b.db.Get(ctx, &a.Spent.Amount, monthSpent, account, monthOf(b.now())); err != nil {
		return AutoTopUp{}, fmt.Errorf("billing: this month's top-ups of account %s: %w", account, err)
	}
	return a, nil
}

// SetAutoTopUp turns auto top-up on or changes it, which also ends a pause. A balance that is below the threshold already
// is topped up soon. The errors are [ErrUnverified], [ErrFrozen], [ErrTopUpSettings], [ErrNoDefaultCard] and [ErrStripe].
func (b *Billing) SetAutoTopUp(ctx context.Context, p AutoTopUpParams) (AutoTopUp, error) {
	account := p.Customer.Account
	if !p.Customer.Verified {
		return AutoTopUp{}, ErrUnverified
	}
	frozen, err := b.frozen(ctx, account)
	if err != nil {
		return AutoTopUp{}, err
	}
	if frozen {
		return AutoTopUp{}, ErrFrozen
	}
	pack, err := b.topUpPack(ctx, p)
	if err != nil {
		return AutoTopUp{}, err
	}
	customer, err := b.customerOf(ctx, account)
	if err != nil {
		return AutoTopUp{}, err
	}
	card := ""
	if customer != "" {
		if card, err = b.defaultMethod(ctx, account, customer); err != nil {
			return AutoTopUp{}, err
		}
	}
	if card == "" {
		return AutoTopUp{}, ErrNoDefaultCard
	}
	now := database.At(b.now())
	monthly := Money{p.MonthlyCap, pack.Price.Currency}
	consent := fmt.Sprintf("%s (pack: %s, %s credits for %s; threshold: %s credits; cap: %s a month)", TopUpConsent, pack.Name, pack.Credits, pack.Price, p.Threshold, monthly)
	const upsert = `INSERT INTO qs_billing_auto_topups (` + autoTopUpColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, NULL, '', '', ?, ?)
		ON CONFLICT (account_id) DO UPDATE SET enabled = excluded.enabled, threshold = excluded.threshold, price_id = excluded.price_id,
			monthly_cap = excluded.monthly_cap, currency = excluded.currency, consent = excluded.consent, consented_at = excluded.consented_at,
			failures = 0, not_before = excluded.not_before, paused_at = NULL, pause_reason = '', capped_in = '', updated_at = excluded.updated_at`
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.lockAccount(ctx, tx, account); err != nil {
			return err
		}
		_, err := b.db.ExecTx(ctx, tx, upsert, account, true, p.Threshold, pack.PriceID, p.MonthlyCap, pack.Price.Currency, consent, now, now, now, now)
		if err != nil {
			return err
		}
		return b.watch(ctx, tx, account, &p.Threshold)
	})
	if err != nil {
		return AutoTopUp{}, fmt.Errorf("billing: set the auto top-up of account %s: %w", account, err)
	}
	b.cfg.Logger.InfoContext(ctx, "auto top-up set", slog.String("account", account), slog.String("price", pack.PriceID), slog.String("threshold", p.Threshold.String()))
	return b.FindAutoTopUp(ctx, account)
}

// topUpPack checks the settings and finds the pack.
func (b *Billing) topUpPack(ctx context.Context, p AutoTopUpParams) (Offer, error) {
	wrong := map[string]string{}
	pack, err := b.offer(ctx, p.Price)
	switch {
	case errors.Is(err, ErrNotForSale) || err == nil && (pack.isPlan() || pack.Price.Amount == 0):
		wrong["price"] = "Choose one of the packs that are for sale."
	case err != nil:
		return Offer{}, err
	default:
		if p.Threshold > pack.Credits {
			wrong["threshold"] = "This must be at most " + pack.Credits.String() + ", which the pack gives, so that one purchase is enough."
		}
		if p.MonthlyCap < pack.Price.Amount {
			wrong["monthly_cap"] = "This must be at least " + pack.Price.String() + ", the price of the pack."
		}
	}
	if p.Threshold <= 0 {
		wrong["threshold"] = "This must be above zero."
	}
	if p.MonthlyCap <= 0 {
		wrong["monthly_cap"] = "This must be above zero."
	}
	if !p.Consent {
		wrong["consent"] = "Agree to the charges to turn this on."
	}
	if len(wrong) > 0 {
		return Offer{}, errors.Join(problem.Invalid(wrong), ErrTopUpSettings)
	}
	return pack, nil
}

// StopAutoTopUp turns auto top-up off: nothing more is bought, except what Stripe has been asked for already. Stopping
// what is off does nothing.
func (b *Billing) StopAutoTopUp(ctx context.Context, account string) error {
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		row, found, err := b.autoTopUpTx(ctx, tx, account)
		if err != nil || !found || !row.Enabled {
			return err
		}
		const stop = `UPDATE qs_billing_auto_topups SET enabled = ?, paused_at = NULL, pause_reason = '', updated_at = ? WHERE account_id = ?`
		if _, err := b.db.ExecTx(ctx, tx, stop, false, database.At(b.now()), account); err != nil {
			return err
		}
		return b.watch(ctx, tx, account, nil)
	})
	if err != nil {
		return fmt.Errorf("billing: stop the auto top-up of account %s: %w", account, err)
	}
	return nil
}

// autoTopUpTx reads an account's settings and locks the account, where there are any.
func (b *Billing) autoTopUpTx(ctx context.Context, tx *sqlx.Tx, account string) (row autoTopUpRow, found bool, err error) {
	get := func() error { return b.db.GetTx(ctx, tx, &row, selectAutoTopUp, account) }
	if err = get(); err == nil {
		if err = b.lockAccount(ctx, tx, account); err == nil {
			row = autoTopUpRow{}
			err = get() // as it is under the lock
		}
	}
	if database.IsNoRows(err) {
		return autoTopUpRow{}, false, nil
	}
	if err != nil {
		return row, false, fmt.Errorf("billing: auto top-up of account %s: %w", account, err)
	}
	return row, true, nil
}

// Why auto top-up pauses, beside refusals; see [Notice].
const (
	PauseNotForSale = "not_for_sale"
	PauseNoCard     = "no_card"
	PauseCurrency   = "currency_changed"
)

// pauseTopUp stops buying until the person has looked, and tells them. The account is locked.
func (b *Billing) pauseTopUp(ctx context.Context, tx *sqlx.Tx, row autoTopUpRow, code, reason string) error {
	now := b.now()
	const pause = `UPDATE qs_billing_auto_topups SET paused_at = ?, pause_reason = ?, updated_at = ? WHERE account_id = ?`
	if _, err := b.db.ExecTx(ctx, tx, pause, database.At(now), reason, database.At(now), row.Account); err != nil {
		return fmt.Errorf("billing: pause the auto top-up of account %s: %w", row.Account, err)
	}
	if err := b.watch(ctx, tx, row.Account, nil); err != nil {
		return err
	}
	offer, err := b.offerTx(ctx, tx, row.PriceID)
	if err != nil {
		return err
	}
	b.cfg.Logger.WarnContext(ctx, "auto top-up paused", slog.String("account", row.Account), slog.String("reason", reason))
	return b.notify(ctx, tx, Notice{Kind: NoticeTopUpPaused, Account: row.Account, Price: offer.Price, Description: offer.Name, Reason: reason, Code: code, Failures: row.Failures,
		URL: b.topUpURL(), Key: fmt.Sprintf("topup:%s:paused:%d", row.Account, now.UnixMicro())})
}

// watch tells the host below how many credits an account is to be topped up; nil for not any more.
func (b *Billing) watch(ctx context.Context, tx *sqlx.Tx, account string, below *credits.Amount) error {
	if b.cfg.Watch == nil {
		return nil
	}
	if err := b.cfg.Watch(ctx, tx, account, below); err != nil {
		return fmt.Errorf("billing: watch account %s: %w", account, err)
	}
	return nil
}

func (b *Billing) frozen(ctx context.Context, account string) (bool, error) {
	if b.cfg.Frozen == nil {
		return false, nil
	}
	return b.cfg.Frozen(ctx, account)
}

func (b *Billing) topUpURL() string { return b.cfg.BaseURL + b.cfg.Path + "/auto-topup" }

// monthOf names a calendar month (UTC), such as 2026-11.
func monthOf(t time.Time) string { return t.UTC().Format("2006-01") }
