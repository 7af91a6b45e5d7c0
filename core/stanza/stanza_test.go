package stanza

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/wire"
)

func parse(t *testing.T, kind Kind, raw string) (*Stanza, error) {
	t.Helper()
	var sc wire.Scanner
	sc.Reset(wire.Document, wire.Limits{})
	k, _, err := sc.Next([]byte(raw))
	if err != nil || k != wire.KindElement {
		t.Fatalf("scan %s: %v %v", raw, k, err)
	}
	return Parse(kind, []byte(raw), sc.Index())
}

func TestParseAndAppend(t *testing.T) {
	for _, tt := range []struct {
		name     string
		kind     Kind
		in, want string
	}{
		{
			"the start tag is written anew, the payload copied", Message,
			`<message xmlns='jabber:client' type="chat" to='Juliet@Example.com' id="a&amp;b" xml:lang='en'><body>Art &lt;thou&gt; <![CDATA[&]]></body></message>`,
			`<message to='juliet@example.com' type='chat' id='a&amp;b' xml:lang='en'><body>Art &lt;thou&gt; <![CDATA[&]]></body></message>`,
		},
		{
			"prefixes declared on the stanza stay", IQ,
			`<iq xmlns='jabber:client' xmlns:x='urn:x' x:y='"1"' type='get' id='1'><x:q/></iq>`,
			`<iq type='get' id='1' xmlns:x='urn:x' x:y='&quot;1&quot;'><x:q/></iq>`,
		},
		{"an empty element", Presence, `<presence xmlns='jabber:client'/>`, `<presence/>`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, err := parse(t, tt.kind, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := st.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestMalformedAddress(t *testing.T) {
	// RFC 6120 §8.3.3.8
	st, err := parse(t, Message, `<message to='a@b@c' id='x'/>`)
	var e *Error
	if !errors.As(err, &e) || e.Condition != JIDMalformed {
		t.Fatalf("got %v", err)
	}
	if !st.To.IsZero() || st.ID != "x" {
		t.Errorf("got %+v", st)
	}
}

func TestErrorReply(t *testing.T) {
	st := New(IQ, Get, jid.Must("romeo@example.net/orchard"), jid.Must("juliet@example.com"), "e1", El("urn:x", "q"))
	got := st.ErrorReply(&Error{Condition: ServiceUnavailable, Text: "gone <home>"}).String()
	// RFC 6120 §8.3.2
	want := `<iq from='juliet@example.com' to='romeo@example.net/orchard' type='error' id='e1'>` +
		`<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>` +
		`<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>gone &lt;home&gt;</text></error></iq>`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// RFC 6120 §8.3.1: errors and results are never answered with errors.
	for _, typ := range []string{Result, TypeError} {
		st.Type = typ
		if st.ErrorReply(Internal()) != nil {
			t.Errorf("an iq of type %s was answered", typ)
		}
	}
}

func TestChildren(t *testing.T) {
	st, err := parse(t, Message, `<message xmlns='jabber:client' xmlns:s='urn:xmpp:sid:0'><body>hi</body><s:stanza-id by='x' id='1'/><z xmlns='urn:z'/></message>`)
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := st.Body(); !ok || b != "hi" {
		t.Errorf("body %q %v", b, ok)
	}
	c, ok := st.Child("urn:xmpp:sid:0", "stanza-id")
	if !ok || c.Element().Attr("by") != "x" {
		t.Fatalf("a child named by the stanza's prefix: %v %v", c, ok)
	}
	st = st.Append(El("urn:d", "delay"))
	if !st.Has("urn:d", "delay") {
		t.Error("appended child is not found")
	}
	out := st.Without(func(c Child) bool { return c.Is("urn:xmpp:sid:0", "stanza-id") || c.Is("urn:d", "delay") })
	want := `<message xmlns:s='urn:xmpp:sid:0'><body>hi</body><z xmlns='urn:z'/></message>`
	if got := out.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWithPayloadXML(t *testing.T) {
	st := New(Message, Chat, jid.JID{}, jid.JID{}, "")
	for _, bad := range []string{"<a>", "</x><x>", "<a:b/>", "<!-- c -->", "\x00", "<x/></x><y/>"} {
		if _, err := st.WithPayloadXML(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	got, err := st.WithPayloadXML("<body>x</body>")
	if err != nil || got.String() != "<message type='chat'><body>x</body></message>" {
		t.Errorf("got %v %v", got, err)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	st, err := parse(t, Message, `<message xmlns='jabber:client' type='chat' to='juliet@example.com' id='1'><body>hello</body></message>`)
	if err != nil {
		t.Fatal(err)
	}
	to := jid.Must("juliet@example.com/balcony")
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(1000, func() { buf = st.AppendFor(buf[:0], to) }); n != 0 {
		t.Errorf("AppendFor: %v allocs, want 0", n)
	}
}

// What the server writes is longer than what a peer may send: it must not be held
// to the peer's limits.
func TestPayloadBeyondPeersLimits(t *testing.T) {
	attrs := ""
	for i := range 100 {
		attrs += " a" + strconv.Itoa(i) + "='x'"
	}
	for _, p := range []string{
		"<x xmlns='urn:x'><m" + attrs + "/></x>",
		"<x xmlns='urn:" + strings.Repeat("a", 2000) + "'/>",
		strings.Repeat("<x xmlns='urn:x'>", 300) + strings.Repeat("</x>", 300),
		strings.Repeat("<x xmlns='urn:x'/>", 70_000),
	} {
		st := New(Message, "", jid.JID{}, jid.JID{}, "", Raw(p))
		if st.Payload() != p {
			t.Errorf("%.40s...: another payload", p)
		}
		if _, err := ParseDocument(st.AppendDocument(nil)); err != nil {
			t.Errorf("%.40s...: %v", p, err)
		}
	}
}

// The namespace of the prefix xml cannot be declared as the default one
// (Namespaces in XML §3).
func TestElementInXMLNamespace(t *testing.T) {
	const in = "<q xmlns='urn:q'><xml:x xml:lang='en'><y xmlns=''><xml:z/></y><w/></xml:x></q>"
	e, err := ParseElement(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.String(); got != in {
		t.Errorf("got %s", got)
	}
	New(IQ, Result, jid.JID{}, jid.JID{}, "1", e) // panicked
}

// A prefix is written out as a declaration on every element that uses it.
func TestBoundedStopsInTime(t *testing.T) {
	name := "urn:" + strings.Repeat("n", 1000)
	e, err := ParseElement("<x xmlns='urn:x' xmlns:p='" + name + "'>" + strings.Repeat("<p:y/>", 30_000) + "</x>")
	if err != nil {
		t.Fatal(err)
	}
	const max = 256 << 10
	if b := e.append(nil, NSClient, max); len(b) > max+4096 {
		t.Errorf("%d octets were written for a bound of %d", len(b), max)
	}
	if _, ok := e.Bounded(max); ok {
		t.Error("30 MB are not within 256 KiB")
	}
	small := El("urn:x", "x", TextEl("urn:y", "y", "text"))
	if s, ok := small.Bounded(len(small.String())); !ok || s != small.String() {
		t.Errorf("got %q, %v", s, ok)
	}
	if _, ok := small.Bounded(len(small.String()) - 1); ok {
		t.Error("one octet too many is within the bound")
	}
}
