package stanza

import (
	"encoding/xml"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"trivium/core/jid"
	"trivium/core/wire"
)

// tokens reads XML with encoding/xml: names, attributes in the order of their
// names, and text.
func tokens(in string) ([]string, error) {
	var out []string
	text := ""
	flush := func() {
		if text != "" {
			out = append(out, fmt.Sprintf("text %q", text))
			text = ""
		}
	}
	d := xml.NewDecoder(strings.NewReader(in))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			flush()
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.CharData:
			text += string(tok)
		case xml.EndElement:
			flush()
			out = append(out, "end")
		case xml.StartElement:
			flush()
			var attrs []string
			for _, a := range tok.Attr {
				if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
					continue
				}
				// encoding/xml does not normalise white space in values (XML §3.3.3).
				attrs = append(attrs, fmt.Sprintf(" {%s}%s=%q", a.Name.Space, a.Name.Local, a.Value))
			}
			slices.Sort(attrs)
			out = append(out, fmt.Sprintf("start {%s}%s%s", tok.Name.Space, tok.Name.Local, strings.Join(attrs, "")))
		}
	}
}

// inside leaves out the root's start tag and end tag.
func inside(t *testing.T, in string) []string {
	t.Helper()
	out, err := tokens(in)
	if err != nil || len(out) < 2 {
		t.Fatalf("encoding/xml refuses %q: %v", in, err)
	}
	return out[1 : len(out)-1]
}

// FuzzStanza: a stanza that came in goes out with the same addresses, id, type,
// language and payload, and is found the same when it is read again.
func FuzzStanza(f *testing.F) {
	for _, in := range []string{
		`<message xmlns='jabber:client' to='a@b' id='1'><body>x</body></message>`,
		`<c:message xmlns:c='jabber:client' xmlns='urn:x' type='chat'>t<body>x</body><c:body a='b'/></c:message>`,
		`<iq xmlns="jabber:client" xmlns:x='urn:x' x:y='&quot;&#10;' xml:lang='cs' id='&amp;' type='get'><x:q xmlns=''><z/></x:q></iq>`,
		`<presence xmlns='jabber:client'><![CDATA[<]]>&lt;<xml:x/></presence>`,
		`<message xmlns='jabber:client' from='A@B/c ' to='@'/>`,
		`<c:iq xmlns:c='jabber:client' xmlns=''><q/><c:q/></c:iq>`,
		`<c:message xmlns:c='jabber:client' xmlns:d='urn:d' xmlns='jabber:client'><d:x d:y=''/></c:message>`,
	} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 || strings.ContainsAny(in, "\t\r\n") {
			return // see tokens
		}
		var sc wire.Scanner
		sc.Reset(wire.Document, wire.Limits{})
		kind, n, err := sc.Next([]byte(in))
		if err != nil || kind != wire.KindElement || n != len(in) || sc.Index().Foreign {
			return
		}
		el := sc.Index()
		raw := in[n-el.Len:]
		k := KindOf(el.Local.Bytes([]byte(raw)))
		declared := slices.ContainsFunc(el.Decls, func(d wire.Decl) bool { return d.Prefix.Empty() })
		if k == 0 || el.Space.Str(raw) != NSClient || !declared {
			return // in a stream the default namespace is the content namespace
		}
		st, err := Parse(k, []byte(raw), el)
		if err != nil {
			return
		}
		doc := string(st.AppendDocument(nil))
		again, err := ParseDocument([]byte(doc))
		if err != nil {
			t.Fatalf("%q became %q: %v", raw, doc, err)
		}
		if again.Kind != st.Kind || again.Type != st.Type || again.ID != st.ID || again.Lang != st.Lang || again.From != st.From || again.To != st.To {
			t.Fatalf("%q became %q", raw, doc)
		}
		if again.String() != st.String() {
			t.Fatalf("%q was written as\n%s\nthen\n%s", raw, st, again)
		}
		want, got := inside(t, raw), inside(t, doc)
		if !slices.Equal(want, got) {
			t.Fatalf("%q became %q:\n%q\nwant\n%q", raw, doc, got, want)
		}
		// What the index says of the children is what others read.
		var children []string
		st.Each(func(c Child) bool {
			children = append(children, fmt.Sprintf("start {%s}%s", c.Space, c.Local))
			tree := c.Element()
			if tree == nil || !tree.Is(c.Space, c.Local) {
				t.Fatalf("%q has the child %+v, whose tree is %s", raw, c, tree)
			}
			return true
		})
		depth := 0
		for _, tok := range want {
			switch {
			case strings.HasPrefix(tok, "start "):
				if depth == 0 {
					name, _, _ := strings.Cut(tok, " {xml}") // never in a name
					if len(children) == 0 || !strings.HasPrefix(name, children[0]) {
						t.Fatalf("%q: %s where the index has %v", raw, name, children)
					}
					children = children[1:]
				}
				depth++
			case tok == "end":
				depth--
			}
		}
		// A child that is dropped and one that is appended touch nothing else.
		extra := El("urn:test:extra", "extra").AddText("<")
		if out := st.Append(extra); out.Without(func(c Child) bool { return c.Is("urn:test:extra", "extra") }).Payload() != st.Payload() && !st.Has("urn:test:extra", "extra") {
			t.Fatalf("%q: %s does not lose what was appended", raw, out)
		}
		none := st.Without(func(Child) bool { return true })
		if left := inside(t, string(none.AppendDocument(nil))); slices.Contains(left, "end") || none.Len() != 0 {
			t.Fatalf("%q without children is %s", raw, none)
		}
	})
}

