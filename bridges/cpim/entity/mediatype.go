package entity

import "strings"

// A MediaType is the value of a Content-Type field (RFC 2045 §5.1). Its zero
// value is no type.
type MediaType struct {
	Name   string // type/subtype in lower case
	params string // as written, from the first semicolon on
}

// ContentType returns the entity's media type; the zero value if it has none or
// one that cannot be read.
func (e *Entity) ContentType() MediaType { return ParseMediaType(e.Get("Content-Type")) }

// ParseMediaType reads the value of a Content-Type field. A malformed one gives
// the zero value.
func ParseMediaType(v string) MediaType {
	name, params := v, ""
	if i := strings.IndexByte(v, ';'); i >= 0 {
		name, params = v[:i], v[i:]
	}
	name = trim(name)
	kind, sub, ok := strings.Cut(name, "/")
	if !ok || !isToken(kind) || !isToken(sub) {
		return MediaType{}
	}
	return MediaType{Name: strings.ToLower(name), params: params}
}

// Param returns the value of a parameter, without its quotes, and whether it is
// there. Names compare without regard to case.
func (m MediaType) Param(name string) (string, bool) {
	rest := m.params
	for rest != "" {
		rest = strings.TrimLeft(rest[1:], " \t") // behind the semicolon
		i := strings.IndexAny(rest, "=;")
		if i < 0 {
			return "", false
		}
		key := trim(rest[:i])
		if rest[i] == ';' { // a parameter without value
			rest = rest[i:]
			continue
		}
		rest = strings.TrimLeft(rest[i+1:], " \t")
		var value string
		if strings.HasPrefix(rest, `"`) {
			var ok bool
			if value, rest, ok = cutQuoted(rest); !ok {
				return "", false
			}
			if i = strings.IndexByte(rest, ';'); i < 0 {
				i = len(rest)
			}
		} else {
			if i = strings.IndexByte(rest, ';'); i < 0 {
				i = len(rest)
			}
			value = trim(rest[:i])
		}
		if strings.EqualFold(key, name) {
			return value, true
		}
		rest = rest[i:]
	}
	return "", false
}

// cutQuoted cuts a quoted-string off s (RFC 5322 §3.2.4).
func cutQuoted(s string) (value, rest string, ok bool) {
	if i := strings.IndexAny(s[1:], `"\`); i >= 0 && s[1+i] == '"' {
		return s[1 : 1+i], s[2+i:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// isToken tells whether s is a token of RFC 2045 §5.1.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
