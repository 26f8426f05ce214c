package scaffold

import (
	"path"
	"slices"
	"strings"
)

// Class is how a project's file goes back to the templates.
type Class string

// The classes.
const (
	// Safe files are pages, pictures and prose: what is new in them is copied as it stands.
	Safe Class = "safe"
	// Careful files are code and configuration: what is new in them gets the templates' variables in the place of the
	// project's own name, title and module path.
	Careful Class = "careful"
	// Never are databases, migrations, logs, caches, secrets, and what other programs write.
	Never Class = "never"
)

// neverFolders are folders that do not go back, wherever they stand.
var neverFolders = []string{".git", ".quickscale", "vendor", "node_modules", "migrations", "__pycache__", ".cache", "cache", "logs", "tmp", "bin", "dist", ".idea", ".vscode"}

// neverNames are files that do not go back, as path.Match has them.
var neverNames = []string{
	"*.db", "*.db-*", "*.sqlite", "*.sqlite3", "*.sqlite*-*", "*.log", ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.orig", "*.rej", "*.swp", "*~",
	"*.test", "*.out", "*.prof", "*.exe", "*.so", "*.pyc", ".DS_Store", "go.sum", "go.work", "go.work.sum", RecordFile,
}

var (
	safeFolders = []string{"templates", "static", "assets", "docs"}
	safeNames   = []string{"*.md", "*.txt", "LICENSE", "NOTICE"}
)

// classOf tells how the file of a path goes back, and of one that never does why.
func classOf(file string) (class Class, why string) {
	folders := strings.Split(path.Dir(file), "/")
	for _, f := range folders {
		if slices.Contains(neverFolders, f) {
			return Never, "it lies in " + f + "/"
		}
	}
	base := path.Base(file)
	switch {
	case base == ".env.example":
		return Careful, ""
	case file == "go.mod":
		return Never, "go mod tidy has changed it"
	case matches(neverNames, base):
		return Never, "it is data, a secret, or written by a program"
	case slices.Contains(safeFolders, folders[0]), matches(safeNames, base):
		return Safe, ""
	}
	return Careful, ""
}

func matches(patterns []string, base string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, base)
		return err == nil && ok
	})
}
