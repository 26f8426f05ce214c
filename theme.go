package quickscale

import (
	"io/fs"

	"github.com/quickscale/quickscale/internal/web"
)

// Scheme is whether pages are light or dark.
type Scheme string

// The schemes. Empty: as the person's system is.
const (
	SchemeLight = Scheme(web.SchemeLight)
	SchemeDark  = Scheme(web.SchemeDark)
)

// Theme changes the look of all pages without a template. The zero value is the built-in look. It becomes a style sheet
// below /static/ whose name holds its hash. What is wrong with it is told by [New].
type Theme struct {
	// Primary is the colour of the main buttons, as #3b5bdb. Words on it are white or nearly black, whichever is read
	// better. Empty: the built-in blue.
	Primary string
	// Link is the colour of links, made darker on light pages and lighter on dark ones until it can be read. Empty: Primary.
	Link string
	// Radius is that of corners, such as 0.5rem, 4px or 0. Empty: 0.5rem.
	Radius string
	// Font are the families of the text, such as Georgia, serif. Empty: the system's own.
	Font string
	// FontFile is a font in Files, .woff2 or .woff, which comes before Font. Empty: none.
	FontFile string
	// Logo is a square picture in Files, .svg, .png or .webp, for the header and the browser's tab. Empty: the built-in one.
	Logo string
	// Scheme makes all pages light or dark. Empty: as the person's system is.
	Scheme Scheme
	// Variables are other variables of Bulma (https://bulma.io/documentation/features/css-variables/), such as
	// --bulma-section-padding. Values hold no addresses and no semicolons. Nil: none.
	Variables map[string]string
	// Files holds Logo and FontFile. Nil: there are neither.
	Files fs.FS
}

// site is the theme as the pages take it.
func (t Theme) site() web.Theme {
	return web.Theme{Primary: t.Primary, Link: t.Link, Radius: t.Radius, Font: t.Font, FontFile: t.FontFile, Logo: t.Logo,
		Scheme: web.Scheme(t.Scheme), Variables: t.Variables, Files: t.Files}
}
