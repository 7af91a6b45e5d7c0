// Package stream holds what the framings have in common: the stream header,
// stream errors, the Conn contract between a framing and a session, and the TCP
// framing itself.
//
// The core knows connections by Conn alone. WebSocket and BOSH implement it in
// packages that the core does not import.
//
//spec:rfc-6120 complete | XMPP: Core | §4, §5.3: streams, stream errors, TCP binding
package stream

import (
	"crypto/tls"
	"net"

	"trivium/core/stanza"
	"trivium/core/wire"
)

// Namespaces of RFC 6120 §4.8.1 and §4.9.2.
const (
	NSStream  = "http://etherx.jabber.org/streams"
	NSStreams = "urn:ietf:params:xml:ns:xmpp-streams"
)

// Header is a stream header of either side (RFC 6120 §4.7), an <open/> of
// RFC 7395 §3.4 or the attributes of a BOSH session request (XEP-0124 §7).
// Strings are as written, decoded.
type Header struct {
	From, To, ID, Lang string
	Version            string // "1.0"; empty when absent
	Content            string // the content namespace, e.g. jabber:client
	// Err is set in a header read from the peer whose frame was wrong in a way
	// that the session must answer with its own header and this error
	// (RFC 6120 §4.9.1.2), such as a foreign stream namespace.
	Err *Error
}

// ReadHeader reads the attributes of a start tag that is a header, raw and its index.
// What the tag is called, and the content namespace, are for the framing to judge.
func ReadHeader(raw []byte, el *wire.Element) *Header {
	h := &Header{}
	for i := range el.Attrs {
		a := &el.Attrs[i]
		v := wire.UnescapeAttr(string(a.Value.Bytes(raw)))
		switch string(a.Name.Bytes(raw)) {
		case "to":
			h.To = v
		case "from":
			h.From = v
		case "id":
			h.ID = v
		case "version":
			h.Version = v
		case "xml:lang":
			h.Lang = v
		}
	}
	return h
}

// EventKind says what Conn.Read returned.
type EventKind uint8

// What a peer sends on a stream.
const (
	Opened  EventKind = iota + 1 // a stream header: the first one, or the one after a restart
	Element                      // one complete top-level element
	Closed                       // the peer ended its side in order
)

// Event is one thing read from the peer.
type Event struct {
	Kind   EventKind
	Header *Header // of Opened
	// Raw and Index are the element's octets and their index, valid until the next
	// Read.
	Raw   []byte
	Index *wire.Element
}

// Is tells whether the event is an element with this expanded name. An element
// in the content namespace is found under stanza.NSClient.
func (e *Event) Is(space, local string) bool {
	return e.Kind == Element && string(e.Index.Local.Bytes(e.Raw)) == local && e.Space() == space
}

// Space returns the element's namespace; the content namespace is
// stanza.NSClient whatever the stream calls it.
func (e *Event) Space() string {
	if e.Index.Inherited {
		return stanza.NSClient
	}
	return string(e.Index.Space.Bytes(e.Raw))
}

// Tree builds the element's tree.
func (e *Event) Tree() *stanza.Element { return stanza.TreeOf(e.Raw[:e.Index.Len]) }

// Batch is a run of complete top-level elements, each written as on a TCP stream
// whose default namespace is the content namespace and whose prefix "stream" is
// bound to NSStream.
type Batch struct {
	Data []byte
	Ends []int // where each element ends in Data, ascending; the last is len(Data)
}

// Info tells what a connection is. It does not change, except Secure after
// STARTTLS.
type Info struct {
	Framing string   // "tcp", "websocket" or "bosh": for people and metrics, never for decisions
	Remote  net.Addr // the peer's address, as the PROXY protocol tells it where in use
	Local   net.Addr
	Secure  bool // TLS protects the octets, or a trusted proxy in front of us vouches for it
	// Implicit says that security was there before the stream: no <starttls/> is
	// to be offered (XEP-0368, RFC 7395 §3.9).
	Implicit bool
}

// Conn is one connection carrying one stream at a time. It is the contract
// between a framing and a session.
//
// Read, Open, Restart, Limit and Info belong to the session's goroutine. Write belongs
// to one goroutine at a time (an Outbox sees to it) and starts after Open.
// Close and Abort may be called from any goroutine, beside the others.
type Conn interface {
	// Read returns what the peer sends next. idle is called, on this goroutine,
	// whenever Read is about to wait for the peer; it may be nil. A *Error says
	// that the peer broke the stream and what to tell it; any other error, io.EOF
	// among them, that the connection is gone.
	Read(idle func()) (Event, error)

	// Open sends our stream header.
	Open(Header) error

	// Write sends b without ever waiting for the peer. It returns sent true when
	// all of it has left this process; otherwise the rest is kept and done is
	// called once, from another goroutine, when it has left or the connection
	// failed. No further Write may begin before that. b's memory is the caller's
	// again when Write returns.
	Write(b Batch, done func(error)) (sent bool, err error)

	// Restart makes Read expect a new stream header from the peer (RFC 6120
	// §4.3.3).
	Restart()

	// Limit sets the limits of what is read from now on.
	Limit(wire.Limits)

	// Close ends our side in order, after the stream error if e is not nil
	// (RFC 6120 §4.4, §4.9.1.1). From then on Read discards what still comes, and
	// returns an error within seconds: when the peer has ended its side too, or
	// did not in time. Only the first call counts.
	Close(e *Error)

	// Abort drops the connection at once; Read returns an error.
	Abort()

	Info() Info
}

// Securer is a Conn that can change to TLS in the middle: RFC 6120 §5.4.
type Securer interface {
	// Secure throws away what was received in clear, runs the handshake and makes
	// Read expect a new stream header.
	Secure(*tls.Config) error
}

// Binder is a Conn that knows its TLS channel bindings (RFC 5929, RFC 9266).
type Binder interface {
	// ChannelBinding returns the data for a type, or an error when the channel
	// has none of it.
	ChannelBinding(typ string) ([]byte, error)
}
