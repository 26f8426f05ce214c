package textanalysis_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/examples/services/textanalysis"
)

func TestPrice_IsTheOperations(t *testing.T) {
	t.Parallel()
	for op, want := range map[string]string{"": "0.5", "count_words": "0.5", "count_characters": "0.1", "analyze": "2", "summarize": "5"} {
		price, err := textanalysis.Service{}.Pricing().Of(textanalysis.Input{Text: "x", Operation: op})
		require.NoError(t, err, op)
		assert.Equal(t, want, price.String(), op)
	}
	_, err := textanalysis.Service{}.Pricing().Of(textanalysis.Input{Text: "x", Operation: "translate"})
	require.Error(t, err)
	_, err = textanalysis.Service{}.Execute(t.Context(), nil, textanalysis.Input{Text: "x", Operation: "translate"})
	require.Error(t, err)
}

func TestExecute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, op, text, want string }{
		{"words", "count_words", "The quick  brown\nfox", `{"word_count":4}`},
		{"words are counted without a choice", "", "one two", `{"word_count":2}`},
		{"no words", "count_words", " \n\t ", `{"word_count":0}`},
		{"characters are code points", "count_characters", "né \u65e5\u672c\u00a0😀", `{"character_count":7,"character_count_no_spaces":5}`},
		{"analyze", "analyze", "Hello, world. Pi is 3.14!\n\nA title\n \n\n\"Really?\" Yes.", `{"word_count":9,"character_count":52,"character_count_no_spaces":40,
			"sentence_count":5,"paragraph_count":3,"average_word_length":3.67,"average_sentence_length":1.8}`},
		{"analyze other scripts", "analyze", "\u4f60\u597d。\u518d\u89c1！", `{"word_count":1,"character_count":6,"character_count_no_spaces":6,"sentence_count":2,"paragraph_count":1,
			"average_word_length":5,"average_sentence_length":0.5}`},
		{"analyze nothing", "analyze", "  ", `{"word_count":0,"character_count":2,"character_count_no_spaces":0,"sentence_count":0,"paragraph_count":0,
			"average_word_length":0,"average_sentence_length":0}`},
		{"dots alone are no sentence", "analyze", "... ???", `{"word_count":2,"character_count":7,"character_count_no_spaces":6,"sentence_count":0,"paragraph_count":1,
			"average_word_length":0,"average_sentence_length":0}`},
		{"summarize keeps a third", "summarize", "Credits pay for services. It rained. Services take credits when services run.\n\nNobody knows why. Dogs bark. Cats sleep.",
			`{"summary":"Credits pay for services. Services take credits when services run."}`},
		{"summarize keeps one", "summarize", "Only this", `{"summary":"Only this"}`},
		{"summarize keeps the earlier of equals", "summarize", "Alpha. Beta. Gamma.", `{"summary":"Alpha."}`},
		{"summarize nothing", "summarize", " ", `{"summary":""}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := textanalysis.Service{}.Execute(t.Context(), nil, textanalysis.Input{Text: c.text, Operation: c.op})
			require.NoError(t, err)
			got, err := json.Marshal(out)
			require.NoError(t, err)
			assert.JSONEq(t, c.want, string(got))
		})
	}
}

func TestExecute_SummaryOfALongTextKeepsFive(t *testing.T) {
	t.Parallel()
	out, err := textanalysis.Service{}.Execute(t.Context(), nil, textanalysis.Input{Text: strings.Repeat("A sentence. ", 800), Operation: textanalysis.Summarize})
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(strings.Repeat("A sentence. ", 5)), *out.Summary)
}
