package message

import (
	"strings"
	"unicode/utf8"
)

// Flat reads an object of plain strings without escapes, which nearly all are, at the
// price of one allocation, and reports whether raw is one. Otherwise d holds anything,
// and Decode is to be used.
func (d *Draft) Flat(raw []byte) bool { return d.flat(string(raw)) }

// flat reads s when it is such an object with members that a Draft has, and
// reports whether it is. The fields share the memory of s.
func (d *Draft) flat(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	s, ok := token(s, '{')
	if !ok {
		return false
	}
	for {
		var name, value string
		if name, s, ok = plain(s); !ok {
			return false
		}
		if s, ok = token(s, ':'); !ok {
			return false
		}
		if value, s, ok = plain(s); !ok {
			return false
		}
		field := d.field(name)
		if field == nil {
			return false
		}
		*field = value
		if rest, ok := token(s, ','); ok {
			s = rest
			continue
		}
		s, ok = token(s, '}')
		return ok && strings.Trim(s, space) == ""
	}
}

func (d *Draft) field(name string) *string {
	switch name {
	case "from":
		return &d.From
	case "to":
		return &d.To
	case "type":
		return &d.Type
	case "body":
		return &d.Body
	case "subject":
		return &d.Subject
	case "thread":
		return &d.Thread
	case "id":
		return &d.ID
	case "lang":
		return &d.Lang
	case "extensions":
		return &d.Extensions
	}
	return nil
}

const space = " \t\r\n" // RFC 8259 §2

// token cuts c, with space before it, off s.
func token(s string, c byte) (rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ', '\t', '\r', '\n':
		case c:
			return s[i+1:], true
		default:
			return s, false
		}
	}
	return s, false
}

// plain cuts a string without escapes, with space before it, off s.
func plain(s string) (text, rest string, ok bool) {
	s, ok = token(s, '"')
	if !ok {
		return "", s, false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i], s[i+1:], true
		case c == '\\' || c < ' ': // RFC 8259 §7
			return "", s, false
		}
	}
	return "", s, false
}
