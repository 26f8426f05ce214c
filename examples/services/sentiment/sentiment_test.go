package sentiment_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/examples/services/sentiment"
)

func classify(t *testing.T, text string) sentiment.Output {
	t.Helper()
	out, err := sentiment.New().Execute(t.Context(), nil, sentiment.Input{Text: text})
	require.NoError(t, err)
	return out
}

// Texts that the classifier was not trained with.
func TestExecute_SortsTextsThatItHasNotSeen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Delicious meal, friendly people, great evening!":     "positive",
		"Thank you, the new version is fast and reliable.":    "positive",
		"I recommend this hotel, the view is beautiful.":      "positive",
		"A clever and funny film, we enjoyed it.":             "positive",
		"Rude staff and a filthy room. Avoid.":                "negative",
		"It crashes all the time, what a waste of money.":     "negative",
		"The manual is confusing and the support is useless.": "negative",
		"Boring and dull, I regretted it.":                    "negative",
		"The support was not helpful.":                        "negative",
		"This isn’t reliable.":                                "negative",
		"xylophone quartz":                                    "neutral",
		" ... ":                                               "neutral",
	} {
		out := classify(t, text)
		assert.Equal(t, want, out.Sentiment, "%s: %+v", text, out)
		assert.True(t, out.Positive >= 0 && out.Positive <= 1)
	}
}

func TestExecute_NamesItsReasons(t *testing.T) {
	t.Parallel()
	out := classify(t, "Terrible, terrible, terrible. But the delicious, excellent, perfect, fantastic, amazing breakfast!")
	require.Len(t, out.Words, 5)
	assert.Equal(t, "terrible", out.Words[0].Word)
	assert.Negative(t, out.Words[0].Weight)
	assert.Contains(t, []string{"not helpful", "support"}, classify(t, "The support was not helpful.").Words[0].Word)
}

func TestPrice_GrowsWithTheText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{1: "0.05", 1000: "0.05", 1001: "0.1", 10_000: "0.5"} {
		got, err := sentiment.New().Pricing().Of(sentiment.Input{Text: strings.Repeat("é", n)})
		require.NoError(t, err)
		assert.Equal(t, want, got.String())
	}
}
