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
	// ErrOverHold: the settlement exceeds its hold, whose policy is [OverRefuse].
	ErrOverHold error = problem.New(problem.CodeInvalid, "The amount exceeds the hold.")
	// ErrUnknownOver: the policy is none of the three.
	ErrUnknownOver error = problem.New(problem.CodeInvalid, "The policy must be debt, cap or refuse.")
	// ErrPriority: the priority is out of its range.
	ErrPriority error = problem.New(problem.CodeInvalid, "The priority must lie between 1 and 1000.")
	// ErrFrozen is what a [*FrozenError] is.
	ErrFrozen error = problem.New("account_frozen", "The credits of this account are frozen.")
	// ErrLimit is what a [*LimitError] is.
	ErrLimit error = problem.New("spending_limit", "A spending limit is reached.")
	// ErrErased: the account was erased, and nothing happens in it any more.
	ErrErased error = problem.New("account_erased", "This account was erased.")
	// ErrEntryNotFound: the account has no such entry.
	ErrEntryNotFound error = problem.New(problem.CodeNotFound, "There is no such entry.")
	// ErrAmountZero: the amount must not be zero.
	ErrAmountZero error = problem.New(problem.CodeInvalid, "The amount must not be zero.")
	// ErrSameSource: a transfer within an account needs another source to go into.
	ErrSameSource error = problem.New(problem.CodeInvalid, "A transfer needs another account or another source.")
)

// InsufficientError refuses a debit or a hold; nothing was changed. It is [ErrInsufficient] to errors.Is.
type InsufficientError struct {
	// Required is what was asked for, Available what the account could give at that moment.
	Required, Available Amount
	// Debt is what the account owes: nothing can be used before it is paid.
	Debt Amount
}

// Shortfall is what is missing, the debt included.
func (e *InsufficientError) Shortfall() Amount { return saturate(e.Required-e.Available, e.Debt) }

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
	if e.Debt > 0 {
		return fmt.Sprintf("This takes %s credits and you owe %s: %s more are needed.", e.Required, e.Debt, e.Shortfall())
	}
	return fmt.Sprintf("This takes %s credits and you have %s: %s more are needed.", e.Required, e.Available, e.Shortfall())
}

// ErrorDetails are required, available and shortfall as decimal strings.
func (e *InsufficientError) ErrorDetails() map[string]any {
	details := map[string]any{"required": e.Required, "available": e.Available, "shortfall": e.Shortfall()}
	if e.Debt > 0 {
		details["debt"] = e.Debt
	}
	return details
}

// FrozenError refuses the use of a frozen account; nothing was changed. It is [ErrFrozen] to errors.Is.
type FrozenError struct {
	// Reason is for staff, not for the account's owner.
	Reason string
}

// Error implements error.
func (e *FrozenError) Error() string { return "credits: the account is frozen: " + e.Reason }

// Is makes errors.Is(err, ErrFrozen) true.
func (e *FrozenError) Is(target error) bool { return target == ErrFrozen }

// ErrorCode is the machine code account_frozen.
func (e *FrozenError) ErrorCode() string { return "account_frozen" }

// ErrorMessage says what to do.
func (e *FrozenError) ErrorMessage() string {
	return "The credits of this account are frozen. Please contact support."
}

// ErrorDetails implements problem.Coder.
func (e *FrozenError) ErrorDetails() map[string]any { return nil }

// LimitError refuses a use above a spending limit; nothing was changed. It is [ErrLimit] to errors.Is.
type LimitError struct {
	// Period is "day" or "month" (UTC).
	Period string
	// Limit is the limit, Used what counts towards it already, open holds included, Required what was asked for.
	Limit, Used, Required Amount
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("credits: limit of %s a %s: %s used, %s required", e.Limit, e.Period, e.Used, e.Required)
}

// Is makes errors.Is(err, ErrLimit) true.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }

// ErrorCode is the machine code spending_limit.
func (e *LimitError) ErrorCode() string { return "spending_limit" }

// ErrorMessage says what is left of the limit.
func (e *LimitError) ErrorMessage() string {
	return fmt.Sprintf("This takes %s credits; of the limit of %s a %s, %s are left.", e.Required, e.Limit, e.Period, max(0, e.Limit-e.Used))
}

// ErrorDetails are the period and the amounts as decimal strings.
func (e *LimitError) ErrorDetails() map[string]any {
	return map[string]any{"period": e.Period, "limit": e.Limit, "used": e.Used, "required": e.Required}
}
