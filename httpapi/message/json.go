package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// SyntaxError says that octets are not JSON that can be taken.
type SyntaxError struct{ Reason string }

func (e *SyntaxError) Error() string { return "message: " + e.Reason }

// Decode reads JSON into v, a pointer to a struct, strictly: one value, UTF-8
// without lone surrogates (encoding/json would replace them in silence), no
// unknown members. The error is a *SyntaxError, or a *FieldError when the JSON
// is in order and a member is not. Neither repeats a value.
func Decode(raw []byte, v any) error { return decode(raw, v, true) }

// DecodeLoose is Decode for JSON that others define: unknown members are passed
// over.
func DecodeLoose(raw []byte, v any) error { return decode(raw, v, false) }

func decode(raw []byte, v any, strict bool) error {
	if !utf8.Valid(raw) {
		return &SyntaxError{"is not UTF-8"} // RFC 8259 §8.1
	}
	if loneSurrogate(raw) {
		return &SyntaxError{"has an escaped surrogate without its other half"} // RFC 8259 §8.2
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return translate(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return &SyntaxError{"has something after the object"}
	}
	return nil
}

func translate(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		if typ.Field == "" {
			return &SyntaxError{"is not an object"}
		}
		return &FieldError{Field: members(typ.Field), Reason: "has a value of the wrong type"}
	}
	if strings.HasPrefix(err.Error(), "json: unknown field") {
		return &FieldError{Reason: "has a member that is not known"}
	}
	return &SyntaxError{"is not well-formed JSON"}
}

// members returns a path of members without the names of embedded structs, which
// begin with a capital letter as none of ours does.
func members(path string) string {
	var kept []string
	for part := range strings.SplitSeq(path, ".") {
		if part != "" && (part[0] < 'A' || part[0] > 'Z') {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ".")
}

// loneSurrogate tells whether a string in JSON has \uD800 to \uDFFF other than
// as a pair.
func loneSurrogate(raw []byte) bool {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 || i+1 >= len(raw) {
			return false
		}
		u, ok := unit(raw[i:])
		switch {
		case !ok:
			raw = raw[i+2:] // another escape; \\ among them
		case u >= 0xDC00 && u <= 0xDFFF:
			return true
		case u >= 0xD800 && u <= 0xDBFF:
			low, ok := unit(raw[i+6:])
			if !ok || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			raw = raw[i+12:]
		default:
			raw = raw[i+6:]
		}
	}
}

// unit reads \uXXXX at the start of b.
func unit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
