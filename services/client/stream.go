package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Stream calls a service that sends its output in parts, and gives each to part as it arrives. When part returns an
// error, or ctx ends, the call is stopped, and the account charged for what was used until then.
//
// A request that is lost before the first part is repeated as by [Call]. One that is lost later is asked for its result
// under the same key and its parts are not given again: the server has then stopped the call, and Incomplete says so.
func Stream[In, Part, Out any](ctx context.Context, c *Client, service string, in In, part func(p Part) error, opts ...Option) (answer Answer[Out], err error) {
	p, err := c.newCall(service, "", in, opts)
	if err != nil {
		return answer, err
	}
	p.accept = "text/event-stream"
	s := &stream{give: func(data []byte) error {
		var one Part
		if err := json.Unmarshal(data, &one); err != nil {
			return fmt.Errorf("client: a part is not what was expected: %w", err)
		}
		return part(one)
	}}
	err = c.repeat(ctx, func() error {
		if s.begun {
			p.accept = ""
		}
		res, err := c.send(ctx, p)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
			return decode(res, &answer)
		}
		data, err := s.read(res)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return fmt.Errorf("client: the result is not what was expected: %w", err)
		}
		return nil
	})
	return answer, err
}

// stream reads server-sent events as the API writes them: a name and one line of data each.
type stream struct {
	give  func(data []byte) error
	begun bool
}

// errCut: the stream ended before its result.
var errCut = errors.New("client: the stream ended before its result")

// read gives the parts away and returns the result.
func (s *stream) read(res *http.Response) (result []byte, err error) {
	lines := bufio.NewReader(io.LimitReader(res.Body, maxStream))
	var name string
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil, lostError{errors.Join(errCut, err)}
		}
		field, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch string(field) {
		case "event":
			name = string(value)
		case "data":
			switch name {
			case "part":
				s.begun = true
				if err := s.give(value); err != nil {
					return nil, err
				}
			case "result":
				return value, nil
			case "error":
				return nil, streamError(value)
			}
		}
	}
}

// maxStream bounds a stream.
const maxStream = 1 << 30

func streamError(data []byte) error {
	e := &Error{}
	if err := json.Unmarshal(data, e); err != nil {
		return fmt.Errorf("client: the error of the stream is not what was expected: %w", err)
	}
	return e
}
