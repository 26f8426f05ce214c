package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// plain runs a project as a process of this machine, for development where there is no engine. The folder .quickscale
// has the program, its log, and which process it is.
type plain struct{ p *project }

// process is the program as it runs.
type process struct {
	PID     int       `json:"pid"`
	Addr    string    `json:"addr"`
	BaseURL string    `json:"base_url"`
	Since   time.Time `json:"since"`
}

// How long a program may take to serve, and to end; the scaffold's own limit for the latter is 30 seconds.
const (
	serveWait = time.Minute
	endWait   = 45 * time.Second
	lookEvery = 50 * time.Millisecond
)

// The files in .quickscale. The program holds the lock as long as it lives, so that no other process is taken for it.
const (
	stateProcess = "process.json"
	stateLock    = "lock"
	stateLog     = "app.log"
)

// process returns the program that runs; false when none does.
func (e plain) process() (process, bool) {
	var run process
	if free, err := lockFree(e.p.state(stateLock)); err != nil || free {
		return run, false
	}
	content, err := os.ReadFile(e.p.state(stateProcess))
	if err != nil {
		return run, false
	}
	return run, json.Unmarshal(content, &run) == nil && run.PID > 0
}

func (e plain) up(ctx context.Context, s streams) error {
	if run, up := e.process(); up {
		s.sayf("%s runs already, at %s/", e.p.Name, run.BaseURL)
		return nil
	}
	env, err := e.p.environment()
	if err != nil {
		return err
	}
	if err := portFree(env.Addr); err != nil {
		return err
	}
	if err := os.MkdirAll(e.p.state(""), 0o700); err != nil {
		return err
	}
	s.sayf("building %s", e.p.Name)
	program := e.p.state(e.p.Name)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".") //nolint:gosec // a path of the project
	build.Dir = e.p.dir
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	run, done, err := e.start(program, env.Addr, env.Config.BaseURL)
	if err != nil {
		return err
	}
	if err := e.waitServing(ctx, run, done); err != nil {
		return err
	}
	s.sayf("%s runs at %s/ as process %d, on %s; templates are read from the folder at each request", e.p.Name, run.BaseURL, run.PID, maskURL(e.p.plainEnv(envDatabase)))
	s.sayf("quickscale logs shows its log, with the accounts to log in with; quickscale down stops it")
	return nil
}

// start runs the program so that it outlives this command; done gets its end as long as this command lives.
func (e plain) start(program, addr, baseURL string) (run process, done chan error, err error) {
	log, err := os.OpenFile(e.p.state(stateLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return run, nil, err
	}
	defer log.Close()
	lock, err := takeLock(e.p.state(stateLock))
	if err != nil {
		return run, nil, err
	}
	defer lock.Close()
	cmd := exec.Command(program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = e.p.dir, log, log
	cmd.Env = append(e.p.environ(), "APP_TEMPLATES="+e.p.dir)
	cmd.ExtraFiles = []*os.File{lock}
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return run, nil, fmt.Errorf("start %s: %w", program, err)
	}
	done = make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	run = process{PID: cmd.Process.Pid, Addr: addr, BaseURL: baseURL, Since: time.Now().UTC().Truncate(time.Second)}
	content, err := json.Marshal(run)
	if err == nil {
		err = os.WriteFile(e.p.state(stateProcess), content, 0o600)
	}
	if err != nil {
		err = errors.Join(err, cmd.Process.Kill())
	}
	return run, done, err
}

func (e plain) waitServing(ctx context.Context, run process, done chan error) error {
	ctx, cancel := context.WithTimeout(ctx, serveWait)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+callable(run.Addr)+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			if err := res.Body.Close(); err != nil {
				return err
			}
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-done:
			return fmt.Errorf("%s ended at once (%v); it said:\n%s", e.p.Name, err, e.lastLines(10)) //nolint:errorlint // the exit's text, beside what was said
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve after %s; it is left running, and quickscale logs shows its log", e.p.Name, serveWait)
		case <-time.After(lookEvery):
		}
	}
}

// callable is an address to call what listens on addr.
func callable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

func (e plain) lastLines(n int) string {
	var b strings.Builder
	if err := copyLog(&b, e.p.state(stateLog), time.Time{}, n); err != nil {
		return err.Error()
	}
	return b.String()
}

