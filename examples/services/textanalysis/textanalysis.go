// Package textanalysis is an example of a service with a price for each operation: it counts, measures and summarizes
// text.
//
// Register it with services.Register(app.Services, textanalysis.Service{}), as examples/saas does, then:
//
//	curl -H 'Authorization: Bearer KEY' -d '{"text":"one two three","operation":"count_words"}' \
//	  http://127.0.0.1:8080/api/v1/services/text-analysis
//
// Its tests run with go test ./examples/services/textanalysis.
package textanalysis

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// The operations.
const (
	CountWords      = "count_words"
	CountCharacters = "count_characters"
	Analyze         = "analyze"
	Summarize       = "summarize"
)

// Input is what a caller sends.
type Input struct {
	Text string `description:"1 to 10,000 characters." format:"textarea" json:"text" title:"Text" validate:"required,min=1,max=10000"`
	// Operation is one of the constants. Empty: count_words.
	Operation string `description:"Without a choice the words are counted." enum:"count_words,count_characters,analyze,summarize" json:"operation,omitempty" title:"Operation"`
}

// Output has the fields that the operation fills; the others are left out.
type Output struct {
	WordCount *int `json:"word_count,omitempty"`
	// The characters are Unicode code points, without those of white space in the second count.
	CharacterCount         *int `json:"character_count,omitempty"`
	CharacterCountNoSpaces *int `json:"character_count_no_spaces,omitempty"`
	SentenceCount          *int `json:"sentence_count,omitempty"`
	ParagraphCount         *int `json:"paragraph_count,omitempty"`
	// The averages are characters in a word, without the punctuation around it, and words in a sentence, rounded to
	// two decimals.
	AverageWordLength     *float64 `json:"average_word_length,omitempty"`
	AverageSentenceLength *float64 `json:"average_sentence_length,omitempty"`
	Summary               *string  `json:"summary,omitempty"`
}

// Service is the service, ready to register.
type Service struct{}

// Info implements services.Service.
func (Service) Info() services.Info {
	return services.Info{
		Name: "text-analysis", Title: "Text analysis", Version: "1.0.0", Tags: []string{"text"},
		Summary:   "Counts words and characters, measures sentences, and summarizes.",
		PriceText: "count_words 0.5, count_characters 0.1, analyze 2, summarize 5 credits",
	}
}

// Pricing implements services.Service.
func (Service) Pricing() services.Pricing {
	return services.Table(map[string]credits.Amount{
		CountWords: credits.MustAmount("0.5"), CountCharacters: credits.MustAmount("0.1"), Analyze: 2 * credits.Credit, Summarize: 5 * credits.Credit,
	}, func(in Input) string { return cmp.Or(in.Operation, CountWords) })
}

// Execute implements services.Service.
func (Service) Execute(_ context.Context, _ *services.Call, in Input) (Output, error) {
	switch in.Operation {
	case CountWords, "":
		return Output{WordCount: new(len(strings.Fields(in.Text)))}, nil
	case CountCharacters:
		return countCharacters(in.Text), nil
	case Analyze:
		return analyze(in.Text), nil
	case Summarize:
		return Output{Summary: new(summarize(in.Text))}, nil
	}
	return Output{}, fmt.Errorf("textanalysis: there is no operation %q", in.Operation)
}

func countCharacters(text string) Output {
	visible := 0
	for _, c := range text {
		if !unicode.IsSpace(c) {
			visible++
		}
	}
	return Output{CharacterCount: new(utf8.RuneCountInString(text)), CharacterCountNoSpaces: &visible}
}

func analyze(text string) Output {
	out := countCharacters(text)
	words, letters := strings.Fields(text), 0
	for _, w := range words {
		letters += utf8.RuneCountInString(bare(w))
	}
	ps := paragraphs(text)
	total := 0
	for _, p := range ps {
		total += len(sentences(p))
	}
	out.WordCount, out.SentenceCount, out.ParagraphCount = new(len(words)), &total, new(len(ps))
	out.AverageWordLength, out.AverageSentenceLength = new(average(letters, len(words))), new(average(len(words), total))
	return out
}

// average is sum / n to two decimals, and 0 of nothing.
func average(sum, n int) float64 {
	if n == 0 {
		return 0
	}
	return math.Round(float64(sum)/float64(n)*100) / 100
}

// bare is a word without the punctuation around it.
func bare(word string) string {
	return strings.TrimFunc(word, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsNumber(c) })
}

// paragraphs are what empty lines part.
func paragraphs(text string) []string {
	var found, lines []string
	end := func() {
		if len(lines) > 0 {
			found, lines = append(found, strings.Join(lines, "\n")), nil
		}
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			end()
			continue
		}
		lines = append(lines, line)
	}
	end()
	return found
}

const (
	sentenceEnds = ".!?…。！？"
	closers      = `"')]}»”’`
	// These stand without a space after them.
	eastAsianEnds = "。！？"
)

// sentences parts a paragraph after full stops, question and exclamation marks, with the quotes and brackets that
// close after them, where white space or the end follows. So "3.14" stays whole, and "e.g. this" does not.
func sentences(paragraph string) []string {
	var found []string
	runes, from := []rune(paragraph), 0
	cut := func(to int) {
		if s := strings.Join(strings.Fields(string(runes[from:to])), " "); bare(s) != "" {
			found = append(found, s)
			from = to
		}
	}
	for i := 0; i < len(runes); i++ {
		if !strings.ContainsRune(sentenceEnds, runes[i]) {
			continue
		}
		last := runes[i]
		for i+1 < len(runes) && strings.ContainsRune(sentenceEnds+closers, runes[i+1]) {
			i++
		}
		if i+1 == len(runes) || unicode.IsSpace(runes[i+1]) || strings.ContainsRune(eastAsianEnds, last) {
			cut(i + 1)
		}
	}
	cut(len(runes))
	return found
}

// The summary keeps a third of the sentences, at least one and at most five. Words shorter than significant letters,
// which most filler words are, do not count.
const (
	keepOneOf   = 3
	keepMost    = 5
	significant = 4
)

// summarize is extractive: each sentence is worth the average frequency in the text of its significant words; the
// most valuable ones, of equals the earlier, are joined in the order of the text.
func summarize(text string) string {
	ps := paragraphs(text)
	all := make([]string, 0, len(ps))
	for _, p := range ps {
		all = append(all, sentences(p)...)
	}
	frequency := map[string]int{}
	for _, s := range all {
		for _, w := range significantWords(s) {
			frequency[w]++
		}
	}
	order := make([]int, len(all))
	worth := make([]float64, len(all))
	for i, s := range all {
		order[i] = i
		words := significantWords(s)
		for _, w := range words {
			worth[i] += float64(frequency[w]) / float64(len(words))
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(worth[b], worth[a]) })
	kept := order[:min(keepMost, (len(all)+keepOneOf-1)/keepOneOf)]
	slices.Sort(kept)
	chosen := make([]string, len(kept))
	for i, at := range kept {
		chosen[i] = all[at]
	}
	return strings.Join(chosen, " ")
}

func significantWords(sentence string) []string {
	var words []string
	for w := range strings.FieldsSeq(strings.ToLower(sentence)) {
		if w = bare(w); utf8.RuneCountInString(w) >= significant {
			words = append(words, w)
		}
	}
	return words
}
