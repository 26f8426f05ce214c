package credits

import (
	"fmt"

	"github.com/quickscale/quickscale/internal/problem"
)

// Errors that callers branch on.
var (
	// ErrInsufficient is what an [*InsufficientError] is.
	ErrInsufficient error = problem.New("insufficient_credits", "There are not enough credits.")
	// ErrIdempotencyMismatch: the key was used before on this account for something else.
	ErrIdempotencyMismatch error = problem.New("idempotency_mismatch", "This idempotency key was used before with other parameters. Use a new key.")
	// ErrAccountRequired: the account id is empty or longer than 200 bytes.
	ErrAccountRequired error = problem.New(problem.CodeInvalid, "An account id of 1 to 200 bytes is required.")
	// ErrReasonRequired: the reason is empty once trimmed.
	ErrReasonRequired error = problem.New(problem.CodeInvalid, "A reason is required.")
	// ErrAmountNotPositive: the amount must be above zero.
	ErrAmountNotPositive error = problem.New(problem.CodeInvalid, "The amount must be above zero.")
	// ErrAmountNegative: the amount must be zero or more.
	ErrAmountNegative error = problem.New(problem.CodeInvalid, "The amount must not be negative.")
	// ErrUnknownSource: the source is none of the four.
	ErrUnknownSource error = problem.New(problem.CodeInvalid, "The source must be subscription, purchase, admin or bonus.")
	// ErrAlreadyExpired: the grant would expire before it begins.
	ErrAlreadyExpired error = problem.New(problem.CodeInvalid, "The expiry must lie in the future.")
	// ErrTTLRequired: a hold needs a time to live.
	ErrTTLRequired error = problem.New(problem.CodeInvalid, "A hold needs a time to live above zero.")
	// ErrHoldNotFound: there is no such hold.
	ErrHoldNotFound error = problem.New(problem.CodeNotFound, "There is no such hold.")
	// ErrHoldSettled: the hold was settled before, with another amount or instead of being released.
	ErrHoldSettled error = problem.New("hold_settled", "The hold has been settled.")
	// ErrHoldReleased: the hold was given back, by a release or by its time to live.
	ErrHoldReleased error = problem.New("hold_released", "The hold has been released.")
	// ErrOverHold: a settlement may not exceed its hold.
	ErrOverHold error = problem.New(problem.CodeInvalid, "The amount exceeds the hold.")
)

// InsufficientError refuses a debit or a hold; nothing was changed. It is [ErrInsufficient] to errors.Is.
type InsufficientError struct {
	// Required is what was asked for, Available what the account could give at that moment.
	Required, Available Amount
}

// Shortfall is what is missing.
func (e *InsufficientError) Shortfall() Amount { return e.Required - e.Available }

// Error implements error.
func (e *InsufficientError) Error() string {
	return fmt.Sprintf("credits: %s required, %s available", e.Required, e.Available)
}

// Is makes errors.Is(err, ErrInsufficient) true.
func (e *InsufficientError) Is(target error) bool { return target == ErrInsufficient }

// ErrorCode is the machine code insufficient_credits.
func (e *InsufficientError) ErrorCode() string { return "insufficient_credits" }

// ErrorMessage says what is required, available and missing.
func (e *InsufficientError) ErrorMessage() string {
	return fmt.Sprintf("This takes %s credits and you have %s: %s more are needed.", e.Required, e.Available, e.Shortfall())
}

// ErrorDetails are required, available and shortfall as decimal strings.
func (e *InsufficientError) ErrorDetails() map[string]any {
	return map[string]any{"required": e.Required, "available": e.Available, "shortfall": e.Shortfall()}
}
