package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// routed are the folders whose routes the example serves, from the top of the repository, with where each is mounted and
// what the names stand for that its patterns are made of.
var routed = map[string]struct {
	below string
	names map[string][]string
}{
	".":                  {},
	"examples/saas":      {},
	"admin":              {},
	"internal/web":       {names: map[string][]string{"at": {"/dev/ui"}}},
	"billing":            {names: map[string][]string{"at": {"/billing"}}},
	"credits":            {names: map[string][]string{"p.cfg.Path": {"/credits"}}},
	"mail":               {names: map[string][]string{"at": {"/dev/mail"}}},
	"services":           {names: map[string][]string{}},
	"webhook/outbound":   {names: map[string][]string{"at": {"/account/webhooks"}}},
	"billing/stripetest": {below: "/dev/stripe", names: map[string][]string{}},
	"auth":               {names: map[string][]string{"a.cfg.Path": {"/auth"}, "a.cfg.AccountPath": {"/account"}}},
}

// routedFiles say what names stand for in one file, where that is not so in the whole folder.
var routedFiles = map[string]map[string][]string{
	"public.go":                             {"pricingPath": {"/pricing"}, "aboutPath": {"/about"}, "contactPath": {"/contact"}, "termsPath": {"/terms"}, "privacyPath": {"/privacy"}},
	"auth/organisation_deletion_handler.go": {"at": {"/account/organisation/delete"}},
	"auth/member_key_handler.go":            {"at": {"/account/organisation/api-keys"}},
	"auth/email_handler.go":                 {"at": {"/auth/email"}},
	"auth/magic_handler.go":                 {"at": {"/auth/magic"}},
	"auth/pending_handler.go":               {"at": {"/auth"}, "path": {"/2fa/passkey", "/2fa/setup"}},
	"auth/confirm_handler.go":               {"at": {"/auth/confirm"}},
	"auth/oauth_handler.go":                 {"at": {"/auth/oauth"}},
	"auth/organisation_handler.go":          {"at": {"/account/organisation"}, "form": {"/name", "/invitations"}},
	"auth/factor_handler.go":                {"at": {"/account/security"}, "path": {"/backup-codes", "/password/add"}},
	"auth/profile_handler.go":               {"at": {"/account"}},
	"services/handler.go":                   {"at": {"/services"}},
	"services/api_handler.go":               {"at": {"/api/v1"}},
	"services/openapi.go":                   {"at": {"/api/v1"}},
	// Its first lines are the entry pages, its second ones the account's; what there is not is taken off the list.
	"auth/handler.go": {"at": {"/auth", "/account"}},
}

// notPages are routes that are declared for GET and are no page, with the reason.
var notPages = map[string]string{
	"/healthz":                            "for machines",
	"/metrics":                            "for machines",
	"/readyz":                             "for machines",
	"/api/v1/services":                    "JSON only",
	"/api/v1/services/{name}":             "JSON only",
	"/api/v1/calls/{id}":                  "JSON only",
	"/api/v1/credits":                     "JSON only",
	"/api/v1/usage":                       "JSON only",
	"/api/v1/openapi.json":                "JSON only",
	"/admin/payments.csv":                 "a download",
	"/admin/services/{id}/price":          "a redirect to the service",
	"/dev/mail/preview/html":              "a mail, which stands in a frame of its page",
	"/admin/audit.csv":                    "a download",
	"/admin/security.csv":                 "a download",
	"/credits/history.csv":                "a download",
	"/billing/payments/{id}/receipt.pdf":  "a download",
	"/account/picture/{id}":               "a picture",
	"/dev/mail":                           "the same page as /dev/mail/",
	"/dev/mail/{id}/html":                 "a mail, which stands in a frame of its page",
	"/dev/stripe/static/style.css":        "a style sheet",
	"/account/security/passkeys":          "JSON; people are led to the page Security",
	"/pricing":                            "a redirect to /billing/",
	"/admin/users/{id}/credits/preview":   "a redirect to the form",
	"/admin/users/{id}/second-step":       "a redirect to the form",
	"/admin/payments/{id}/refund/preview": "a redirect to the form",
	"/account/profile/picture":            "a redirect to the form",
	"/account/security/password":          "a redirect to the form",
	"/account/security/email":             "a redirect to the form",
	"/account/security/backup-codes":      "a redirect to the form",
	"/account/security/password/add":      "a redirect to the form",
	"/account/organisation/name":          "a redirect to the form",
	"/account/organisation/invitations":   "a redirect to the form",
	"/auth/2fa/passkey":                   "a redirect to the form",
	"/auth/2fa/setup":                     "a redirect to the form",
	"/auth/confirm/passkey":               "a redirect to the form",
	"/dev/stripe/authenticate/{id}":       "asked for by a card of its own kind; billing/stripetest has its test",
	"/dev/stripe/portal/{id}":             "opened from a session of its own; billing/stripetest has its test",
	"/dev/stripe/receipts/{id}":           "the simulation of a page that is Stripe's",
	"/dev/stripe/invoices/{id}":           "the simulation of a page that is Stripe's",
}

