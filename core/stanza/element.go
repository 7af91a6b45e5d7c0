package stanza

import (
	"math"
	"strconv"
	"strings"

	"trivium/core/wire"
)

// Payload is what stands inside a stanza or a stream: an *Element, or Raw.
type Payload interface {
	// AppendXML appends well-formed XML, as seen from the content namespace.
	AppendXML(dst []byte) []byte
}

// Raw is a payload of octets that a scanner has already vouched for, with every
// prefix declared inside.
type Raw string

// AppendXML implements Payload.
func (r Raw) AppendXML(dst []byte) []byte { return append(dst, r...) }

// Payloads is a sequence of payloads in one.
type Payloads []Payload

// AppendXML implements Payload.
func (ps Payloads) AppendXML(dst []byte) []byte {
	for _, p := range ps {
		if p != nil {
			dst = p.AppendXML(dst)
		}
	}
	return dst
}

// Attr is one attribute with its value decoded. Space is empty for an ordinary
// attribute.
type Attr struct{ Space, Local, Value string }

// Node is a child element or, when El is nil, decoded text.
type Node struct {
	El   *Element
	Text string
}

// Element is a tree for handlers that need one, and the builder of payloads.
// What it writes is well-formed whatever its text, values and namespaces hold:
// characters that XML cannot carry become U+FFFD. Local names are written as they
// are, no two attributes may share a name, and no namespace is that of xmlns.
type Element struct {
	Space, Local string
	Attrs        []Attr
	Nodes        []Node
}

// El returns a new element. A nil element among children is left out.
func El(space, local string, children ...*Element) *Element {
	e := &Element{Space: space, Local: local}
	return e.Add(children...)
}

// TextEl returns a new element that holds text.
func TextEl(space, local, text string) *Element {
	return El(space, local).AddText(text)
}

// Set adds or replaces an attribute and returns e.
func (e *Element) Set(local, value string) *Element {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == local && a.Space == "" {
			a.Value = value
			return e
		}
	}
	e.Attrs = append(e.Attrs, Attr{Local: local, Value: value})
	return e
}

// SetLang sets xml:lang, unless lang is empty, and returns e.
func (e *Element) SetLang(lang string) *Element {
	if lang == "" {
		return e
	}
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == "lang" && a.Space == NSXML {
			a.Value = lang
			return e
		}
	}
	e.Attrs = append(e.Attrs, Attr{Space: NSXML, Local: "lang", Value: lang})
	return e
}

// Add appends children and returns e.
func (e *Element) Add(children ...*Element) *Element {
	for _, c := range children {
		if c != nil {
			e.Nodes = append(e.Nodes, Node{El: c})
		}
	}
	return e
}

// AddText appends text and returns e.
func (e *Element) AddText(text string) *Element {
	if text != "" {
		e.Nodes = append(e.Nodes, Node{Text: text})
	}
	return e
}

// Is tells whether e has this expanded name; a nil e has none.
func (e *Element) Is(space, local string) bool {
	return e != nil && e.Local == local && e.Space == space
}

// Attr returns the value of an attribute without a namespace, or "".
func (e *Element) Attr(local string) string {
	v, _ := e.Lookup(local)
	return v
}

// Lookup returns the value of an attribute without a namespace and whether it is
// there.
func (e *Element) Lookup(local string) (string, bool) {
	if e == nil {
		return "", false
	}
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == local && a.Space == "" {
			return a.Value, true
		}
	}
	return "", false
}

// Child returns the first child element with this expanded name, or nil. An
// empty space or local matches any.
func (e *Element) Child(space, local string) *Element {
	if e == nil {
		return nil
	}
	for _, n := range e.Nodes {
		if n.El != nil && (space == "" || n.El.Space == space) && (local == "" || n.El.Local == local) {
			return n.El
		}
	}
	return nil
}

// Children returns the child elements with this expanded name; an empty space or
// local matches any.
func (e *Element) Children(space, local string) []*Element {
	if e == nil {
		return nil
	}
	var out []*Element
	for _, n := range e.Nodes {
		if n.El != nil && (space == "" || n.El.Space == space) && (local == "" || n.El.Local == local) {
			out = append(out, n.El)
		}
	}
	return out
}

