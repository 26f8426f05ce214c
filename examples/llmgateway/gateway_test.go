package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var schema = dbtest.Of(credits.Migrations(), services.Migrations())

// Prices that are easy to add up: a token of the prompt costs 0.0001 credits, one of the answer 0.01.
const testModels = `[{"name":"small","upstream":"upstream-small","input":"100","output":"10000","max_output":100}]`

// backend is a small upstream. Its answers are the words of say.
type backend struct {
	mu       sync.Mutex
	requests []map[string]any
	answer   http.HandlerFunc // nil: the words, as asked for
	say      []string
	noUsage  bool
	deaf     bool // to the bound of the answer
	left     chan struct{}
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body["authorization"] = r.Header.Get("Authorization")
	b.mu.Lock()
	b.requests = append(b.requests, body)
	b.mu.Unlock()
	if b.answer != nil {
		b.answer(w, r)
		return
	}
	words, finish := b.say, "stop"
	if most := int(body["max_tokens"].(float64)); len(words) > most && !b.deaf {
		words, finish = words[:most], "length"
	}
	used := map[string]any{"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)}
	if body["stream"] != true {
		res := map[string]any{"id": "c1", "object": "chat.completion", "created": 1790000000, "model": body["model"], "seed_of_ours": 12345678901234567,
			"choices": []any{map[string]any{"index": 0, "finish_reason": finish, "message": map[string]any{"role": "assistant", "content": strings.Join(words, "")}}}}
		if !b.noUsage {
			res["usage"] = used
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, text(res))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	b.part(w, `{"delta":{"role":"assistant","content":""},"index":0,"finish_reason":null}`)
	for _, word := range words {
		b.word(w, word)
	}
	b.part(w, fmt.Sprintf(`{"delta":{},"index":0,"finish_reason":%q}`, finish))
	if !b.noUsage {
		fmt.Fprintf(w, "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":%s}\n\n", text(used))
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// text is a value as JSON.
func text(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func (b *backend) word(w http.ResponseWriter, word string) {
	b.part(w, `{"delta":{"content":`+text(word)+`},"index":0,"finish_reason":null}`)
}

func (b *backend) part(w http.ResponseWriter, choice string) {
	fmt.Fprintf(w, ": keep alive\ndata: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"upstream-small\",\"choices\":[%s]}\n\n", choice)
	_ = http.NewResponseController(w).Flush()
}

func (b *backend) last(t *testing.T) map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.NotEmpty(t, b.requests)
	return b.requests[len(b.requests)-1]
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.requests)
}

// place is a gateway in front of a backend, with OpenAI's client.
type place struct {
	*testing.T
	url    string
	ledger *credits.Ledger
	shop   *services.Services
	client openai.Client
	back   *backend
}

// each runs a test on SQLite and PostgreSQL. The account has the credits that are given.
func each(t *testing.T, amount string, back func() *backend, test func(p *place)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		p := &place{T: t, back: back()}
		server := httptest.NewServer(p.back)
		t.Cleanup(server.Close)
		var err error
		p.ledger, err = credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		require.NoError(t, err)
		if amount != "0" {
			_, err = p.ledger.Grant(t.Context(), credits.GrantParams{Account: member, Amount: credits.MustAmount(amount), Source: credits.Purchase, Reason: "Pack"})
			require.NoError(t, err)
		}
		models, err := parseModels([]byte(testModels))
		require.NoError(t, err)
		handler, shop, err := open(t.Context(), db.Writer(), p.ledger, settings{upstream: server.URL + "/v1/", upstreamKey: "sk-upstream", models: models}, byKey("gw-key"))
		require.NoError(t, err)
		p.shop = shop
		front := httptest.NewServer(handler)
		t.Cleanup(front.Close)
		p.url = front.URL
		p.client = openai.NewClient(option.WithBaseURL(front.URL+"/v1"), option.WithAPIKey("gw-key"), option.WithMaxRetries(0))
		test(p)
	})
}

func words(n int) func() *backend {
	return func() *backend {
		b := &backend{left: make(chan struct{}, 1)}
		for range n {
			b.say = append(b.say, "word ")
		}
		return b
	}
}

func ask() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "small", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say something.")}}
}

// expect compares what the account has, waiting for calls whose caller does not wait, and that nothing is set aside.
func (p *place) expect(balance string) {
	p.Helper()
	var got credits.Balance
	require.EventuallyWithT(p.T, func(c *assert.CollectT) {
		var err error
		got, err = p.ledger.Balance(context.Background(), member)
		require.NoError(c, err)
		assert.Equal(c, balance, got.Available.String())
		assert.Zero(c, got.Held)
	}, 30*time.Second, 10*time.Millisecond)
}

