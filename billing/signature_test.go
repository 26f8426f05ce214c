package billing_test

import (
	"encoding/hex"
	"fmt"
	"time"

	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
)

// signature is the Stripe-Signature header of a body.
func signature(body []byte, secret string) string {
	now := time.Now()
	return fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(now, body, secret)))
}
