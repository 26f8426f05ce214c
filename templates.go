package quickscale

import (
	"embed"
	"fmt"
	"io/fs"
	"path"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook/outbound"
)

//go:embed all:templates
var publicFiles embed.FS

// Template is one of the built-in templates.
type Template struct {
	// Path is where a file of the host's replaces it in Config.Templates, such as auth/login.html.
	Path string
	Text []byte
}

// BuiltinTemplates are the templates of all pages, of the layout and of its components, in the order of their paths
// within each package. A copy is where a host's own begins; see also quickscale eject-templates.
func BuiltinTemplates() ([]Template, error) {
	var all []Template
	for _, area := range []struct {
		name  string
		files fs.FS
	}{
		{"web", web.Templates()}, {"public", web.SubTemplates(publicFiles)}, {"auth", auth.PageTemplates()}, {"billing", billing.PageTemplates()}, {"credits", credits.PageTemplates()},
		{"services", services.PageTemplates()}, {"outbound", outbound.PageTemplates()}, {"admin", admin.PageTemplates()}, {"mail", mail.PageTemplates()},
	} {
		err := fs.WalkDir(area.files, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path.Ext(name) != ".html" {
				return err
			}
			text, err := fs.ReadFile(area.files, name)
			all = append(all, Template{path.Join(area.name, name), text})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("quickscale: templates of %s: %w", area.name, err)
		}
	}
	return all, nil
}

// checkTemplates tells what is wrong with the host's templates.
func (a *App) checkTemplates() error {
	builtin, err := BuiltinTemplates()
	if err != nil {
		return err
	}
	paths := make([]string, len(builtin))
	for i, t := range builtin {
		paths[i] = t.Path
	}
	if err := a.site.CheckTemplates(paths); err != nil {
		return fmt.Errorf("quickscale: Config.Templates: %w", err)
	}
	return nil
}
