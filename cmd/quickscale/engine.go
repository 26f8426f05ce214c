package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
)

// engine runs a project. There are two: Docker's, and plain processes.
type engine interface {
	// up builds and starts it, and returns once it serves.
	up(ctx context.Context, s streams) error
	down(ctx context.Context, s streams) error
	logs(ctx context.Context, s streams, p logParams) error
	list(ctx context.Context) ([]running, error)
	// shell is the command that opens a shell on the part of that name.
	shell(ctx context.Context, part string) (*exec.Cmd, error)
	// goes names what destroy takes away, and destroy does it.
	goes(images bool) []string
	destroy(ctx context.Context, s streams, images bool) error
}

// running is one part of a project that is up.
type running struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	ID      string `json:"id"`
	Address string `json:"address,omitempty"`
	Since   string `json:"since,omitempty"`
}

// logParams choose lines of the log.
type logParams struct {
	part   string // empty: all
	follow bool
	since  time.Time // zero: from the beginning
	last   int       // below zero: all
}

const (
	engineAuto   = "auto"
	engineDocker = "docker"
	engineNone   = "none"
)

// projectCommand is a command that works on the project it stands in, with the engine that was chosen.
func projectCommand(cmd *cobra.Command, fn func(ctx context.Context, p *project, e engine, out output) error) *cobra.Command {
	var chosen string
	addJSON(cmd)
	cmd.Flags().StringVar(&chosen, "engine", engineAuto, "docker, none for plain processes, or auto: docker where it answers")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		p, err := findProject()
		if err != nil {
			return err
		}
		e, err := p.engine(cmd.Context(), chosen)
		if err != nil {
			return err
		}
		return fn(cmd.Context(), p, e, out)
	}
	return cmd
}

func (p *project) engine(ctx context.Context, chosen string) (engine, error) {
	switch chosen {
	case engineDocker:
		return compose{p}, dockerAnswers(ctx)
	case engineNone:
		return plain{p}, nil
	case engineAuto:
		_, up := (plain{p}).process()
		if docker := !up && dockerAnswers(ctx) == nil; docker {
			return compose{p}, nil
		}
		return plain{p}, nil
	}
	return nil, usageError{fmt.Errorf("there is no engine %q: it is auto, docker or none", chosen)}
}

// dockerWait bounds how long Docker may take to say that it is there.
const dockerWait = 10 * time.Second

// dockerAnswers tells why Docker cannot be used.
func dockerAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dockerWait)
	defer cancel()
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("docker is not installed; --engine none runs plain processes")
	}
	if err := exec.CommandContext(ctx, "docker", "compose", "version").Run(); err != nil {
		return errors.New("docker has no \"compose\"; install its compose plugin, or give --engine none")
	}
	if err := exec.CommandContext(ctx, "docker", "info").Run(); err != nil {
		return errors.New("docker's engine does not answer; start it, or give --engine none")
	}
	return nil
}

// streams are where a command reads and writes.
type streams struct{ cmd *cobra.Command }

func (s streams) sayf(format string, args ...any) { s.cmd.PrintErrf(format+"\n", args...) }

// attach lets a program use the terminal. What is no part of a result goes to standard error.
func (s streams) attach(c *exec.Cmd) *exec.Cmd {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, s.cmd.ErrOrStderr(), s.cmd.ErrOrStderr()
	return c
}
