package upload

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on names, in octets.
const (
	maxName = 180
	maxExt  = 20
)

// CleanName returns what a file is called in URLs and when it is saved: one segment
// of a path, of 1 to 180 octets, without what could mislead about it. The ending is
// kept (XEP-0363 §4). It is idempotent.
func CleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r == '/' || r == '\\':
			return '_'
		// Controls and formats, among them those that reverse the direction of text: what
		// looks like gnp.exe would be another.
		case r == utf8.RuneError, unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co):
			return -1
		}
		return r
	}, name)
	name = strings.TrimSpace(name)
	if len(name) > maxName {
		ext := path.Ext(name)
		if len(ext) > maxExt {
			ext = ""
		}
		name = strings.TrimSpace(head(name[:len(name)-len(ext)], maxName-len(ext))) + ext
	}
	if strings.Trim(name, ".") == "" {
		return "file"
	}
	return name
}

// head returns at most n octets of s, between characters.
func head(s string, n int) string {
	for n < len(s) && n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:min(n, len(s))]
}
