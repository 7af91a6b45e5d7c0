package cpim

import (
	"strings"
	"unicode/utf8"

	"trivium/core/stanza"
	"trivium/core/wire"
)

// textOf returns the character data of a child and the language it declares
// itself. Most children have no attributes and nothing but text, and are read
// without building a tree.
func textOf(c stanza.Child) (text, lang string) {
	if open := strings.IndexByte(c.Raw, '>'); open > 0 && c.Raw[open-1] != '/' && strings.IndexByte(c.Raw[:open], '=') < 0 {
		inner := c.Raw[open+1:]
		if end := strings.IndexByte(inner, '<'); end >= 0 && strings.LastIndexByte(inner, '<') == end {
			return wire.Unescape(inner[:end]), ""
		}
	}
	e := c.Element()
	return e.Text(), langOf(e)
}

// langOf returns xml:lang of e itself.
func langOf(e *stanza.Element) string {
	for _, a := range e.Attrs {
		if a.Space == stanza.NSXML && a.Local == "lang" {
			return a.Value
		}
	}
	return ""
}

// canonical returns text with the line ends of MIME (RFC 2046 §4.1.1).
func canonical(s string) string {
	if strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\r' && i+1 < len(s) && s[i+1] == '\n':
		case c == '\n', c == '\r':
			b.WriteString("\r\n")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// readable returns text with the line ends of XML, and U+FFFD for what XML cannot
// carry.
func readable(s string) string {
	if strings.IndexByte(s, '\r') >= 0 {
		s = strings.ReplaceAll(s, "\r\n", "\n")
		s = strings.ReplaceAll(s, "\r", "\n")
	}
	return carriable(s)
}

// carriable returns s with U+FFFD for what XML cannot carry.
func carriable(s string) string {
	if wire.ValidText(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r != utf8.RuneError && !wire.ValidText(string(r)) {
			return utf8.RuneError
		}
		return r
	}, s)
}
