// Package wire owns the octets of XMPP: it scans the restricted XML of
// RFC 6120 §11, finds whole top-level elements in any fragmentation of the
// input, and escapes and decodes character data. It knows XML 1.0 (Fifth
// Edition) and Namespaces in XML 1.0 (Third Edition), and nothing of stanzas.
//
// A Scanner vouches for every octet of an element it returns: characters,
// names, nesting, namespaces, attribute uniqueness and limits are all checked,
// once. That is what lets the rest of the server forward an element's octets as
// they came instead of parsing and writing them again. A Decoder turns octets
// that a Scanner has vouched for into names, attributes and text.
package wire

// Mode says how top-level elements lie in the input.
type Mode uint8

const (
	// Stream is one long document: a root start tag, its children one by one,
	// then the root's end tag (RFC 6120 §4.2).
	Stream Mode = iota
	// Document is a sequence of elements each of which is a document of its own,
	// with all its namespace declarations (RFC 7395 §3.3.3, XEP-0124 §4).
	Document
)

// Kind says what Scanner.Next found.
type Kind uint8

const (
	// KindMore means that more octets are needed.
	KindMore Kind = iota
	// KindHeader is the root's start tag in Stream mode.
	KindHeader
	// KindElement is a whole top-level element.
	KindElement
	// KindTrailer is the root's end tag in Stream mode.
	KindTrailer
)

// String returns the kind's name for logs and tests.
func (k Kind) String() string {
	switch k {
	case KindMore:
		return "more"
	case KindHeader:
		return "header"
	case KindElement:
		return "element"
	case KindTrailer:
		return "trailer"
	}
	return "unknown"
}

// Limits bound what one top-level element may hold (RFC 6120 §13.12, XEP-0205).
// A field that is zero or negative takes its value from DefaultLimits. An
// element over a limit ends the stream with policy-violation.
type Limits struct {
	Bytes    int // octets of one top-level element or stream header, '<' to '>'
	Depth    int // nesting, counting the top-level element
	Attrs    int // attributes of one element, namespace declarations not counted
	NSDecls  int // namespace declarations within one top-level element
	Name     int // octets of one qualified name, or of one reference from '&' to ';'
	NSName   int // octets of one namespace name as written
	Children int // direct children of one top-level element
}

// DefaultLimits returns the limits that zero fields stand for. RFC 6120 §13.12
// wants at least 10000 octets for a stanza.
func DefaultLimits() Limits {
	return Limits{
		Bytes:    262144,
		Depth:    64,
		Attrs:    64,
		NSDecls:  64,
		Name:     256,
		NSName:   1024,
		Children: 1024,
	}
}

// bounds is Limits with the defaults filled in, in the form a Scanner keeps.
type bounds struct {
	bytes, depth, attrs, nsDecls, name, nsName, children uint32
}

func (l Limits) bounds() bounds {
	def := DefaultLimits()
	pick := func(v, d int) uint32 {
		if v <= 0 {
			v = d
		}
		return uint32(min(v, 1<<30)) // spans are 32 bits wide
	}
	return bounds{
		bytes:    pick(l.Bytes, def.Bytes),
		depth:    pick(l.Depth, def.Depth),
		attrs:    pick(l.Attrs, def.Attrs),
		nsDecls:  pick(l.NSDecls, def.NSDecls),
		name:     pick(l.Name, def.Name),
		nsName:   pick(l.NSName, def.NSName),
		children: pick(l.Children, def.Children),
	}
}
