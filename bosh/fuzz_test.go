package bosh

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"trivium/core/wire"
)

// FuzzParse: whatever comes, parse does not fail otherwise than by a condition;
// and what it accepts another parser reads the same way: as many children of
// <body/>, and the octets given to the session are the same elements, able to
// stand alone.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`<body rid='1' to='example.com' xmlns='http://jabber.org/protocol/httpbind'/>`,
		`<body rid='1573741820' sid='SomeSID' xmlns='http://jabber.org/protocol/httpbind'><message to='a' xmlns='jabber:client'><body>x</body></message><presence/></body>`,
		`<?xml version='1.0'?><body rid='1' sid='a' xmlns='http://jabber.org/protocol/httpbind' xmlns:j='urn:j'> <j:x j:a='b'><y/></j:x> </body> `,
		`<b:body rid='1' sid='a' xmlns:b='http://jabber.org/protocol/httpbind' xmlns='jabber:client'><iq/><b:x/></b:body>`,
		`<body rid='1' sid='a' xml:lang='en' xmpp:restart='true' xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'/>`,
		`<body rid='1' sid='a' xmlns='http://jabber.org/protocol/httpbind'><x xmlns='&#117;rn:x'>]]&gt;<![CDATA[<]]></x></body>`,
		`<body rid='9007199254740991' sid='a' key='A' newkey='b' ack='1' pause='2' type='terminate' stream='s' xmlns='http://jabber.org/protocol/httpbind'/>`,
		`<body rid='1' xmlns='http://jabber.org/protocol/httpbind'><!-- --></body>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, why := parse(bytes.NewBuffer(bytes.Clone(data)))
		if b == nil || why != "" {
			if why == "" {
				t.Fatal("refused without a condition")
			}
			return
		}
		var want []*node
		root, err := tree(data)
		if err != nil {
			t.Fatalf("accepted what encoding/xml refuses: %v", err)
		}
		if root.name != (xml.Name{Space: NS, Local: "body"}) || b.rid == 0 || b.rid > maxRID {
			t.Fatalf("accepted %v, rid %d", root.name, b.rid)
		}
		want = root.children
		if len(want) != len(b.elements) {
			t.Fatalf("%d elements, want %d", len(b.elements), len(want))
		}
		for i, raw := range b.elements {
			var sc wire.Scanner
			sc.Reset(wire.Document, wire.Limits{Bytes: 1 << 20, NSDecls: 1 << 10})
			kind, n, err := sc.Next(raw)
			if err != nil || kind != wire.KindElement || n != len(raw) {
				t.Fatalf("element %q cannot stand alone: %v", raw, err)
			}
			got, err := tree(raw)
			if err != nil {
				t.Fatalf("element %q: %v", raw, err)
			}
			if a, b := got.String(), want[i].String(); a != b {
				t.Fatalf("element %q\nreads %s\nwant  %s", raw, a, b)
			}
		}
	})
}

// node is an element as encoding/xml reads it.
type node struct {
	name     xml.Name
	attrs    []xml.Attr
	children []*node
	text     string
}

func tree(data []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	root := new(node)
	open := []*node{root}
	for {
		tok, err := d.Token()
		if err != nil {
			if len(root.children) == 1 && len(open) == 1 {
				return root.children[0], nil
			}
			return nil, err
		}
		at := open[len(open)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			n := &node{name: tok.Name}
			for _, a := range tok.Attr {
				if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
					n.attrs = append(n.attrs, a)
				}
			}
			at.children = append(at.children, n)
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			at.text += string(tok)
		}
	}
}

// String writes the tree; the namespace of BOSH and that of stanzas count as
// one (XEP-0206 §2).
func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *node) write(b *strings.Builder) {
	space := func(s string) string { return strings.Replace(s, NS, "jabber:client", 1) }
	b.WriteString("<{" + space(n.name.Space) + "}" + n.name.Local)
	for _, a := range n.attrs {
		b.WriteString(" {" + space(a.Name.Space) + "}" + a.Name.Local + "=" + a.Value)
	}
	b.WriteString(">" + n.text)
	for _, c := range n.children {
		c.write(b)
	}
	b.WriteString("</>")
}
