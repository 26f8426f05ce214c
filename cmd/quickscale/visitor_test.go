package main_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// visitor is a browser without scripts in front of a running project.
type visitor struct {
	t      *testing.T
	base   string
	client *http.Client
}

func visit(t *testing.T, base string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t, base, &http.Client{Jar: jar, Timeout: time.Minute}}
}

func (v *visitor) do(method, path, body string, header map[string]string) (where, page string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, strings.NewReader(body))
	require.NoError(v.t, err)
	for name, value := range header {
		r.Header.Set(name, value)
	}
	res, err := v.client.Do(r)
	require.NoError(v.t, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	require.Equal(v.t, http.StatusOK, res.StatusCode, "%s %s: %s", method, path, content)
	return res.Request.URL.Path, string(content)
}

func (v *visitor) get(path string) string {
	v.t.Helper()
	_, page := v.do(http.MethodGet, path, "", nil)
	return page
}

// post sends a form and returns where it led.
func (v *visitor) post(path string, fields ...string) string {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	where, _ := v.do(http.MethodPost, path, form.Encode(), map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": v.base})
	return where
}

func (v *visitor) find(path, pattern string) string {
	v.t.Helper()
	page := v.get(path)
	m := regexp.MustCompile(pattern).FindStringSubmatch(page)
	require.NotNil(v.t, m, "%s is not in %s:\n%s", pattern, path, page)
	return html.UnescapeString(m[1])
}

// buyAndUse is the main job: sign up, confirm, log in, buy a pack from the double, use a service. It returns the balance.
func (v *visitor) buyAndUse(email, service, field, value, left string) {
	v.t.Helper()
	const password = "correct horse battery"
	v.post("/auth/signup", "email", email, "password", password, "name", "Grace")
	var link string
	require.Eventually(v.t, func() bool {
		_, body := v.do(http.MethodGet, "/dev/mail", "", map[string]string{"Accept": "application/json"})
		var outbox struct {
			Data struct {
				Messages []struct {
					To    string
					Links []string
				}
			}
		}
		require.NoError(v.t, json.Unmarshal([]byte(body), &outbox))
		for _, m := range outbox.Data.Messages {
			if m.To == email && len(m.Links) > 0 {
				link = m.Links[0]
			}
		}
		return link != ""
	}, time.Minute, 50*time.Millisecond)
	u, err := url.Parse(link)
	require.NoError(v.t, err)
	v.post("/auth/verify", "token", u.Query().Get("token"))
	v.post("/auth/login", "email", email, "password", password)
	v.balanceIs("0")
	checkout := v.post("/billing/checkout", "price", v.find("/billing/", `name="price" value="([^"]+)"`))
	v.post(checkout, "email", email, "number", "4242424242424242", "expiry", "12/40", "cvc", "123", "name", "Grace Hopper")
	v.balanceIs("100")
	v.post("/services/"+service, field, value)
	v.balanceIs(left)
}

func (v *visitor) balanceIs(credits string) {
	v.t.Helper()
	require.Eventually(v.t, func() bool {
		return v.find("/account/", `id="balance">([0-9.]+) credits`) == credits
	}, time.Minute, 50*time.Millisecond, "the balance is not %s", credits)
}
