package auth_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// phone is an authenticator app.
type phone struct {
	k      *kit
	secret string
}

func (p phone) code() string { return p.codeAt(0) }

// codeAt is the code of a step before or after the present one.
func (p phone) codeAt(steps int) string {
	p.k.t.Helper()
	code, err := totp.GenerateCode(p.secret, p.k.clock.Now().Add(time.Duration(steps)*30*time.Second))
	require.NoError(p.k.t, err)
	return code
}

// phone sets an authenticator app up for a user, at the step before the present one, and returns the backup codes.
func (k *kit) phone(u auth.User) (phone, []string) {
	k.t.Helper()
	setup, err := k.BeginTOTP(k.t.Context(), u.ID)
	require.NoError(k.t, err)
	p := phone{k, strings.ReplaceAll(setup.Secret, " ", "")}
	codes, err := k.ConfirmTOTP(k.t.Context(), u.ID, p.codeAt(-1), auth.Client{})
	require.NoError(k.t, err)
	return p, codes
}

// first passes the first step and returns the token of what waits for the second.
func (k *kit) first(address string) string {
	k.t.Helper()
	_, err := k.LogIn(k.t.Context(), auth.LogInParams{Email: address, Password: password})
	var pending *auth.SecondStepError
	require.ErrorAs(k.t, err, &pending)
	return pending.Token
}

func (k *kit) second(token, code string) error {
	k.t.Helper()
	_, err := k.FinishLogIn(k.t.Context(), auth.FinishLogInParams{Token: token, Code: code})
	return err
}

func TestTOTP_IsAskedForOnlyOnceACodeWasEntered(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		setup, err := k.BeginTOTP(t.Context(), u.ID)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(setup.QR, "data:image/png;base64,"), "QR")
		assert.Contains(t, setup.URL, "otpauth://totp/Acme")
		secret := strings.ReplaceAll(setup.Secret, " ", "")
		assert.Len(t, secret, 32, "160 bits in base32")

		_, err = k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err, "nothing is asked for before the first code")
		_, err = k.ConfirmTOTP(t.Context(), u.ID, "000000", auth.Client{})
		require.ErrorIs(t, err, auth.ErrCode)
		again, err := k.FindTOTPSetup(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, setup.Secret, again.Secret, "the same secret waits")

		codes, err := k.ConfirmTOTP(t.Context(), u.ID, phone{k, secret}.code(), auth.Client{})
		require.NoError(t, err)
		assert.Len(t, codes, 10)
		_, err = k.FindTOTPSetup(t.Context(), u.ID)
		require.ErrorIs(t, err, auth.ErrNoTOTP, "a secret in use is shown to nobody")
		_, err = k.BeginTOTP(t.Context(), u.ID)
		require.ErrorIs(t, err, auth.ErrTOTPActive)
		k.first(email)
		f, err := k.Factors(t.Context(), u.ID)
		require.NoError(t, err)
		assert.True(t, f.Second())
		assert.Equal(t, 10, f.BackupCodes)
		assert.Contains(t, k.events(u.ID), auth.EventTOTPEnabled)
		assert.Equal(t, "auth.change", k.mails()[len(k.mails())-1].Kind)
	})
}

func TestTOTP_TheSecretIsSealedForItsRow(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ada, eve := k.user(email), k.user("eve@example.com")
		p, _ := k.phone(ada)
		eves, _ := k.phone(eve)
		var stored []byte
		require.NoError(t, k.db.Writer().Get(&stored, k.db.Rebind(`SELECT secret FROM qs_auth_totp WHERE user_id = ?`), ada.ID))
		assert.NotContains(t, string(stored), p.secret)
		assert.NotContains(t, k.log.String(), p.secret)
		// Who can write the table but has no key cannot put a secret of their own in its place.
		_, err := k.db.Writer().Exec(k.db.Rebind(`UPDATE qs_auth_totp SET secret = (SELECT t.secret FROM qs_auth_totp t WHERE t.user_id = ?) WHERE user_id = ?`), eve.ID, ada.ID)
		require.NoError(t, err)
		err = k.second(k.first(email), eves.code())
		require.ErrorContains(t, err, "sealed secret")
	})
}