// declared are the patterns of all routes for GET in the program's source. Go's ServeMux tells them to nobody, and most are
// behind several of it.
func declared(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for folder, mount := range routed {
		entries, err := os.ReadDir(filepath.Join("..", "..", folder))
		require.NoError(t, err)
		for _, e := range entries {
			if filepath.Ext(e.Name()) != ".go" || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			name := filepath.ToSlash(filepath.Join(folder, e.Name()))
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", name), nil, 0)
			require.NoError(t, err)
			names := maps.Clone(mount.names)
			if names == nil {
				names = map[string][]string{}
			}
			maps.Copy(names, routedFiles[name])
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				// The back office lists its routes, and adds its path to all of them.
				if of, ok := call.Fun.(*ast.Ident); ok && folder == "admin" && (of.Name == "view" || of.Name == "download") {
					for _, path := range texts(t, name, call.Args[0], names) {
						found["/admin"+path] = true
					}
				}
				if of, ok := call.Fun.(*ast.SelectorExpr); !ok || of.Sel.Name != "Handle" && of.Sel.Name != "HandleFunc" {
					return true
				}
				for _, pattern := range texts(t, name, call.Args[0], names) {
					if path, ok := strings.CutPrefix(pattern, "GET "); ok {
						found[mount.below+path] = true
					}
				}
				return true
			})
		}
	}
	for path := range found {
		if strings.HasPrefix(path, "/auth/") && found["/account"+strings.TrimPrefix(path, "/auth")] {
			delete(found, phantom(path))
		}
	}
	require.Greater(t, len(found), 80, "the source was read")
	return slices.Sorted(maps.Keys(found))
}

// phantom is the one of the two paths that auth/handler.go's "at" makes of a line which there is not.
func phantom(auth string) string {
	account := "/account" + strings.TrimPrefix(auth, "/auth")
	switch account {
	case "/account/{$}", "/account/security", "/account/security/password", "/account/api-keys":
		return auth
	}
	return account
}

// texts are what an expression of texts can be. A pattern for GET that it cannot read fails the test; others do not matter.
func texts(t *testing.T, file string, e ast.Expr, names map[string][]string) []string {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		require.NoError(t, err)
		return []string{text}
	case *ast.BinaryExpr:
		var all []string
		for _, left := range texts(t, file, e.X, names) {
			if left != "" && !strings.HasPrefix(left, http.MethodGet+" ") {
				return nil
			}
			for _, right := range texts(t, file, e.Y, names) {
				all = append(all, left+right)
			}
		}
		return all
	case *ast.Ident:
		if known := names[e.Name]; known != nil {
			return known
		}
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			if known := names[x.Name+"."+e.Sel.Name]; known != nil {
				return known
			}
			if inner, ok := e.X.(*ast.Ident); ok && inner.Name == "http" {
				return nil
			}
		}
		if inner, ok := e.X.(*ast.SelectorExpr); ok {
			if x, ok := inner.X.(*ast.Ident); ok {
				if known := names[x.Name+"."+inner.Sel.Name+"."+e.Sel.Name]; known != nil {
					return known
				}
			}
		}
	}
	return []string{"\x00unknown in " + file} // reported when it is part of a pattern for GET
}

// patterns makes a multiplexer that tells which declared route an address is.
func patterns(t *testing.T, declared []string) *http.ServeMux {
	t.Helper()
	mux := http.NewServeMux()
	for _, path := range declared {
		require.NotContains(t, path, "\x00", "a route's pattern cannot be read: say in routed or routedFiles what its names stand for")
		mux.Handle("GET "+path, http.NotFoundHandler())
	}
	return mux
}
