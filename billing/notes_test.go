package billing_test

import (
	"context"
	"slices"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/billing"
)

// notes collects the notices of each shop apart; the shops of one test run side by side and share it.
type notes struct {
	mu   sync.Mutex
	told map[*sqlx.DB][]billing.Notice
}

func newNotes() *notes { return &notes{told: map[*sqlx.DB][]billing.Notice{}} }

func (n *notes) watch(c *billing.Config) {
	db := c.DB
	c.Notify = func(_ context.Context, _ *sqlx.Tx, notice billing.Notice) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.told[db] = append(n.told[db], notice)
		return nil
	}
}

func (n *notes) of(s *shop) []billing.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.told[s.db.Writer()])
}

func (n *notes) kinds(s *shop) (kinds []billing.NoticeKind) {
	for _, notice := range n.of(s) {
		kinds = append(kinds, notice.Kind)
	}
	return kinds
}
