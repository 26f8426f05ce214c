package stripetest

import (
	"fmt"
	"net/http"
)

// apiError is an error as Stripe answers it (docs.stripe.com/api/errors).
type apiError struct {
	status  int
	Type    string `json:"type"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
	// DeclineCode is set on card errors.
	DeclineCode string `json:"decline_code,omitempty"`
	// Charge and the rest are what the error is about.
	Charge        string `json:"charge,omitempty"`
	PaymentIntent any    `json:"payment_intent,omitempty"`
	SetupIntent   any    `json:"setup_intent,omitempty"`
	PaymentMethod any    `json:"payment_method,omitempty"`
	// kept says that what happened until the error stays: an attempt to pay that was declined.
	kept bool
}

func (e *apiError) Error() string { return e.Type + " " + e.Code + ": " + e.Message }

const invalidRequest = "invalid_request_error"

func missing(param string) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "parameter_missing", Param: param,
		Message: "Missing required param: " + param + "."}
}

func unknown(param string) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "parameter_unknown", Param: param,
		Message: "Received unknown parameter: " + param}
}

func invalid(param, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "parameter_invalid", Param: param, Message: fmt.Sprintf(format, args...)}
}

// unsupported refuses what Stripe can do and the double cannot.
func unsupported(param, what string) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "unsupported_by_double", Param: param,
		Message: "The Stripe double does not simulate " + what + "."}
}

// noSuch is a 404 about the path's id, and a 400 about any other parameter, as Stripe's is.
func noSuch(kind, id, param string) *apiError {
	status := http.StatusBadRequest
	if param == "id" {
		status = http.StatusNotFound
	}
	return &apiError{status: status, Type: invalidRequest, Code: "resource_missing", Param: param,
		Message: fmt.Sprintf("No such %s: '%s'", kind, id)}
}

func coded(code, param, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
}

func wrongState(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "resource_state_invalid", Message: fmt.Sprintf(format, args...)}
}

func inUse() *apiError {
	return &apiError{status: http.StatusConflict, Type: "idempotency_error", Code: "idempotency_key_in_use",
		Message: "There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through)."}
}

func unauthorized() *apiError {
	return &apiError{status: http.StatusUnauthorized, Type: invalidRequest, Code: "api_key_invalid",
		Message: "Invalid API Key provided. The Stripe double takes the secret key that it was configured with."}
}
