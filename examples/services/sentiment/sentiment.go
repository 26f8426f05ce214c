// Package sentiment is an example of a service with a model of its own: a naive Bayes classifier, trained from a short
// file when the service is made, tells whether a text is positive or negative. Nothing is downloaded, and a call takes
// microseconds, so that it fits services.ChargeAfter.
//
// Register it, then ask:
//
//	services.Register(app.Services, sentiment.New(), services.ChargeAfter())
//
//	curl -H 'Authorization: Bearer KEY' -d '{"text":"What a lovely day"}' \
//	  http://127.0.0.1:8080/api/v1/services/sentiment
//
// Its tests run with go test ./examples/services/sentiment. The same classifier sorts other texts when examples.txt holds
// examples of them.
package sentiment

import (
	"cmp"
	"context"
	_ "embed"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// examples are lines of "+ text" and "- text".
//
//go:embed examples.txt
var examples string

// Input is what a caller sends.
type Input struct {
	Text string `description:"1 to 10,000 characters of English." format:"textarea" json:"text" title:"Text" validate:"required,max=10000"`
}

// Output is what the classifier says.
type Output struct {
	// Sentiment is positive, negative, or neutral where the classifier is not sure.
	Sentiment string `json:"sentiment"`
	// Positive is the probability that the text is positive, from 0 to 1, to three decimals.
	Positive float64 `json:"positive"`
	// Words are those that weighed most, at most five, the weightiest first.
	Words []Word `json:"words"`
}

// Word is a reason.
type Word struct {
	Word string `json:"word"`
	// Weight is how far it speaks for positive, or below zero for negative, in natural logarithms of odds, to two decimals.
	Weight float64 `json:"weight"`
}

// Service is the service; make it with [New].
type Service struct {
	// weights are the logarithms of the odds of each word.
	weights map[string]float64
	// prior is that of the classes.
	prior float64
}

// New trains the classifier.
func New() Service {
	counts := map[bool]map[string]float64{true: {}, false: {}}
	totals, texts, known := map[bool]float64{}, map[bool]float64{}, map[string]bool{}
	for line := range strings.Lines(examples) {
		text := strings.TrimSpace(line[1:])
		positive := line[0] == '+'
		texts[positive]++
		for _, w := range words(text) {
			counts[positive][w]++
			totals[positive]++
			known[w] = true
		}
	}
	s := Service{weights: map[string]float64{}, prior: math.Log(texts[true] / texts[false])}
	size := float64(len(known))
	for w := range known {
		// Laplace's smoothing: a word that one class never used speaks against it, and does not rule it out.
		s.weights[w] = math.Log((counts[true][w] + 1) / (totals[true] + size) * (totals[false] + size) / (counts[false][w] + 1))
	}
	return s
}

// negations turn the words after them, up to reach of them in the same clause.
var negations = []string{"not", "no", "never", "nothing", "cannot", "don't", "doesn't", "didn't", "isn't", "wasn't", "won't", "can't", "wouldn't"}

const reach = 3

// words are those of a text in lower case; a word that is negated is marked, since "not good" is another word than
// "good".
func words(text string) []string {
	var found []string
	left := 0
	for raw := range strings.FieldsSeq(strings.ToLower(strings.ReplaceAll(text, "’", "'"))) {
		w := strings.TrimFunc(raw, func(c rune) bool { return !unicode.IsLetter(c) })
		switch {
		case w == "":
		case slices.Contains(negations, w):
			left = reach + 1
		case left > 0 && len(w) > 1:
			found = append(found, "not "+w)
		case len(w) > 1:
			found = append(found, w)
		}
		left = max(0, left-1)
		if strings.ContainsAny(raw[len(raw)-1:], ".,;:!?") {
			left = 0
		}
	}
	return found
}

// Info implements services.Service.
func (Service) Info() services.Info {
	return services.Info{
		Name: "sentiment", Title: "Sentiment", Version: "1.0.0", Tags: []string{"text", "classification"},
		Summary: "Tells whether a text is positive or negative, and by which words.", PriceText: "0.05 credits for each 1,000 characters that are begun",
	}
}

const thousand = 1000

// Pricing implements services.Service.
func (Service) Pricing() services.Pricing {
	return services.PerUnit("thousand characters", services.Each(credits.MustAmount("0.05")), func(in Input) int64 {
		return int64((utf8.RuneCountInString(in.Text) + thousand - 1) / thousand)
	})
}

const (
	// sure is how likely an answer must be that is not neutral.
	sure     = 0.6
	maxWords = 5
)

// Execute implements services.Service.
func (s Service) Execute(_ context.Context, _ *services.Call, in Input) (Output, error) {
	odds, by := s.prior, map[string]float64{}
	for _, w := range words(in.Text) {
		weight, ok := s.weights[w]
		if plain, negated := strings.CutPrefix(w, "not "); !ok && negated {
			weight = -s.weights[plain] // never seen negated, it is taken for its opposite
		}
		odds += weight
		by[w] += weight
	}
	out := Output{Sentiment: "neutral", Positive: round(1/(1+math.Exp(-odds)), 1000), Words: []Word{}}
	switch {
	case out.Positive >= sure:
		out.Sentiment = "positive"
	case out.Positive <= 1-sure:
		out.Sentiment = "negative"
	}
	for w, weight := range by {
		if weight = round(weight, 100); weight != 0 {
			out.Words = append(out.Words, Word{w, weight})
		}
	}
	slices.SortFunc(out.Words, func(a, b Word) int {
		return cmp.Or(cmp.Compare(math.Abs(b.Weight), math.Abs(a.Weight)), cmp.Compare(a.Word, b.Word))
	})
	out.Words = out.Words[:min(maxWords, len(out.Words))]
	return out, nil
}

func round(x, parts float64) float64 { return math.Round(x*parts) / parts }
