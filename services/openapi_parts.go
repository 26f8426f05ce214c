package services

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
)

// answerTypes are the schemas of types that write themselves.
func answerTypes() map[reflect.Type]*jsonschema.Schema {
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[credits.Amount]():  {Type: "string", Pattern: `^-?[0-9]+(\.[0-9]{1,6})?$`},
		reflect.TypeFor[uuid.UUID]():       {Type: "string", Format: "uuid"},
		reflect.TypeFor[time.Time]():       {Type: "string", Format: "date-time"},
		reflect.TypeFor[json.RawMessage](): {},
	}
}

// sharedSchemas are the schemas of what the API answers, made from the types that are answered.
func sharedSchemas() (object, error) {
	shared := object{"Error": object{
		"type": "object", "required": []string{"success", "error"}, "additionalProperties": false,
		"properties": object{
			"success": object{"const": false},
			"error": object{
				"type": "object", "required": []string{"code", "message"}, "additionalProperties": false,
				"properties": object{
					"code":    object{"type": "string", "description": "For programs; it does not change."},
					"message": object{"type": "string", "description": "For people: what to do next."},
					"details": object{"type": "object", "description": "Facts, such as fields at fault by their path (fields), what is missing (shortfall), or the call (call_id)."},
				},
			},
		},
	}}
	for name, t := range map[string]reflect.Type{
		"Service": reflect.TypeFor[Description](), "Quote": reflect.TypeFor[Quote](), "Call": reflect.TypeFor[Record](), "Result": reflect.TypeFor[Result](),
		"Credits": reflect.TypeFor[creditsData](),
	} {
		s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: answerTypes()})
		if err != nil {
			return nil, fmt.Errorf("services: the schema of %s: %w", t, err)
		}
		shared[name] = s
	}
	return shared, nil
}

func textHeader(description, example string) object {
	return object{"description": description, "schema": object{"type": "string"}, "example": example}
}

func sharedHeaders() object {
	return object{
		"Charged":           textHeader("What the call cost, in credits.", "0.5"),
		"Remaining":         textHeader("What the account can spend after the call, in credits.", "99.5"),
		"Location":          textHeader("Where to ask for the job.", "/api/v1/calls/0195d3a0-0000-7000-8000-000000000000"),
		"PreferenceApplied": textHeader("That a job was made because the request asked for it (RFC 7240, section 3).", "respond-async"),
		"RateLimit":         textHeader("What is left of the quota (draft-ietf-httpapi-ratelimit-headers).", `"account";r=599;t=1`),
		"RateLimitPolicy":   textHeader("The quota (draft-ietf-httpapi-ratelimit-headers).", `"account";q=600;w=60`),
		"RetryAfter":        textHeader("After how many seconds to try again.", "1"),
		"Deprecation":       textHeader("Since when the service is deprecated (RFC 9745).", "@1767225600"),
		"Sunset":            textHeader("From when on calls are refused (RFC 8594).", "Fri, 31 Dec 2027 00:00:00 GMT"),
		"Authenticate":      textHeader("How to authenticate (RFC 9110, section 11.6.1).", "Bearer"),
	}
}

func sharedParameters() object {
	header := func(name, description string, schema object) object {
		return object{"name": name, "in": "header", "description": description, "schema": schema}
	}
	return object{
		"IdempotencyKey": header("Idempotency-Key",
			"A repetition with this key and the same input gives the first answer again and is not charged. A call that failed for free gives its key free.",
			object{"type": "string", "minLength": 1, "maxLength": maxKey}),
		"UsageTags": header("X-Usage-Tags", "Up to 10 tags for your own accounting: project=alpha, team=search.", object{"type": "string"}),
		"Prefer":    header("Prefer", "respond-async makes a job of the call (RFC 7240).", object{"type": "string"}),
		"Notify":    object{"name": "notify", "in": "query", "description": "Whether the end of a job is told by a webhook.", "schema": object{"type": "boolean"}},
	}
}

// refusalNames name the answers to refused requests, by status.
var refusalNames = map[string]string{
	"400": "Malformed", "401": "Unauthenticated", "402": "InsufficientCredits", "403": "Forbidden", "404": "NotFound", "408": "Slow", "409": "Conflict", "410": "Gone",
	"413": "TooLarge", "415": "UnsupportedMediaType", "422": "Invalid", "429": "TooMany", "500": "Internal", "502": "Failed", "503": "Unavailable", "504": "Timeout",
}

func sharedResponses() object {
	refused := func(description string) object {
		return object{"description": description, "content": jsonContent(ref("schemas", "Error"))}
	}
	responses := object{
		"Malformed":            refused("malformed: the body is not the JSON object that it should be."),
		"Unauthenticated":      refused("unauthenticated: the key is missing or wrong."),
		"InsufficientCredits":  refused("insufficient_credits, with required, available and shortfall in the details."),
		"Forbidden":            refused("forbidden: the key may not do that; plan_required: the account's plan does not have the service."),
		"NotFound":             refused("not_found."),
		"Slow":                 refused("request_timeout: the body did not arrive in time."),
		"Conflict":             refused("service_inactive; idempotency_mismatch; call_in_progress: ask again in a moment with the same key."),
		"Gone":                 refused("service_gone: the service is not offered any more."),
		"TooLarge":             refused("too_large."),
		"UnsupportedMediaType": refused("unsupported_media_type."),
		"Invalid":              refused("invalid, with the fields at fault in the details."),
		"TooMany":              refused("too_many: the quota is used up; service_busy: as many calls run as are allowed."),
		"Internal":             refused("internal, with the request_id in the details."),
		"Failed":               refused("execution_failed, or the service's own code, with the call_id and credits_charged in the details."),
		"Unavailable":          refused("unavailable: try again with the same idempotency key."),
		"Timeout":              refused("timeout: the service was stopped."),
	}
	responses["Unauthenticated"].(object)["headers"] = object{"WWW-Authenticate": ref("headers", "Authenticate")}
	responses["TooMany"].(object)["headers"] = object{"Retry-After": ref("headers", "RetryAfter")}
	return responses
}
