// Package pidf reads and writes presence documents, application/pidf+xml (RFC
// 3863), with the two extensions that gateways to XMPP use: <show/> in
// jabber:client (RFC 8048) and <im/> (RFC 3922), and RPID activities to be read.
//
// Extensions that are not understood are kept as trees and can be written again. A
// relay between systems that both speak PIDF must not change documents and
// forwards their octets instead.
//
//spec:rfc-3863 complete | Presence Information Data Format (PIDF) | strict writer, reader with limits, extensions kept, mustUnderstand
//spec:rfc-4480 partial | RPID: Rich Presence Extensions to PIDF | activities are read
package pidf

import (
	"errors"
	"time"

	"trivium/core/stanza"
)

// Names that documents are made of.
const (
	ContentType = "application/pidf+xml"

	NS          = "urn:ietf:params:xml:ns:pidf"            // RFC 3863 §4.2
	NSIM        = "urn:ietf:params:xml:ns:pidf:im"         // RFC 3922 §5.1.5, never registered
	NSRPID      = "urn:ietf:params:xml:ns:pidf:rpid"       // RFC 4480 §5
	NSDataModel = "urn:ietf:params:xml:ns:pidf:data-model" // RFC 4479 §5
)

// Basic tells whether the address of a tuple takes messages.
type Basic string

// The values of <basic/>, RFC 3863 §4.1.4. The zero value stands for none.
const (
	Open   Basic = "open"
	Closed Basic = "closed"
)

// A Note is a comment for people.
type Note struct {
	Lang string // xml:lang; may be empty
	Text string
}

// A Contact is where the presentity is reached.
type Contact struct {
	URI string // empty: there is no <contact/>
	// Priority counts when Ranked is set: thousandths, 0 to 1000, more being
	// better. Without it the contact ranks lowest.
	Priority int
	Ranked   bool
}

// A Tuple is one of the presentity's ways to be reached.
type Tuple struct {
	// ID is a name without a colon (NCName). It stays the same from document to
	// document and means nothing else.
	ID    string
	Basic Basic
	Show  string // <show xmlns='jabber:client'/> of the status; may be empty
	IM    string // <im/> of the status; may be empty

	Status     []*stanza.Element // other extensions of the status
	Extensions []*stanza.Element // extensions of the tuple
	Contact    Contact
	Notes      []Note
	Timestamp  time.Time // when the status changed, in UTC; zero if not told
}

// Presence is one document: all that its author says about a presentity.
type Presence struct {
	Entity     string // pres: URI
	Tuples     []Tuple
	Notes      []Note
	Extensions []*stanza.Element

	// LeftOut counts the tuples that lenient reading found unusable.
	LeftOut int
}

// Newest returns the newest timestamp in the document, zero if it has none.
func (p *Presence) Newest() time.Time {
	var newest time.Time
	for i := range p.Tuples {
		if t := p.Tuples[i].Timestamp; t.After(newest) {
			newest = t
		}
	}
	return newest
}

// Activities returns what the presentity is doing (RFC 4480 §3.2): the local names
// of the elements in the <activities/> of tuple t, or else in those of the person.
func (p *Presence) Activities(t *Tuple) []string {
	for _, in := range [][]*stanza.Element{t.Extensions, t.Status} {
		for _, e := range in {
			if a := activities(e); a != nil {
				return a
			}
		}
	}
	for _, e := range p.Extensions {
		if !e.Is(NSDataModel, "person") {
			continue
		}
		for _, n := range e.Nodes {
			if a := activities(n.El); a != nil {
				return a
			}
		}
	}
	return nil
}

func activities(e *stanza.Element) []string {
	if !e.Is(NSRPID, "activities") {
		return nil
	}
	var out []string
	for _, n := range e.Nodes {
		switch {
		case n.El == nil:
		case n.El.Space == NSRPID:
			out = append(out, n.El.Local)
		case demanded(n.El):
			return nil // RFC 3863 §4.2.3: then the whole of it is not understood
		}
	}
	return out
}

// demanded tells whether mustUnderstand is set on e or inside it.
func demanded(e *stanza.Element) bool {
	for _, a := range e.Attrs {
		ours := a.Space == NS || a.Space == "" && e.Space == NS
		if ours && a.Local == "mustUnderstand" && (a.Value == "true" || a.Value == "1") {
			return true
		}
	}
	for _, n := range e.Nodes {
		if n.El != nil && demanded(n.El) {
			return true
		}
	}
	return false
}

// ErrTooLarge is what errors about a limit are, in the sense of errors.Is.
var ErrTooLarge = errors.New("document exceeds a limit")

// An Error says why text is no presence document, or why a Presence cannot be
// written as one.
type Error struct {
	Reason string
	Err    error // ErrTooLarge or what the XML scanner said; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil && !errors.Is(e.Err, ErrTooLarge) {
		return "PIDF: " + e.Reason + ": " + e.Err.Error()
	}
	return "PIDF: " + e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(reason string) error { return &Error{Reason: reason} }
