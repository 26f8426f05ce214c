package stripetest

import (
	"net/http"
	"strconv"
	"strings"
)

// Card is what a person enters on the hosted page.
type Card struct {
	// Number, with or without spaces. See [CardSucceeds] and the others.
	Number string
	// Email and Name of who pays. Email is needed where the session has no customer.
	Email, Name string
	// FailAuthentication makes the person fail 3-D Secure, where the card asks for it.
	FailAuthentication bool
}

// The numbers that the double knows (docs.stripe.com/testing).
const (
	CardSucceeds          = "4242424242424242"
	CardDeclined          = "4000000000000002"
	CardInsufficientFunds = "4000000000009995"
	// CardAuthenticate needs 3-D Secure for every payment, so that it never pays off session.
	CardAuthenticate = "4000002760003184"
	// CardFailsLater can be saved, and every payment with it is declined.
	CardFailsLater = "4000000000000341"
	// CardRefundPends pays; its refunds are pending until [Server.SettleRefund]. With CardRefundFails they succeed and
	// fail a day later.
	CardRefundPends = "4000000000007726"
	CardRefundFails = "4000000000005126"
	// CardDisputed pays and is disputed at once as fraudulent; with CardInquired it is an inquiry.
	CardDisputed = "4000000000000259"
	CardInquired = "4000000000001976"
	// Delayed is in place of a card number: a bank debit that succeeds or fails later; see [Server.SettleDelayed].
	Delayed = "delayed"
)

// trait is what a card number does.
type trait struct {
	brand string
	// code is the decline of every payment, empty when they succeed. unsaved cards cannot be saved either.
	code, decline, message string
	unsaved                bool
	authenticate           bool
	refund                 string // what refunds do: pending or failing; empty: succeed
	dispute                string // the status of the dispute that follows a payment
}

const declinedMessage = "Your card was declined."

var traits = map[string]trait{
	CardSucceeds:          {brand: "visa"},
	"4000056655665556":    {brand: "visa"},
	"5555555555554444":    {brand: "mastercard"},
	"378282246310005":     {brand: "amex"},
	CardDeclined:          {brand: "visa", code: "card_declined", decline: "generic_decline", message: declinedMessage, unsaved: true},
	CardInsufficientFunds: {brand: "visa", code: "card_declined", decline: "insufficient_funds", message: "Your card has insufficient funds.", unsaved: true},
	"4000000000000069":    {brand: "visa", code: "expired_card", message: "Your card has expired.", unsaved: true},
	"4000000000000127":    {brand: "visa", code: "incorrect_cvc", message: "Your card's security code is incorrect.", unsaved: true},
	"4000000000000119":    {brand: "visa", code: "processing_error", message: "An error occurred while processing your card. Try again in a little bit.", unsaved: true},
	CardFailsLater:        {brand: "visa", code: "card_declined", decline: "generic_decline", message: declinedMessage},
	CardAuthenticate:      {brand: "visa", authenticate: true},
	CardRefundPends:       {brand: "visa", refund: "pending"},
	CardRefundFails:       {brand: "visa", refund: "failing"},
	CardDisputed:          {brand: "visa", dispute: "needs_response"},
	CardInquired:          {brand: "visa", dispute: "warning_needs_response"},
}

// Payment methods that stand for a card in tests (docs.stripe.com/testing#cards).
var testMethods = map[string]string{
	"pm_card_visa":                                 CardSucceeds,
	"pm_card_visa_debit":                           "4000056655665556",
	"pm_card_mastercard":                           "5555555555554444",
	"pm_card_amex":                                 "378282246310005",
	"pm_card_chargeDeclined":                       CardDeclined,
	"pm_card_visa_chargeDeclined":                  CardDeclined,
	"pm_card_chargeDeclinedInsufficientFunds":      CardInsufficientFunds,
	"pm_card_visa_chargeDeclinedInsufficientFunds": CardInsufficientFunds,
	"pm_card_chargeCustomerFail":                   CardFailsLater,
	"pm_card_authenticationRequired":               CardAuthenticate,
	"pm_card_pendingRefund":                        CardRefundPends,
	"pm_card_refundFail":                           CardRefundFails,
	"pm_card_createDispute":                        CardDisputed,
	"pm_card_createDisputeInquiry":                 CardInquired,
}

// Tokens of cards, as card[token] takes them.
var testTokens = map[string]string{
	"tok_visa": CardSucceeds, "tok_mastercard": "5555555555554444", "tok_amex": "378282246310005", "tok_chargeDeclined": CardDeclined,
	"tok_visa_chargeDeclined": CardDeclined, "tok_chargeCustomerFail": CardFailsLater, "tok_createDispute": CardDisputed,
}

// digits are a card number without what people put between.
func digits(number string) string { return strings.NewReplacer(" ", "", "-", "").Replace(number) }

// traitOf returns what a number does, or Stripe's error about it.
func traitOf(number, param string) (trait, error) {
	t, known := traits[number]
	if known || number == Delayed {
		return t, nil
	}
	return t, &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "incorrect_number", Param: param,
		Message: "Your card number is incorrect, or is none of the test cards that the double knows."}
}

// cardKey is what is kept of a number: not even a double holds one, so that nobody's habits or scanners are misled.
func cardKey(number string) string {
	if number == Delayed {
		return Delayed
	}
	return digest(number)
}

var traitsByKey = func() map[string]trait {
	keys := make(map[string]trait, len(traits))
	for number, t := range traits {
		keys[cardKey(number)] = t
	}
	return keys
}()

// keptTrait is what the card of a payment method or a charge does.
func keptTrait(o object) trait { return traitsByKey[text(o["_card"])] }

// refusal is the error of a card that is declined.
func (t trait) refusal() *apiError {
	return &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: t.code, DeclineCode: t.decline, Message: t.message}
}

// notAuthenticated is the error of a payment that would need the person.
func notAuthenticated() *apiError {
	return &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "authentication_required", DeclineCode: "authentication_required",
		Message: "Your card was declined. This transaction requires authentication."}
}

// luhn checks a card number's last digit (ISO/IEC 7812-1).
func luhn(digits string) bool {
	if len(digits) < 12 || len(digits) > 19 {
		return false
	}
	sum := 0
	for i := range len(digits) {
		n, err := strconv.Atoi(digits[len(digits)-1-i : len(digits)-i])
		if err != nil {
			return false
		}
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}
