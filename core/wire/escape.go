package wire

import (
	"strings"
	"unicode/utf8"
)

// AppendText appends s escaped as character data. s must be ValidText. Line
// ends survive: a carriage return is written as a reference (XML §2.11).
func AppendText(dst []byte, s string) []byte { return appendEscaped(dst, octets(s), false) }

// AppendAttr appends s escaped for an attribute value in either kind of quotes.
// s must be ValidText. White space survives normalisation (XML §3.3.3).
func AppendAttr(dst []byte, s string) []byte { return appendEscaped(dst, octets(s), true) }

func appendEscaped(dst, s []byte, attr bool) []byte {
	from := 0
	for i, c := range s {
		if class[c]&classBare != 0 {
			continue
		}
		var ref string
		switch c {
		case '&':
			ref = "&amp;"
		case '<':
			ref = "&lt;"
		case '>':
			ref = "&gt;"
		case '\r':
			ref = "&#13;"
		default:
			if !attr {
				continue
			}
			switch c {
			case '\'':
				ref = "&apos;"
			case '"':
				ref = "&quot;"
			case '\t':
				ref = "&#9;"
			case '\n':
				ref = "&#10;"
			default:
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, ref...)
		from = i + 1
	}
	return append(dst, s[from:]...)
}

// bare reports whether AppendAttr leaves s as it is.
func bare(s []byte) bool {
	for _, c := range s {
		if class[c]&classBare == 0 {
			return false
		}
	}
	return true
}

// Unescape returns the text that character data without markup stands for:
// references are replaced (XML §4.1) and line ends normalised (§2.11). It
// returns s itself when there is nothing to do. s must come from an element that
// a Scanner has vouched for; a malformed reference is left as it is.
func Unescape(s string) string {
	if strings.IndexByte(s, '&') < 0 && strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return string(appendUnescaped(make([]byte, 0, len(s)), octets(s), false))
}

// UnescapeAttr is Unescape for an attribute value: white space that is not
// written as a reference becomes a space each (XML §3.3.3).
func UnescapeAttr(s string) string {
	if !strings.ContainsAny(s, "&\t\n\r") {
		return s
	}
	return string(appendUnescaped(make([]byte, 0, len(s)), octets(s), true))
}

func appendUnescaped(dst, s []byte, attr bool) []byte {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '&':
			r, n, verdict := parseReference(s[i:])
			if verdict != refGood {
				dst = append(dst, c)
				i++
				continue
			}
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		case c == '\r':
			if i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
			if attr {
				dst = append(dst, ' ')
			} else {
				dst = append(dst, '\n')
			}
		case attr && (c == '\t' || c == '\n'):
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst
}

// ValidText reports whether s can be character data or an attribute value: it is
// UTF-8 and all its characters are XML characters (XML §2.2).
func ValidText(s string) bool {
	d := octets(s)
	for i := 0; i < len(d); {
		c := d[i]
		switch {
		case c >= 0x80:
			n := highLen(d, i)
			if n == 0 {
				return false
			}
			i += n
		case c >= 0x20 || isSpace(c):
			i++
		default:
			return false
		}
	}
	return true
}
