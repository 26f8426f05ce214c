package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseRequest_RefusesWhatThePriceDoesNotKnow(t *testing.T) {
	t.Parallel()
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	for body, param := range map[string]string{
		`[]`: "", `null`: "", `{}{}`: "", `{`: "",
		`{"model":"small"}`:                                                                 "messages",
		`{` + messages + `}`:                                                                "model",
		`{"model":"small","messages":[]}`:                                                   "messages",
		`{"model":1,` + messages + `}`:                                                      "model",
		`{"model":"small",` + messages + `,"web_search_options":{}}`:                        "web_search_options",
		`{"model":"small",` + messages + `,"MAX_TOKENS":9}`:                                 "MAX_TOKENS",
		`{"model":"small",` + messages + `,"n":0}`:                                          "n",
		`{"model":"small",` + messages + `,"n":9}`:                                          "n",
		`{"model":"small",` + messages + `,"max_tokens":0}`:                                 "max_tokens",
		`{"model":"small",` + messages + `,"max_completion_tokens":-1}`:                     "max_completion_tokens",
		`{"model":"small",` + messages + `,"max_tokens":1,"max_completion_tokens":1}`:       "max_tokens",
		`{"model":"small",` + messages + `,"stream_options":{}}`:                            "stream_options",
		`{"model":"small","messages":[{"content":[{"type":"text"},{"type":"image_url"}]}]}`: "messages[0].content",
		`{"model":"small","messages":[{"content":5}]}`:                                      "messages[0].content",
	} {
		_, err := parseRequest([]byte(body))
		e := toAPI(err)
		require.Equal(t, 400, e.status, body)
		if param == "" {
			assert.Nil(t, e.Param, body)
			continue
		}
		require.NotNil(t, e.Param, body)
		assert.Equal(t, param, *e.Param, body)
	}
}

func TestParseRequest_TakesOneOfTwoKeysAndPassesTheRestOn(t *testing.T) {
	t.Parallel()
	r, err := parseRequest([]byte(`{"model":"huge","model":"small","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null}],"temperature":0.1,"max_completion_tokens":500,"n":2}`))
	require.NoError(t, err)
	m := Model{Name: "small", Upstream: "theirs", MaxOutput: 100}
	assert.EqualValues(t, 100, r.maxOutput(m), "the model's bound counts too")
	assert.EqualValues(t, 2, r.choices())
	body, err := r.body(m, 42)
	require.NoError(t, err)
	assert.JSONEq(t, `{"model":"theirs","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null}],
		"temperature":0.1,"max_completion_tokens":42,"n":2}`, string(body))
	assert.GreaterOrEqual(t, r.maxInput(), r.estimatedInput())
}

func TestParseModels_TellsAllFaults(t *testing.T) {
	t.Parallel()
	models, err := parseModels(defaultModels)
	require.NoError(t, err)
	assert.Equal(t, models[0].Name, models[0].Upstream)
	_, err = parseModels([]byte(`[{"name":"a"},{"name":"b","max_output":1},{"name":"b","max_output":1}]`))
	require.ErrorContains(t, err, `model 0 ("a")`)
	require.ErrorContains(t, err, `"b" stands twice`)
	for _, text := range []string{`[]`, `{}`, `[{"name":"a","max_output":1,"price":"2"}]`} {
		_, err := parseModels([]byte(text))
		require.Error(t, err, text)
	}
}

func TestReadSettings_NamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for given, says := range map[string]string{"": "LLMGATEWAY_UPSTREAM", "ftp://x": "LLMGATEWAY_UPSTREAM", "https://": "LLMGATEWAY_UPSTREAM"} {
		_, err := readSettings(func(name string) string { return map[string]string{"LLMGATEWAY_UPSTREAM": given}[name] })
		require.ErrorContains(t, err, says)
	}
	s, err := readSettings(func(name string) string {
		return map[string]string{"LLMGATEWAY_UPSTREAM": "http://127.0.0.1:1/v1"}[name]
	})
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(s.key, "gw-"))
	assert.Greater(t, len(s.key), 20)
}