// FuzzText: whatever text, values and ids hold, what is built is well-formed and
// says the same, with U+FFFD for what XML cannot carry.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "Art thou not Romeo?", "<&>'\"]]>", "\x00\x1f\xff\ufffe", "\r\n\t ", "\u00a0\U0001f600"} {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, text, value, space string) {
		if space == "http://www.w3.org/2000/xmlns/" || strings.TrimSpace(space) == "" {
			space = "urn:x"
		}
		e := El(space, "x").Set("a", value).AddText(text)
		e.Attrs = append(e.Attrs, Attr{Space: space, Local: "b", Value: value})
		e.Add(TextEl(NSClient, "y", value))
		st := New(Message, value, jid.JID{}, jid.JID{}, text, e, &Error{Condition: Gone, Text: text, Alternate: value})
		st.Lang = value
		again, err := ParseDocument(st.AppendDocument(nil))
		if err != nil {
			t.Fatalf("%s: %v", st, err)
		}
		if again.Type != carried(value) || again.ID != carried(text) || again.Lang != carried(value) {
			t.Fatalf("%q %q became %q %q", value, text, again.Type, again.ID)
		}
		c, ok := again.First()
		got := c.Element()
		if !ok || c.Space != carried(space) {
			t.Fatalf("the namespace %q became %q", space, c.Space)
		}
		if got.Attr("a") != carried(value) || got.Text() != carried(text) || got.ChildText(NSClient, "y") != carried(value) {
			t.Fatalf("%s became %s", e, got)
		}
	})
}

// carried is a string as XML carries it.
func carried(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == 0x9 || r == 0xA || r == 0xD || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 {
			b.WriteRune(r)
		} else {
			b.WriteRune('\ufffd')
		}
	}
	return b.String()
}

