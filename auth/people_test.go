package auth_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
)

func TestProfile_ChecksEachField(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		good := auth.Profile{Name: "Ada", Bio: "One\r\ntwo", Phone: "+49 (30) 123-456", JobTitle: "Engineer", Company: "Acme", Website: "https://example.com/ada",
			Location: "London", Twitter: "https://x.com/ada_l", LinkedIn: "linkedin.com/in/ada-l/", GitHub: "@ada-l", Language: "de"}
		require.NoError(t, k.SetProfile(t.Context(), u.ID, good))
		got, err := k.Profile(t.Context(), u.ID)
		require.NoError(t, err)
		want := good
		want.Bio, want.Phone, want.Twitter, want.LinkedIn, want.GitHub = "One\ntwo", "+4930123456", "ada_l", "ada-l", "ada-l"
		assert.Equal(t, want, got)
		for field, bad := range map[string]auth.Profile{
			"name": {Name: "a\nb"}, "bio": {Bio: strings.Repeat("x", 1001)}, "phone": {Phone: "call me"}, "job_title": {JobTitle: strings.Repeat("x", 101)},
			"company": {Company: "\u202ex"}, "website": {Website: "javascript:alert(1)"}, "location": {Location: "a\x00"}, "twitter": {Twitter: "a b"},
			"linkedin": {LinkedIn: "a"}, "github": {GitHub: "-a"}, "language": {Language: "tlh"},
		} {
			assert.Contains(t, problem.FieldsOf(k.SetProfile(t.Context(), u.ID, bad)), field)
		}
		assert.Contains(t, problem.FieldsOf(k.SetProfile(t.Context(), u.ID, auth.Profile{Website: "https://user:pass@example.com"})), "website")
		after, err := k.Profile(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, want, after, "what is refused changes nothing")
		b := k.browser()
		b.logIn(email, password)
		b.post("/account/profile", "name", "Ada", "email_notifications", "on", "company", "B", "language", "de").leadsTo(t, "/account/profile")
		assert.Contains(t, b.get("/account/profile").body, `<option value="de" lang="de" selected>Deutsch</option>`)
		assert.Contains(t, b.json().get("/account/profile").body, `"email_notifications":true`)
		res := b.post("/account/profile", "website", "ftp://x")
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
	})
}

func picture(w, h int) image.Image {
	p := image.NewNRGBA(image.Rect(0, 0, w, h))
	for x := range w {
		for y := range h {
			p.Set(x, y, color.NRGBA{uint8(x), uint8(y), 90, 255})
		}
	}
	return p
}

// webp is a picture of one pixel.
var webp, _ = base64.StdEncoding.DecodeString("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAQAcJaQAA3AA/v3AgAA=")

func (b *browser) upload(field string, data []byte) answer {
	b.k.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile(field, "../../evil.html")
	require.NoError(b.k.t, err)
	_, err = part.Write(data)
	require.NoError(b.k.t, err)
	require.NoError(b.k.t, form.Close())
	return b.do(http.MethodPost, "/account/profile/picture", form.FormDataContentType(), body.String())
}

