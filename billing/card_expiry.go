package billing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// How often the card of an account is looked at, and how many accounts one call looks at: each takes a few reads of
// Stripe's, which has a limit.
const (
	cardCheckEvery = 7 * 24 * time.Hour
	cardCheckBatch = 100
)

// dueCards are accounts with a card that something is paid with and that was not looked at for a while, those first that
// never were.
const dueCards = `SELECT c.account_id, COALESCE(k.told, '') AS told
	FROM qs_billing_customers c LEFT JOIN qs_billing_card_checks k ON k.account_id = c.account_id
	WHERE c.customer_id IS NOT NULL AND (k.checked_at IS NULL OR k.checked_at < ?)
		AND (EXISTS (SELECT 1 FROM qs_billing_subscriptions s WHERE s.account_id = c.account_id AND s.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused'))
			OR EXISTS (SELECT 1 FROM qs_billing_auto_topups t WHERE t.account_id = c.account_id AND t.enabled))
	ORDER BY CASE WHEN k.checked_at IS NULL THEN 0 ELSE 1 END, k.checked_at, c.account_id LIMIT ?`

// WarnExpiringCards tells people whose plan or auto top-up is paid with a card that is good for 31 days at most, once for
// each card and expiry, also when it has ended. A call looks at 100 accounts, each of them once a week; call it every few
// minutes. It returns how many were told.
func (b *Billing) WarnExpiringCards(ctx context.Context) (told int, err error) {
	var due []struct {
		Account string `db:"account_id"`
		Told    string `db:"told"`
	}
	if err := b.db.Select(ctx, &due, dueCards, database.At(b.now().Add(-cardCheckEvery)), cardCheckBatch); err != nil {
		return 0, fmt.Errorf("billing: cards to look at: %w", err)
	}
	for _, d := range due {
		warned, one := b.warnExpiringCard(ctx, d.Account, d.Told)
		if warned {
			told++
		}
		err = errors.Join(err, one)
	}
	return told, err
}

func (b *Billing) warnExpiringCard(ctx context.Context, account, told string) (warned bool, err error) {
	methods, err := b.PaymentMethods(ctx, account)
	if err != nil {
		return false, err
	}
	var card PaymentMethod
	for _, m := range methods {
		if m.Default {
			card = m
		}
	}
	occasion := fmt.Sprintf("%s %04d-%02d", card.ID, card.ExpYear, card.ExpMonth)
	warned = card.Expiring && occasion != told
	if warned {
		told = occasion
	}
	const checked = `INSERT INTO qs_billing_card_checks (account_id, checked_at, told) VALUES (?, ?, ?)
		ON CONFLICT (account_id) DO UPDATE SET checked_at = excluded.checked_at, told = excluded.told`
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.lockAccount(ctx, tx, account); err != nil {
			return err
		}
		if warned {
			var known []string // under the lock: another process may have told by now
			if err := b.db.SelectTx(ctx, tx, &known, `SELECT told FROM qs_billing_card_checks WHERE account_id = ?`, account); err != nil {
				return err
			}
			warned = len(known) == 0 || known[0] != occasion
		}
		if _, err := b.db.ExecTx(ctx, tx, checked, account, database.At(b.now()), told); err != nil || !warned {
			return err
		}
		return b.notify(ctx, tx, Notice{Kind: NoticeCardExpiring, Account: account, Description: card.Brand + " ending in " + card.Last4,
			Reason: fmt.Sprintf("It is good through %02d/%d.", card.ExpMonth, card.ExpYear), Card: &card, URL: b.cfg.BaseURL + b.cfg.Path + "/payment-methods",
			Key: "card:" + account + ":" + occasion})
	})
	if err != nil {
		return false, fmt.Errorf("billing: card of account %s: %w", account, err)
	}
	return warned, nil
}
