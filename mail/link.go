package mail

import (
	"regexp"
	"strings"
)

// run is a piece of text, with the address where it is a link.
type run struct{ Text, URL string }

var urlPattern = regexp.MustCompile(`(?i)\bhttps?://[^\s<>"'` + "`" + `\\]+`)

// linkify cuts text into runs. Only http and https make a link; the punctuation that ends a sentence is not part of one.
func linkify(text string) []run {
	var runs []run
	rest := 0
	for _, at := range urlPattern.FindAllStringIndex(text, -1) {
		url := trimURL(text[at[0]:at[1]])
		if strings.HasSuffix(url, "//") {
			continue // a scheme and nothing else
		}
		if at[0] > rest {
			runs = append(runs, run{Text: text[rest:at[0]]})
		}
		runs = append(runs, run{Text: url, URL: url})
		rest = at[0] + len(url)
	}
	if rest < len(text) {
		runs = append(runs, run{Text: text[rest:]})
	}
	return runs
}

func trimURL(url string) string {
	for url != "" {
		switch last := url[len(url)-1]; {
		case strings.IndexByte(".,;:!?*_", last) >= 0:
		case last == ')' && strings.Count(url, ")") > strings.Count(url, "("):
		case last == ']' && strings.Count(url, "]") > strings.Count(url, "["):
		default:
			return url
		}
		url = url[:len(url)-1]
	}
	return url
}

// links are the addresses in text, in order.
func links(text string) []string {
	found := []string{}
	for _, r := range linkify(text) {
		if r.URL != "" {
			found = append(found, r.URL)
		}
	}
	return found
}
