package services

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// RateLimit is how many calls to the API an account may make: Calls in any Window on average, and Calls at once at most.
type RateLimit struct {
	Calls  int
	Window time.Duration
}

func (l RateLimit) check() error {
	if l == (RateLimit{}) {
		return nil
	}
	if l.Calls < 1 || l.Window < time.Second {
		return errors.New("services: Config.RateLimit takes one call or more and a window of a second or longer")
	}
	return nil
}

// ErrRate says that the account has made as many calls as it may.
var ErrRate error = problem.New(problem.CodeTooMany, "This account makes too many calls. Try again after the time in the Retry-After header.")

// quota is what is left to an account.
type quota struct {
	left int
	// full is after how long all of it is back, and next after how long the next call is.
	full, next time.Duration
	refused    bool
}

// spend takes one call of an account's quota, kept as the moment at which all of it is back (a generic cell rate
// algorithm): one row, one statement, the same for all processes.
func (s *Services) spend(ctx context.Context, account string) (q quota, err error) {
	l := s.cfg.RateLimit
	now, window := s.now().UnixMicro(), l.Window.Microseconds()
	each := max(window/int64(l.Calls), 1)
	const upsert = `INSERT INTO qs_service_quotas AS t (account_id, full_at) VALUES (?, ?)
		ON CONFLICT (account_id) DO UPDATE SET full_at = CASE WHEN t.full_at < ? THEN ? ELSE t.full_at + ? END
		WHERE t.full_at <= ? RETURNING full_at`
	var full int64
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		err := s.db.GetTx(ctx, tx, &full, upsert, account, now+each, now, now+each, each, now+window-each)
		if q.refused = database.IsNoRows(err); q.refused {
			return s.db.GetTx(ctx, tx, &full, `SELECT full_at FROM qs_service_quotas WHERE account_id = ?`, account)
		}
		return err
	})
	if err != nil {
		return quota{}, fmt.Errorf("services: quota of account %s: %w", account, err)
	}
	used := max(full-now, 0)
	q.left = int(max((window-used)/each, 0))
	q.full = time.Duration(used) * time.Microsecond
	q.next = time.Duration(max(used+each-window, 0)) * time.Microsecond
	return q, nil
}

// limited takes a call of the quota and tells of it in the fields RateLimit-Policy and RateLimit, as
// draft-ietf-httpapi-ratelimit-headers-10 has them. It answers the request itself when the quota is used up.
func (s *Services) limited(w http.ResponseWriter, r *http.Request, account string) bool {
	l := s.cfg.RateLimit
	if l.Calls == 0 {
		return false
	}
	q, err := s.spend(r.Context(), account)
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return true
	}
	w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"account";q=%d;w=%d`, l.Calls, seconds(l.Window)))
	w.Header().Set("RateLimit", fmt.Sprintf(`"account";r=%d;t=%d`, q.left, seconds(q.full)))
	if !q.refused {
		return false
	}
	w.Header().Set("Retry-After", strconv.FormatInt(max(seconds(q.next), 1), 10))
	s.cfg.Site.FailJSON(w, r, ErrRate)
	return true
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
