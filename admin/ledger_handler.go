package admin

import (
	"net/http"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/web"
)

// ledgerPage is the data of ledger.html. Verified is nil before a batch was recomputed.
type ledgerPage struct {
	frame

	Verified *verifiedBatch `json:"verified,omitempty"`
}

// verifiedBatch is what was recomputed so far, and where the next batch begins.
type verifiedBatch struct {
	Accounts      int                   `json:"accounts"`
	Seals         int                   `json:"seals"`
	Discrepancies []credits.Discrepancy `json:"discrepancies"`
	// After and Seal go into the next request, which continues; Done says that there is none.
	After string `json:"after,omitempty"`
	Seal  int64  `json:"seal,omitempty"`
	// SealsOnly says that all accounts are through.
	SealsOnly bool `json:"seals_only,omitempty"`
	Done      bool `json:"done"`
}

func (a *Admin) showLedger(w http.ResponseWriter, r *http.Request) error {
	a.views.Respond(w, r, http.StatusOK, "ledger", ledgerPage{frame: a.frame(sectionLedger)})
	return nil
}

// verifyLedger recomputes one batch; the form carries on where it ended, so that a ledger of any size can be gone
// through from here, with its progress in sight.
func (a *Admin) verifyLedger(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		After     string `json:"after"      trim:"no"`
		Seal      int64  `json:"seal"`
		SealsOnly bool   `json:"seals_only"`
		Accounts  int    `json:"accounts"`
		Seals     int    `json:"seals"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		return err
	}
	batch := verifiedBatch{Accounts: in.Accounts, Seals: in.Seals, SealsOnly: in.SealsOnly}
	if !in.SealsOnly {
		report, err := a.cfg.Verifier.Verify(r.Context(), credits.VerifyParams{After: in.After})
		if err != nil {
			return err
		}
		batch.Accounts += report.Accounts
		batch.Discrepancies, batch.After, batch.SealsOnly = report.Discrepancies, report.Next, report.Next == ""
	} else {
		report, err := a.cfg.Verifier.VerifySeals(r.Context(), in.Seal, credits.DefaultVerifySeals)
		if err != nil {
			return err
		}
		batch.Seals += report.Seals
		batch.Discrepancies, batch.Seal, batch.Done = report.Discrepancies, report.Next, report.Next == 0
	}
	a.views.Respond(w, r, http.StatusOK, "ledger", ledgerPage{frame: a.frame(sectionLedger), Verified: &batch})
	return nil
}
