// Package entity reads and writes MIME entities: the content of a Message/CPIM
// object, the parts of a multipart, and S/MIME objects on their way through.
//
// An Entity is cut out of its text and shares the text's memory; nothing is
// decoded before it is asked for, and what was read can be sent on with the
// octets it came in.
package entity

import (
	"errors"
	"strings"
)

// Limits of one entity.
const (
	MaxFields      = 64      // header fields
	MaxHeaderBytes = 1 << 16 // octets of the header
	MaxParts       = 64      // parts of a multipart
)

// ErrTooLarge is what errors about a limit are, in the sense of errors.Is.
var ErrTooLarge = errors.New("entity exceeds a limit")

// An Error says why text is no entity, or why an entity cannot be decoded or
// written.
type Error struct {
	Reason string
	Err    error // ErrTooLarge or what a decoder said; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil && !errors.Is(e.Err, ErrTooLarge) {
		return "MIME entity: " + e.Reason + ": " + e.Err.Error()
	}
	return "MIME entity: " + e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(reason string) error   { return &Error{Reason: reason} }
func tooLarge(reason string) error { return &Error{Reason: reason, Err: ErrTooLarge} }

// A Field is one header field. Name is as written; Value is unfolded, without
// white space around it.
type Field struct{ Name, Value string }

// An Entity is header fields and a body in its transfer encoding.
type Entity struct {
	Fields []Field
	Body   string

	source string // what Parse read
	few    [3]Field
}

// New returns an entity with a Content-Type.
func New(contentType, body string) *Entity {
	e := &Entity{Body: body}
	e.few[0] = Field{"Content-Type", contentType}
	e.Fields = e.few[:1:len(e.few)]
	return e
}

// Add appends a header field, unless value is empty, and returns e.
func (e *Entity) Add(name, value string) *Entity {
	if value != "" {
		e.Fields = append(e.Fields, Field{name, value})
	}
	return e
}

// Parse reads an entity: header fields, an empty line, the body. Lines of the
// header end in CR LF, in lenient reading also in LF. The error is an *Error.
func Parse(text string, lenient bool) (*Entity, error) {
	e := new(Entity)
	return e, e.Read(text, lenient)
}

// Read is Parse into e, for an entity that is part of something larger.
func (e *Entity) Read(text string, lenient bool) error {
	*e = Entity{source: text}
	e.Fields = e.few[:0]
	rest := text
	for lines := 0; ; lines++ {
		if len(text)-len(rest) > MaxHeaderBytes || lines > 4*MaxFields {
			return tooLarge("header too long")
		}
		line, after, ok := cutLine(rest, lenient)
		if !ok {
			// RFC 2045 §2.4 lets a part end with its header.
			if rest == "" && len(e.Fields) > 0 {
				return nil
			}
			return refuse("header without end")
		}
		rest = after
		if line == "" {
			e.Body = rest
			return nil
		}
		if line[0] == ' ' || line[0] == '\t' { // RFC 5322 §2.2.3: folded
			if len(e.Fields) == 0 {
				return refuse("continuation of no header field")
			}
			last := &e.Fields[len(e.Fields)-1]
			if more := trim(line); more != "" {
				last.Value = trim(last.Value + " " + more)
			}
			if !clean(last.Value) {
				return refuse("control character in a header field")
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if lenient {
			name = strings.TrimRight(name, " \t")
		}
		value = trim(value)
		if !ok || !isFieldName(name) {
			return refuse("line that is no header field")
		}
		if !clean(value) {
			return refuse("control character in a header field")
		}
		if len(e.Fields) == MaxFields {
			return tooLarge("too many header fields")
		}
		e.Fields = append(e.Fields, Field{name, value})
	}
}

// cutLine cuts the first line off s. A line has to end.
func cutLine(s string, lenient bool) (line, rest string, ok bool) {
	i := strings.IndexByte(s, '\n')
	if i < 0 {
		return "", s, false
	}
	line, rest = s[:i], s[i+1:]
	if strings.HasSuffix(line, "\r") {
		return line[:len(line)-1], rest, true
	}
	return line, rest, lenient
}

func trim(s string) string { return strings.Trim(s, " \t") }

// clean tells whether a field's value can be written: no control character but
// the tab. Octets beyond ASCII are left alone (RFC 6532 allows UTF-8).
func clean(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isFieldName tells whether s is a field-name of RFC 5322 §3.6.8.
func isFieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return s != ""
}

// Get returns the value of the first field of this name, without regard to case;
// "" if there is none.
func (e *Entity) Get(name string) string {
	for i := range e.Fields {
		if strings.EqualFold(e.Fields[i].Name, name) {
			return e.Fields[i].Value
		}
	}
	return ""
}

// Source returns the octets that Parse read e from, "" for a built entity. They
// do not follow changes of e. Objects whose signature has to survive are sent on
// with them.
func (e *Entity) Source() string { return e.source }

// AppendTo appends the entity: header, empty line, body as it is. The error is an
// *Error: a field cannot be written, or there is no Content-Type.
func (e *Entity) AppendTo(dst []byte) ([]byte, error) {
	typed := false
	for i := range e.Fields {
		f := &e.Fields[i]
		if !isFieldName(f.Name) || !clean(f.Value) || trim(f.Value) != f.Value {
			return dst, refuse("header field that cannot be written")
		}
		typed = typed || strings.EqualFold(f.Name, "Content-Type")
		dst = append(dst, f.Name...)
		dst = append(dst, ':', ' ')
		dst = append(dst, f.Value...)
		dst = append(dst, '\r', '\n')
	}
	if !typed { // RFC 3862 §2.4
		return dst, refuse("no Content-Type")
	}
	dst = append(dst, '\r', '\n')
	return append(dst, e.Body...), nil
}
