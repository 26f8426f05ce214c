package auth

import (
	"fmt"
	"strconv"
	"time"

	"github.com/quickscale/quickscale/internal/problem"
)

// Errors that callers branch on. Input that breaks a rule is a problem of code "invalid" that names its fields.
var (
	// ErrCredentials: the address or the password is wrong, or the account is locked; which of them is not told.
	ErrCredentials error = problem.New("invalid_credentials", "The e-mail address or the password is not right. After several wrong tries an account is locked for a few minutes.")
	// ErrUnverified: the password is right, and the address is not confirmed yet.
	ErrUnverified error = problem.New("email_unverified", "Confirm your e-mail address first: open the link that we sent you in this browser.")
	// ErrDisabled: the password is right, and staff has closed the account.
	ErrDisabled error = problem.New("account_disabled", "This account is closed. Write to us if you think that this is a mistake.")
	// ErrSignedOut: nobody is signed in.
	ErrSignedOut error = problem.New(problem.CodeUnauthenticated, "Log in first.")
	// ErrRecentAuth: the session is alive, and its owner must show again that it is they.
	ErrRecentAuth error = problem.New("confirmation_required", "Confirm that it is you before you go on.")
	// ErrForbidden: the role does not allow it.
	ErrForbidden error = problem.New(problem.CodeForbidden, "Your account is not allowed to do this.")
	// ErrKey: the API key is wrong, expired or revoked, or its owner may not use it.
	ErrKey error = problem.New(problem.CodeUnauthenticated, "The API key is missing or not valid. Send a valid one as \"Authorization: Bearer …\".")
	// ErrLink: the link of a mail was used, replaced by a newer one, is too old, or was never one.
	ErrLink error = problem.New("link_invalid", "This link does not work any more. Ask for a new one.")
	// ErrOtherBrowser: the link works, but in this browser it needs the password of the sign-up too.
	ErrOtherBrowser error = problem.New("password_required", "Log in with the password that you chose at sign-up to confirm your address.")
	// ErrPassword: the current password is wrong.
	ErrPassword error = problem.Invalid(map[string]string{"current": "This is not your current password. After several wrong tries it is not accepted for a few minutes."})
	// ErrProof: the password with which a person confirms that it is they is wrong.
	ErrProof error = problem.Invalid(map[string]string{"password": "This is not your password. After several wrong tries it is not accepted for a few minutes."})
	// ErrSecondProof: a password alone does not confirm who has a second step.
	ErrSecondProof error = problem.Invalid(map[string]string{"code": "Enter a code of your authenticator app or a backup code, or use a passkey."})
	// ErrEmailTaken: there is an account with this address.
	ErrEmailTaken error = problem.New("email_taken", "There is an account with this address.")
	// ErrNotFound: there is no such user.
	ErrNotFound error = problem.New(problem.CodeNotFound, "There is no such user.")
	// ErrNoKey: there is no such API key, or it is another user's.
	ErrNoKey error = problem.New(problem.CodeNotFound, "There is no such API key.")
	// ErrNoSession: there is no such session, or it is another user's.
	ErrNoSession error = problem.New(problem.CodeNotFound, "There is no such session.")
	// ErrRole: the role is none of the three.
	ErrRole error = problem.New(problem.CodeInvalid, "The role must be user, staff or admin.")
	// ErrNoFactors: the account has no second step.
	ErrNoFactors error = problem.New("no_second_step", "This account has no second step: there is nothing to take off.")
	// ErrTooManyKeys: the account has as many API keys as it may have.
	ErrTooManyKeys error = problem.New("too_many_keys", "You have as many API keys as an account can have. Revoke one first.")
)

// RetryError asks to come back later. Its code is "too_many" (429) or "unavailable" (503).
type RetryError struct {
	Code    string
	Message string
	// After is how long to wait.
	After time.Duration
}

// Error implements error.
func (e *RetryError) Error() string { return fmt.Sprintf("auth: %s: retry after %s", e.Code, e.After) }

// ErrorCode implements problem.Coder.
func (e *RetryError) ErrorCode() string { return e.Code }

// ErrorMessage implements problem.Coder.
func (e *RetryError) ErrorMessage() string { return e.Message }

// ErrorDetails are the seconds to wait.
func (e *RetryError) ErrorDetails() map[string]any { return map[string]any{"retry_after": e.seconds()} }

func (e *RetryError) seconds() int64 {
	return max(1, int64((e.After+time.Second-1)/time.Second))
}

// header is the value of Retry-After (RFC 9110, 10.2.3).
func (e *RetryError) header() string { return strconv.FormatInt(e.seconds(), 10) }
