// Package stanza holds the three stanzas of XMPP, their errors and the small
// element tree that handlers read and build.
//
// A Stanza is a parsed start tag over the octets that came: addresses, type and
// id are read, the payload stays as it was received and is copied as text.
// A stanza is never changed once another goroutine may see it; a change makes a
// shallow copy that shares the payload's memory.
//
//spec:rfc-6120 complete | XMPP: Core | §8, §8.3: stanzas, stanza errors
package stanza

import (
	"math"
	"strings"

	"trivium/core/jid"
	"trivium/core/wire"
)

// Namespaces that the stanza layer itself must know.
const (
	NSClient  = "jabber:client"                       // RFC 6120 §4.8.2
	NSServer  = "jabber:server"                       // RFC 6120 §4.8.2
	NSStanzas = "urn:ietf:params:xml:ns:xmpp-stanzas" // RFC 6120 §8.3.2
	NSXML     = "http://www.w3.org/XML/1998/namespace"
)

// Kind says which of the three stanzas one is. Kinds form a bit set, so that a
// registration may name several.
type Kind uint8

// The three kinds, RFC 6120 §8.2.
const (
	Message Kind = 1 << iota
	Presence
	IQ

	Any = Message | Presence | IQ
)

func (k Kind) String() string {
	switch k {
	case Message:
		return "message"
	case Presence:
		return "presence"
	case IQ:
		return "iq"
	}
	return "stanza"
}

// KindOf tells which stanza an element of the content namespace with this local
// name is, or 0.
func KindOf(local []byte) Kind {
	switch string(local) {
	case "message":
		return Message
	case "presence":
		return Presence
	case "iq":
		return IQ
	}
	return 0
}

// Values of the type attribute: RFC 6120 §8.2.3 (iq), RFC 6121 §4.7.1
// (presence) and §5.2.2 (message).
const (
	Get    = "get"
	Set    = "set"
	Result = "result"

	Chat      = "chat"
	GroupChat = "groupchat"
	Headline  = "headline"
	Normal    = "normal"

	Unavailable  = "unavailable"
	Subscribe    = "subscribe"
	Subscribed   = "subscribed"
	Unsubscribe  = "unsubscribe"
	Unsubscribed = "unsubscribed"
	Probe        = "probe"

	TypeError = "error"
)

// Stanza is one message, presence or iq. Reading one is safe from any goroutine.
type Stanza struct {
	Kind Kind
	Type string // as written; empty when absent
	ID   string // decoded; empty when absent
	Lang string // xml:lang of the stanza, inherited from the stream where absent (RFC 6120 §8.1.5)

	// From and To are zero when absent.
	From, To jid.JID

	// Attrs holds what the start tag carried beside the attributes above, namespace
	// declarations included, as well-formed text with a leading space each.
	Attrs string

	src      string // what the children's offsets point into
	inner    wire.Span
	children []wire.Child
	tail     string // octets appended to the payload by the server, e.g. <delay/>
	inline   [2]wire.Child
}

// Parse reads the element that el indexes as a stanza of the given kind. It
// copies raw once; the stanza's strings are parts of that copy.
//
// A malformed address gives the stanza with that address zero, together with a
// *Error of condition jid-malformed (RFC 6120 §8.3.3.8).
func Parse(kind Kind, raw []byte, el *wire.Element) (*Stanza, error) {
	src := string(raw[:el.Len])
	st := &Stanza{Kind: kind, src: src, inner: el.Inner}
	st.children = append(st.inline[:0], el.Children...)
	var err error
	rest := 0
	for i := range el.Attrs {
		a := &el.Attrs[i]
		if a.Prefix.Start != a.Prefix.End {
			if a.Local.Str(src) == "lang" && a.Prefix.Str(src) == "xml" {
				st.Lang = wire.UnescapeAttr(a.Value.Str(src))
				continue
			}
			rest++
			continue
		}
		switch a.Local.Str(src) {
		case "to":
			st.To, err = parseAddress(a.Value.Str(src), err)
		case "from":
			st.From, err = parseAddress(a.Value.Str(src), err)
		case "id":
			st.ID = wire.UnescapeAttr(a.Value.Str(src))
		case "type":
			st.Type = wire.UnescapeAttr(a.Value.Str(src))
		default:
			rest++
		}
	}
	if rest > 0 || len(el.Decls) > 0 {
		st.Attrs = otherAttrs(src, el)
	}
	if el.Prefix.Start != el.Prefix.End {
		if e := st.unprefix(raw[:el.Len]); err == nil {
			err = e
		}
	}
	return st, err
}