// trees draws elements.
func trees(depth int) *rapid.Generator[*Element] {
	spaces := rapid.SampledFrom([]string{NSClient, "", "urn:x", "urn:y?a&b='", NSXML, NSStanzas})
	names := rapid.SampledFrom([]string{"a", "b", "lang", "É", "x-y.z", "_"})
	text := rapid.Map(rapid.String(), carried)
	return rapid.Custom(func(t *rapid.T) *Element {
		e := El(spaces.Draw(t, "space"), names.Draw(t, "name"))
		for range rapid.IntRange(0, 3).Draw(t, "attributes") {
			a := Attr{spaces.Draw(t, "attribute's space"), names.Draw(t, "attribute"), text.Draw(t, "value")}
			if !slices.ContainsFunc(e.Attrs, func(b Attr) bool { return a.Space == b.Space && a.Local == b.Local }) {
				e.Attrs = append(e.Attrs, a)
			}
		}
		if depth == 0 {
			return e
		}
		for range rapid.IntRange(0, 3).Draw(t, "children") {
			if s := text.Draw(t, "text"); len(e.Nodes) == 0 || e.Nodes[len(e.Nodes)-1].El != nil {
				e.AddText(s)
			}
			e.Add(trees(depth-1).Draw(t, "child"))
		}
		return e
	})
}

// lines is a tree as tokens tells it.
func lines(e *Element, out []string) []string {
	var attrs []string
	for _, a := range e.Attrs {
		attrs = append(attrs, fmt.Sprintf(" {%s}%s=%q", a.Space, a.Local, a.Value))
	}
	slices.Sort(attrs)
	out = append(out, fmt.Sprintf("start {%s}%s%s", e.Space, e.Local, strings.Join(attrs, "")))
	for _, n := range e.Nodes {
		if n.El != nil {
			out = lines(n.El, out)
		} else {
			out = append(out, fmt.Sprintf("text %q", n.Text))
		}
	}
	return append(out, "end")
}

// A tree that is written and read again is the same, to us and to encoding/xml.
func TestElementRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := trees(3).Draw(t, "tree")
		raw := e.String()
		got, err := ParseElement(raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("%s was read as %s", raw, got)
		}
		want := lines(El(NSClient, "root", e), nil)
		std, err := tokens("<root xmlns='" + NSClient + "'>" + raw + "</root>")
		if err != nil || !slices.Equal(std, want) {
			t.Fatalf("%s is to encoding/xml\n%q, %v\nwant\n%q", raw, std, err, want)
		}
		if n := len(raw); n > 0 {
			if s, ok := e.Bounded(n); !ok || s != raw {
				t.Fatalf("%s within its own length: %q, %v", raw, s, ok)
			}
		}
	})
}

func TestSetReplaces(t *testing.T) {
	e := El("urn:x", "x").Set("a", "1").SetLang("en").Set("a", "2").SetLang("cs").SetLang("")
	if got := e.String(); got != "<x xmlns='urn:x' a='2' xml:lang='cs'/>" {
		t.Errorf("got %s", got)
	}
}

// Appending and dropping where the stanza's prefixes are in use.
func TestAppendAndWithoutUnderPrefixes(t *testing.T) {
	st, err := parse(t, Message, `<message xmlns='jabber:client' xmlns:s='urn:xmpp:sid:0'> <s:a/>one<b/><s:a/>two<s:c><s:a/></s:c></message>`)
	if err != nil {
		t.Fatal(err)
	}
	st = st.Append(El("urn:d", "delay")).Append(Raw("<s:a xmlns:s='urn:other'/>")).Append(El("urn:xmpp:sid:0", "a"))
	out := st.Without(func(c Child) bool { return c.Is("urn:xmpp:sid:0", "a") })
	want := `<message xmlns:s='urn:xmpp:sid:0'> one<b/>two<s:c><s:a/></s:c><delay xmlns='urn:d'/><s:a xmlns:s='urn:other'/></message>`
	if got := out.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if out.Has("urn:xmpp:sid:0", "a") || !out.Has("urn:other", "a") || !out.Has("urn:d", "delay") {
		t.Error("the children are others")
	}
	if c, _ := out.Child("urn:xmpp:sid:0", "c"); c.Element().Child("urn:xmpp:sid:0", "a") == nil {
		t.Error("a grandchild's prefix is lost")
	}
	if !st.Has("urn:xmpp:sid:0", "a") {
		t.Error("Without has changed the stanza that it was called on")
	}
	if same := out.Without(func(Child) bool { return false }); same != out {
		t.Error("a copy was made for nothing")
	}
}
