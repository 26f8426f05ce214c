package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Error is an answer that is no success.
type Error struct {
	// Status is that of HTTP; 0 for the failure of a job, and in the middle of a stream.
	Status int `json:"-"`
	// Code is for programs, such as insufficient_credits, and Message for people.
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Details map[string]any `json:"details"`
	// RetryAfter is how long the server asks to wait. Zero: it does not say.
	RetryAfter time.Duration `json:"-"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("client: %s: %s", e.Code, e.Message) }

// Is tells errors of one code to be the same, for errors.Is(err, &client.Error{Code: "insufficient_credits"}).
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// Fields are the sentences about fields at fault, by their path in the input.
func (e *Error) Fields() map[string]string {
	given, _ := e.Details["fields"].(map[string]any)
	fields := make(map[string]string, len(given))
	for name, sentence := range given {
		fields[name] = fmt.Sprint(sentence)
	}
	return fields
}

// charged tells that the failed call was charged.
func (e *Error) charged() bool {
	amount, _ := e.Details["credits_charged"].(string)
	return amount != "" && amount != "0"
}

// readError reads an answer that is no success. What has no error in the API's shape, such as the page of a proxy, gets
// a code of its own.
func readError(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return lostError{fmt.Errorf("client: read the answer: %w", err)}
	}
	e := &Error{Status: res.StatusCode, RetryAfter: retryAfter(res.Header)}
	envelope := struct {
		Error *Error `json:"error"`
	}{e}
	if err := json.Unmarshal(text, &envelope); err != nil || e.Code == "" {
		e.Code, e.Message = "unexpected", "The server answered "+res.Status+"."
	}
	return e
}