// unprefix writes the payload of a stanza anew whose own name has a prefix
// (<c:message xmlns:c='jabber:client' xmlns='urn:x'>): the names without one in
// there need not be in the content namespace, where they would be once the start
// tag is written without the prefix.
func (st *Stanza) unprefix(raw []byte) error {
	st.children = nil
	most := 4*len(raw) + 4096 // prefixes become declarations, which may be far longer
	var b []byte
	for _, n := range TreeOf(raw).Nodes {
		if n.El != nil {
			b = n.El.append(b, NSClient, most)
		} else {
			b = wire.AppendText(b, n.Text)
		}
		if len(b) > most {
			st.inner = wire.Span{}
			return Err(PolicyViolation, "too much has to be written anew")
		}
	}
	return st.adopt(b, unlimited)
}

func parseAddress(raw string, earlier error) (jid.JID, error) {
	j, err := jid.Parse(wire.UnescapeAttr(raw))
	if err != nil && earlier == nil {
		earlier = &Error{Condition: JIDMalformed, Cause: err}
	}
	return j, earlier
}

// otherAttrs writes anew the attributes and prefixed namespace declarations that
// Parse did not take. The default namespace is not among them: the framing that
// sends the stanza decides on it.
func otherAttrs(src string, el *wire.Element) string {
	var b []byte
	for _, d := range el.Decls {
		if d.Prefix.Start == d.Prefix.End {
			continue
		}
		b = append(b, " xmlns:"...)
		b = append(b, d.Prefix.Str(src)...)
		b = append(b, '=', '\'')
		b = wire.AppendAttr(b, wire.UnescapeAttr(d.Name.Str(src)))
		b = append(b, '\'')
	}
	for i := range el.Attrs {
		a := &el.Attrs[i]
		if a.Prefix.Start == a.Prefix.End {
			switch a.Local.Str(src) {
			case "to", "from", "id", "type":
				continue
			}
		} else if a.Local.Str(src) == "lang" && a.Prefix.Str(src) == "xml" {
			continue
		}
		b = append(b, ' ')
		b = append(b, a.Name.Str(src)...)
		b = append(b, '=', '\'')
		b = wire.AppendAttr(b, wire.UnescapeAttr(a.Value.Str(src)))
		b = append(b, '\'')
	}
	return string(b)
}

// New returns a stanza with the given payload.
func New(kind Kind, typ string, from, to jid.JID, id string, payload ...Payload) *Stanza {
	st := &Stanza{Kind: kind, Type: typ, From: from, To: to, ID: id}
	st.setPayload(payload)
	return st
}

func (st *Stanza) setPayload(payload []Payload) {
	var b []byte
	for _, p := range payload {
		if p != nil {
			b = p.AppendXML(b)
		}
	}
	if len(b) == 0 {
		return
	}
	if err := st.adopt(b, unlimited); err != nil {
		// Payloads are built by Element, which cannot produce ill-formed XML, or
		// are octets that a scanner has vouched for: this is a bug of ours.
		panic("stanza: payload is not well-formed: " + err.Error())
	}
}

// unlimited is for what we have written ourselves. It came within limits, but
// what the server adds and how it spells may exceed them, and to refuse it here
// would be too late.
var unlimited = wire.Limits{
	Bytes: math.MaxInt32, Depth: math.MaxInt32, Attrs: math.MaxInt32, NSDecls: math.MaxInt32,
	Name: math.MaxInt32, NSName: math.MaxInt32, Children: math.MaxInt32,
}

// foreign is for text that no scanner has seen yet.
func foreign(text []byte) wire.Limits {
	return wire.Limits{Bytes: len(text) + 1, Children: 1 << 16, Depth: 256, NSDecls: 1 << 16}
}

