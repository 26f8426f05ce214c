package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// Model is what is sold under one name.
type Model struct {
	// Name is what callers ask for. Required.
	Name string `json:"name"`
	// Upstream is what the upstream calls it. Empty: Name.
	Upstream string `json:"upstream,omitempty"`
	// Input and Output are credits for a million tokens of the prompt and of the answer.
	Input  credits.Amount `json:"input"`
	Output credits.Amount `json:"output"`
	// MaxOutput is the most tokens of one answer, and what is asked for when the caller sets no bound. Required.
	MaxOutput int64 `json:"max_output"`
}

// models.json are the models of a gateway that names no others; its prices are examples.
//
//go:embed models.json
var defaultModels []byte

// parseModels reads a list of models from JSON. Its error tells all faults.
func parseModels(text []byte) ([]Model, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var models []Model
	if err := decoder.Decode(&models); err != nil {
		return nil, fmt.Errorf("read the models: %w", err)
	}
	var faults []error
	seen := map[string]bool{}
	for i, m := range models {
		if m.Name == "" || m.MaxOutput < 1 || m.Input < 0 || m.Output < 0 {
			faults = append(faults, fmt.Errorf("model %d (%q): it needs a name, a max_output above zero and prices of zero or more", i, m.Name))
		}
		if seen[m.Name] {
			faults = append(faults, fmt.Errorf("model %q stands twice", m.Name))
		}
		seen[m.Name] = true
		if m.Upstream == "" {
			models[i].Upstream = m.Name
		}
	}
	if len(models) == 0 {
		faults = append(faults, errors.New("there is no model"))
	}
	return models, errors.Join(faults...)
}

// The units of a model.
func (m Model) inputUnit() string  { return m.Name + " input" }
func (m Model) outputUnit() string { return m.Name + " output" }

// rates are the prices of all models.
func rates(models []Model) services.Rates {
	r := services.Rates{}
	for _, m := range models {
		r[m.inputUnit()], r[m.outputUnit()] = services.PerMillion(m.Input), services.PerMillion(m.Output)
	}
	return r
}

const perMillion = 1_000_000

func findModel(models []Model, name string) (Model, bool) {
	i := slices.IndexFunc(models, func(m Model) bool { return m.Name == name })
	if i < 0 {
		return Model{}, false
	}
	return models[i], true
}
