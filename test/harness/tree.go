package harness

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
)

// Node is an element as a client sees it, after namespaces. It is built with
// encoding/xml, so that a mistake of our own scanner does not hide itself.
type Node struct {
	Name     xml.Name
	Attrs    []xml.Attr // without namespace declarations
	Children []*Node
	Text     string // all character data directly inside
}

// errEnd is what readNode returns at the end tag of the element around it.
var errEnd = errors.New("harness: end of the stream")

// readNode reads the next whole element, skipping what lies between elements.
func readNode(d *xml.Decoder) (*Node, error) {
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			return readRest(d, t)
		case xml.EndElement:
			return nil, errEnd
		}
	}
}

// readRest reads an element whose start tag has been read.
func readRest(d *xml.Decoder, start xml.StartElement) (*Node, error) {
	n := nodeOf(start)
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			c, err := readRest(d, t)
			if err != nil {
				return nil, err
			}
			n.Children = append(n.Children, c)
		case xml.CharData:
			n.Text += string(t)
		case xml.EndElement:
			return n, nil
		}
	}
}

func nodeOf(t xml.StartElement) *Node {
	n := &Node{Name: t.Name}
	for _, a := range t.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		n.Attrs = append(n.Attrs, a)
	}
	return n
}

// Parse reads one element of the default namespace space; the prefix "stream" is
// bound as on a stream.
func Parse(text, space string) (*Node, error) {
	d := xml.NewDecoder(strings.NewReader(
		"<around xmlns='" + space + "' xmlns:stream='" + NSStream + "'>" + text + "</around>"))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	n, err := readNode(d)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, text)
	}
	if _, err := readNode(d); !errors.Is(err, errEnd) {
		return nil, fmt.Errorf("more than one element in %s", text)
	}
	return n, nil
}

// parseDocument reads a whole document of one element.
func parseDocument(r io.Reader) (*Node, error) {
	d := xml.NewDecoder(r)
	n, err := readNode(d)
	if err != nil {
		return nil, err
	}
	if _, err := readNode(d); !errors.Is(err, io.EOF) {
		return nil, errors.New("harness: more than one element in a document")
	}
	return n, nil
}

// Is tells whether n has this expanded name.
func (n *Node) Is(space, local string) bool {
	return n != nil && n.Name.Space == space && n.Name.Local == local
}

// Attr returns an attribute without a namespace, or "".
func (n *Node) Attr(local string) string {
	v, _ := n.lookup(xml.Name{Local: local})
	return v
}

func (n *Node) lookup(name xml.Name) (string, bool) {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a.Value, true
		}
	}
	return "", false
}

// Child returns the first child with this expanded name, or nil.
func (n *Node) Child(space, local string) *Node {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Is(space, local) {
			return c
		}
	}
	return nil
}

// walk calls f for n and everything in it.
func (n *Node) walk(f func(*Node)) {
	f(n)
	for _, c := range n.Children {
		c.walk(f)
	}
}

// prune returns a copy of n without the elements that drop names.
func (n *Node) prune(drop func(*Node) bool) *Node {
	c := *n
	c.Children = nil
	for _, k := range n.Children {
		if !drop(k) {
			c.Children = append(c.Children, k.prune(drop))
		}
	}
	return &c
}

// String writes n canonically: attributes in order, a declaration where the
// namespace changes.
func (n *Node) String() string {
	var b strings.Builder
	n.write(&b, NSClient)
	return b.String()
}

func (n *Node) write(b *strings.Builder, outer string) {
	b.WriteString("<" + n.Name.Local)
	if n.Name.Space != outer {
		fmt.Fprintf(b, " xmlns='%s'", escape(n.Name.Space))
	}
	attrs := append([]xml.Attr(nil), n.Attrs...)
	sort.Slice(attrs, func(i, j int) bool { return attrName(attrs[i].Name) < attrName(attrs[j].Name) })
	for _, a := range attrs {
		fmt.Fprintf(b, " %s='%s'", attrName(a.Name), escape(a.Value))
	}
	text := n.text()
	if text == "" && len(n.Children) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteString(">" + escape(text))
	for _, c := range n.Children {
		c.write(b, n.Name.Space)
	}
	b.WriteString("</" + n.Name.Local + ">")
}

// text is n's character data; between elements white space means nothing.
func (n *Node) text() string {
	if len(n.Children) > 0 {
		return strings.TrimSpace(n.Text)
	}
	return n.Text
}

func attrName(n xml.Name) string {
	switch n.Space {
	case "":
		return n.Local
	case "xml", "http://www.w3.org/XML/1998/namespace":
		return "xml:" + n.Local
	}
	return "{" + n.Space + "}" + n.Local
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;").Replace(s)
}