// lastCall is how the newest call ended.
func (p *place) lastCall() services.Record {
	p.Helper()
	records, _, err := p.shop.Usage(context.Background(), services.UsageParams{Account: member})
	require.NoError(p, err)
	require.NotEmpty(p, records)
	return records[0]
}

// read reads a stream to its end.
func (p *place) read(params openai.ChatCompletionNewParams, opts ...option.RequestOption) (text string, finish string, used int64, err error) {
	stream := p.client.Chat.Completions.NewStreaming(p.Context(), params, opts...)
	defer stream.Close()
	for stream.Next() {
		chunk := stream.Current()
		for _, c := range chunk.Choices {
			text += c.Delta.Content
			finish += c.FinishReason
		}
		used += chunk.Usage.CompletionTokens
	}
	return text, finish, used, stream.Err()
}

func status(t *testing.T, err error) *openai.Error {
	t.Helper()
	e, ok := errors.AsType[*openai.Error](err)
	require.True(t, ok, "%v", err)
	return e
}

func TestComplete_ChargesWhatTheUpstreamCounted(t *testing.T) {
	each(t, "10", words(5), func(p *place) {
		var res *http.Response
		got, err := p.client.Chat.Completions.New(p.Context(), ask(), option.WithResponseInto(&res))
		require.NoError(p, err)
		assert.Equal(p, "word word word word word ", got.Choices[0].Message.Content)
		assert.EqualValues(p, 5, got.Usage.CompletionTokens)
		assert.Contains(p, got.RawJSON(), "12345678901234567", "numbers pass unchanged")
		assert.Equal(p, "0.0509", res.Header.Get("X-Credits-Charged"), "9 of the prompt, 5 of the answer")
		p.expect("9.9491")
		sent := p.back.last(p.T)
		assert.Equal(p, "upstream-small", sent["model"])
		assert.Equal(p, "Bearer sk-upstream", sent["authorization"], "the caller's key stays here")
		assert.EqualValues(p, 100, sent["max_tokens"], "an answer has a bound")
		assert.Equal(p, services.Units{"small input": 9, "small output": 5}, p.lastCall().Units)
	})
}

func TestStream_ChargesWhatTheUpstreamCounted(t *testing.T) {
	each(t, "10", words(7), func(p *place) {
		text, finish, used, err := p.read(ask())
		require.NoError(p, err)
		assert.Equal(p, strings.Repeat("word ", 7), text)
		assert.Equal(p, "stop", finish)
		assert.Zero(p, used, "who does not ask for the usage does not get it")
		p.expect("9.9291")
		assert.Equal(p, services.Succeeded, p.lastCall().Status)

		asked := ask()
		asked.StreamOptions.IncludeUsage = openai.Bool(true)
		_, _, used, err = p.read(asked)
		require.NoError(p, err)
		assert.EqualValues(p, 7, used)
		p.expect("9.8582")
	})
}

// A repetition under one key gets the first answer, in one piece and as a stream, and pays nothing.
func TestIdempotencyKey_GivesTheFirstAnswerAgain(t *testing.T) {
	each(t, "10", words(2), func(p *place) {
		for range 2 {
			got, err := p.client.Chat.Completions.New(p.Context(), ask(), option.WithHeader("Idempotency-Key", "one"))
			require.NoError(p, err)
			assert.Equal(p, "word word ", got.Choices[0].Message.Content)
			p.expect("9.9791")
		}
		for range 2 {
			text, _, _, err := p.read(ask(), option.WithHeader("Idempotency-Key", "two"))
			require.NoError(p, err)
			assert.Equal(p, "word word ", text)
			p.expect("9.9582")
		}
		assert.Equal(p, 2, p.back.count())
	})
}

func TestStream_ChargesForWhatWasSentWhenTheClientLeaves(t *testing.T) {
	each(t, "10", func() *backend {
		b := words(0)()
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				b.word(w, "word ")
			}
			<-r.Context().Done() // more would come
			b.left <- struct{}{}
		}
		return b
	}, func(p *place) {
		ctx, leave := context.WithCancel(p.Context())
		stream := p.client.Chat.Completions.NewStreaming(ctx, ask())
		for range 3 {
			require.True(p, stream.Next(), "%v", stream.Err())
		}
		leave()
		require.NoError(p, stream.Close())
		select {
		case <-p.back.left: // the upstream is told to stop, too
		case <-time.After(30 * time.Second):
			require.Fail(p, "the upstream still works for nobody")
		}
		// 3 parts of the answer, and a token for each four bytes of the prompt: "Say something." in quotes has 16.
		p.expect("9.9696")
		last := p.lastCall()
		assert.Equal(p, services.PartlySucceeded, last.Status)
		assert.Equal(p, services.Units{"small input": 4, "small output": 3}, last.Units)
	})
}