func TestTOTP_SetUpEndsAfterAnHour(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		setup, err := k.BeginTOTP(t.Context(), u.ID)
		require.NoError(t, err)
		k.clock.Advance(time.Hour)
		_, err = k.ConfirmTOTP(t.Context(), u.ID, phone{k, strings.ReplaceAll(setup.Secret, " ", "")}.code(), auth.Client{})
		require.ErrorIs(t, err, auth.ErrNoTOTP)
	})
}

func TestTOTP_UnverifiedHasNone(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Password: password})
		require.NoError(t, err)
		_, err = k.BeginTOTP(t.Context(), u.ID)
		require.ErrorIs(t, err, auth.ErrUnverified)
		_, err = k.BeginPasskey(t.Context(), u.ID)
		require.ErrorIs(t, err, auth.ErrUnverified)
	})
}

func TestTOTP_AStepIsAcceptedOnceAndTheClockMayBeOneOff(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		for _, off := range []int{-3, -2, 2, 3} {
			require.ErrorIs(t, k.second(k.first(email), p.codeAt(off)), auth.ErrCode, "%d steps off", off)
		}
		require.ErrorIs(t, k.second(k.first(email), p.codeAt(-1)), auth.ErrCode, "it was used to set the app up")
		require.NoError(t, k.second(k.first(email), p.code()[:3]+" "+p.code()[3:]))
		require.ErrorIs(t, k.second(k.first(email), p.code()), auth.ErrCode, "a code is spent")
		k.clock.Advance(20 * time.Second)
		require.ErrorIs(t, k.second(k.first(email), p.codeAt(-1)), auth.ErrCode, "and stays so within its window")
		require.NoError(t, k.second(k.first(email), p.codeAt(1)), "a phone ahead by one step")
		require.ErrorIs(t, k.second(k.first(email), p.code()), auth.ErrCode, "what is older than the last one that was accepted is not")
		k.clock.Advance(time.Minute)
		require.NoError(t, k.second(k.first(email), p.code()))
		k.clock.Advance(time.Minute)
		require.NoError(t, k.second(k.first(email), p.codeAt(-1)), "a phone behind by one step")
		assert.Contains(t, k.events(u.ID), auth.EventCodeFailed)
	})
}

func TestTOTP_TwentyAtOnceWithOneCodeAreOneLogIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		p, _ := k.phone(k.user(email))
		code := p.code()
		var tokens []string
		for range 20 {
			tokens = append(tokens, k.first(email))
		}
		var in atomic.Int32
		var group sync.WaitGroup
		for _, token := range tokens {
			group.Go(func() {
				_, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: token, Code: code})
				if err == nil {
					in.Add(1)
				} else {
					assert.ErrorIs(t, err, auth.ErrCode)
				}
			})
		}
		group.Wait()
		assert.EqualValues(t, 1, in.Load())
	})
}

func TestSecondStep_FiveWrongCodesEndTheLogInAndTenTheMinutes(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, codes := k.phone(u)
		session, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: k.first(email), Code: codes[0]})
		require.NoError(t, err)

		token := k.first(email)
		for range 5 {
			require.ErrorIs(t, k.second(token, "000000"), auth.ErrCode)
		}
		require.ErrorIs(t, k.second(token, p.code()), auth.ErrPending, "the log-in has to be begun again")
		token = k.first(email)
		for range 3 { // with the confirmation and the backup code above, the limit of ten
			require.ErrorIs(t, k.second(token, "000000"), auth.ErrCode)
		}
		err = k.second(token, p.code())
		var retry *auth.RetryError
		require.ErrorAs(t, err, &retry)
		assert.Equal(t, "too_many", retry.Code)

		b := k.browser()
		b.jar.SetCookies(site, secure([]*http.Cookie{{Name: "__Host-qs_session", Value: session.Token}}))
		assert.True(t, b.in(), "where they are logged in they stay so")
		k.clock.Advance(15 * time.Minute)
		require.NoError(t, k.second(k.first(email), p.code()))
	}, func(cfg *auth.Config) { cfg.Limits.Code = auth.Limit{Max: 10, Per: 15 * time.Minute} })
}

