package quickscale

import (
	"net/http"
	"strings"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/services"
)

// ScopeAPI is the scope of an API key that may do all that the API and MCP offer. [ScopeService] and the name of a
// service is one for that service alone: its price, its calls and their results, without the balance and the usage.
const (
	ScopeAPI     = auth.DefaultKeyScope
	ScopeService = "service:"
)

// apiCaller tells who calls the API: an API key, or else the session of the browser.
func (a *App) apiCaller(r *http.Request) (services.Caller, error) {
	if _, ok := auth.BearerToken(r); !ok {
		if id, signedIn := accountOf(r); signedIn {
			return services.Caller{Account: id}, nil
		}
		return services.Caller{}, services.ErrUnauthenticated
	}
	_, key, err := a.Auth.AuthenticateRequest(r)
	if err != nil {
		return services.Caller{}, err
	}
	who := services.Caller{Account: key.AccountID}
	if key.Allows(ScopeAPI) {
		return who, nil
	}
	for _, scope := range key.Scopes {
		if name, ok := strings.CutPrefix(scope, ScopeService); ok {
			who.Services = append(who.Services, name)
		}
	}
	if who.Services == nil {
		return services.Caller{}, services.ErrScope
	}
	return who, nil
}