// adopt indexes inner as the payload of a stanza.
func (st *Stanza) adopt(inner []byte, limits wire.Limits) error {
	wrapped := make([]byte, 0, len(inner)+32)
	wrapped = append(wrapped, "<x xmlns='"+NSClient+"'"...)
	wrapped = append(wrapped, st.Attrs...) // its prefixes may be in use
	wrapped = append(wrapped, '>')
	start := len(wrapped)
	wrapped = append(wrapped, inner...)
	wrapped = append(wrapped, "</x>"...)
	var sc wire.Scanner
	limits.Bytes = max(limits.Bytes, len(wrapped)+1) // the wrapper does not count
	sc.Reset(wire.Document, limits)
	defer sc.Reset(wire.Document, wire.Limits{}) // gives memory back
	kind, n, err := sc.Next(wrapped)
	if err != nil {
		return err
	}
	if kind != wire.KindElement || n != len(wrapped) {
		return &wire.Error{Condition: "not-well-formed", Text: "payload is not whole elements"}
	}
	el := sc.Index()
	st.src = string(wrapped)
	st.inner = wire.Span{Start: uint32(start), End: uint32(start + len(inner))}
	st.children = append(st.inline[:0], el.Children...)
	for i := range st.children {
		// What stands in the default namespace of the wrapper is inherited content.
		if c := &st.children[i]; c.Space.Str(st.src) == NSClient && c.Space.Start < uint32(start) {
			c.Space, c.Inherited = wire.Span{}, true
		}
	}
	return nil
}

// WithPayloadXML returns a copy of st whose payload is the given text. The text
// comes from outside: an error says why it is not well-formed.
func (st *Stanza) WithPayloadXML(inner string) (*Stanza, error) {
	c := st.Copy()
	c.tail = ""
	c.src, c.inner, c.children = "", wire.Span{}, nil
	if inner == "" {
		return c, nil
	}
	return c, c.adopt([]byte(inner), foreign([]byte(inner)))
}

// Copy returns a shallow copy that shares the payload's memory.
func (st *Stanza) Copy() *Stanza {
	c := *st
	c.children = st.children // still backed by st's array, which is never changed
	return &c
}

// Append returns a copy of st with one more child at the end of the payload.
func (st *Stanza) Append(p Payload) *Stanza {
	c := st.Copy()
	c.tail = string(p.AppendXML([]byte(st.tail)))
	return c
}

// Readdressed returns a copy of st with other addresses.
func (st *Stanza) Readdressed(from, to jid.JID) *Stanza {
	c := st.Copy()
	c.From, c.To = from, to
	return c
}

// Without returns st, or a copy lacking the children for which drop is true.
// Children appended by Append are looked at too.
func (st *Stanza) Without(drop func(Child) bool) *Stanza {
	found := false
	st.Each(func(c Child) bool { found = found || drop(c); return true })
	if !found {
		return st
	}
	n := st
	if st.tail != "" { // index the appended children as well
		n = st.Copy()
		full := append(append([]byte(nil), st.payload()...), st.tail...)
		n.tail = ""
		if err := n.adopt(full, unlimited); err != nil {
			return st
		}
	}
	var kept []byte
	at := n.inner.Start
	for i := range n.children {
		c := &n.children[i]
		if drop(n.child(c)) {
			kept = append(kept, n.src[at:c.Start]...)
			at = c.End
		}
	}
	kept = append(kept, n.src[at:n.inner.End]...)
	out := n.Copy()
	out.src, out.inner, out.children = "", wire.Span{}, nil
	if len(kept) > 0 {
		if err := out.adopt(kept, unlimited); err != nil {
			return st
		}
	}
	return out
}

func (st *Stanza) payload() string { return st.inner.Str(st.src) }

// Payload returns the octets between the start tag and the end tag.
func (st *Stanza) Payload() string {
	if st.tail == "" {
		return st.payload()
	}
	return st.payload() + st.tail
}

// Size is about how many octets AppendTo appends; at least 1.
func (st *Stanza) Size() int {
	return 96 + len(st.From.String()) + len(st.To.String()) + len(st.ID) + len(st.Attrs) +
		int(st.inner.End-st.inner.Start) + len(st.tail)
}

// AppendTo appends the stanza's XML to dst. The content namespace is not
// declared: it is inherited from the stream, or added by a framing that has none.
func (st *Stanza) AppendTo(dst []byte) []byte {
	return st.AppendFor(dst, st.To)
}