func TestPicture_IsEncodedAnewAndBounded(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		var asPNG, asJPEG, asGIF bytes.Buffer
		require.NoError(t, png.Encode(&asPNG, picture(600, 300)))
		require.NoError(t, jpeg.Encode(&asJPEG, picture(40, 30), nil))
		require.NoError(t, gif.Encode(&asGIF, picture(10, 10), nil))
		// What else a file says, such as a place, must not come out again.
		marked := append(bytes.Clone(asJPEG.Bytes()[:2]), append([]byte{0xff, 0xe1, 0, 18}, []byte("Exif\x00\x00SECRETGPS!")...)...)
		marked = append(marked, asJPEG.Bytes()[2:]...)
		last := ""
		for name, file := range map[string][]byte{"png": asPNG.Bytes(), "jpeg": marked, "gif": asGIF.Bytes(), "webp": webp} {
			b.upload("picture", file).leadsTo(t, "/account/profile")
			id, err := k.PictureID(t.Context(), u.ID)
			require.NoError(t, err)
			assert.NotEqual(t, last, id, name)
			last = id
			data, err := k.Picture(t.Context(), id)
			require.NoError(t, err)
			assert.NotContains(t, string(data), "SECRETGPS", name)
			got, err := png.DecodeConfig(bytes.NewReader(data))
			require.NoError(t, err)
			assert.LessOrEqual(t, got.Width, 256)
			assert.Equal(t, got.Width, got.Height)
		}
		res := b.get("/account/picture/" + last)
		assert.Equal(t, "image/png", res.Header.Get("Content-Type"))
		assert.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
		assert.Contains(t, res.Header.Get("Content-Security-Policy"), "sandbox")
		assert.Contains(t, b.get("/account/profile").body, "/account/picture/"+last)
		assert.Equal(t, http.StatusSeeOther, k.browser().get("/account/picture/"+last).StatusCode, "only who is signed in")

		for name, file := range map[string][]byte{
			"html": []byte("<script>alert(1)</script>"), "svg": []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), "empty": {}, "cut off": asPNG.Bytes()[:60],
			"bomb": bomb(), "too large": append(bytes.Clone(asPNG.Bytes()), make([]byte, auth.MaxPictureBytes)...),
		} {
			res := b.upload("picture", file)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode, name)
			assert.Contains(t, res.body, `id="f-picture-error"`, name)
		}
		assert.Equal(t, http.StatusUnprocessableEntity, b.upload("other", asPNG.Bytes()).StatusCode)
		assert.Equal(t, http.StatusUnprocessableEntity, b.post("/account/profile/picture", "picture", "x").StatusCode)
		id, err := k.PictureID(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, last, id, "what is refused changes nothing")
		b.post("/account/profile/picture/remove").leadsTo(t, "/account/profile")
		assert.Equal(t, http.StatusNotFound, b.get("/account/picture/"+last).StatusCode)
	})
}

// bomb is a small PNG that says it is 60,000 pixels wide and high.
func bomb() []byte {
	head := append([]byte("IHDR"), 0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60, 8, 6, 0, 0, 0)
	file := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(head))
}

// hooks is what another package keeps.
type hooks struct {
	closing, closed, erased atomic.Int32
	fail                    atomic.Bool
	accounts                []string
}

func (h *hooks) data() []auth.AccountData {
	return []auth.AccountData{{
		Name: "credits",
		Export: func(_ context.Context, w io.Writer, account string) error {
			_, err := io.WriteString(w, `{"account":"`+account+`"}`)
			return err
		},
		Closing: func(context.Context, string) error { h.closing.Add(1); return nil },
		Close: func(context.Context, string) error {
			h.closed.Add(1)
			if h.fail.Load() {
				return errors.New("Stripe is away")
			}
			return nil
		},
		Erase: func(_ context.Context, _ *sqlx.Tx, account string) error {
			h.erased.Add(1)
			h.accounts = append(h.accounts, account)
			return nil
		},
	}, {Name: "nothing"}}
}

func TestExport_HoldsEverythingOfThePersonAndNoSecret(t *testing.T) {
	var h hooks
	run(t, func(t *testing.T, k *kit) {
		u, other := k.user(email), k.user("other@example.com")
		_, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "my key"})
		require.NoError(t, err)
		var pic bytes.Buffer
		require.NoError(t, png.Encode(&pic, picture(9, 9)))
		require.NoError(t, k.SetPicture(t.Context(), u.ID, pic.Bytes()))
		b := k.browser()
		b.logIn(email, password)
		res := b.post("/account/export")
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "application/zip", res.Header.Get("Content-Type"))
		assert.Contains(t, res.Header.Get("Content-Disposition"), "attachment")
		files, err := zip.NewReader(strings.NewReader(res.body), int64(len(res.body)))
		require.NoError(t, err)
		texts := map[string]string{}
		for _, f := range files.File {
			r, err := f.Open()
			require.NoError(t, err)
			text, err := io.ReadAll(r)
			require.NoError(t, err)
			texts[f.Name] = string(text)
		}
		assert.Len(t, texts, 3)
		assert.JSONEq(t, `{"account":"`+u.ID+`"}`, texts["credits.json"])
		assert.True(t, strings.HasPrefix(texts["picture.png"], "\x89PNG"))
		for _, want := range []string{u.ID, email, "my key", `"login"`, "192.0.2.1"} {
			assert.Contains(t, texts["account.json"], want)
		}
		for _, secret := range []string{"argon2id", token, other.ID, "password_hash"} {
			assert.NotContains(t, texts["account.json"], secret)
		}
		k.clock.Advance(11 * time.Minute)
		assert.Contains(t, b.post("/account/export").Header.Get("Location"), "/auth/confirm")
	}, func(c *auth.Config) { c.AccountData = h.data() })
}

