package web_test

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/web"
)

// themeOf is the style sheet of a theme, as a page links it, and the page.
func themeOf(t *testing.T, theme web.Theme) (sheet, page string, site *web.Site) {
	t.Helper()
	site = newSite(t, web.Config{Theme: theme})
	page = text(t, get(site.Protect(http.HandlerFunc(site.NotFound)), "/nowhere"))
	link := regexp.MustCompile(`href="(/static/theme/theme-[0-9a-f]+\.css)"`).FindStringSubmatch(page)
	if link == nil {
		return "", page, site
	}
	res := get(site.Assets(), link[1])
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Contains(t, res.Header.Get("Content-Type"), "text/css")
	assert.Contains(t, res.Header.Get("Cache-Control"), "immutable")
	return text(t, res), page, site
}

func TestTheme_IsASheetAtAHashedAddress(t *testing.T) {
	t.Parallel()
	sheet, page, _ := themeOf(t, web.Theme{})
	assert.Empty(t, sheet, "the built-in look has none")
	assert.NotContains(t, page, "data-theme")

	files := fstest.MapFS{"logo.png": {Data: []byte("\x89PNG\r\n\x1a\n")}, "fonts/inter.woff2": {Data: []byte("wOF2")}}
	sheet, page, site := themeOf(t, web.Theme{
		Primary: "#087f5b", Radius: "2px", Font: "Georgia, serif", FontFile: "fonts/inter.woff2", Logo: "logo.png", Scheme: web.SchemeDark,
		Variables: map[string]string{"--bulma-text-l": "20%"}, Files: files,
	})
	for _, part := range []string{"--bulma-primary-h:161.8deg", "--bulma-link-h:161.8deg", "--bulma-radius:2px;", `--bulma-family-primary:"theme", Georgia, serif;`, "--bulma-text-l:20%;", "[data-theme=dark]"} {
		assert.Contains(t, sheet, part)
	}
	assert.Contains(t, page, `<html lang="en" data-theme="dark">`)
	assert.NotRegexp(t, `<style|\sstyle=`, page)
	logos := regexp.MustCompile(`"(/static/theme/logo-[0-9a-f]+\.png)"`).FindAllStringSubmatch(page, -1)
	require.Len(t, logos, 2, "in the header and in the tab: %s", page)
	font := regexp.MustCompile(`url\("(/static/theme/inter-[0-9a-f]+\.woff2)"\)`).FindStringSubmatch(sheet)
	require.NotNil(t, font, sheet)
	for path, kind := range map[string]string{logos[0][1]: "image/png", font[1]: "font/woff2"} {
		res := get(site.Assets(), path)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, kind, res.Header.Get("Content-Type"))
	}
}

func TestTheme_MistakesAreToldAtTheStart(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"logo.gif": {}}
	for field, theme := range map[string]web.Theme{
		"Theme.Primary":                 {Primary: "red"},
		"Theme.Link":                    {Link: "#12345"},
		"Theme.Radius":                  {Radius: "1rem;}"},
		"Theme.Font ":                   {Font: "Georgia; } body { display: none"},
		"Theme.Scheme":                  {Scheme: "dim"},
		"--x":                           {Variables: map[string]string{"--x": "url(https://evil.example)"}},
		"--y":                           {Variables: map[string]string{"--y": "1;"}},
		"color":                         {Variables: map[string]string{"color": "1"}},
		"needs Theme.Files":             {Logo: "logo.png"},
		"must end in":                   {Logo: "logo.gif", Files: files},
		"Theme.Logo: open":              {Logo: "none.svg", Files: files},
		"Theme.FontFile: open none.wof": {FontFile: "none.woff2", Files: files},
	} {
		_, err := web.New(web.Config{Theme: theme})
		require.ErrorContains(t, err, field)
	}
	_, err := web.New(web.Config{Theme: web.Theme{Primary: "red", Radius: "wide"}})
	require.ErrorContains(t, err, "Primary")
	require.ErrorContains(t, err, "Radius", "all at once")
}

// Whatever colour a founder likes, words in it and on it can be read: 4.5 to 1 (WCAG 2.2, 1.4.3), as is calculated here
// from the sheet in another way.
func TestTheme_AnyColourCanBeRead(t *testing.T) {
	t.Parallel()
	for _, hex := range []string{"#3b5bdb", "#ffe066", "#ffffff", "#000000", "#ff0000", "#00ff00", "#0000ff", "#777777", "#e8590c", "#f783ac"} {
		sheet, _, _ := themeOf(t, web.Theme{Primary: hex})
		figures := func(name string) (all []float64) {
			for _, m := range regexp.MustCompile(`--bulma-primary-`+name+`:([0-9.]+)`).FindAllStringSubmatch(sheet, -1) {
				f, err := strconv.ParseFloat(m[1], 64)
				require.NoError(t, err)
				all = append(all, f)
			}
			require.NotEmpty(t, all, "%s: %s", name, sheet)
			return all
		}
		h, s, l := figures("h")[0], figures("s")[0], figures("l")[0]
		on := figures("on-scheme-l")
		require.Len(t, on, 3, "light, dark by the system, dark by choice")
		const enough = 4.4 // the sheet's figures are rounded
		assert.GreaterOrEqual(t, ratio(luminance(h, s, on[0]), luminance(221, 14, 96)), enough, "%s on a light page", hex)
		assert.GreaterOrEqual(t, ratio(luminance(h, s, on[1]), luminance(221, 14, 14)), enough, "%s on a dark page", hex)
		assert.InDelta(t, on[1], on[2], 0)
		assert.GreaterOrEqual(t, ratio(luminance(h, s, figures("invert-l")[0]), luminance(h, s, l)), enough, "words on %s", hex)
		// The colour is the one that was asked for.
		r, g, b := rgb(h, s, l)
		var wr, wg, wb int
		_, err := fmt.Sscanf(hex, "#%02x%02x%02x", &wr, &wg, &wb)
		require.NoError(t, err)
		for _, d := range []float64{r*255 - float64(wr), g*255 - float64(wg), b*255 - float64(wb)} {
			assert.Less(t, math.Abs(d), 1.5, hex)
		}
	}
}

func rgb(h, s, l float64) (r, g, b float64) {
	s, l = s/100, l/100
	c := (1 - math.Abs(2*l-1)) * s
	x := c * (1 - math.Abs(math.Mod(h/60, 2)-1))
	m := l - c/2
	switch {
	case h < 60:
		r, g = c, x
	case h < 120:
		r, g = x, c
	case h < 180:
		g, b = c, x
	case h < 240:
		g, b = x, c
	case h < 300:
		r, b = x, c
	default:
		r, b = c, x
	}
	return r + m, g + m, b + m
}

func luminance(h, s, l float64) float64 {
	linear := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	r, g, b := rgb(h, s, l)
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}

func ratio(a, b float64) float64 { return (math.Max(a, b) + 0.05) / (math.Min(a, b) + 0.05) }