// Text returns e's own character data, without that of its children.
func (e *Element) Text() string {
	if e == nil {
		return ""
	}
	if len(e.Nodes) == 1 && e.Nodes[0].El == nil {
		return e.Nodes[0].Text
	}
	var b strings.Builder
	for _, n := range e.Nodes {
		if n.El == nil {
			b.WriteString(n.Text)
		}
	}
	return b.String()
}

// ChildText returns the text of the first child with this expanded name.
func (e *Element) ChildText(space, local string) string { return e.Child(space, local).Text() }

// AppendXML implements Payload. A name in the content namespace is written
// without a declaration at the top, so that it inherits the stream's.
func (e *Element) AppendXML(dst []byte) []byte { return e.append(dst, NSClient, math.MaxInt) }

// String returns the element's XML as seen from the content namespace.
func (e *Element) String() string { return string(e.AppendXML(nil)) }

// Bounded is String for an element that a peer has sent, or false when that has
// more than max octets. Where prefixes were used it may be far longer than what
// came; it is not written to the end then.
func (e *Element) Bounded(max int) (string, bool) {
	b := e.append(nil, NSClient, max)
	if len(b) > max {
		return "", false
	}
	return string(b), true
}

// append writes e inside the default namespace outer, leaving out children once
// dst is longer than most. The depth of trees is bounded by the scanner that read
// them or by the code that built them.
func (e *Element) append(dst []byte, outer string, most int) []byte {
	inner, prefix := e.Space, ""
	switch e.Space {
	case outer:
	case NSXML: // Namespaces in XML §3: cannot be declared, only meant by its prefix
		inner, prefix = outer, "xml:"
	}
	dst = append(dst, '<')
	dst = append(dst, prefix...)
	dst = append(dst, e.Local...)
	if inner != outer {
		dst = appendAttr(dst, " xmlns='", carriable(e.Space))
	}
	for i, a := range e.Attrs {
		switch a.Space {
		case "":
			dst = append(dst, ' ')
		case NSXML:
			dst = append(dst, " xml:"...)
		default:
			p := "ns" + strconv.Itoa(i)
			dst = appendAttr(dst, " xmlns:"+p+"='", carriable(a.Space))
			dst = append(dst, " "+p+":"...)
		}
		dst = append(dst, a.Local...)
		dst = appendAttr(dst, "='", carriable(a.Value))
	}
	if len(e.Nodes) == 0 {
		return append(dst, '/', '>')
	}
	dst = append(dst, '>')
	for _, n := range e.Nodes {
		if len(dst) > most {
			break
		}
		if n.El != nil {
			dst = n.El.append(dst, inner, most)
		} else {
			dst = wire.AppendText(dst, carriable(n.Text))
		}
	}
	dst = append(dst, '<', '/')
	dst = append(dst, prefix...)
	dst = append(dst, e.Local...)
	return append(dst, '>')
}

// ParseElement builds the tree of one complete element that stands in the content
// namespace. Its octets need not have been scanned before.
func ParseElement(raw string) (*Element, error) {
	st := &Stanza{}
	if err := st.adopt([]byte(raw), foreign([]byte(raw))); err != nil {
		return nil, err
	}
	if len(st.children) != 1 {
		return nil, &wire.Error{Condition: "not-well-formed", Text: "want one element"}
	}
	return st.child(&st.children[0]).Element(), nil
}

// TreeOf builds the tree of an element that a scanner has just indexed.
func TreeOf(raw []byte) *Element { return parseTree(string(raw), nil) }

// parseTree builds the tree of one vouched-for element; scope holds prefix
// declarations of the stanza around it.
func parseTree(raw string, scope []wire.TokenDecl) *Element {
	d := wire.NewDecoder(raw, NSClient, scope...)
	var root *Element
	var stack []*Element
	for {
		tok, err := d.Next()
		if err != nil || tok.Kind == wire.EndOfInput {
			return root
		}
		switch tok.Kind {
		case wire.StartElement:
			e := &Element{Space: tok.Name.Space, Local: tok.Name.Local}
			for _, a := range tok.Attrs {
				e.Attrs = append(e.Attrs, Attr{Space: a.Space, Local: a.Local, Value: a.Value})
			}
			if len(stack) > 0 {
				stack[len(stack)-1].Add(e)
			} else {
				root = e
			}
			stack = append(stack, e)
		case wire.EndElement:
			stack = stack[:len(stack)-1]
		case wire.Text:
			if len(stack) > 0 {
				stack[len(stack)-1].AddText(tok.Text)
			}
		}
	}
}
