// Package message reads and writes Message/CPIM objects (RFC 3862).
//
// The writer is strict: what it writes obeys the grammar, or it returns an error.
// The reader is lenient where the field is known to be sloppy, and strict on
// request. Neither knows what the addresses and the content mean.
//
// A relay that passes objects on does not need this package: an object must not be
// changed on its way (RFC 3862 §2.1), so a relay forwards the octets it got.
//
//spec:rfc-3862 complete | CPIM: Message Format | reader, strict writer, header namespaces and escapes, nested and multipart content
package message

import (
	"errors"
	"time"

	"trivium/bridges/cpim/entity"
)

const (
	// ContentType is the media type of what AppendTo writes.
	ContentType = "Message/CPIM"
	// NS is the default namespace of headers, RFC 3862 §4. (Its section 6
	// misprints it.)
	NS = "urn:ietf:params:cpim-headers:"
)

// An Address is the value of From, To and cc.
type Address struct {
	Name string // Formal-name, decoded; may be empty
	URI  string // absolute, without brackets
}

// A Subject is a topic in one language.
type Subject struct {
	Lang string // RFC 5646 tag; empty means i-default (RFC 3862 §3.3)
	Text string // decoded; may hold line ends and other control characters
}

// A Name is the name of a header or of a required feature.
type Name struct {
	Space  string // namespace URI; empty if the prefix was not declared
	Local  string
	Prefix string // as read; a wish when written
}

// Is tells whether n is this expanded name. Prefixes do not count.
func (n Name) Is(space, local string) bool { return n.Local == local && n.Space == space }

// A Param is a parameter of a header. The language is the parameter "lang".
type Param struct{ Name, Value string }

// A Header is one of those that have no field of their own in Message.
type Header struct {
	Name
	Params []Param
	// Value is as it stands on the line, escapes included: its grammar is that of
	// the header. Text decodes it, Escape makes one.
	Value string
}

// Text returns the value with its escapes undone (RFC 3862 §2.3).
func (h Header) Text() string { return unescape(h.Value) }

// Lang returns the language of the value, empty for i-default.
func (h Header) Lang() string {
	for _, p := range h.Params {
		if p.Name == "lang" {
			return p.Value
		}
	}
	return ""
}

// A Message is one Message/CPIM object. It is a value without behaviour of its
// own; concurrent reading is safe.
type Message struct {
	From     Address
	To, Cc   []Address
	DateTime time.Time // when it was sent, in UTC; zero if not told
	Subjects []Subject // one for each language, as a rule
	Headers  []Header  // all others, in order
	Require  []Name    // features the recipient has to understand (§3.5)
	Content  entity.Entity

	oneTo      [1]Address
	oneSubject [1]Subject
}

// Header returns the first header of this name among Headers.
func (m *Message) Header(space, local string) (Header, bool) {
	for i := range m.Headers {
		if h := &m.Headers[i]; h.Is(space, local) {
			return *h, true
		}
	}
	return Header{}, false
}

// ErrTooLarge is what errors about a limit are, in the sense of errors.Is.
var ErrTooLarge = entity.ErrTooLarge

// An Error says why text is no Message/CPIM object or why a Message cannot be
// written as one. It does not repeat the text, which is a stranger's.
type Error struct {
	Header string // the header at fault; may be empty
	Reason string
	Err    error // ErrTooLarge or an error of the content; may be nil
}

func (e *Error) Error() string {
	s := "Message/CPIM"
	if e.Header != "" {
		s += ": " + e.Header
	}
	s += ": " + e.Reason
	if e.Err != nil && !errors.Is(e.Err, ErrTooLarge) {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(header, reason string) error { return &Error{Header: header, Reason: reason} }
