// Package problem holds the errors that a person or a program outside may see: a machine code, a sentence that says
// what to do next, and facts. Every other error is "internal error" to them and a log line to the operator.
package problem

import "errors"

// The codes that several packages use. A package may have codes of its own; internal/web maps each to a status.
const (
	CodeInvalid         = "invalid"         // the input breaks a rule; Fields says which
	CodeMalformed       = "malformed"       // the request does not parse
	CodeUnauthenticated = "unauthenticated" // nobody is signed in, or the key is wrong
	CodeForbidden       = "forbidden"       // signed in, and not allowed
	CodeNotFound        = "not_found"       // there is no such thing, or it is somebody else's
	CodeConflict        = "conflict"        // the state does not allow it
	CodeTooLarge        = "too_large"       // the body is over the limit
	CodeTooMany         = "too_many"        // a limit of attempts or calls is reached
	CodeUnavailable     = "unavailable"     // something that we depend on does not answer; try again
	CodeInternal        = "internal"        // ours to mend
)

// Coder is what an error offers to be shown. [Error] is one; typed errors with facts of their own implement it too.
type Coder interface {
	error
	// ErrorCode is the machine code: lower case, words joined by underscores, never changed once released.
	ErrorCode() string
	// ErrorMessage is a sentence for the person, without secrets or other people's data.
	ErrorMessage() string
	// ErrorDetails are facts by name, nil when there are none. Their values are encoded as JSON.
	ErrorDetails() map[string]any
}

// Error is a [Coder] with no facts beyond the fields at fault. Compare with errors.Is by identity, so a sentinel is
// made once.
type Error struct {
	Code    string
	Message string
	// Fields are the rules that input broke, by the name of the field as the form and the JSON call it.
	Fields map[string]string
}

// New makes an error, mostly a sentinel.
func New(code, message string) *Error { return &Error{Code: code, Message: message} }

// Invalid makes an error of code [CodeInvalid] for the fields, each with the sentence that says how to mend it.
func Invalid(fields map[string]string) *Error {
	return &Error{Code: CodeInvalid, Message: "Some of the fields need another look.", Fields: fields}
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// ErrorCode implements [Coder].
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage implements [Coder].
func (e *Error) ErrorMessage() string { return e.Message }

// ErrorDetails implements [Coder]: the fields under the key "fields".
func (e *Error) ErrorDetails() map[string]any {
	if len(e.Fields) == 0 {
		return nil
	}
	return map[string]any{"fields": e.Fields}
}

// From finds the [Coder] in err's tree, or nil when there is none.
func From(err error) Coder {
	if c, ok := errors.AsType[Coder](err); ok {
		return c
	}
	return nil
}

// FieldsOf returns the fields at fault of the [Error] in err's tree, or nil.
func FieldsOf(err error) map[string]string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Fields
	}
	return nil
}
