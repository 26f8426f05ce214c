package main

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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// visitor is a browser without scripts: it keeps cookies, follows redirects and sends forms.
type visitor struct {
	t      testing.TB
	base   string
	client *http.Client
}

func visit(t testing.TB, p *process) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t, p.base, &http.Client{Jar: jar, Timeout: time.Minute}}
}

// answer is a page, or what else came.
type answer struct {
	status int
	url    *url.URL
	body   string
}

// text is the page without its tags, white space folded.
func (a answer) text() string {
	plain := regexp.MustCompile(`(?s)<(script|style)\b.*?</(script|style)>|<[^>]*>`).ReplaceAllString(a.body, " ")
	return strings.Join(strings.Fields(html.UnescapeString(plain)), " ")
}

// find returns the group of the pattern in the page.
func (v *visitor) find(a answer, pattern string) string {
	v.t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(a.body)
	require.NotNil(v.t, m, "%s is not in the page of %s:\n%s", pattern, a.url, a.text())
	return html.UnescapeString(m[1])
}

func (v *visitor) do(r *http.Request) answer {
	v.t.Helper()
	res, err := v.client.Do(r)
	require.NoError(v.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	return answer{res.StatusCode, res.Request.URL, string(body)}
}

func (v *visitor) absolute(path string) string {
	if strings.HasPrefix(path, "/") {
		return v.base + path
	}
	return path
}

func (v *visitor) get(path string) answer {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.absolute(path), nil)
	require.NoError(v.t, err)
	return v.do(r)
}

// post sends a form as a browser would, with the headers that tell where it stands.
func (v *visitor) post(path string, fields ...string) answer {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.absolute(path), strings.NewReader(form.Encode()))
	require.NoError(v.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", v.base)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.do(r)
}

// json asks for JSON and reads the data of the answer.
func (v *visitor) json(path string, data any) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.absolute(path), nil)
	require.NoError(v.t, err)
	r.Header.Set("Accept", "application/json")
	a := v.do(r)
	require.Equal(v.t, http.StatusOK, a.status, "%s: %s", path, a.body)
	require.NoError(v.t, json.Unmarshal([]byte(a.body), &struct {
		Data any `json:"data"`
	}{data}))
}

// call uses the API as curl does: no cookies, no headers but those given.
func (v *visitor) call(key, service, body string) (status int, out apiAnswer) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.base+"/api/v1/services/"+service, strings.NewReader(body))
	require.NoError(v.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // what curl -d says
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(v.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	require.NoError(v.t, json.Unmarshal(raw, &out), "%s", raw)
	return res.StatusCode, out
}

// apiAnswer is the one shape of the API's answers.
type apiAnswer struct {
	Success bool `json:"success"`
	Data    struct {
		CallID         string         `json:"call_id"`
		Result         map[string]any `json:"result"`
		CreditsCharged string         `json:"credits_charged"`
		Balance        string         `json:"balance"`
	} `json:"data"`
	Error struct {
		Code    string         `json:"code"`
		Message string         `json:"message"`
		Details map[string]any `json:"details"`
	} `json:"error"`
}

// mailTo waits for the newest mail to an address whose subject matches, and returns its links.
func (v *visitor) mailTo(address, subject string) []string {
	v.t.Helper()
	var found []string
	require.Eventually(v.t, func() bool {
		var page struct {
			Messages []struct {
				To, Subject string
				Links       []string
			}
		}
		v.json("/dev/mail", &page)
		for _, m := range page.Messages {
			if m.To == address && regexp.MustCompile(subject).MatchString(m.Subject) {
				found = m.Links
				return true
			}
		}
		return false
	}, time.Minute, 50*time.Millisecond, "a mail to %s about %s", address, subject)
	return found
}

const password = "correct horse battery"

// join signs up, confirms the address and logs in.
func (v *visitor) join(address string) {
	v.t.Helper()
	a := v.post("/auth/signup", "email", address, "password", password, "name", "Grace")
	require.Equal(v.t, http.StatusOK, a.status, a.text())
	links := v.mailTo(address, "(?i)confirm")
	require.NotEmpty(v.t, links)
	a = v.get(links[0])
	require.Equal(v.t, http.StatusOK, a.status, a.text())
	u, err := url.Parse(links[0])
	require.NoError(v.t, err)
	a = v.post("/auth/verify", "token", u.Query().Get("token"))
	require.Equal(v.t, http.StatusOK, a.status, a.text())
	v.login(address, password)
}

func (v *visitor) login(address, secret string) {
	v.t.Helper()
	a := v.post("/auth/login", "email", address, "password", secret)
	require.Equal(v.t, http.StatusOK, a.status, a.text())
	require.Equal(v.t, "/account/", a.url.Path, a.text())
}

// balance is what the header shows.
func (v *visitor) balance() string {
	v.t.Helper()
	return v.find(v.get("/account/"), `id="balance">([0-9.]+) credits`)
}

// checkout begins to buy the first pack and returns the page of the Stripe double.
func (v *visitor) checkout() answer {
	v.t.Helper()
	a := v.get("/billing/")
	require.Equal(v.t, http.StatusOK, a.status, a.text())
	price := v.find(a, `name="price" value="([^"]+)"`)
	a = v.post("/billing/checkout", "price", price)
	require.Equal(v.t, http.StatusOK, a.status, a.text())
	require.Contains(v.t, a.url.Path, "/dev/stripe/checkout/", a.text())
	return a
}

// pay fills in the double's form.
func (v *visitor) pay(page answer, card string) answer {
	v.t.Helper()
	return v.post(page.url.Path, "email", "grace@example.com", "number", card, "expiry", "12/40", "cvc", "123", "name", "Grace Hopper")
}

// thanked waits, as the success page does, until the credits are there.
func (v *visitor) thanked(a answer) {
	v.t.Helper()
	require.Equal(v.t, "/billing/success", a.url.Path, a.text())
	where := a.url.String()
	require.Eventually(v.t, func() bool { return strings.Contains(v.get(where).text(), "Thank you") }, time.Minute, 100*time.Millisecond)
}

// buy pays for the first pack.
func (v *visitor) buy() {
	v.t.Helper()
	v.thanked(v.pay(v.checkout(), "4242424242424242"))
}

func (v *visitor) assertPage(path string, status int, contains ...string) answer {
	v.t.Helper()
	a := v.get(path)
	assert.Equal(v.t, status, a.status, "%s: %s", path, a.text())
	for _, c := range contains {
		assert.Contains(v.t, a.text(), c, path)
	}
	return a
}
