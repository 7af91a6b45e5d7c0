package message

import (
	"strings"
	"unicode/utf8"
)

// Classes of ASCII characters in RFC 3862 §3.6.
const (
	nameChar  = 1 << iota // NAMECHAR
	uriChar               // may stand in an absolute-URI of RFC 3986, '%' included
	alphaNum              // for language tags and schemes
	ctlOrBack             // CTL and the backslash: what a value cannot hold as it is
)

var classes = func() (t [128]uint8) {
	set := func(class uint8, chars string) {
		for _, c := range []byte(chars) {
			t[c] |= class
		}
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	set(nameChar|uriChar|alphaNum, letters)
	set(nameChar, "!#$%&'*+-^_`|~")
	set(uriChar, "-._~!$&'()*+,;=:@/?[]%")
	for c := range 0x20 {
		t[c] |= ctlOrBack
	}
	set(ctlOrBack, "\x7f\\")
	return t
}()

// all tells whether s is not empty and all its characters are of the class.
func all(s string, class uint8) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || classes[c]&class == 0 {
			return false
		}
	}
	return s != ""
}

// isToken tells whether s is a Token: name characters, dots, all beyond ASCII.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < utf8.RuneSelf && c != '.' && classes[c]&nameChar == 0 {
			return false
		}
	}
	return s != ""
}

// isWords tells whether a Formal-name can be written as tokens.
func isWords(s string) bool {
	for s != "" {
		word, rest, more := strings.Cut(s, " ")
		if !isToken(word) || more && rest == "" {
			return false
		}
		s = rest
	}
	return true
}

// ValidLang tells whether s has the form of a language tag (RFC 3066 §2.1), which
// is what a lang parameter can hold.
func ValidLang(s string) bool {
	for first := true; ; first = false {
		tag, rest, more := strings.Cut(s, "-")
		if len(tag) > 8 || !all(tag, alphaNum) || first && strings.ContainsAny(tag, "0123456789") {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// absolute tells whether s is an absolute-URI without a fragment, as far as its
// characters go.
func absolute(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" || !isScheme(scheme) {
		return false
	}
	return all(rest, uriChar)
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

// appendEscaped appends text as a header value or, with quote, as the inside of a
// String: RFC 3862 §2.3.1, nothing escaped that does not have to be.
func appendEscaped(dst []byte, s string, quote bool) []byte {
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf || classes[c]&ctlOrBack == 0 && (c != '"' || !quote) {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		default:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, s[from:]...)
}

// Escape returns text as the value of a header.
func Escape(text string) string { return string(appendEscaped(nil, text, false)) }

// unescape undoes all escapes, those that should not have been used too (RFC 3862
// §2.3.1). An unknown one stands for the character behind the backslash, and a
// backslash at the end for nothing.
func unescape(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	b = append(b, s[:i]...)
	for i < len(s) {
		c := s[i]
		i++
		if c != '\\' {
			b = append(b, c)
			continue
		}
		if i == len(s) {
			break
		}
		c = s[i]
		i++
		switch c {
		case 'b':
			c = '\b'
		case 't':
			c = '\t'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 'u':
			if r, ok := unit(s[i:]); ok {
				i += 4
				if r, i = pair(r, s, i); r < 0 {
					r = utf8.RuneError
				}
				b = utf8.AppendRune(b, r)
				continue
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// unit reads four hexadecimal digits.
func unit(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// pair joins the UCS-2 unit r with the escape that follows at s[i:], when both are
// the halves of one character. It returns -1 for half a character.
func pair(r rune, s string, i int) (rune, int) {
	switch {
	case r < 0xd800 || r > 0xdfff:
		return r, i
	case r < 0xdc00 && strings.HasPrefix(s[i:], `\u`):
		if low, ok := unit(s[i+2:]); ok && low >= 0xdc00 && low <= 0xdfff {
			return (r-0xd800)<<10 | (low - 0xdc00) + 0x10000, i + 6
		}
	}
	return -1, i
}
