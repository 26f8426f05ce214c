package quickscale

import (
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/web"
)

// Handler serves the public pages (see [Public]) and every package's routes at the paths of the HTTP contract, below the root of the site: /auth/,
// /account/, /billing/, /credits/, /services/, /api/v1/, /mcp, /admin/, /webhooks/stripe and /static/, and in development
// /dev/mail, /dev/stripe/ and /dev/ui. Other addresses get a page that says so. A host mounts it at "/" beside its own, more
// specific routes, which it wraps in [App.Wrap].
func (a *App) Handler() http.Handler { return a.handler }

func (a *App) routes() http.Handler {
	pages := http.NewServeMux()
	pages.Handle(authPath+"/", a.Auth.Handler())
	pages.Handle(accountPath+"/", a.Auth.Handler())
	pages.Handle(accountPath+"/impersonation/", a.impersonation(a.Auth.Handler()))
	if a.hooks != nil {
		pages.Handle(hooksPath+"/", a.Auth.RefuseImpersonation(a.members(auth.OrgRole.MayManage, a.hooks.Handler())))
	}
	pages.Handle(billingPath+"/", a.Auth.RefuseImpersonation(a.members(auth.OrgRole.MayPay, a.Billing.Handler())))
	pages.Handle(creditsPath+"/", a.Auth.RefuseImpersonation(a.pages.Handler()))
	pages.Handle(servicesPath+"/", a.Auth.RefuseImpersonation(a.Services.Handler()))
	pages.Handle(adminPath+"/", a.Admin.Handler())
	if a.outbox != nil {
		pages.Handle(outboxPath, a.outbox.Handler())
		pages.Handle(outboxPath+"/", a.outbox.Handler())
	}
	if a.gallery != nil {
		pages.Handle(galleryPath, a.gallery)
		pages.Handle(galleryPath+"/", a.gallery)
	}
	a.addPublic(pages)
	pages.HandleFunc("/", a.site.Missing(pages))

	mux := http.NewServeMux()
	mux.Handle("/", a.Wrap(pages))
	// Whoever calls the API reads JSON, also when the wrapping refuses the call.
	mux.Handle(apiPath+"/", web.JSONOnly(a.Wrap(a.Auth.RefuseImpersonation(a.Services.APIHandler()))))
	mux.Handle(mcpPath, a.shutTo(a.Services.MCPHandler()))
	mux.Handle(a.site.AssetPath(), a.site.Assets())
	// Some sites by which people log in have the browser send a form from there.
	mux.Handle("POST "+authPath+"/oauth/{name}/callback", a.Auth.Handler())
	// Stripe is another site, and its body is signed as it is: nothing stands before this handler.
	mux.Handle(webhookPath, a.Webhooks.Handler())
	if a.double != nil {
		mux.Handle(doublePath+"/", http.StripPrefix(doublePath, a.double))
	}
	return a.traced(mux)
}

// Wrap is the middleware for the host's own pages: it knows who is signed in (auth.UserFrom), sets the security
// headers, refuses what other sites send, keeps people out during maintenance, and recovers from panics.
func (a *App) Wrap(next http.Handler) http.Handler {
	return a.site.Protect(a.Auth.Load(a.shutTo(next)))
}

// secure tells whether people come over https.
func (a *App) secure() bool { return strings.HasPrefix(a.cfg.BaseURL, "https://") }

// Pages are the host's own pages inside the application's layout.
type Pages struct{ views *web.Views }

// Pages parses templates/*.html of files. Each defines the templates "title" and "content"; its data is .Data, and a
// file whose name begins with an underscore holds parts that all of them share.
func (a *App) Pages(files fs.FS) (*Pages, error) {
	views, err := a.site.Views("host", files)
	if err != nil {
		return nil, fmt.Errorf("quickscale: %w", err)
	}
	return &Pages{views}, nil
}

// Render answers with the page of that name, without its ending. Serve it through [App.Wrap], so that the header knows
// who is signed in.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	p.views.Render(w, r, status, name, data)
}