func TestDeletion_WaitsCanBeCancelledAndErasesOnce(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"cancelled", "erased"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
				var h hooks
				k := newKit(t, db, func(c *auth.Config) { c.AccountData = h.data() })
				u := k.user(email)
				o, err := k.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: "Alone"})
				require.NoError(t, err)
				_, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
				require.NoError(t, err)
				b, other := k.browser(), k.browser()
				b.logIn(email, password)
				other.logIn(email, password)
				assert.Equal(t, http.StatusUnprocessableEntity, b.post("/account/delete", "email", "wrong@example.com").StatusCode)
				b.post("/account/delete", "email", email).leadsTo(t, "/account/delete")
				b.post("/account/delete", "email", email).leadsTo(t, "/account/delete")
				assert.EqualValues(t, 1, h.closing.Load(), "asked for twice, told once")
				assert.False(t, other.in())
				_, _, err = k.AuthenticateKey(t.Context(), token)
				require.ErrorIs(t, err, auth.ErrKey)
				assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM test_mails WHERE kind = 'auth.deletion'`))
				k.clock.Advance(14*24*time.Hour - time.Second)
				n, err := k.EraseDue(t.Context())
				require.NoError(t, err)
				require.Zero(t, n, "not before its time")
				b.logIn(email, password)
				if name == "cancelled" {
					b.post("/account/delete/cancel").leadsTo(t, "/account/")
					assert.Equal(t, http.StatusConflict, b.post("/account/delete/cancel").StatusCode)
					k.clock.Advance(time.Hour)
					n, err = k.EraseDue(t.Context())
					require.NoError(t, err)
					require.Zero(t, n)
					require.Zero(t, h.closed.Load())
					assert.True(t, b.in())
					return
				}
				k.clock.Advance(time.Second)
				h.fail.Store(true)
				n, err = k.EraseDue(t.Context())
				require.ErrorContains(t, err, "Stripe is away")
				require.Zero(t, n)
				_, err = k.FindUser(t.Context(), u.ID)
				require.NoError(t, err, "nothing is erased while a subscription may go on")
				h.fail.Store(false)
				n, err = k.EraseDue(t.Context())
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				assert.ElementsMatch(t, []string{u.ID, o.ID}, h.accounts, "an organisation that nobody else is in ends too")
				assert.False(t, b.in())
				_, err = k.FindUser(t.Context(), u.ID)
				require.ErrorIs(t, err, auth.ErrNotFound)
				for _, table := range []string{"sessions", "api_keys", "members", "organisations", "profiles", "pictures"} {
					assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_`+table), table)
				}
				assert.Contains(t, k.events(u.ID), auth.EventErased)
				n, err = k.EraseDue(t.Context())
				require.NoError(t, err)
				require.Zero(t, n)
			})
		})
	}
}

func TestDeletion_IsNotForStaff(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.withRole(email, auth.RoleStaff)
		_, err := k.AskForDeletion(t.Context(), u.ID, "", auth.Client{})
		require.ErrorIs(t, err, auth.ErrStaffDeletion)
		require.ErrorIs(t, k.CancelDeletion(t.Context(), u.ID, auth.Client{}), auth.ErrNoDeletion)
	})
}