func TestSecondStep_WaitsTenMinutesAndLetsNobodyInByItself(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		token := k.first(email)
		b := k.browser()
		b.jar.SetCookies(site, secure([]*http.Cookie{{Name: "__Host-qs_session", Value: token}}))
		assert.False(t, b.in(), "the token of what waits is no session")
		require.ErrorIs(t, k.second("x", p.code()), auth.ErrPending)
		k.clock.Advance(10 * time.Minute)
		require.ErrorIs(t, k.second(token, p.code()), auth.ErrPending)

		token = k.first(email)
		require.NoError(t, k.SetPassword(t.Context(), u.ID, "another good phrase"))
		require.ErrorIs(t, k.second(token, p.code()), auth.ErrPending, "a new password ends what waits")
	})
}

func TestSecondStep_IsAskedForAfterALinkToo(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		require.NoError(t, k.ForgotPassword(t.Context(), email, auth.Client{}))
		_, token := k.link("auth.reset")
		require.NoError(t, k.ResetPassword(t.Context(), auth.ResetParams{Token: token, Password: "another good phrase"}))
		_, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: "another good phrase"})
		var pending *auth.SecondStepError
		require.ErrorAs(t, err, &pending, "a reset does not take the second step off")
		require.NoError(t, k.second(pending.Token, p.code()))
	})
}

func TestBackupCode_EachWorksOnceInPlaceOfTheApp(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, codes := k.phone(u)
		seen := map[string]bool{}
		for _, c := range codes {
			require.Regexp(t, `^[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}$`, c)
			seen[c] = true
		}
		assert.Len(t, seen, 10)
		require.NoError(t, k.second(k.first(email), strings.ToLower(codes[3])))
		require.ErrorIs(t, k.second(k.first(email), codes[3]), auth.ErrCode, "used")
		require.ErrorIs(t, k.second(k.first(email), "AAAA-AAAA"), auth.ErrCode)
		require.NoError(t, k.second(k.first(email), strings.ReplaceAll(codes[4], "-", " ")))
		f, err := k.Factors(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, 8, f.BackupCodes)
		last := k.mails()[len(k.mails())-1]
		assert.Contains(t, last.Text, "A backup code was used. 8 are left.")

		fresh, err := k.RegenerateBackupCodes(t.Context(), u.ID, auth.Client{})
		require.NoError(t, err)
		require.ErrorIs(t, k.second(k.first(email), codes[5]), auth.ErrCode, "the old set is gone")
		require.NoError(t, k.second(k.first(email), fresh[5]))
		assert.Contains(t, k.events(u.ID), auth.EventBackupCodes)

		var stored []string
		require.NoError(t, k.db.Writer().Select(&stored, `SELECT hash FROM qs_auth_backup_codes`))
		for _, hash := range stored {
			for _, c := range fresh {
				assert.NotContains(t, hash, strings.ReplaceAll(c, "-", ""))
			}
		}
	})
}

func TestBackupCode_FiftyAtOnceWithOneAreOneLogIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		_, codes := k.phone(k.user(email))
		var tokens []string
		for range 50 {
			tokens = append(tokens, k.first(email))
		}
		var in atomic.Int32
		var group sync.WaitGroup
		for _, token := range tokens {
			group.Go(func() {
				_, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: token, Code: codes[0]})
				if err == nil {
					in.Add(1)
				} else {
					assert.ErrorIs(t, err, auth.ErrCode)
				}
			})
		}
		group.Wait()
		assert.EqualValues(t, 1, in.Load())
	})
}

