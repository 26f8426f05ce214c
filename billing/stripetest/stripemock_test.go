package stripetest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/stripemock"
)

// recorder sees what the clients of this package's tests send.
var recorder = &stripemock.Recorder{}

// TestMain ends with a check of all that was sent and taken: what the double takes, Stripe's own description must know.
func TestMain(m *testing.M) { dbtest.Main(m, crossCheck) }

// leastShapes is how many kinds of requests a full run makes at least, so that the check cannot become empty unseen.
const leastShapes = 180

func crossCheck() error {
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.list").Value.String() != "" {
		return nil // not all tests ran
	}
	n, err := recorder.Check(context.Background())
	if err == nil && n < leastShapes {
		err = errors.New("the tests hardly asked the double for anything")
	}
	if err != nil {
		return fmt.Errorf("cross-check with stripe-mock %s: %w", stripemock.Version, err)
	}
	fmt.Printf("stripe-mock %s takes all %d kinds of requests\n", stripemock.Version, n)
	return nil
}
