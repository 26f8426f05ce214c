package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// authenticator is a security key in software, which does and signs what a test wants.
type authenticator struct {
	t       *testing.T
	key     *ecdsa.PrivateKey
	id      []byte
	user    []byte
	counter uint32
	// rp, origin and flags are what is signed.
	rp, origin string
	flags      byte
}

// The flags of authenticator data (Web Authentication, 6.1).
const (
	flagUP = 1 << 0
	flagUV = 1 << 2
	flagBE = 1 << 3
	flagAT = 1 << 6
)

func newAuthenticator(t *testing.T) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	return &authenticator{t: t, key: key, id: id, rp: "app.example", origin: base, flags: flagUP | flagUV, counter: 1}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// options are what the site asks for.
type options struct {
	Challenge string `json:"challenge"`
	User      struct {
		ID string `json:"id"`
	} `json:"user"`
	RPID string `json:"rpId"`
	RP   struct {
		ID string `json:"id"`
	} `json:"rp"`
	UserVerification string `json:"userVerification"`
	Allow            []struct {
		ID string `json:"id"`
	} `json:"allowCredentials"`
	Exclude []struct {
		ID string `json:"id"`
	} `json:"excludeCredentials"`
	Selection struct {
		ResidentKey      string `json:"residentKey"`
		UserVerification string `json:"userVerification"`
	} `json:"authenticatorSelection"`
}

func (d *authenticator) options(c auth.PasskeyChallenge) (o options) {
	d.t.Helper()
	raw, err := json.Marshal(c.Options)
	require.NoError(d.t, err)
	require.NoError(d.t, json.Unmarshal(raw, &o))
	return o
}

func (d *authenticator) clientData(kind, challenge string) []byte {
	raw, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": d.origin, "crossOrigin": false})
	require.NoError(d.t, err)
	return raw
}

func (d *authenticator) data(flags byte) []byte {
	sum := sha256.Sum256([]byte(d.rp))
	return binary.BigEndian.AppendUint32(append(sum[:], flags), d.counter)
}

// create answers a registration.
func (d *authenticator) create(o options) []byte {
	d.t.Helper()
	user, err := base64.RawURLEncoding.DecodeString(o.User.ID)
	require.NoError(d.t, err)
	d.user = user
	point, err := d.key.PublicKey.Bytes()
	require.NoError(d.t, err)
	public, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	require.NoError(d.t, err)
	data := append(d.data(d.flags|flagAT), make([]byte, 16)...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(d.id)))
	data = append(append(data, d.id...), public...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	require.NoError(d.t, err)
	return d.credential(map[string]any{"clientDataJSON": b64(d.clientData("webauthn.create", o.Challenge)), "attestationObject": b64(object), "transports": []string{"usb"}})
}

// get answers a log-in.
func (d *authenticator) get(o options) []byte {
	d.t.Helper()
	d.counter++
	data, client := d.data(d.flags), d.clientData("webauthn.get", o.Challenge)
	sum := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte{}, data...), sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, d.key, digest[:])
	require.NoError(d.t, err)
	return d.credential(map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64(d.user)})
}

func (d *authenticator) credential(response map[string]any) []byte {
	raw, err := json.Marshal(map[string]any{"id": b64(d.id), "rawId": b64(d.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	require.NoError(d.t, err)
	return raw
}

// register adds a passkey to a user's account and returns the backup codes.
func (k *kit) register(u auth.User, d *authenticator, name string) (auth.Passkey, []string) {
	k.t.Helper()
	c, err := k.BeginPasskey(k.t.Context(), u.ID)
	require.NoError(k.t, err)
	key, codes, err := k.AddPasskey(k.t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: name, Response: d.create(d.options(c))})
	require.NoError(k.t, err)
	return key, codes
}

// byPasskey logs in by a passkey alone.
func (k *kit) byPasskey(d *authenticator) (auth.SignedIn, error) {
	k.t.Helper()
	c, err := k.BeginPasskeyLogIn(k.t.Context(), auth.Client{})
	require.NoError(k.t, err)
	return k.LogInByPasskey(k.t.Context(), auth.PasskeyLogInParams{Handle: c.Handle, Response: d.get(d.options(c))})
}
