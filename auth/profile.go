package auth

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Profile is what a person tells about themselves, all of it optional.
type Profile struct {
	Name string `json:"name"`
	// Bio is at most 1,000 characters, over several lines.
	Bio string `json:"bio"`
	// Phone is an international number such as +4930123456, kept without spaces and signs.
	Phone    string `json:"phone"`
	JobTitle string `json:"job_title"`
	Company  string `json:"company"`
	// Website is an address that begins with https:// or http://.
	Website  string `json:"website"`
	Location string `json:"location"`
	// Twitter, LinkedIn and GitHub are names there, without the address and the @.
	Twitter  string `json:"twitter"`
	LinkedIn string `json:"linkedin"`
	GitHub   string `json:"github"`
	// Language is what the person reads, one of those that there are mails in (BCP 47). Empty: they have not said.
	Language string `json:"language"`
	// Notify says that the person wants mails beside those about security, payments and organisations; see
	// [Auth.MailChoiceTx].
	Notify bool `json:"email_notifications"`
}

const (
	maxBio     = 1000
	maxWebsite = 300
)

// Names at other sites, as those allow them.
var (
	phonePattern    = regexp.MustCompile(`^\+?[0-9]{5,15}$`)
	twitterPattern  = regexp.MustCompile(`^[A-Za-z0-9_]{1,15}$`)
	githubPattern   = regexp.MustCompile(`^[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}$`)
	linkedinPattern = regexp.MustCompile(`^[\p{L}\p{N}-]{3,100}$`)
	phoneNoise      = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "", "/", "")
)

// check trims the fields and reports all at fault at once.
func (p *Profile) check(languages []string) error {
	wrong := map[string]string{}
	if p.Language != "" && !slices.Contains(languages, p.Language) {
		wrong["language"] = "Choose one of the languages that are offered."
	}
	for name, field := range map[string]*string{"name": &p.Name, "job_title": &p.JobTitle, "company": &p.Company, "location": &p.Location} {
		*field = strings.TrimSpace(*field)
		if message := checkLine(*field); message != "" {
			wrong[name] = message
		}
	}
	p.Bio = strings.ReplaceAll(strings.TrimSpace(p.Bio), "\r\n", "\n")
	if message := checkText(p.Bio, maxBio); message != "" {
		wrong["bio"] = message
	}
	p.Phone = phoneNoise.Replace(strings.TrimSpace(p.Phone))
	if p.Phone != "" && !phonePattern.MatchString(p.Phone) {
		wrong["phone"] = "Enter a number such as +49 30 123456."
	}
	p.Website = strings.TrimSpace(p.Website)
	if p.Website != "" && !isWebsite(p.Website) {
		wrong["website"] = "Enter an address such as https://example.com."
	}
	for name, at := range map[string]struct {
		field   *string
		hosts   []string
		pattern *regexp.Regexp
		message string
	}{
		"twitter":  {&p.Twitter, []string{"twitter.com/", "x.com/"}, twitterPattern, "Enter the name there: up to 15 letters, digits and underscores."},
		"linkedin": {&p.LinkedIn, []string{"linkedin.com/in/"}, linkedinPattern, "Enter the name there: 3 to 100 letters, digits and hyphens."},
		"github":   {&p.GitHub, []string{"github.com/"}, githubPattern, "Enter the name there: up to 39 letters, digits and single hyphens."},
	} {
		*at.field = handle(*at.field, at.hosts)
		if *at.field != "" && !at.pattern.MatchString(*at.field) {
			wrong[name] = at.message
		}
	}
	if len(wrong) > 0 {
		return problem.Invalid(wrong)
	}
	return nil
}

// checkText returns the sentence about a text of several lines, or "".
func checkText(s string, most int) string {
	switch {
	case utf8.RuneCountInString(s) > most:
		return fmt.Sprintf("Use at most %d characters.", most)
	case !utf8.ValidString(s), strings.ContainsFunc(s, func(c rune) bool { return c != '\n' && unicode.IsControl(c) || unicode.In(c, unicode.Bidi_Control) }):
		return "Use letters, digits, spaces and signs only."
	}
	return ""
}

func isWebsite(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && utf8.RuneCountInString(s) <= maxWebsite &&
		!strings.ContainsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) })
}

// handle is a name at another site, of which people also paste the address.
func handle(s string, hosts []string) string {
	s = strings.TrimSpace(s)
	for _, prefix := range []string{"https://", "http://", "www."} {
		s = strings.TrimPrefix(s, prefix)
	}
	for _, host := range hosts {
		s = strings.TrimPrefix(s, host)
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "@"), "/")
}

type profileRow struct {
	Bio      string `db:"bio"`
	Phone    string `db:"phone"`
	JobTitle string `db:"job_title"`
	Company  string `db:"company"`
	Website  string `db:"website"`
	Location string `db:"location"`
	Twitter  string `db:"twitter"`
	LinkedIn string `db:"linkedin"`
	GitHub   string `db:"github"`
	Notify   bool   `db:"notify"`
}

// Profile returns what a person tells about themselves; who has told nothing wants mails. [ErrNotFound].
func (a *Auth) Profile(ctx context.Context, userID string) (Profile, error) {
	u, err := a.FindUser(ctx, userID)
	if err != nil {
		return Profile{}, err
	}
	row := profileRow{Notify: true}
	const query = `SELECT bio, phone, job_title, company, website, location, twitter, linkedin, github, notify FROM qs_auth_profiles WHERE user_id = ?`
	if err := a.db.Get(ctx, &row, query, userID); err != nil && !database.IsNoRows(err) {
		return Profile{}, fmt.Errorf("auth: profile of user %s: %w", userID, err)
	}
	return Profile{u.Name, row.Bio, row.Phone, row.JobTitle, row.Company, row.Website, row.Location, row.Twitter, row.LinkedIn, row.GitHub, u.Language, row.Notify}, nil
}

// SetProfile replaces all of it. [ErrNotFound]; a problem of code "invalid" that names the fields.
func (a *Auth) SetProfile(ctx context.Context, userID string, p Profile) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.SetProfileTx(ctx, tx, userID, p) })
}

// SetProfileTx is [Auth.SetProfile] inside tx.
func (a *Auth) SetProfileTx(ctx context.Context, tx *sqlx.Tx, userID string, p Profile) error {
	if err := p.check(a.mails.Languages()); err != nil {
		return err
	}
	if err := a.SetNameTx(ctx, tx, userID, p.Name); err != nil {
		return err
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET language = ? WHERE id = ?`, p.Language, userID); err != nil {
		return fmt.Errorf("auth: set the language of user %s: %w", userID, err)
	}
	const write = `INSERT INTO qs_auth_profiles (user_id, bio, phone, job_title, company, website, location, twitter, linkedin, github, notify, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET bio = excluded.bio, phone = excluded.phone, job_title = excluded.job_title,
			company = excluded.company, website = excluded.website, location = excluded.location, twitter = excluded.twitter, linkedin = excluded.linkedin,
			github = excluded.github, notify = excluded.notify, updated_at = excluded.updated_at`
	if _, err := a.db.ExecTx(ctx, tx, write, userID, p.Bio, p.Phone, p.JobTitle, p.Company, p.Website, p.Location, p.Twitter, p.LinkedIn, p.GitHub, p.Notify,
		database.At(a.now())); err != nil {
		return fmt.Errorf("auth: write the profile of user %s: %w", userID, err)
	}
	return nil
}
