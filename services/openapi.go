package services

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// object is a part of the OpenAPI document.
type object = map[string]any

// addDocs adds the routes that describe the API. They need no key: what they tell is on the pages of the services too.
func (s *Services) addDocs(mux *http.ServeMux) {
	at := s.cfg.APIPath
	mux.HandleFunc("GET "+at+"/openapi.json", s.apiDocument)
	mux.HandleFunc("GET "+at+"/docs", s.docsPage)
	mux.HandleFunc("POST "+at+"/docs/{name}", s.tryPage)
}

// apiDocument answers with the document and a strong ETag, by which a client asks whether it has changed.
func (s *Services) apiDocument(w http.ResponseWriter, r *http.Request) {
	text, err := s.OpenAPI(r.Context())
	if err != nil {
		s.cfg.Site.FailJSON(w, r, err)
		return
	}
	sum := sha256.Sum256(text)
	h := w.Header()
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "application/json; charset=utf-8")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

// OpenAPI is the description of the JSON API, as OpenAPI 3.1, made from the registered services and what the database
// says of them. Equal registries give equal bytes.
func (s *Services) OpenAPI(ctx context.Context) ([]byte, error) {
	list := s.List(ctx)
	shared, err := sharedSchemas()
	if err != nil {
		return nil, err
	}
	paths := s.fixedPaths()
	tags := []object{{"name": tagAccount, "description": "What an account has and has used."}, {"name": tagServices, "description": "One operation for each service."}}
	for _, d := range list {
		at := s.cfg.APIPath + "/services/" + d.Name
		body, err := s.requestBody(d)
		if err != nil {
			return nil, err
		}
		paths[at] = object{"get": describeOperation(d), "post": s.callOperation(d, body)}
		paths[at+"/quote"] = object{"post": quoteOperation(d, body)}
		shared[inputName(d)], shared[outputName(d)] = d.InputSchema, d.OutputSchema
	}
	document := object{
		"openapi": "3.1.1",
		"info": object{
			"title": s.cfg.Site.Name() + " API", "version": "1",
			"description": "Services that cost credits. Amounts of credits are decimal strings. A call that fails costs nothing unless its service says otherwise.",
		},
		"servers": []object{{"url": "/"}},
		"tags":    tags,
		"paths":   paths,
		"components": object{
			"schemas": shared, "headers": sharedHeaders(), "parameters": sharedParameters(), "responses": sharedResponses(),
			"securitySchemes": object{"apiKey": object{"type": "http", "scheme": "bearer", "description": "An API key, which people make on their account's page."}},
		},
		"security": []object{{"apiKey": []string{}}},
	}
	if s.cfg.OnEndTx != nil {
		document["webhooks"] = object{"call_ended": callEnded()}
	}
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("services: write the OpenAPI document: %w", err)
	}
	return append(text, '\n'), nil
}

const (
	tagServices = "services"
	tagAccount  = "account"
)

func inputName(d Description) string  { return d.Name + ".input" }
func outputName(d Description) string { return d.Name + ".output" }

func ref(kind, name string) object { return object{"$ref": "#/components/" + kind + "/" + name} }

// enveloped is the shape of every success around its data.
func enveloped(data any) object {
	return object{
		"type": "object", "required": []string{"success", "data"}, "additionalProperties": false,
		"properties": object{"success": object{"const": true}, "data": data},
	}
}

func jsonContent(schema any) object { return object{"application/json": object{"schema": schema}} }

func success(description string, data any) object {
	return object{"description": description, "content": jsonContent(enveloped(data))}
}

// refusals are the answers to an operation that may be refused, by status; those of every operation are added.
func refusals(responses object, statuses ...string) object {
	for _, status := range append(statuses, "401", "500", "503") {
		responses[status] = ref("responses", refusalNames[status])
	}
	return responses
}

