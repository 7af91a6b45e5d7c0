package transcripts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"trivium/test/harness"
)

// Stream errors of RFC 6120 §4.9.3 that bad octets end a stream with.
var (
	notWellFormed = []string{"not-well-formed"}                   // §4.9.3.13
	restricted    = []string{"restricted-xml", "not-well-formed"} // §4.9.3.18, §11.1
	tooMuch       = []string{"policy-violation"}                  // §4.9.3.14, §13.12
	noElement     = []string{"not-well-formed", "bad-format", "invalid-xml"}
)

// in puts octets inside the body of a message to somebody else.
func in(octets string) string {
	return "<message xmlns='jabber:client' to='romeo@example.org/orchard'><body>" + octets + "</body></message>"
}

// attrs puts octets inside the start tag of a message.
func attrs(octets string) string {
	return "<message xmlns='jabber:client' to='romeo@example.org/orchard' " + octets + "><body>Hark</body></message>"
}

// badXML is what no stream may carry, before authentication or after it.
var badXML = []struct {
	name, octets string
	want         []string
}{
	// RFC 6120 §11.1: no DTD, entity, comment or processing instruction.
	{"DTD", "<!DOCTYPE message>", restricted},
	{"DTD with an entity", "<!DOCTYPE message [<!ENTITY e 'x'>]>" + in("&e;"), restricted},
	{"entity declaration in a stanza", in("<!ENTITY e 'x'>"), restricted},
	{"entity", in("&e;"), restricted},
	{"HTML entity", in("&nbsp;"), restricted},
	{"entity in an attribute", attrs("a='&e;'"), restricted},
	{"comment", "<!-- comment -->", restricted},
	{"comment in a stanza", in("<!-- comment -->"), restricted},
	{"processing instruction", "<?php echo ?>", restricted},
	{"processing instruction in a stanza", in("<?php echo ?>"), restricted},
	{"second XML declaration", "<?xml version='1.0'?><?xml version='1.0'?>", restricted},
	{"XML declaration in a stanza", in("<?xml version='1.0'?>"), restricted},

	// RFC 6120 §11.6: UTF-8, XML 1.0 §2.2: characters.
	{"overlong NUL", in("\xc0\x80"), notWellFormed},
	{"overlong slash", in("\xe0\x80\xaf"), notWellFormed},
	{"surrogate", in("\xed\xa0\x80"), notWellFormed},
	{"beyond 10FFFF", in("\xf4\x90\x80\x80"), notWellFormed},
	{"truncated", in("\xe2\x82"), notWellFormed},
	{"lone continuation", in("\x80"), notWellFormed},
	{"Latin-1", in("caf\xe9"), notWellFormed},
	{"in an attribute", attrs("a='\xff'"), notWellFormed},
	{"in a name", attrs("a\xff='b'"), notWellFormed},
	{"NUL", in("\x00"), notWellFormed},
	{"control character", in("\x01"), notWellFormed},
	{"U+FFFE", in("\uFFFE"), notWellFormed},
	{"reference to NUL", in("&#0;"), notWellFormed},
	{"reference to a control character", in("&#x1;"), notWellFormed},
	{"reference to a surrogate", in("&#xD800;"), notWellFormed},
	{"reference to U+FFFF", in("&#xFFFF;"), notWellFormed},
	{"reference beyond 10FFFF", in("&#x110000;"), notWellFormed},
	{"endless reference", in("&#99999999999999999999;"), notWellFormed},

	// XML 1.0: what is not well-formed.
	{"mismatched end tag", "<message xmlns='jabber:client'></presence>", notWellFormed},
	{"bare ampersand", in("a & b"), notWellFormed},
	{"]]> in text", in("]]>"), notWellFormed},
	{"< in an attribute", attrs("a='<'"), notWellFormed},
	{"no quotes", attrs("a=b"), notWellFormed},
	{"no value", attrs("a"), notWellFormed},
	{"no space between attributes", attrs("a='b'c='d'"), notWellFormed},
	{"space after <", "< message/>", notWellFormed},
	{"name that begins with a digit", in("<1/>"), notWellFormed},
	{"name that begins with a hyphen", in("<-a/>"), notWellFormed},
	{"wrong empty-element tag", in("<a / >"), notWellFormed},
	{"text between stanzas", "Hark!", noElement},
	{"CDATA between stanzas", "<![CDATA[Hark!]]>", append(slices.Clone(noElement), "restricted-xml")},

	// Namespaces in XML 1.0 §3 to §6.
	{"attribute twice", attrs("a='1' a='2'"), notWellFormed},
	{"attribute twice by expanded name", attrs("xmlns:x='u' xmlns:y='u' x:a='1' y:a='2'"), notWellFormed},
	{"declaration twice", attrs("xmlns:x='u' xmlns:x='v'"), notWellFormed},
	{"unbound prefix", in("<x:a/>"), notWellFormed},
	{"unbound prefix of an attribute", attrs("x:a='1'"), notWellFormed},
	{"prefix of a sibling", in("<a xmlns:x='u'/><x:b/>"), notWellFormed},
	{"end tag with another prefix", in("<x:a xmlns:x='u' xmlns:y='u'></y:a>"), notWellFormed},
	{"prefix undeclared", in("<a xmlns:x=''/>"), notWellFormed},
	{"xml bound elsewhere", in("<a xmlns:xml='u'/>"), notWellFormed},
	{"another prefix for xml", in("<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>"), notWellFormed},
	{"xmlns declared", in("<a xmlns:xmlns='u'/>"), notWellFormed},
	{"element with the prefix xmlns", in("<xmlns:a/>"), notWellFormed},
	{"two colons", in("<a:b:c xmlns:a='u'/>"), notWellFormed},

	// RFC 6120 §13.12: limits.
	{"too deep", strings.Repeat("<a xmlns='urn:example:a'>", 5000), tooMuch},
	{"too large", in(strings.Repeat("A kiss. ", 40_000)), tooMuch},
	{"too many attributes", attrs(numbered("a%d='' ", 2000)), tooMuch},
	{"too many namespaces", in("<a " + numbered("xmlns:a%d='u' ", 2000) + "/>"), tooMuch},
	{"too many children", "<message xmlns='jabber:client'>" + strings.Repeat("<a/>", 20_000) + "</message>", tooMuch},
	{"too long a name", in("<" + strings.Repeat("a", 100_000) + "/>"), tooMuch},
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestBadXML sends each of badXML on every framing, as a stranger and as a user.
// The stream ends with the right error, and nobody else notices.
func TestBadXML(t *testing.T) {
	for _, framing := range harness.Framings {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			srv := harness.Start(t, harness.Options{Accounts: []string{"romeo@example.org", "juliet@example.org"}})
			romeo := connect(t, srv, framing, "romeo", "orchard")
			for _, tt := range badXML {
				for _, when := range []string{"before", "after"} {
					t.Run(when+"/"+tt.name, func(t *testing.T) {
						var c *harness.Client
						if when == "before" {
							c = dial(t, srv, framing)
						} else {
							c = connect(t, srv, framing, "juliet", "")
						}
						_ = c.SendRaw(tt.octets) // the server may be faster to refuse than we are to send
						check(t, framing, c, tt.want)
						if err := romeo.Sync(); err != nil {
							t.Fatalf("another user: %v", err)
						}
					})
				}
			}
			if got := romeo.Pending(); len(got) > 0 {
				t.Errorf("another user was sent %v", got)
			}
		})
	}
}

