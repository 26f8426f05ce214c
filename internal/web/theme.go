package web

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Scheme is whether pages are light or dark.
type Scheme string

// The schemes. Empty: as the person's system is.
const (
	SchemeLight Scheme = "light"
	SchemeDark  Scheme = "dark"
)

// Theme changes the look without a template. The zero value is the built-in look.
type Theme struct {
	Primary   string
	Link      string
	Radius    string
	Font      string
	FontFile  string
	Logo      string
	Scheme    Scheme
	Variables map[string]string
	Files     fs.FS
}

// themeSheet is the logical name of the style sheet that a theme becomes.
const themeSheet = "theme/theme.css"

// iconName is the picture in the header and in the browser's tab, which a theme's logo replaces.
const iconName = "app/icon.svg"

var (
	hexColour    = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	cssLength    = regexp.MustCompile(`^(0|[0-9]{1,3}(\.[0-9]{1,4})?(px|rem|em))$`)
	variableName = regexp.MustCompile(`^--[a-z][a-z0-9-]*$`)
	// cssValue has nothing that could end the declaration, and no address: pages ask no other host for anything.
	cssValue = regexp.MustCompile(`^[A-Za-z0-9 .,%#()"'+*_-]{1,200}$`)
)

// apply checks the theme, adds its files and its style sheet to the assets, and returns the sheet's address, which is
// empty where nothing is changed.
func (t Theme) apply(a *assets) (string, error) {
	sheet, faults := t.sheet()
	if t.Logo != "" {
		address, err := t.file(a, "Logo", t.Logo, ".svg", ".png", ".webp")
		faults = append(faults, err)
		a.urls[iconName] = address
	}
	if t.FontFile != "" {
		address, err := t.file(a, "FontFile", t.FontFile, ".woff2", ".woff")
		faults = append(faults, err)
		sheet = fmt.Sprintf("@font-face{font-family:\"theme\";src:url(%q);font-display:swap;font-weight:100 900}\n", address) + sheet
	}
	if err := errors.Join(faults...); err != nil {
		return "", err
	}
	if sheet == "" {
		return "", nil
	}
	return a.add(themeSheet, asset{content: []byte(sheet)}), nil
}

// file adds one of the theme's files to the assets.
func (t Theme) file(a *assets, field, name string, endings ...string) (string, error) {
	if t.Files == nil {
		return "", fmt.Errorf("web: Theme.%s needs Theme.Files, in which %s is", field, name)
	}
	if !slices.Contains(endings, path.Ext(name)) {
		return "", fmt.Errorf("web: Theme.%s is %q; its name must end in %s", field, name, strings.Join(endings, ", "))
	}
	content, err := fs.ReadFile(t.Files, name)
	if err != nil {
		return "", fmt.Errorf("web: Theme.%s: %w", field, err)
	}
	return a.add("theme/"+path.Base(name), asset{content: content}), nil
}

