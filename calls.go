package quickscale

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// TypeCallEnded is the type of the message that an account's programs get when a call in the background has ended whose
// caller asked to be told (?notify=true). Its data is the call without its output, which the API has.
const TypeCallEnded = "service.call_ended"

// sendCallEnded tells an account's programs of the end of a call, in its transaction.
func (a *App) sendCallEnded(ctx context.Context, tx *sqlx.Tx, r services.Record) error {
	r.Output = nil
	return a.send(ctx, tx, outbound.Message{Account: r.Account, Type: TypeCallEnded, Key: "call/" + r.ID.String(), At: *r.FinishedAt, Data: r})
}