// check reads to the end of a stream, which is one of the stream errors in want.
func check(t *testing.T, framing string, c *harness.Client, want []string) {
	t.Helper()
	var found *harness.Node
	for {
		n, err := c.Next()
		if err == nil {
			if !n.Is(harness.NSStream, "error") || found != nil {
				t.Fatalf("did not expect %v", n)
			}
			found = n
			continue
		}
		ended, closed := (*harness.Ended)(nil), (*websocket.CloseError)(nil)
		switch {
		case found != nil && errors.Is(err, harness.ErrEnd):
		case errors.As(err, &ended) && (ended.Condition == "bad-request" || slices.Equal(want, []string{ended.Condition})):
			return // XEP-0124 §17.2: the <body/> itself cannot be read, or is beyond a limit
		case errors.As(err, &closed) && closed.Code == websocket.CloseInvalidFramePayloadData && found == nil:
			return // RFC 6455 §8.1: a text message is UTF-8
		default:
			t.Fatalf("the stream ended with %v, %v", found, err)
		}
		break
	}
	for _, condition := range want {
		if found.Child(harness.NSStreams, condition) != nil {
			return
		}
	}
	t.Errorf("the stream ended with %v, want %v", found, want)
}

func dial(t *testing.T, srv *harness.Server, framing string) *harness.Client {
	t.Helper()
	conn, err := srv.Dial(framing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Drop)
	c := &harness.Client{Conn: conn}
	if err := c.Start("example.org"); err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t *testing.T, srv *harness.Server, framing, user, resource string) *harness.Client {
	t.Helper()
	c := dial(t, srv, framing)
	if err := c.Authenticate(user, "example.org", harness.Password); err != nil {
		t.Fatal(err)
	}
	if err := c.Bind(resource); err != nil {
		t.Fatal(err)
	}
	return c
}