// leaveOnce asks and leaves as soon as the upstream works.
func (p *place) leaveOnce(ask func(ctx context.Context) error) {
	p.Helper()
	ctx, leave := context.WithCancel(p.Context())
	defer leave()
	done := make(chan error, 1)
	go func() { done <- ask(ctx) }()
	select {
	case <-p.back.left:
		leave()
	case err := <-done:
		require.Fail(p, "the upstream was not asked", "%v", err)
	}
	require.ErrorIs(p, <-done, context.Canceled)
}

func TestStream_ChargesThePromptWhenTheClientLeavesBeforeTheFirstPart(t *testing.T) {
	each(t, "10", func() *backend {
		b := words(0)()
		b.answer = func(_ http.ResponseWriter, r *http.Request) {
			b.left <- struct{}{}
			<-r.Context().Done()
		}
		return b
	}, func(p *place) {
		p.leaveOnce(func(ctx context.Context) error {
			stream := p.client.Chat.Completions.NewStreaming(ctx, ask())
			defer stream.Close()
			stream.Next()
			return stream.Err()
		})
		p.expect("9.9996")
	})
}

func TestComplete_ChargesWhoDoesNotWaitForTheAnswer(t *testing.T) {
	each(t, "10", func() *backend {
		b := words(0)()
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			b.left <- struct{}{}
			select {
			case <-r.Context().Done(): // as it must not be
			case <-time.After(500 * time.Millisecond):
				fmt.Fprint(w, `{"choices":[{"message":{"content":"late"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`)
			}
		}
		return b
	}, func(p *place) {
		p.leaveOnce(func(ctx context.Context) error {
			_, err := p.client.Chat.Completions.New(ctx, ask())
			return err
		})
		p.expect("9.9891")
	})
}

func TestCredits_NoneIsARefusalThatClientsDoNotRepeat(t *testing.T) {
	each(t, "0", words(5), func(p *place) {
		client := openai.NewClient(option.WithBaseURL(p.url+"/v1"), option.WithAPIKey("gw-key")) // with its retries
		_, err := client.Chat.Completions.New(p.Context(), ask())
		e := status(p.T, err)
		assert.Equal(p, http.StatusPaymentRequired, e.StatusCode)
		assert.Equal(p, "insufficient_quota", e.Code)
		_, _, _, err = p.read(ask())
		assert.Equal(p, http.StatusPaymentRequired, status(p.T, err).StatusCode)
		assert.Zero(p, p.back.count(), "the upstream was not asked")
	})
}

// An account that has less than the longest answer gets one as long as it can pay for.
func TestCredits_RunOutInTheMiddle(t *testing.T) {
	each(t, "0.1", words(50), func(p *place) {
		text, finish, _, err := p.read(ask())
		require.NoError(p, err)
		assert.Equal(p, "length", finish)
		bound := int(p.back.last(p.T)["max_tokens"].(float64))
		assert.Less(p, bound, 10)
		assert.Equal(p, strings.Repeat("word ", bound), text, "the upstream was told how much is paid for")
		want := credits.MustAmount("0.1") - credits.MustAmount("0.0009") - credits.Amount(bound)*credits.MustAmount("0.01")
		p.expect(want.String())
		assert.Equal(p, services.PartlySucceeded, p.lastCall().Status)
	})
}

func TestCredits_RunOutWhereTheUpstreamKnowsNoBound(t *testing.T) {
	each(t, "0.1", func() *backend {
		b := words(50)()
		b.deaf = true
		return b
	}, func(p *place) {
		text, _, _, err := p.read(ask())
		require.ErrorContains(p, err, "credits reached")
		bound := int(p.back.last(p.T)["max_tokens"].(float64))
		assert.Equal(p, strings.Repeat("word ", bound), text, "nothing is given that is not paid for")
		b, err := p.ledger.Balance(p.Context(), member)
		require.NoError(p, err)
		assert.GreaterOrEqual(p, b.Available, credits.Amount(0))
		assert.Less(p, b.Available, credits.MustAmount("0.1")-credits.Amount(bound)*credits.MustAmount("0.01"))
		assert.Zero(p, b.Held)
	})
}

