package address

import (
	"strings"
	"unicode/utf8"
)

// appendPercent appends s with every octet percent-encoded that keep refuses
// (RFC 3986 §2.1), non-ASCII octets always.
func appendPercent(dst []byte, s string, keep func(byte) bool) []byte {
	const upper = "0123456789ABCDEF" // RFC 3986 §2.1: upper case for consistency
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < utf8.RuneSelf && keep(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upper[c>>4], upper[c&15])
		}
	}
	return dst
}

// unpercent decodes s, which must then be UTF-8.
func unpercent(s string) (string, error) {
	if strings.IndexByte(s, '%') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			c := s[i]
			if c == '%' {
				if len(s)-i < 3 {
					return "", &Error{Reason: "has a cut percent-encoding"}
				}
				hi, lo := nibble(s[i+1]), nibble(s[i+2])
				if hi < 0 || lo < 0 {
					return "", &Error{Reason: "has a malformed percent-encoding"}
				}
				c = byte(hi<<4 | lo)
				i += 2
			}
			b = append(b, c)
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		return "", &Error{Reason: "is not UTF-8"}
	}
	return s, nil
}

func nibble(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// sipUser tells what the user part of a sip: URI may hold as it is: unreserved
// and user-unreserved of RFC 3261 §25.1.
func sipUser(c byte) bool {
	return alphanumeric(c) || strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0
}

// sipResource tells what the value of a URI parameter may hold as it is:
// paramchar of RFC 3261 §25.1.
func sipResource(c byte) bool {
	return alphanumeric(c) || strings.IndexByte("-_.!~*'()[]/:&+$", c) >= 0
}

// plain tells whether a local part needs neither decoding nor escaping.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("-_.!~+=$*", c) < 0 {
			return false
		}
	}
	return true
}

// equalFold compares ASCII without regard to case; lower is in lower case.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != lower[i] && (c < 'A' || c > 'Z' || c|0x20 != lower[i]) {
			return false
		}
	}
	return true
}
