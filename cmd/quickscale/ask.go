package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// asker asks a person who is at a terminal.
type asker struct {
	in  *bufio.Reader
	out io.Writer
}

// errNoAnswer says that the answers ended before the questions.
var errNoAnswer = errors.New("there was no answer")

// ask returns what the person types in a line, or the fallback for an empty one.
func (a asker) ask(question, fallback string) (string, error) {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	if _, err := fmt.Fprint(a.out, question+": "); err != nil {
		return "", err
	}
	line, err := a.in.ReadString('\n')
	answer := strings.TrimSpace(line)
	if err != nil && answer == "" {
		return "", errNoAnswer
	}
	if answer == "" {
		return fallback, nil
	}
	return answer, nil
}
