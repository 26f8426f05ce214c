package billing

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// maxGenerations is how often a creation is tried that Stripe fails, or that was undone by hand.
const maxGenerations = 5

// errGone says that what Stripe says it has made is not there: somebody has deleted it since the first answer under its key.
var errGone = errors.New("billing: it was made today and deleted again")

// gone makes [errGone] of the answer to a look at what was made.
func gone(err error, deleted bool) error {
	if e, ok := asStripe(err); ok && e.HTTPStatusCode == http.StatusNotFound {
		return errGone
	}
	if err == nil && deleted {
		return errGone
	}
	return err
}

// createOnce makes an object under an idempotency key of what it is and, so that several processes that seed at once, and
// one whose answer was lost, make it once. Stripe repeats its answer under the same key for a day: after a failure of its own
// the object is looked for, and made under another key where it is not there, as is one that was deleted since.
func createOnce(what string, create func(key string) (string, error), find func() (string, error)) (id string, err error) {
	key := fmt.Sprintf("seed-%x", sha256.Sum256([]byte(what)))
	for generation := range maxGenerations {
		id, err = create(key + "-" + strconv.Itoa(generation))
		if errors.Is(err, errGone) {
			continue
		}
		if e, ok := asStripe(err); !ok || e.HTTPStatusCode < http.StatusInternalServerError {
			return id, err
		}
		if found, findErr := find(); findErr != nil || found != "" {
			return found, findErr
		}
	}
	return id, err
}
