package browsertest

import (
	"context"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Authenticator is a device of the browser's own that keeps passkeys and confirms at once, as a person with a
// fingerprint does.
type Authenticator struct {
	b  *Browser
	id webauthn.AuthenticatorID
}

// Authenticator gives the browser such a device.
func (b *Browser) Authenticator() *Authenticator {
	b.tb.Helper()
	added := read(b, "add an authenticator", func(ctx context.Context, t *chromedp.Target) (webauthn.AddVirtualAuthenticatorResult, error) {
		if _, err := cdp.Call(ctx, t, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return webauthn.AddVirtualAuthenticatorResult{}, err
		}
		return cdp.Call(ctx, t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
	})
	return &Authenticator{b, added.AuthenticatorID}
}

// Recognises sets whether the device takes whoever uses it for its owner.
func (a *Authenticator) Recognises(owner bool) {
	a.b.tb.Helper()
	read(a.b, "set who uses the authenticator", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: owner})
	})
}

// Passkeys is how many the device keeps.
func (a *Authenticator) Passkeys() int {
	a.b.tb.Helper()
	kept := read(a.b, "count the passkeys", func(ctx context.Context, t *chromedp.Target) (webauthn.GetCredentialsResult, error) {
		return cdp.Call(ctx, t, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	})
	return len(kept.Credentials)
}