// AppendFor is AppendTo with another 'to' (zero: none), so that a fan-out needs
// no copy of the stanza for each recipient.
func (st *Stanza) AppendFor(dst []byte, to jid.JID) []byte {
	var name string
	switch st.Kind {
	case Message:
		dst = append(dst, "<message"...)
		name = "</message>"
	case Presence:
		dst = append(dst, "<presence"...)
		name = "</presence>"
	default:
		dst = append(dst, "<iq"...)
		name = "</iq>"
	}
	if !st.From.IsZero() {
		dst = appendAttr(dst, " from='", st.From.String())
	}
	if !to.IsZero() {
		dst = appendAttr(dst, " to='", to.String())
	}
	if st.Type != "" {
		dst = appendAttr(dst, " type='", carriable(st.Type))
	}
	if st.ID != "" {
		dst = appendAttr(dst, " id='", carriable(st.ID))
	}
	if st.Lang != "" {
		dst = appendAttr(dst, " xml:lang='", carriable(st.Lang))
	}
	dst = append(dst, st.Attrs...)
	inner := st.payload()
	if inner == "" && st.tail == "" {
		return append(dst, '/', '>')
	}
	dst = append(dst, '>')
	dst = append(dst, inner...)
	dst = append(dst, st.tail...)
	return append(dst, name...)
}

// carriable returns s with U+FFFD for what XML cannot carry, which s may hold when
// it did not come in XML.
func carriable(s string) string {
	if wire.ValidText(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if wire.ValidText(string(r)) {
			return r
		}
		return '\uFFFD'
	}, s)
}

func appendAttr(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = wire.AppendAttr(dst, value)
	return append(dst, '\'')
}

// String returns the stanza's XML, for tests and logs that asked for it.
func (st *Stanza) String() string { return string(st.AppendTo(nil)) }

// Child is one direct child element of a stanza.
type Child struct {
	Space, Local string
	// Raw is the child's text. Unprefixed names that declare no namespace are in
	// the content namespace.
	Raw string
	// scope holds the stanza's attributes, prefix declarations among them, for
	// Element.
	scope string
}

// Is tells whether the child has this expanded name.
func (c Child) Is(space, local string) bool { return c.Local == local && c.Space == space }

// Element builds the child's tree.
func (c Child) Element() *Element { return parseTree(c.Raw, declarations(c.scope)) }

// declarations reads the prefix declarations among a stanza's attributes.
func declarations(attrs string) []wire.TokenDecl {
	if !strings.Contains(attrs, " xmlns:") {
		return nil
	}
	tok, err := wire.NewDecoder("<x"+attrs+"/>", NSClient).Next()
	if err != nil {
		return nil
	}
	return tok.Decls
}

func (st *Stanza) child(c *wire.Child) Child {
	space, raw := NSClient, st.src[c.Start:c.End]
	switch {
	case c.Inherited:
	case c.Space.Empty() && strings.HasPrefix(raw, "<xml:"):
		space = NSXML // needs no declaration
	default:
		space = wire.UnescapeAttr(c.Space.Str(st.src))
	}
	return Child{Space: space, Local: c.Local.Str(st.src), Raw: raw, scope: st.Attrs}
}

// Each calls f for each child in order until f returns false.
func (st *Stanza) Each(f func(Child) bool) {
	for i := range st.children {
		if !f(st.child(&st.children[i])) {
			return
		}
	}
	if st.tail == "" {
		return
	}
	t := &Stanza{Attrs: st.Attrs}
	if t.adopt([]byte(st.tail), unlimited) != nil {
		return
	}
	t.Each(f)
}

// Child returns the first child with this expanded name.
func (st *Stanza) Child(space, local string) (Child, bool) {
	for i := range st.children {
		c := &st.children[i]
		if c.Local.Str(st.src) != local {
			continue
		}
		if ch := st.child(c); ch.Space == space {
			return ch, true
		}
	}
	if st.tail == "" {
		return Child{}, false
	}
	var found Child
	ok := false
	st.Each(func(c Child) bool {
		if c.Is(space, local) {
			found, ok = c, true
		}
		return !ok
	})
	return found, ok
}

// Has tells whether a child with this expanded name is there.
func (st *Stanza) Has(space, local string) bool {
	_, ok := st.Child(space, local)
	return ok
}

// First returns the first child: the payload of an iq request.
func (st *Stanza) First() (Child, bool) {
	if len(st.children) == 0 {
		return Child{}, false
	}
	return st.child(&st.children[0]), true
}

// Len is the number of child elements received or built with the stanza.
func (st *Stanza) Len() int { return len(st.children) }

// Body returns the decoded text of the first <body/> of a message (RFC 6121
// §5.2.3).
func (st *Stanza) Body() (string, bool) {
	c, ok := st.Child(NSClient, "body")
	if !ok {
		return "", false
	}
	return c.Element().Text(), true
}

// Result returns the answer to an iq request with the given payload (nil: empty).
func (st *Stanza) Result(payload Payload) *Stanza {
	return New(IQ, Result, st.To, st.From, st.ID, payload)
}
