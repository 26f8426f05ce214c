package auth

import (
	"context"

	"github.com/jmoiron/sqlx"
)

type Method string

const MethodOAuth Method = "oauth"

type firstFactor struct {
	Method   Method
	Remember bool
	Replaces string
	Client   Client
}

type LogInStep struct{ SignedIn SignedIn }

func (a *Auth) passFirst(ctx context.Context, tx *sqlx.Tx, u userRow, f firstFactor) (LogInStep, error) {
	s, err := a.completeLogIn(ctx, tx, u, f.Remember, f.Client)
	return LogInStep{s}, err
}