func TestUpstream_FailuresCostNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status, want int
		code, body   string
		says         string
	}{
		"500":           {500, 502, "upstream_error", `{"error":{"message":"stack trace of theirs"}}`, "server failed"},
		"its key":       {401, 502, "upstream_error", `{"error":{"message":"Incorrect API key sk-upstream"}}`, "server failed"},
		"a redirection": {307, 502, "upstream_error", ``, "server failed"},
		"overload":      {429, 429, "upstream_busy", `{}`, "overloaded"},
		"our caller":    {400, 400, "upstream_refused", `{"error":{"message":"temperature is above 2","param":"temperature"}}`, "temperature is above 2"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, "10", func() *backend {
				return &backend{answer: func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", "7")
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				}}
			}, func(p *place) {
				_, err := p.client.Chat.Completions.New(p.Context(), ask())
				e := status(p.T, err)
				assert.Equal(p, c.want, e.StatusCode)
				assert.Equal(p, c.code, e.Code)
				assert.Contains(p, e.Message, c.says)
				assert.NotContains(p, err.Error(), "sk-upstream")
				if c.want == http.StatusTooManyRequests {
					assert.Equal(p, "7", e.Response.Header.Get("Retry-After"))
				}
				_, _, _, err = p.read(ask())
				assert.Equal(p, c.want, status(p.T, err).StatusCode, "a stream that has not begun says so by its status")
				p.expect("10")
				assert.Equal(p, 2, p.back.count())
			})
		})
	}
}

func TestUpstream_WithoutUsageIsEstimated(t *testing.T) {
	each(t, "10", func() *backend {
		b := words(5)()
		b.noUsage = true
		return b
	}, func(p *place) {
		_, err := p.client.Chat.Completions.New(p.Context(), ask())
		require.NoError(p, err)
		// 16 bytes of the prompt and 25 of the answer, four to a token.
		p.expect("9.9296")
		_, _, _, err = p.read(ask())
		require.NoError(p, err)
		p.expect("9.8792") // 5 parts
	})
}

func TestUpstream_KilledInTheMiddle(t *testing.T) {
	each(t, "10", func() *backend {
		b := words(0)()
		b.answer = func(w http.ResponseWriter, _ *http.Request) {
			b.word(w, "one ")
			b.word(w, "two ")
			panic(http.ErrAbortHandler)
		}
		return b
	}, func(p *place) {
		text, _, _, err := p.read(ask())
		require.ErrorContains(p, err, "broke off", "the client sees that this is not the whole answer")
		assert.Equal(p, "one two ", text)
		p.expect("9.9796")
		assert.Equal(p, services.PartlySucceeded, p.lastCall().Status)

		// In one piece there is nothing to give, and so nothing to pay.
		_, err = p.client.Chat.Completions.New(p.Context(), ask())
		assert.Equal(p, http.StatusBadGateway, status(p.T, err).StatusCode)
		p.expect("9.9796")
	})
}

func TestUpstream_KilledBeforeItsFirstWordCostsNothing(t *testing.T) {
	each(t, "10", func() *backend {
		return &backend{answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}
	}, func(p *place) {
		_, _, _, err := p.read(ask())
		assert.Equal(p, http.StatusBadGateway, status(p.T, err).StatusCode)
		p.expect("10")
		assert.Equal(p, services.Failed, p.lastCall().Status)
	})
}

// An upstream that ends a stream without a word about its end has not finished it.
func TestUpstream_SilentEndIsToldFromAWholeAnswer(t *testing.T) {
	each(t, "10", func() *backend {
		b := words(0)()
		b.answer = func(w http.ResponseWriter, _ *http.Request) { b.word(w, "half") }
		return b
	}, func(p *place) {
		_, _, _, err := p.read(ask())
		require.ErrorContains(p, err, "broke off")
	})
}

func TestCaller_NeedsAKeyAndAModelThatThereIs(t *testing.T) {
	each(t, "10", words(1), func(p *place) {
		_, err := p.client.Chat.Completions.New(p.Context(), ask(), option.WithAPIKey("other"))
		assert.Equal(p, http.StatusUnauthorized, status(p.T, err).StatusCode)
		other := ask()
		other.Model = "huge"
		_, err = p.client.Chat.Completions.New(p.Context(), other)
		e := status(p.T, err)
		assert.Equal(p, http.StatusNotFound, e.StatusCode)
		assert.Equal(p, "model_not_found", e.Code)
		list, err := p.client.Models.List(p.Context())
		require.NoError(p, err)
		require.Len(p, list.Data, 1)
		assert.Equal(p, "small", list.Data[0].ID)
		_, err = p.client.Models.List(p.Context(), option.WithAPIKey("other"))
		assert.Equal(p, http.StatusUnauthorized, status(p.T, err).StatusCode)
		p.expect("10")
		assert.Zero(p, p.back.count())
	})
}