// about says of a service what decides whether and how to call it.
func about(d Description) string {
	parts := []string{d.Summary, "Price: " + d.PriceText + "."}
	if d.Pricing == PriceMetered {
		parts = append(parts, "The most that a call may cost is set aside before it, and what it used is charged.")
	}
	if d.Background {
		parts = append(parts, "Every call is a job: the answer names where its result will be.")
	}
	if len(d.Plans) > 0 {
		parts = append(parts, "For accounts whose plan has: "+strings.Join(d.Plans, ", ")+".")
	}
	if !d.Active {
		parts = append(parts, "Switched off at the moment.")
	}
	if d.DeprecatedSince != nil {
		text := "Deprecated since " + d.DeprecatedSince.UTC().Format(time.DateOnly)
		if d.Sunset != nil {
			text += ", refused from " + d.Sunset.UTC().Format(time.DateOnly)
		}
		parts = append(parts, text+".", d.DeprecationNote)
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func describeOperation(d Description) object {
	return object{
		"operationId": "describe_" + d.Name, "tags": []string{tagServices}, "summary": "Describe " + d.Title, "deprecated": d.DeprecatedSince != nil,
		"parameters": []object{versionParameter(d)},
		"responses":  refusals(object{"200": success("The service, its price and its schemas.", ref("schemas", "Service"))}, "404"),
	}
}

func versionParameter(d Description) object {
	schema := object{"type": "string"}
	if len(d.Versions) > 0 {
		schema["enum"] = d.Versions
	}
	return object{"name": "version", "in": "query", "description": "A version of the service. Without it: the one that was registered last.", "schema": schema}
}

// requestBody is the input of a service: JSON, or fields and files.
func (s *Services) requestBody(d Description) (object, error) {
	content := jsonContent(ref("schemas", inputName(d)))
	if d.Files {
		r, err := s.find(d.Name, "")
		if err != nil {
			return nil, err
		}
		content["multipart/form-data"] = multipartContent(r.input.schema)
	}
	return object{"required": true, "content": content}, nil
}

// multipartContent is an input as fields and files: what is nested is named by its path, such as options.width.
func multipartContent(s *jsonschema.Schema) object {
	parts, encoding, required := object{}, object{}, []string{}
	var add func(s *jsonschema.Schema, path string)
	add = func(s *jsonschema.Schema, path string) {
		for _, name := range s.PropertyOrder {
			at, prop := joinPath(path, name), s.Properties[name]
			kind := typeOf(prop)
			if kind == "object" && prop.Format != formatFile {
				add(prop, at)
				continue
			}
			part := object{"type": kind}
			for word, text := range map[string]string{"title": prop.Title, "description": prop.Description} {
				if text != "" {
					part[word] = text
				}
			}
			switch {
			case prop.Format == formatFile:
				part["type"], part["format"] = "string", "binary"
				if accept := prop.Properties["data"].ContentMediaType; accept != "" {
					encoding[at] = object{"contentType": strings.ReplaceAll(accept, ",", ", ")}
				}
			case kind == "array":
				part["type"], part["description"] = "string", strings.TrimSpace(prop.Description+" One entry per line.")
			case prop.Enum != nil:
				part["enum"] = prop.Enum
			}
			parts[at] = part
			if slices.Contains(s.Required, name) {
				required = append(required, at)
			}
		}
	}
	add(s, "")
	content := object{"schema": object{"type": "object", "properties": parts, "required": required}}
	if len(encoding) > 0 {
		content["encoding"] = encoding
	}
	return content
}

// callEnded is the webhook that the account's endpoints get when a job ends, in the envelope of Standard Webhooks.
func callEnded() object {
	return object{"post": object{
		"operationId": "call_ended", "tags": []string{tagServices}, "summary": "A job has ended",
		"description": "Sent to the webhook endpoints of the account when a job ends that was made with notify=true. The result is not in it: ask for the call.",
		"requestBody": object{"required": true, "content": jsonContent(object{
			"type": "object", "required": []string{"type", "timestamp", "data"},
			"properties": object{"type": object{"type": "string"}, "timestamp": object{"type": "string", "format": "date-time"}, "data": ref("schemas", "Call")},
		})},
		"responses": object{"2XX": object{"description": "It was received. After any other answer it is sent again."}},
	}}
}

func quoteOperation(d Description, body object) object {
	return object{
		"operationId": "quote_" + d.Name, "tags": []string{tagServices}, "summary": "Ask what a call of " + d.Title + " would cost", "deprecated": d.DeprecatedSince != nil,
		"parameters": []object{versionParameter(d)}, "requestBody": body,
		"responses": refusals(object{"200": success("What the call would cost. Nothing was charged.", ref("schemas", "Quote"))}, "400", "403", "404", "408", "413", "415", "422"),
	}
}

func (s *Services) callOperation(d Description, body object) object {
	charged := object{"X-Credits-Charged": ref("headers", "Charged"), "X-Credits-Remaining": ref("headers", "Remaining")}
	accepted := object{"Location": ref("headers", "Location"), "Preference-Applied": ref("headers", "PreferenceApplied")}
	for _, headers := range []object{charged, accepted} {
		if s.cfg.RateLimit.Calls > 0 {
			headers["RateLimit"], headers["RateLimit-Policy"] = ref("headers", "RateLimit"), ref("headers", "RateLimitPolicy")
		}
		if d.DeprecatedSince != nil {
			headers["Deprecation"] = ref("headers", "Deprecation")
		}
		if d.Sunset != nil {
			headers["Sunset"] = ref("headers", "Sunset")
		}
	}
	result := object{"allOf": []any{
		ref("schemas", "Result"), object{"properties": object{"result": object{"anyOf": []any{ref("schemas", outputName(d)), object{"type": "null"}}}}},
	}}
	done, queued := success("The call succeeded and was charged.", result), success("The call is a job now; ask for it at the Location.", ref("schemas", "Call"))
	done["headers"], queued["headers"] = charged, accepted
	if d.Background {
		done = success("A job under this idempotency key has ended before.", ref("schemas", "Call"))
	} else {
		done["content"].(object)["text/event-stream"] = object{"schema": object{
			"type":        "string",
			"description": "Events: part (a part of the output), usage (what was used until then), and at the end result (as without a stream) or error.",
		}}
	}
	responses := object{"200": done}
	parameters := []object{versionParameter(d), ref("parameters", "IdempotencyKey"), ref("parameters", "UsageTags")}
	if s.cfg.Jobs != nil {
		responses["202"] = queued
		parameters = append(parameters, ref("parameters", "Prefer"))
		if s.cfg.OnEndTx != nil {
			parameters = append(parameters, ref("parameters", "Notify"))
		}
	}
	price := object{"text": d.PriceText, "pricing": d.Pricing}
	if len(d.Rates) > 0 {
		price["rates"] = d.Rates
	}
	return object{
		"operationId": "call_" + d.Name, "tags": append([]string{tagServices}, d.Tags...), "summary": d.Title, "description": about(d),
		"deprecated": d.DeprecatedSince != nil, "x-price": price, "x-active": d.Active,
		"parameters": parameters, "requestBody": body,
		"responses": refusals(responses, "400", "402", "403", "404", "408", "409", "410", "413", "415", "422", "429", "502", "504"),
	}
}

// fixedPaths are the operations that there are without any service.
func (s *Services) fixedPaths() object {
	id := object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string", "format": "uuid"}, "description": "The call_id."}
	filter := func(name, description string, schema object) object {
		return object{"name": name, "in": "query", "description": description, "schema": schema}
	}
	text, moment := object{"type": "string"}, object{"type": "string", "format": "date-time"}
	at := s.cfg.APIPath
	return object{
		at + "/services": object{"get": object{
			"operationId": "list_services", "tags": []string{tagServices}, "summary": "List the services",
			"responses": refusals(object{"200": success("All services in the order of their registration.", object{
				"type": "object", "required": []string{"services"}, "properties": object{"services": object{"type": "array", "items": ref("schemas", "Service")}},
			})}),
		}},
		at + "/calls/{id}": object{"get": object{
			"operationId": "find_call", "tags": []string{tagAccount}, "summary": "Look at a call", "parameters": []object{id},
			"responses": refusals(object{"200": success("The call, with its result while that is kept.", ref("schemas", "Call"))}, "404"),
		}},
		at + "/calls/{id}/cancel": object{"post": object{
			"operationId": "cancel_call", "tags": []string{tagAccount}, "summary": "Cancel a job", "parameters": []object{id},
			"responses": refusals(object{"200": success("The call as it is now.", ref("schemas", "Call"))}, "404"),
		}},
		at + "/credits": object{"get": object{
			"operationId": "credits", "tags": []string{tagAccount}, "summary": "Look at the balance",
			"responses": refusals(object{"200": success("What the account has.", ref("schemas", "Credits"))}, "403"),
		}},
		at + "/usage": object{"get": object{
			"operationId": "usage", "tags": []string{tagAccount}, "summary": "List calls, newest first",
			"parameters": []object{
				filter("service", "Only calls of this service.", text),
				filter("status", "Only calls with this status.", object{"type": "string", "enum": statuses}),
				filter("tag", "Only calls with this tag, as name:value.", text),
				filter("since", "Only calls from this moment on.", moment), filter("until", "Only calls before this moment.", moment),
				filter("before", "The call_id of the last call of the page before.", object{"type": "string", "format": "uuid"}),
				filter("limit", "The size of the page.", object{"type": "integer", "minimum": 1, "default": DefaultPage}),
			},
			"responses": refusals(object{"200": success("A page of calls.", object{
				"type": "object", "required": []string{"calls"},
				"properties": object{"calls": object{"type": "array", "items": ref("schemas", "Call")}, "next": object{"type": "string", "description": "Where the next page is. Absent on the last one."}},
			})}, "403", "422"),
		}},
	}
}
