package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/quickscale/quickscale/services/client"
)

// An application that answers as QuickScale does, so that the examples need no database.
func application() *httptest.Server {
	mux := http.NewServeMux()
	answer := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}
	}
	const done = `"call_id":"0195d3a0-0000-7000-8000-000000000000","service":"shout","result":{"text":"HELLO"},"credits_charged":"0.5"`
	mux.HandleFunc("POST /api/v1/services/shout", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.Header.Get("Accept"), "event-stream"):
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte("event: part\ndata: {\"text\":\"HEL\"}\n\nevent: part\ndata: {\"text\":\"LO\"}\n\nevent: result\ndata: {" + done + ",\"balance\":\"99.5\"}\n\n"))
		case r.Header.Get("Prefer") != "":
			answer(http.StatusAccepted, `{"success":true,"data":{"call_id":"0195d3a0-0000-7000-8000-000000000000","status":"queued"}}`)(w, r)
		default:
			answer(http.StatusOK, `{"success":true,"data":{`+done+`,"balance":"99.5"}}`)(w, r)
		}
	})
	mux.HandleFunc("GET /api/v1/calls/{id}", answer(http.StatusOK, `{"success":true,"data":{`+done+`,"status":"succeeded","finished_at":"2026-03-01T12:00:00Z"}}`))
	mux.HandleFunc("POST /api/v1/services/dear", answer(http.StatusPaymentRequired,
		`{"success":false,"error":{"code":"insufficient_credits","message":"You need 1000 credits.","details":{"shortfall":"900.5"}}}`))
	return httptest.NewServer(mux)
}

// Shout is the input and the output of the service.
type Shout struct {
	Text string `json:"text"`
}

func ExampleCall() {
	app := application()
	defer app.Close()
	c, err := client.New(client.Config{BaseURL: app.URL, Key: "qs_live_…"})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := client.Call[Shout, Shout](context.Background(), c, "shout", Shout{"hello"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Output.Text, "cost", answer.Charged)

	_, err = client.Call[Shout, Shout](context.Background(), c, "dear", Shout{"hello"})
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(refused.Code, refused.Details["shortfall"])
	}
	// Output:
	// HELLO cost 0.5
	// insufficient_credits 900.5
}

func ExampleStream() {
	app := application()
	defer app.Close()
	c, err := client.New(client.Config{BaseURL: app.URL, Key: "qs_live_…"})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := client.Stream[Shout, Shout, Shout](context.Background(), c, "shout", Shout{"hello"}, func(part Shout) error {
		fmt.Println(part.Text)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Output.Text, "cost", answer.Charged)
	// Output:
	// HEL
	// LO
	// HELLO cost 0.5
}

func ExampleWait() {
	app := application()
	defer app.Close()
	c, err := client.New(client.Config{BaseURL: app.URL, Key: "qs_live_…"})
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := client.Enqueue(context.Background(), c, "shout", Shout{"hello"})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := client.Wait[Shout](context.Background(), c, job.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Output.Text)
	// Output:
	// HELLO
}
