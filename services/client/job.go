package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Job is a call in the background.
type Job struct {
	ID      string `json:"call_id"`
	Service string `json:"service"`
	Version string `json:"version"`
	// Status is queued, running, succeeded, partial or failed.
	Status  string           `json:"status"`
	Charged string           `json:"credits_charged"`
	Units   map[string]int64 `json:"units"`
	// ErrorCode and ErrorText say why a call failed, or why its output is not complete.
	ErrorCode  string     `json:"error_code"`
	ErrorText  string     `json:"error"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at"`
	// Output is the result as JSON, while it is kept.
	Output json.RawMessage `json:"result"`
}

// Done tells that the job has ended.
func (j Job) Done() bool { return j.FinishedAt != nil }

// Enqueue makes a job of a call, under the rules of [Call].
func Enqueue[In any](ctx context.Context, c *Client, service string, in In, opts ...Option) (job Job, err error) {
	p, err := c.newCall(service, "", in, opts)
	if err != nil {
		return job, err
	}
	p.async = true
	err = c.fetch(ctx, p, &job)
	return job, err
}

// FindJob looks at a job.
func (c *Client) FindJob(ctx context.Context, id string) (job Job, err error) {
	err = c.fetch(ctx, &call{method: http.MethodGet, path: "/calls/" + url.PathEscape(id)}, &job)
	return job, err
}

// CancelJob ends a job: one that waits at once and for free, one that runs within seconds. It returns the job as it is
// then.
func (c *Client) CancelJob(ctx context.Context, id string) (job Job, err error) {
	err = c.fetch(ctx, &call{method: http.MethodPost, path: "/calls/" + url.PathEscape(id) + "/cancel"}, &job)
	return job, err
}

// Between two looks at a job.
const (
	firstLook = 100 * time.Millisecond
	maxLook   = 5 * time.Second
)

// Wait waits for the end of a job, for as long as ctx lasts. The error of a job that failed is an *[Error] with the
// job's code.
func Wait[Out any](ctx context.Context, c *Client, id string) (answer Answer[Out], err error) {
	for pause := firstLook; ; pause = min(2*pause, maxLook) {
		job, err := c.FindJob(ctx, id)
		if err != nil {
			return answer, err
		}
		if job.Done() {
			return answerOf[Out](job)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return answer, ctx.Err()
		case <-timer.C:
		}
	}
}

func answerOf[Out any](job Job) (answer Answer[Out], err error) {
	if job.Status == "failed" {
		return answer, &Error{Code: job.ErrorCode, Message: job.ErrorText, Details: map[string]any{"call_id": job.ID, "credits_charged": job.Charged}}
	}
	answer = Answer[Out]{CallID: job.ID, Service: job.Service, Version: job.Version, Charged: job.Charged, Units: job.Units}
	if job.Status == "partial" {
		answer.Incomplete = &Incomplete{job.ErrorCode, job.ErrorText}
	}
	answer.Output, err = output[Out](job.Output)
	return answer, err
}