func (e plain) down(ctx context.Context, s streams) error {
	run, up := e.process()
	if !up {
		s.sayf("%s does not run", e.p.Name)
		return nil
	}
	ended := func() bool {
		free, err := lockFree(e.p.state(stateLock))
		return err == nil && free
	}
	if err := interrupt(run.PID); err != nil && !ended() {
		return fmt.Errorf("stop process %d: %w", run.PID, err)
	}
	for end := time.Now().Add(endWait); !ended(); {
		if time.Now().After(end) {
			return fmt.Errorf("process %d does not end, %s after it was told to; kill -9 %d ends it at once", run.PID, endWait, run.PID)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	s.sayf("%s is stopped", e.p.Name)
	return os.Remove(e.p.state(stateProcess))
}

func (e plain) list(context.Context) ([]running, error) {
	run, up := e.process()
	if !up {
		return []running{}, nil
	}
	return []running{{Name: partApp, State: "running", ID: strconv.Itoa(run.PID), Address: run.Addr, Since: run.Since.Format(time.RFC3339)}}, nil
}

func (e plain) shell(ctx context.Context, part string) (*exec.Cmd, error) {
	if part == partApp {
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		cmd := exec.CommandContext(ctx, shell) //nolint:gosec // the person's own
		cmd.Dir, cmd.Env = e.p.dir, e.p.environ()
		return cmd, nil
	}
	program, arg := "psql", e.p.databaseURL()
	if file, ok := e.p.databaseFile(); ok {
		program, arg = "sqlite3", file
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%s is not installed; it is the shell of this database", program)
	}
	return exec.CommandContext(ctx, program, arg), nil //nolint:gosec // psql or sqlite3 on the project's own database
}

func (e plain) goes(bool) []string {
	var goes []string
	if run, up := e.process(); up {
		goes = append(goes, fmt.Sprintf("the process %d, which runs at %s/", run.PID, run.BaseURL))
	}
	for _, file := range e.files() {
		if _, err := os.Stat(file); err == nil {
			goes = append(goes, file)
		}
	}
	return goes
}

// files are what a plain run leaves: the state folder, and the SQLite file with those that SQLite keeps beside it.
func (e plain) files() []string {
	files := []string{e.p.state("")}
	if file, ok := e.p.databaseFile(); ok {
		files = append(files, file, file+"-wal", file+"-shm")
	}
	return files
}

func (e plain) destroy(ctx context.Context, s streams, _ bool) error {
	if _, up := e.process(); up {
		if err := e.down(ctx, s); err != nil {
			return err
		}
	}
	var err error
	for _, file := range e.files() {
		err = errors.Join(err, os.RemoveAll(file))
	}
	return err
}

func (e plain) logs(ctx context.Context, s streams, p logParams) error {
	if p.part != "" && p.part != partApp {
		return usageError{fmt.Errorf("there is no %q: a plain process has the log of %q only", p.part, partApp)}
	}
	file := e.p.state(stateLog)
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("there is no log yet; quickscale up begins one: %w", errNothing)
	}
	out := s.cmd.OutOrStdout()
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if err := copyLog(out, file, p.since, p.last); err != nil || !p.follow {
		return err
	}
	return followLog(ctx, out, file, info.Size())
}

// copyLog copies the last lines of a log, all below zero, that are not older than since. A line without a time is as old
// as the one before it.
func copyLog(w io.Writer, file string, since time.Time, last int) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var lines []string
	young := since.IsZero()
	reader := bufio.NewReader(f)
	for {
		line, err := reader.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if at, ok := lineTime(line); ok && !since.IsZero() {
			young = !at.Before(since)
		}
		if young && line != "" {
			lines = append(lines, line)
			if last >= 0 && len(lines) > last {
				lines = lines[1:]
			}
		}
		if err != nil {
			break
		}
	}
	_, err = io.WriteString(w, strings.Join(lines, ""))
	return err
}

// lineTime reads the time that slog begins a line with.
func lineTime(line string) (time.Time, bool) {
	rest, ok := strings.CutPrefix(line, "time=")
	if !ok {
		return time.Time{}, false
	}
	stamp, _, _ := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339, stamp)
	return at, err == nil
}

// followLog copies what is added to a log, until ctx ends.
func followLog(ctx context.Context, w io.Writer, file string, from int64) error {
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	for {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}
