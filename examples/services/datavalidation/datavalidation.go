// Package datavalidation is an example of a service that is charged by what it does: it checks the records of CSV or JSON
// by rules, reports each fault with its line, and takes a price for each record that it checked.
//
// Register it with services.Register(app.Services, datavalidation.Service{}), then:
//
//	curl -H 'Authorization: Bearer KEY' http://127.0.0.1:8080/api/v1/services/data-validation -d '{
//	  "data": "id,email\n1,ada@example.com\n2,oops", "format": "csv", "rules": ["id:required,integer", "email:required,email"]}'
//
// Its tests run with go test ./examples/services/datavalidation.
package datavalidation

import (
	"context"
	"fmt"
	"strings"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// Input is what a caller sends.
type Input struct {
	Data string `description:"CSV with a header line, or a JSON list of objects; at most 500,000 characters." format:"textarea" json:"data" title:"Data" validate:"required,max=500000"`
	// Format is csv or json. Empty: json where the data begins with a bracket.
	Format string `description:"Without a choice it is found out." enum:"csv,json" json:"format,omitempty" title:"Format"`
	// Rules are of the form field:rule,rule.
	Rules []string `description:"Of the form field:rule,rule; the rules are required, unique, integer, number, boolean, date, email, min=N, max=N, length=N and one of a|b." json:"rules" title:"Rules" validate:"max=100,dive,required,max=500"`
	// Strict makes fields without a rule a fault.
	Strict bool `description:"Fields that no rule names are faults." json:"strict" title:"Strict"`
}

// Output is the report.
type Output struct {
	Valid  bool   `json:"valid"`
	Format string `json:"format"`
	// Checked are the records that were checked, of which Invalid have faults.
	Checked int      `json:"checked"`
	Invalid int      `json:"invalid"`
	Fields  []string `json:"fields"`
	// Faults are the first 1,000, of FaultCount.
	Faults     []Fault `json:"faults"`
	FaultCount int     `json:"fault_count"`
}

// Fault is what is wrong with a record.
type Fault struct {
	// Line is where the record begins, from 1.
	Line int `json:"line"`
	// Record is its number, from 1; 0 for what is no record.
	Record  int    `json:"record,omitempty"`
	Field   string `json:"field,omitempty"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// Service is the service, ready to register.
type Service struct{}

// Info implements services.Service.
func (Service) Info() services.Info {
	return services.Info{
		Name: "data-validation", Title: "Data validation", Version: "1.0.0", Tags: []string{"data"},
		Summary: "Checks CSV and JSON by rules, and reports each fault with its line.",
	}
}

// unit is what is charged for.
const unit = "records"

// Pricing implements services.Service. A record takes a line of CSV at least, and an object of JSON two braces, so there
// cannot be more than that.
func (Service) Pricing() services.Pricing {
	return services.Metered(services.Rates{unit: services.Each(credits.MustAmount("0.01"))}, func(in Input) services.Units {
		if formatOf(in) == "csv" {
			return services.Units{unit: int64(strings.Count(in.Data, "\n") + strings.Count(in.Data, "\r") + 1)}
		}
		return services.Units{unit: int64(strings.Count(in.Data, "{"))}
	})
}

func formatOf(in Input) string {
	if in.Format != "" {
		return in.Format
	}
	if text := strings.TrimSpace(in.Data); strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{") {
		return "json"
	}
	return "csv"
}

const maxFaults = 1000

// report collects faults.
type report struct {
	Output
}

func (r *report) fault(f Fault) {
	r.FaultCount++
	if len(r.Faults) < maxFaults {
		r.Faults = append(r.Faults, f)
	}
}

// Execute implements services.Service. Data with faults is an answer, and rules that cannot be read are a failure. Data
// that breaks off is checked as far as it can be read.
func (Service) Execute(ctx context.Context, call *services.Call, in Input) (Output, error) {
	rules, err := parseRules(in.Rules)
	if err != nil {
		return Output{}, services.Failure(err.Error())
	}
	r := &report{Output{Format: formatOf(in), Faults: []Fault{}, Fields: []string{}}}
	c := &checker{rules: rules, strict: in.Strict, report: r, seen: map[string]map[string]int{}}
	each := func(rec record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.check(rec)
		return call.Meter(unit, 1)
	}
	if r.Format == "csv" {
		err = readCSV(in.Data, r, each)
	} else {
		err = readJSON(in.Data, r, each)
	}
	if err != nil {
		return Output{}, fmt.Errorf("datavalidation: %w", err)
	}
	r.Valid = r.FaultCount == 0
	return r.Output, nil
}
