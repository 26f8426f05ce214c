package auth_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

var (
	requestID = regexp.MustCompile(`[A-Z2-7]{26}`)
	ticket    = regexp.MustCompile(`qs_(signup|magic)=[A-Za-z0-9_-]{43};`)
)

// told is all that an answer tells: status, headers and body, less what is random.
func (a answer) told() string {
	var all strings.Builder
	_ = a.Header.Write(&all) // a strings.Builder takes everything
	return http.StatusText(a.StatusCode) + "\n" + ticket.ReplaceAllString(requestID.ReplaceAllString(all.String(), "ID"), "qs_$1=TICKET;") + "\n" + a.body
}

// Status, headers, body and the work done are the same whatever the account is, for people and for programs.
func TestAnswers_DoNotTellWhetherAnAccountExists(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		// One length and form of address, so that bodies that repeat it can be compared.
		const unknown, verified, unverified, locked, closed = "unknown0@example.com", "verified@example.com", "unverif0@example.com", "locked00@example.com", "closed00@example.com"
		k.user(verified)
		_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: unverified, Password: password})
		require.NoError(t, err)
		k.user(locked)
		for range 5 {
			k.browser().logIn(locked, "wrong password")
		}
		require.NoError(t, k.SetDisabled(t.Context(), k.user(closed).ID, true))

		for _, accept := range []string{"text/html", "application/json"} {
			for _, route := range []struct {
				path, password string
				mails          int
				hashes         int64
			}{{"/auth/login", "wrong password", 0, 1}, {"/auth/login", strings.Repeat("x", 600), 0, 0}, {"/auth/password/forgot", "", 1, 0}, {"/auth/magic", "", 1, 0}, {"/auth/verify/resend", "", 1, 0}, {"/auth/signup", "another password", 1, 1}} {
				var want string
				for _, address := range []string{unknown, verified, unverified, locked, closed} {
					b := k.browser()
					b.header["Accept"] = accept
					mails, hashes := len(k.mails()), k.Hashes()
					fields := []string{"email", address}
					if route.password != "" {
						fields = append(fields, "password", route.password)
					}
					got := strings.ReplaceAll(b.post(route.path, fields...).told(), address, "ADDRESS")
					if want == "" {
						want = got
					}
					assert.Equal(t, want, got, "%s %s for %s", accept, route.path, address)
					assert.Equal(t, route.hashes, k.Hashes()-hashes, "%s hashes as often for %s", route.path, address)
					sent := k.mails()[mails:]
					assert.Len(t, sent, route.mails, "%s queues as many mails for %s", route.path, address)
					for _, m := range sent {
						assert.Equal(t, address, m.Recipient)
					}
				}
				assert.NotContains(t, want, http.StatusText(http.StatusInternalServerError))
			}
			// The right password of a locked account does not show either.
			b := k.browser()
			b.header["Accept"] = accept
			right, wrong := b.logIn(locked, password).told(), b.logIn(locked, "wrong password").told()
			assert.Equal(t, wrong, right)
		}
	})
}
