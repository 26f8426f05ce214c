package billing

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/stripe/stripe-go/v76"
)

// isOutage tells that Stripe has answered with an error of its own (5xx). It repeats that answer for 24 hours under the
// same idempotency key, whether or not the call had its effect (docs.stripe.com/api/idempotent_requests).
func isOutage(err error) bool {
	e, ok := asStripe(err)
	return ok && e.HTTPStatusCode >= http.StatusInternalServerError
}

func asStripe(err error) (*stripe.Error, bool) { return errors.AsType[*stripe.Error](err) }

// stripeError makes an error of a call that failed: what passes by itself is [ErrStripe] to the person, and the rest
// is ours to mend.
func stripeError(action string, err error) error {
	e, ok := asStripe(err)
	if !ok || e.HTTPStatusCode == 0 || e.HTTPStatusCode == http.StatusConflict || e.HTTPStatusCode == http.StatusTooManyRequests || isOutage(err) {
		return fmt.Errorf("%w (%s: %w)", ErrStripe, action, err)
	}
	return fmt.Errorf("billing: %s: %w", action, err)
}
