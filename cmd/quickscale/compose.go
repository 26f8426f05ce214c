package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// compose runs a project in Docker's containers, as its compose.yaml says.
type compose struct{ p *project }

// The parts of compose.yaml.
const (
	partApp = "app"
	partDB  = "db"
)

func (c compose) docker(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose"}, args...)...) //nolint:gosec // the commands above and below, no shell
	cmd.Dir = c.p.dir
	return cmd
}

func (c compose) up(ctx context.Context, s streams) error {
	mod, err := os.ReadFile(filepath.Join(c.p.dir, "go.mod"))
	if err != nil {
		return err
	}
	_, statErr := os.Stat(filepath.Join(c.p.dir, "vendor"))
	if bytes.Contains(mod, []byte("replace "+library+" => ")) && statErr != nil {
		return errors.New("go.mod points to a checkout of QuickScale that the image does not see; run \"make vendor\" first, or give --engine none")
	}
	if err := s.attach(c.docker(ctx, "up", "--build", "--detach", "--wait")).Run(); err != nil {
		return fmt.Errorf("docker compose up: %w; quickscale logs shows what the containers said", err)
	}
	s.sayf("%s runs at %s/; quickscale logs shows its log, quickscale down stops it", c.p.Name, c.base())
	return nil
}

// base is where compose.yaml publishes the application.
func (c compose) base() string {
	if v := c.p.getenv("QUICKSCALE_BASE_URL"); v != "" {
		return v
	}
	return "http://127.0.0.1:8080"
}

func (c compose) down(ctx context.Context, s streams) error {
	return s.attach(c.docker(ctx, "down", "--remove-orphans")).Run()
}

func (c compose) logs(ctx context.Context, s streams, p logParams) error {
	args := []string{"logs"}
	if p.follow {
		args = append(args, "--follow")
	}
	if !p.since.IsZero() {
		args = append(args, "--since", p.since.UTC().Format(time.RFC3339))
	}
	if p.last >= 0 {
		args = append(args, "--tail", strconv.Itoa(p.last))
	}
	if p.part != "" {
		args = append(args, p.part)
	}
	cmd := s.attach(c.docker(ctx, args...))
	cmd.Stdout = s.cmd.OutOrStdout()
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("docker compose logs: %w", err)
	}
	return nil
}

// container is a line of docker compose ps.
type container struct {
	ID         string `json:"ID"`
	Service    string `json:"Service"`
	State      string `json:"State"`
	Health     string `json:"Health"`
	CreatedAt  string `json:"CreatedAt"`
	Publishers []struct {
		URL           string `json:"URL"`
		PublishedPort int    `json:"PublishedPort"`
	} `json:"Publishers"`
}

func (c compose) list(ctx context.Context) ([]running, error) {
	said, err := c.docker(ctx, "ps", "--format", "json").Output()
	if err != nil {
		return nil, fmt.Errorf("docker compose ps: %w", err)
	}
	list := []running{}
	decoder := json.NewDecoder(bytes.NewReader(said))
	for {
		var one container
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("docker compose ps printed what is no JSON: %w", err)
		}
		r := running{Name: one.Service, State: one.State, ID: one.ID, Since: one.CreatedAt}
		if one.Health != "" {
			r.State += ", " + one.Health
		}
		for _, p := range one.Publishers {
			if p.PublishedPort != 0 {
				r.Address = p.URL + ":" + strconv.Itoa(p.PublishedPort)
			}
		}
		list = append(list, r)
	}
}

// The image of the application has no shell: its folder is the place to work. The database's has psql.
func (c compose) shell(ctx context.Context, part string) (*exec.Cmd, error) {
	if part != partDB {
		return plain(c).shell(ctx, part)
	}
	if c.p.Database != "postgres" {
		return nil, usageError{errors.New("the database is an SQLite file in the volume of the container, which has no shell")}
	}
	return c.docker(ctx, "exec", partDB, "psql", "-U", "app", "-d", "app"), nil
}

func (c compose) goes(images bool) []string {
	goes := []string{"the containers and the network of " + c.p.Name, "its volume, and with it the whole database"}
	if images {
		goes = append(goes, "the images that were built for it")
	}
	return append(goes, plain(c).goes(false)...)
}

func (c compose) destroy(ctx context.Context, s streams, images bool) error {
	args := []string{"down", "--volumes", "--remove-orphans"}
	if images {
		args = append(args, "--rmi", "local")
	}
	if err := s.attach(c.docker(ctx, args...)).Run(); err != nil {
		return fmt.Errorf("docker compose %s: %w", strings.Join(args, " "), err)
	}
	return plain(c).destroy(ctx, s, false)
}
