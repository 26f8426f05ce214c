package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/problem"
)

// SignUpParams are what a person enters to get an account.
type SignUpParams struct {
	Email    string
	Password string
	// Name may be empty.
	Name   string
	Client Client
}

// SignUp makes an unverified account and mails a link that confirms its address. ticket is for the browser to keep: it
// alone lets the link log in. The outcome is the same when there is an account already, whose owner is told by mail; an
// account that nobody confirmed is taken over by the latest sign-up, since the mailbox decides whose it is.
//
// A problem of code "invalid" names the fields; a [*RetryError] asks to come back later.
func (a *Auth) SignUp(ctx context.Context, p SignUpParams) (ticket string, err error) {
	if err := a.countAttempt(ctx, "signup", a.cfg.Limits.SignUp, p.Client); err != nil {
		return "", err
	}
	n, err := a.checkSignUp(ctx, p)
	if err != nil {
		return "", err
	}
	if n.hash, err = a.hasher.hash(ctx, p.Password); err != nil {
		return "", err
	}
	ticket, n.ticket = newSecret()
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.signUp(ctx, tx, n, p.Client) })
	if err != nil {
		return "", err
	}
	return ticket, nil
}

// checkSignUp reports all fields at fault at once.
func (a *Auth) checkSignUp(ctx context.Context, p SignUpParams) (n newUser, err error) {
	wrong := map[string]string{}
	if n.email, err = parseEmail(p.Email); err != nil {
		wrong["email"] = problem.FieldsOf(err)["email"]
	}
	if n.name, err = parseName(p.Name); err != nil {
		wrong["name"] = problem.FieldsOf(err)["name"]
	}
	if message := a.checkNewPassword(ctx, p.Password, localPart(n.email.key)); message != "" {
		wrong["password"] = message
	}
	if len(wrong) > 0 {
		return n, problem.Invalid(wrong)
	}
	n.role = RoleUser
	return n, nil
}

func localPart(key string) string {
	local, _, _ := strings.Cut(key, "@")
	return local
}

func (a *Auth) signUp(ctx context.Context, tx *sqlx.Tx, n newUser, c Client) error {
	if allowed, err := a.mailAllowed(ctx, tx, n.email); err != nil || !allowed {
		return err
	}
	made, err := a.insertUser(ctx, tx, n)
	if err != nil {
		return err
	}
	u, err := a.lockUserByEmail(ctx, tx, n.email)
	if err != nil {
		return err
	}
	known := u.VerifiedAt != nil || u.DisabledAt != nil
	// The same statements run in any case, on nobody where there is nothing to do: else their number would tell who has an
	// account.
	taken, subject, kind := nobody, u, EventSignUp
	switch {
	case known:
		subject, kind = userRow{ID: nobody}, EventSignUpKnown
	case !made:
		taken = u.ID
	}
	const update = `UPDATE qs_auth_users SET email = ?, name = ?, name_key = ?, password_hash = ?, signup_ticket = ? WHERE id = ?`
	if _, err := a.db.ExecTx(ctx, tx, update, n.email.shown, n.name, strings.ToLower(n.name), n.hash, n.ticket, taken); err != nil {
		return fmt.Errorf("auth: take over the unverified user %s: %w", u.ID, err)
	}
	if err := a.record(ctx, tx, u.ID, kind, "", c); err != nil {
		return err
	}
	if made {
		if err := a.signedUp(ctx, tx, u); err != nil {
			return err
		}
	}
	token, err := a.issueToken(ctx, tx, subject, purposeVerify, verifyLifetime)
	if err != nil {
		return err
	}
	if known {
		return a.send(ctx, tx, u, kindExists, "")
	}
	u.Email = n.email.shown
	return a.send(ctx, tx, u, kindVerify, token)
}

func (a *Auth) sendVerification(ctx context.Context, tx *sqlx.Tx, u userRow) error {
	token, err := a.issueToken(ctx, tx, u, purposeVerify, verifyLifetime)
	if err != nil {
		return err
	}
	return a.send(ctx, tx, u, kindVerify, token)
}

// ResendVerification mails a new link to an address whose account waits for it; the one before stops working. Other
// addresses get a mail that says how things are. The outcome is the same for all.
func (a *Auth) ResendVerification(ctx context.Context, address string, c Client) error {
	if err := a.countAttempt(ctx, "resend", a.cfg.Limits.Resend, c); err != nil {
		return err
	}
	return a.mailTo(ctx, address, func(ctx context.Context, tx *sqlx.Tx, u userRow) error {
		if u.VerifiedAt != nil {
			return a.sendInstead(ctx, tx, u, kindExists)
		}
		return a.sendVerification(ctx, tx, u)
	})
}

// sendInstead mails how things are where others get a token, at the cost of one.
func (a *Auth) sendInstead(ctx context.Context, tx *sqlx.Tx, u userRow, kind string) error {
	if _, err := a.issueToken(ctx, tx, userRow{ID: nobody}, purposeVerify, verifyLifetime); err != nil {
		return err
	}
	return a.send(ctx, tx, u, kind, "")
}

// mailTo does what fn does for an account that is open, and else mails that there is none, at the cost of one token. Beyond
// the limit of the address it does nothing.
func (a *Auth) mailTo(ctx context.Context, address string, fn func(ctx context.Context, tx *sqlx.Tx, u userRow) error) error {
	e, err := parseEmail(address)
	if err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.mailToTx(ctx, tx, e, fn) })
}

func (a *Auth) mailToTx(ctx context.Context, tx *sqlx.Tx, e email, fn func(ctx context.Context, tx *sqlx.Tx, u userRow) error) error {
	if allowed, err := a.mailAllowed(ctx, tx, e); err != nil || !allowed {
		return err
	}
	u, err := a.lockUserByEmail(ctx, tx, e)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && u.DisabledAt != nil:
		return a.sendInstead(ctx, tx, userRow{Email: e.shown, Language: u.Language}, kindNoAccount)
	case err != nil:
		return err
	}
	return fn(ctx, tx, u)
}

// VerifyParams are what a browser shows to confirm an address.
type VerifyParams struct {
	// Token is that of the link.
	Token string
	// Ticket is what [Auth.SignUp] gave to the browser. Empty: it is another browser.
	Ticket string
	// Replaces is the token of the session that this browser had until now; it ends. Empty: none.
	Replaces string
	Client   Client
}

// VerifyEmail confirms an address in the browser that signed up, and logs in there. [ErrLink] when the link does not
// work; [ErrOtherBrowser] when it does and the ticket is not that of the sign-up: the link is then not spent, and
// [Auth.LogIn] takes it together with the password. Otherwise who signed up with a stranger's address would have the
// stranger confirm a password that the stranger does not know. A [*SecondStepError] when a second step is to follow.
func (a *Auth) VerifyEmail(ctx context.Context, p VerifyParams) (s SignedIn, err error) {
	var pending *SecondStepError
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockTokenOwner(ctx, tx, p.Token, purposeVerify)
		if err != nil {
			return err
		}
		if err := a.spendToken(ctx, tx, u, p.Token, purposeVerify); err != nil {
			return err
		}
		if !isSecret(p.Ticket) || subtle.ConstantTimeCompare(hashSecret(p.Ticket), u.SignupTicket) != 1 {
			return ErrOtherBrowser // rolls back
		}
		if err := a.verify(ctx, tx, &u, p.Client); err != nil {
			return err
		}
		s, pending, err = a.passFirst(ctx, tx, u, firstStep{method: MethodLink, replaces: p.Replaces, client: p.Client})
		return err
	})
	if err == nil && pending != nil {
		err = pending
	}
	return s, err
}