func TestBackupCode_AnAttemptCostsOneHashWhateverIsFound(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		_, codes := k.phone(k.user(email))
		cost := func(code string) int64 {
			token := k.first(email)
			before := k.Hashes()
			_ = k.second(token, code)
			return k.Hashes() - before
		}
		assert.EqualValues(t, 1, cost(codes[0]))
		assert.EqualValues(t, 1, cost("AAAA-AAAA"))
		assert.EqualValues(t, 0, cost("000000"), "a code of the app")
	})
}

func TestRemoveTOTP_TakesTheSecondStepAndTheCodesAway(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		k.phone(u)
		require.NoError(t, k.RemoveTOTP(t.Context(), u.ID, auth.Client{}))
		_, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err)
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_backup_codes`))
		assert.Contains(t, k.mails()[len(k.mails())-1].Text, "authenticator app was removed")
		require.ErrorIs(t, k.RemoveTOTP(t.Context(), u.ID, auth.Client{}), auth.ErrNoTOTP)
		_, err = k.RegenerateBackupCodes(t.Context(), u.ID, auth.Client{})
		require.ErrorIs(t, err, auth.ErrNoFactor)
	})
}

func TestResetFactors_IsTheWayBackForWhoHasLostThemAll(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, codes := k.phone(u)
		s, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: k.first(email), Code: codes[0]})
		require.NoError(t, err)
		waits := k.first(email)
		require.NoError(t, k.ResetFactors(t.Context(), u.ID, auth.Client{}))
		require.ErrorIs(t, k.second(waits, p.code()), auth.ErrPending)
		b := k.browser()
		b.jar.SetCookies(site, secure([]*http.Cookie{{Name: "__Host-qs_session", Value: s.Token}}))
		assert.False(t, b.in(), "all devices are logged out")
		_, err = k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err)
		assert.Contains(t, k.mails()[len(k.mails())-1].Text, "by our staff")
		require.ErrorIs(t, k.ResetFactors(t.Context(), "x", auth.Client{}), auth.ErrNotFound)
	})
}

func TestStaff_SetASecondStepUpBeforeTheyGetIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleAdmin))
		k.user("user@example.com")
		plain := k.browser()
		plain.logIn("user@example.com", password).leadsTo(t, "/account/")

		b := k.browser()
		b.post("/auth/login", "email", email, "password", password, "next", "/admin/users").leadsTo(t, "/auth/2fa?next=%2Fadmin%2Fusers")
		assert.False(t, b.in())
		page := b.get("/auth/2fa?next=%2Fadmin%2Fusers")
		assert.Contains(t, page.body, "needs a second step")
		assert.NotContains(t, page.body, "data:image/png")
		b.post("/auth/2fa", "code", "123456").leadsTo(t, "/auth/2fa") // there is nothing yet that a code could be of
		b.post("/auth/2fa/setup/begin", "next", "/admin/users").leadsTo(t, "/auth/2fa?next=%2Fadmin%2Fusers")
		page = b.get("/auth/2fa?next=%2Fadmin%2Fusers")
		require.Contains(t, page.body, `src="data:image/png;base64,`)
		p := phone{k, secretOn(t, page)}
		wrong := b.post("/auth/2fa/setup", "code", "000000", "next", "/admin/users")
		assert.Equal(t, http.StatusUnprocessableEntity, wrong.StatusCode)
		assert.Contains(t, wrong.body, p.secret[:4], "the same secret is shown again")
		assert.False(t, b.in())

		done := b.post("/auth/2fa/setup", "code", p.code(), "next", "/admin/users")
		require.Equal(t, http.StatusCreated, done.StatusCode, done.body)
		assert.Contains(t, done.body, `href="/admin/users"`)
		assert.True(t, b.in())
		k.clock.Advance(time.Minute)

		second := k.browser()
		second.logIn(email, password).leadsTo(t, "/auth/2fa")
		second.post("/auth/2fa", "code", p.code()).leadsTo(t, "/account/")
		assert.True(t, second.in())
	}, func(cfg *auth.Config) { cfg.StaffSecondFactor = true })
}
