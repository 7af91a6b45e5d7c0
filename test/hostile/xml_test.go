package hostile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"trivium/test/harness"
)

// broken is XML that ends a stream wherever it comes, with the condition that says
// so: RFC 6120 §11, §4.9.3; XML 1.0; Namespaces in XML.
var broken = []struct{ name, in, want string }{
	{"document type declaration", "<!DOCTYPE x [<!ENTITY a 'b'>]>", "restricted-xml"}, // §11.1
	{"comment", "<message><!-- x --></message>", "restricted-xml"},
	{"processing instruction", "<message><?x y?></message>", "restricted-xml"},
	{"entity reference", "<message><body>&lol;</body></message>", "restricted-xml"},
	{"second XML declaration", "<?xml version='1.0'?>", "restricted-xml"},
	{"NUL", "<message><body>\x00</body></message>", "not-well-formed"},
	{"reference to NUL", "<message><body>&#0;</body></message>", "not-well-formed"},
	{"reference to a surrogate", "<message><body>&#xD800;</body></message>", "not-well-formed"},
	{"control character", "<message><body>\x01</body></message>", "not-well-formed"},
	{"U+FFFE", "<message><body>\uFFFE</body></message>", "not-well-formed"},
	{"surrogate", "<message><body>\xED\xA0\x80</body></message>", "not-well-formed"},
	{"overlong form", "<message><body>\xC0\xAF</body></message>", "not-well-formed"},
	{"beyond U+10FFFF", "<message><body>\xF4\x90\x80\x80</body></message>", "not-well-formed"},
	{"]]>", "<message><body>]]></body></message>", "not-well-formed"},
	{"attribute twice", "<message a='1' a='2'/>", "not-well-formed"},
	{"attribute twice by another prefix", "<message xmlns:a='u' xmlns:b='u' a:x='1' b:x='2'/>", "not-well-formed"},
	{"prefix unbound", "<message><q:x/></message>", "not-well-formed"},
	{"prefix of an attribute unbound", "<message q:a='1'/>", "not-well-formed"},
	{"prefix xml rebound", "<message xmlns:xml='urn:x'/>", "not-well-formed"},
	{"prefix xmlns bound", "<message xmlns:xmlns='urn:x'/>", "not-well-formed"},
	{"prefix undeclared", "<message xmlns:a=''/>", "not-well-formed"},
	{"wrong end tag", "<message></massage>", "not-well-formed"},
	{"less-than in an attribute", "<message a='<'/>", "not-well-formed"},
	{"attribute without quotes", "<message a=b/>", "not-well-formed"},
	{"too deep", "<message>" + strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100) + "</message>", "policy-violation"}, // §13.12
	{"too many attributes", "<message" + names(100) + "/>", "policy-violation"},
	{"too many children", "<message>" + strings.Repeat("<a/>", 2000) + "</message>", "policy-violation"},
	{"too many declarations", "<message" + repeat(100, func(i int) string { return fmt.Sprintf(" xmlns:a%d='u'", i) }) + "/>", "policy-violation"},
	{"name too long", "<message><" + strings.Repeat("a", 1000) + "/></message>", "policy-violation"},
	{"reference without end", "<message><body>&#" + strings.Repeat("0", 5000) + "65;</body></message>", "policy-violation"},
	{"namespace too long", "<message xmlns:a='" + strings.Repeat("u", 5000) + "'/>", "policy-violation"},
	{"stanza too large", "<message><body>" + strings.Repeat("x", 300_000) + "</body></message>", "policy-violation"},
}

// ends reads from a raw connection up to the end of the stream and returns the
// condition of the error in front of it.
func (r raw) ends() string {
	r.t.Helper()
	text := r.until("</stream:stream>")
	r.Close()
	_, after, ok := strings.Cut(text, "<stream:error><")
	if !ok {
		r.t.Fatalf("the stream has ended without an error: %q", text)
	}
	return after[:strings.IndexAny(after, " />")]
}