// sheet is the theme as CSS. The colours of words are made lighter or darker until they can be read (WCAG 2.2, 1.4.3).
func (t Theme) sheet() (css string, faults []error) {
	var all, light, dark strings.Builder
	link := t.Link
	if link == "" {
		link = t.Primary
	}
	for _, c := range []struct{ field, name, value string }{{"Primary", "primary", t.Primary}, {"Link", "link", link}} {
		if c.value == "" {
			continue
		}
		if !hexColour.MatchString(c.value) {
			faults = append(faults, fmt.Errorf("web: Theme.%s is %q; write a colour as #3b5bdb", c.field, c.value))
			continue
		}
		k := parseColour(c.value)
		fmt.Fprintf(&all, "--bulma-%[1]s-h:%.1[2]fdeg;--bulma-%[1]s-s:%.1[3]f%%;--bulma-%[1]s-l:%.1[4]f%%;--bulma-%[1]s-invert-l:%.0[5]f%%;", c.name, k.h, k.s, k.l, k.inverse())
		fmt.Fprintf(&light, "--bulma-%s-on-scheme-l:%.1f%%;", c.name, k.readable(lightPage, -1))
		fmt.Fprintf(&dark, "--bulma-%s-on-scheme-l:%.1f%%;", c.name, k.readable(darkPage, +1))
	}
	if t.Radius != "" {
		if !cssLength.MatchString(t.Radius) {
			faults = append(faults, fmt.Errorf("web: Theme.Radius is %q; write a length such as 0.5rem, 4px or 0", t.Radius))
		}
		fmt.Fprintf(&all, "--bulma-radius:%[1]s;--bulma-radius-small:%[1]s;--bulma-radius-medium:%[1]s;--bulma-radius-large:%[1]s;", t.Radius)
	}
	font := t.Font
	if t.FontFile != "" {
		font = strings.TrimSuffix(`"theme", `+t.Font, ", ")
	}
	if font != "" {
		if !cssValue.MatchString(font) {
			faults = append(faults, fmt.Errorf("web: Theme.Font is %q; write font families, such as Georgia, serif", t.Font))
		}
		fmt.Fprintf(&all, "--bulma-family-primary:%s;", font)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Variables)) {
		value := t.Variables[name]
		if !variableName.MatchString(name) || !cssValue.MatchString(value) || strings.Contains(strings.ToLower(value), "url(") {
			faults = append(faults, fmt.Errorf("web: Theme.Variables has %s: %q; names are as --bulma-text-l, and a value is one without addresses and semicolons", name, value))
			continue
		}
		fmt.Fprintf(&all, "%s:%s;", name, value)
	}
	if t.Scheme != "" && t.Scheme != SchemeLight && t.Scheme != SchemeDark {
		faults = append(faults, fmt.Errorf("web: Theme.Scheme is %q; it is light, dark, or empty for as the person's system is", t.Scheme))
	}
	if all.Len() == 0 {
		return "", faults
	}
	// Bulma sets its own values again where a scheme is chosen, so that each place is named.
	css = ":root,[data-theme=light],[data-theme=dark]{" + all.String() + "}\n"
	if light.Len() > 0 {
		css += ":root,[data-theme=light]{" + light.String() + "}\n" +
			"@media (prefers-color-scheme:dark){:root:not([data-theme=light]){" + dark.String() + "}}\n[data-theme=dark]{" + dark.String() + "}\n"
	}
	return css, faults
}

// colour is hue in degrees, saturation and lightness in per cent.
type colour struct{ h, s, l float64 }

// The luminance of the pages (WCAG 2.2, relative luminance): of Bulma's greyest light and lightest dark background.
var (
	lightPage = colour{221, 14, 96}.luminance()
	darkPage  = colour{221, 14, 14}.luminance()
)

// minContrast is what words need before their background (WCAG 2.2, 1.4.3).
const minContrast = 4.5

// parseColour reads #rrggbb.
func parseColour(hex string) colour {
	n, err := strconv.ParseUint(hex[1:], 16, 32)
	if err != nil {
		panic(err) // the pattern was matched
	}
	r, g, b := float64(n>>16)/255, float64(n>>8&0xff)/255, float64(n&0xff)/255
	most, least := max(r, g, b), min(r, g, b)
	c := colour{l: (most + least) / 2 * 100}
	d := most - least
	if d == 0 {
		return c
	}
	c.s = d / (1 - math.Abs(most+least-1)) * 100
	switch most {
	case r:
		c.h = math.Mod((g-b)/d+6, 6) * 60
	case g:
		c.h = ((b-r)/d + 2) * 60
	default:
		c.h = ((r-g)/d + 4) * 60
	}
	return c
}

// luminance is the relative luminance, 0 to 1 (WCAG 2.2).
func (c colour) luminance() float64 {
	channel := func(n float64) float64 {
		k := math.Mod(n+c.h/30, 12)
		a := c.s / 100 * min(c.l/100, 1-c.l/100)
		v := c.l/100 - a*max(-1, min(k-3, 9-k, 1))
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(0) + 0.7152*channel(8) + 0.0722*channel(4)
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

// readable is the lightness nearest to the colour's at which words of it can be read on a page, looked for downwards or
// upwards.
func (c colour) readable(page, step float64) float64 {
	for contrast(c.luminance(), page) < minContrast { // black and white have more
		c.l += step / 2
	}
	return c.l
}

// inverse is the lightness of words on the colour: white, or nearly black where that is read better.
func (c colour) inverse() float64 {
	white, black := contrast(c.luminance(), 1), contrast(c.luminance(), colour{c.h, c.s, 5}.luminance())
	if white >= minContrast || white >= black {
		return 100
	}
	return 5
}
