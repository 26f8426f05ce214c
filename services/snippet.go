package services

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// curlSnippet is a call for a shell.
func curlSnippet(base, path string, input json.RawMessage) string {
	return fmt.Sprintf(`curl -X POST %s \
  -H "Authorization: Bearer $API_KEY" \
  -H "Idempotency-Key: $(uuidgen)" \
  -H "Content-Type: application/json" \
  -d %s
`, shellQuote(base+path), shellQuote(string(input)))
}

// shellQuote makes one word of text in a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// goSnippet is a call as a program with the package services/client.
func goSnippet(base, apiPath, service string, input json.RawMessage) string {
	settings := "BaseURL: " + strconv.Quote(base) + ", Key: os.Getenv(\"API_KEY\")"
	if apiPath != DefaultAPIPath {
		settings += ", APIPath: " + strconv.Quote(apiPath)
	}
	literal := strconv.Quote(string(input))
	if !strings.Contains(string(input), "`") {
		literal = "`" + string(input) + "`"
	}
	return `package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/quickscale/quickscale/services/client"
)

func main() {
	c, err := client.New(client.Config{` + settings + `})
	if err != nil {
		log.Fatal(err)
	}
	input := json.RawMessage(` + literal + `)
	answer, err := client.Call[json.RawMessage, json.RawMessage](context.Background(), c, ` + strconv.Quote(service) + `, input)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer.Output), answer.Charged)
}
`
}
