package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/services"
)

// mostOpenAPI bounds what is read of an answer.
const mostOpenAPI = 32 << 20

func newOpenAPI() *cobra.Command {
	var base, file string
	cmd := &cobra.Command{
		Use: "openapi", Args: args(cobra.NoArgs), Short: "Print the OpenAPI description of a running application's API",
		Long: "Print the OpenAPI description of a running application's API, as JSON. Which services there are is known to the\n" +
			"application alone, so that it has to run: quickscale up starts a project. It is asked at the address of the project's\n" +
			"process, at QUICKSCALE_BASE_URL, or at --url.",
		Example: "  quickscale openapi -o openapi.json\n  quickscale openapi --url https://app.example.com",
	}
	cmd.Flags().StringVar(&base, "url", "", "where the application is reached, without a path")
	cmd.Flags().StringVarP(&file, "output", "o", "", "write it to this file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if base == "" {
			p, err := findProject()
			if err != nil {
				return err
			}
			if run, up := (plain{p}).process(); up {
				base = run.BaseURL
			} else if base = p.getenv("QUICKSCALE_BASE_URL"); base == "" {
				return errors.New("the project does not run; start it with quickscale up, or give --url")
			}
		}
		address := strings.TrimSuffix(base, "/") + services.DefaultAPIPath + "/openapi.json"
		r, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			return usageError{fmt.Errorf("--url: %w", err)}
		}
		client := &http.Client{Timeout: checkWait}
		res, err := client.Do(r)
		if err != nil {
			return fmt.Errorf("the application does not answer: %w", err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(io.LimitReader(res.Body, mostOpenAPI))
		if err != nil {
			return fmt.Errorf("read %s: %w", address, err)
		}
		var document struct {
			OpenAPI string `json:"openapi"`
		}
		if res.StatusCode != http.StatusOK || json.Unmarshal(text, &document) != nil || document.OpenAPI == "" {
			return fmt.Errorf("%s answers %s, which is no OpenAPI description; --url takes the address of an application without a path", address, res.Status)
		}
		if file != "" {
			return os.WriteFile(file, text, 0o644) //nolint:gosec // a description that is public
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	return cmd
}
