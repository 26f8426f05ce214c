package auth

import "strings"

// The marks of browsers and systems in User-Agent headers. Most browsers claim to be others too, so the order counts.
var (
	browserMarks = [][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}}
	systemMarks = [][2]string{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"}}
)

const maxDevice = 40

// deviceOf reads a User-Agent as far as people need to know their device again: "Firefox on Windows". Of others it is the
// beginning.
func deviceOf(agent string) string {
	browser, system := mark(agent, browserMarks), mark(agent, systemMarks)
	if browser != "" && system != "" {
		return browser + " on " + system
	}
	if runes := []rune(agent); len(runes) > maxDevice {
		return string(runes[:maxDevice]) + "…"
	}
	return agent
}

func mark(agent string, marks [][2]string) string {
	for _, m := range marks {
		if strings.Contains(agent, m[0]) {
			return m[1]
		}
	}
	return ""
}
