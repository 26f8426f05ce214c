package quickscale

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/joho/godotenv"
)

// settingFlags are the settings that the command line can hold: none that is secret, since every process of the machine
// can read it.
var settingFlags = []struct{ name, variable, use string }{
	{"env", "QUICKSCALE_ENV", "development or production"},
	{"addr", "QUICKSCALE_ADDR", "where to listen, such as 127.0.0.1:8080"},
	{"base-url", "QUICKSCALE_BASE_URL", "how people reach it, such as https://app.example.com"},
	{"database-url", "QUICKSCALE_DATABASE_URL", "the database, without a password: sqlite:app.db or postgres://user@host/name"},
	{"admin-email", "QUICKSCALE_ADMIN_EMAIL", "the address that becomes administrator"},
	{"trusted-proxies", "QUICKSCALE_TRUSTED_PROXIES", "addresses of reverse proxies, between commas"},
}

// Settings looks settings up in three places, the first that has one counts: the command line (args, without the
// program's name: -addr, -env, -base-url, -database-url, -admin-email, -trusted-proxies), the environment, through getenv
// such as os.Getenv, and the file that -config or QUICKSCALE_CONFIG names, whose lines are NAME=value, for all names,
// also the host's own. What it returns is for [FromEnvironment]. The error tells all faults of the command line and the
// file; it is flag.ErrHelp when the command line asks for help, which is printed on standard error then.
func Settings(args []string, getenv func(string) string) (func(string) string, error) {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	config := set.String("config", "", "a file with settings, a line for each: NAME=value")
	values := map[string]*string{}
	for _, f := range settingFlags {
		values[f.variable] = set.String(f.name, "", f.use+" ("+f.variable+")")
	}
	if err := set.Parse(args); err != nil {
		return nil, err // the flag set has said it
	}
	var faults []error
	if set.NArg() > 0 {
		faults = append(faults, fmt.Errorf("quickscale: %q is no flag", set.Arg(0)))
	}
	if u, err := url.Parse(*values["QUICKSCALE_DATABASE_URL"]); err != nil || u.User != nil && hasPassword(u) {
		faults = append(faults, errors.New("quickscale: -database-url must have no password, which everybody on this machine could read; put it into QUICKSCALE_DATABASE_URL or a file"))
	}
	file := *config
	if file == "" {
		file = getenv("QUICKSCALE_CONFIG")
	}
	fromFile := map[string]string{}
	if file != "" {
		var err error
		fromFile, err = readSettings(file)
		if err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return func(name string) string {
		if v, ok := values[name]; ok && *v != "" {
			return *v
		}
		if v := getenv(name); v != "" {
			return v
		}
		return fromFile[name]
	}, nil
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// othersMayRead are the bits of a file's mode by which everybody on the machine reads it.
const othersMayRead = 0o004

// readSettings reads a file of settings. Its error quotes nothing of it.
func readSettings(file string) (map[string]string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("quickscale: the file of settings: %w", err)
	}
	if info.Mode().Perm()&othersMayRead != 0 {
		return nil, fmt.Errorf("quickscale: %s holds secrets and can be read by everybody on this machine; chmod 640 %s", file, file)
	}
	values, err := godotenv.Read(file)
	if err != nil {
		return nil, fmt.Errorf("quickscale: %s cannot be read: each line is NAME=value, a comment that begins with #, or empty", file)
	}
	for name, value := range values {
		values[name] = strings.TrimSpace(value)
	}
	return values, nil
}