func TestBrokenXMLBeforeLogin(t *testing.T) {
	s := start(t, harness.Options{})
	for _, tt := range broken {
		t.Run(tt.name, func(t *testing.T) {
			r := dial(t, s)
			r.send(header)
			r.until("</stream:features>")
			r.send(tt.in)
			if got := r.ends(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Cutting the input into octets changes nothing.
func TestBrokenXMLOctetByOctet(t *testing.T) {
	s := start(t, harness.Options{})
	for _, tt := range broken {
		if len(tt.in) > 500 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			r := dial(t, s)
			text := header + tt.in
			for i := range text {
				r.send(text[i : i+1])
			}
			if got := r.ends(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestBrokenXMLOfSession(t *testing.T) {
	s := start(t, harness.Options{})
	for _, framing := range harness.Framings {
		for _, tt := range broken {
			if tt.name == "second XML declaration" && framing != "tcp" {
				continue // each frame is a document of its own
			}
			t.Run(framing+"/"+tt.name, func(t *testing.T) {
				c := login(t, s, framing, "mallory", "")
				_ = c.Send(tt.in)
				got := ""
				for {
					n, err := c.Receive()
					var ended *harness.Ended
					switch {
					case errors.As(err, &ended):
						if got == "" {
							got = ended.Condition
						}
					case err == nil && n.Is(harness.NSStream, "error") && len(n.Children) > 0:
						got = n.Children[0].Name.Local
						continue
					case err == nil:
						t.Fatalf("got %s", n)
					}
					break
				}
				want := tt.want
				if framing == "bosh" && got != want {
					// XEP-0124 §17.2: the wrapper itself is broken.
					want = "bad-request"
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
	}
}

// RFC 6120 §4.9.3, §4.7: what is wrong with a header is told behind our own.
func TestStreamHeaders(t *testing.T) {
	const stream = " xmlns:stream='http://etherx.jabber.org/streams'"
	s := start(t, harness.Options{})
	for _, tt := range []struct{ in, want string }{
		{"<stream:stream xmlns='jabber:client'" + stream + " version='1.0' to='other.example'>", "host-unknown"},
		{"<stream:stream xmlns='jabber:server'" + stream + " version='1.0' to='example.org'>", "invalid-namespace"},
		{"<stream:stream xmlns='jabber:client' xmlns:stream='urn:x' version='1.0' to='example.org'>", "invalid-namespace"},
		{"<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' version='1.0' to='example.org'>", "bad-namespace-prefix"},
		{"<stream:flood xmlns='jabber:client'" + stream + " version='1.0' to='example.org'>", "bad-format"},
		{"<q:stream xmlns='jabber:client' version='1.0' to='example.org'>", "not-well-formed"},
		{"<stream:stream xmlns='jabber:client'" + stream + " to='example.org'>", "unsupported-version"},
		{"<stream:stream xmlns='jabber:client'" + stream + " version='2.0' to='example.org'>", "unsupported-version"},
		{"<?xml version='1.0' encoding='ISO-8859-1'?>", "unsupported-encoding"},
		{"\xFF\xFE<\x00s\x00", "unsupported-encoding"},
		{"GET / HTTP/1.1\r\n\r\n", "not-well-formed"},
		{"\x16\x03\x01\x02\x00\x01", "not-well-formed"},
		{"<stream:stream xmlns='jabber:client'" + stream + names(100) + ">", "policy-violation"},
		{"<stream:stream xmlns='jabber:client'" + stream + " a='" + strings.Repeat("x", 20_000) + "'>", "policy-violation"},
		{header + header, "restricted-xml"},
		{header + "<stream:stream>", "unsupported-stanza-type"},
		{header + "<message/>", "not-authorized"}, // §4.9.3.12
		{header + "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>", "not-authorized"},
	} {
		t.Run(fmt.Sprintf("%.120q", tt.in), func(t *testing.T) {
			r := dial(t, s)
			r.send(tt.in)
			if got := r.ends(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
