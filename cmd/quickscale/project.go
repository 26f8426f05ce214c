package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/joho/godotenv"
	"go.yaml.in/yaml/v3"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/scaffold"
)

// The files by which a project is known, and the folder for what runs here.
const (
	projectFile  = "quickscale.yaml"
	settingsFile = ".env"
	stateFolder  = ".quickscale"
)

// project is a generated application.
type project struct {
	dir string // absolute
	// settings are those of .env; the environment goes before them.
	settings map[string]string

	Name     string   `yaml:"name"`
	Module   string   `yaml:"module"`
	Database string   `yaml:"database"`
	Samples  []string `yaml:"samples"`
	OAuth    []string `yaml:"oauth"`
	Without  []string `yaml:"without"`
}

// errNoProject says that the command stands in no project.
var errNoProject = usageError{errors.New("there is no " + projectFile + " here or above: go to a project's folder, or make one with quickscale init NAME")}

// findProject finds the project that the working directory is in.
func findProject() (*project, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	return findProjectAt(here)
}

// findProjectAt finds the project that an absolute folder is in.
func findProjectAt(here string) (*project, error) {
	for dir := here; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, projectFile))
		if errors.Is(err, fs.ErrNotExist) {
			if dir == filepath.Dir(dir) {
				return nil, errNoProject
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		p := &project{dir: dir}
		if err := yaml.Unmarshal(content, p); err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", filepath.Join(dir, projectFile), err)}
		}
		if !scaffold.ValidName(p.Name) {
			return nil, usageError{fmt.Errorf("%s: name is %q; use lower-case letters, digits and hyphens", filepath.Join(dir, projectFile), p.Name)}
		}
		p.settings, err = readSettings(dir)
		return p, err
	}
}

// readSettings reads .env; there may be none.
func readSettings(dir string) (map[string]string, error) {
	settings, err := godotenv.Read(filepath.Join(dir, settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil { // it quotes the file, which has secrets
		return nil, usageError{errors.New(filepath.Join(dir, settingsFile) + " cannot be read: each line is NAME=value, a comment, or empty")}
	}
	return settings, nil
}

// getenv reads a setting: from the environment, or from .env.
func (p *project) getenv(name string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return p.settings[name]
}

// plainEnv is getenv for a process without an engine, whose database is a file unless something else is said.
func (p *project) plainEnv(name string) string {
	v := p.getenv(name)
	if v == "" && name == envDatabase {
		return "sqlite:" + p.Name + ".db"
	}
	return v
}

// environ is the environment for programs of the project.
func (p *project) environ() []string {
	env := os.Environ()
	for name, value := range p.settings {
		if _, ok := os.LookupEnv(name); !ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, envDatabase+"="+p.plainEnv(envDatabase))
}

// environment is what the settings mean for a process without an engine.
func (p *project) environment() (quickscale.Environment, error) {
	env, err := quickscale.FromEnvironment(p.plainEnv)
	if err != nil {
		err = usageError{err}
	}
	return env, err
}

// databaseFile is the SQLite file, absolute; false when the database is another.
func (p *project) databaseFile() (string, bool) {
	file, ok := strings.CutPrefix(p.plainEnv(envDatabase), "sqlite:")
	if !ok || file == "" {
		return "", false
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(p.dir, file)
	}
	return file, true
}

// databaseURL is the database of a process without an engine, from wherever the command runs.
func (p *project) databaseURL() string {
	if file, ok := p.databaseFile(); ok {
		return "sqlite:" + file
	}
	return p.plainEnv(envDatabase)
}

func (p *project) state(name string) string { return filepath.Join(p.dir, stateFolder, name) }
