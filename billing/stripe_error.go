package billing

import (
	"errors"
	"fmt"

	"github.com/stripe/stripe-go/v76"
)

func asStripe(err error) (*stripe.Error, bool) { return errors.AsType[*stripe.Error](err) }

// stripeError makes an error of a call that failed: what passes by itself is [ErrStripe] to the person, and the rest
// is ours to mend.
func stripeError(action string, err error) error {
	e, ok := asStripe(err)
	if !ok || e.HTTPStatusCode == 0 || e.HTTPStatusCode == 409 || e.HTTPStatusCode == 429 || e.HTTPStatusCode >= 500 {
		return fmt.Errorf("%w (%s: %w)", ErrStripe, action, err)
	}
	return fmt.Errorf("billing: %s: %w", action, err)
}
