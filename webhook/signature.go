package webhook

import (
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
)

// Errors of [Verify].
var (
	ErrSignatureHeader = errors.New("webhook: the Stripe-Signature header is missing or malformed")
	ErrSignature       = errors.New("webhook: no signature was made with a secret of ours")
	ErrTimestamp       = errors.New("webhook: the timestamp is too far from our clock")
)

// Verify checks the Stripe-Signature header of a raw body: HMAC-SHA256 of the timestamp, a dot and the body, under any
// of the secrets, compared in constant time, with a timestamp within tolerance of now either way
// (docs.stripe.com/webhooks, "Verify webhook signatures manually").
func Verify(body []byte, header string, secrets []string, now time.Time, tolerance time.Duration) error {
	var signed int64
	var signatures [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return ErrSignatureHeader
		}
		switch name {
		case "t":
			t, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return ErrSignatureHeader
			}
			signed = t
		case "v1":
			// One that is no hexadecimal cannot match; another one may.
			if s, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, s)
			}
		}
	}
	if signed <= 0 || len(signatures) == 0 {
		return ErrSignatureHeader
	}
	at := time.Unix(signed, 0)
	if !matches(body, at, secrets, signatures) {
		return ErrSignature
	}
	if d := now.Sub(at); d > tolerance || d < -tolerance {
		return ErrTimestamp
	}
	return nil
}

func matches(body []byte, at time.Time, secrets []string, signatures [][]byte) bool {
	found := false
	for _, secret := range secrets {
		want := stripewebhook.ComputeSignature(at, body, secret)
		for _, s := range signatures {
			found = hmac.Equal(want, s) || found
		}
	}
	return found
}
