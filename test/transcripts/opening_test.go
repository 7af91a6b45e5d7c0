package transcripts

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"trivium/test/harness"
)

// TestHostUnknown asks for a host that is not served: RFC 6120 §4.9.3.6,
// RFC 7395 §3.4, XEP-0124 §17.2.
func TestHostUnknown(t *testing.T) {
	srv := harness.Start(t, harness.Options{})
	for _, framing := range harness.Framings {
		t.Run(framing, func(t *testing.T) {
			conn, err := srv.Dial(framing)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Drop()
			c := &harness.Client{Conn: conn}
			if err := c.Open("elsewhere.example", ""); err != nil {
				var ended *harness.Ended
				if !errors.As(err, &ended) || ended.Condition != "host-unknown" {
					t.Fatal(err)
				}
				return
			}
			n, err := c.Next()
			var ended *harness.Ended
			if errors.As(err, &ended) && ended.Condition == "host-unknown" {
				return
			}
			if err != nil || !n.Is(harness.NSStream, "error") || n.Child(harness.NSStreams, "host-unknown") == nil {
				t.Fatalf("%v %v", n, err)
			}
			if _, err := c.Next(); !errors.Is(err, harness.ErrEnd) {
				t.Fatal(err)
			}
		})
	}
}

// TestHeaderAgain sends a stream header where none is due: RFC 6120 §4.3.3.
func TestHeaderAgain(t *testing.T) {
	srv := harness.Start(t, harness.Options{Accounts: []string{"juliet@example.org"}})
	const again = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'>"
	for _, tt := range []struct{ framing, octets string }{
		{"tcp", again + "</stream:stream>"}, // for a scanner it is an element like others
		{"tcp", "<?xml version='1.0'?>" + again},
		{"websocket", "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>"},
	} {
		t.Run(tt.framing, func(t *testing.T) {
			c := connect(t, srv, tt.framing, "juliet", "")
			if err := c.SendRaw(tt.octets); err != nil {
				t.Fatal(err)
			}
			n, err := c.Next()
			if err != nil || !n.Is(harness.NSStream, "error") {
				t.Fatalf("%v %v", n, err)
			}
			if _, err := c.Next(); !errors.Is(err, harness.ErrEnd) {
				t.Fatal(err)
			}
		})
	}
}

// TestLargeStanza: RFC 6120 §13.12: at least 10000 octets pass; and nothing is
// changed by how octets are cut.
func TestLargeStanza(t *testing.T) {
	srv := harness.Start(t, harness.Options{Accounts: []string{"romeo@example.org", "juliet@example.org"}})
	body := strings.Repeat("Two households, both alike in dignity &amp; éא雨🌹 ", 1000)
	text := strings.ReplaceAll(body, "&amp;", "&")
	for _, framing := range harness.Framings {
		t.Run(framing, func(t *testing.T) {
			romeo, juliet := connect(t, srv, framing, "romeo", "orchard"), connect(t, srv, framing, "juliet", "balcony")
			defer romeo.Drop()
			defer juliet.Drop()
			msg := "<message to='juliet@example.org/balcony'><body>" + body + "</body></message>"
			if framing == "tcp" {
				for i := 0; i < len(msg); { // in pieces of 1, 2, 3, ... octets
					n := min(i%97+1, len(msg)-i)
					if err := romeo.SendRaw(msg[i : i+n]); err != nil {
						t.Fatal(err)
					}
					i += n
				}
			} else if err := romeo.Send(msg); err != nil {
				t.Fatal(err)
			}
			n, err := juliet.Next()
			if err != nil {
				t.Fatal(err)
			}
			if got := n.Child(harness.NSClient, "body"); got == nil || got.Text != text {
				t.Errorf("%d octets came of %d", len(n.String()), len(msg))
			}
		})
	}
}

// TestEncodings opens TCP streams in other encodings than UTF-8: RFC 6120
// §4.9.3.22 and §11.6.
func TestEncodings(t *testing.T) {
	srv := harness.Start(t, harness.Options{})
	const header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'>"
	utf16 := func(s string, little bool) string {
		var b strings.Builder
		for i := range len(s) {
			if little {
				b.WriteString(s[i:i+1] + "\x00")
			} else {
				b.WriteString("\x00" + s[i:i+1])
			}
		}
		return b.String()
	}
	for _, tt := range []struct{ name, octets string }{
		{"declared", "<?xml version='1.0' encoding='ISO-8859-1'?>" + header},
		{"declared UTF-16", "<?xml version='1.0' encoding='UTF-16'?>" + header},
		{"UTF-16 with a byte order mark", "\xff\xfe" + utf16("<?xml version='1.0'?>"+header, true)},
		{"UTF-16, big-endian", "\xfe\xff" + utf16("<?xml version='1.0'?>"+header, false)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", srv.TCP)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(harness.Patience))
			if _, err := io.WriteString(c, tt.octets); err != nil {
				t.Fatal(err)
			}
			_ = c.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(c)
			if err != nil || !strings.Contains(string(got), "<unsupported-encoding") && !strings.Contains(string(got), "<not-well-formed") ||
				strings.HasPrefix(tt.name, "declared") && !strings.Contains(string(got), "<unsupported-encoding") {
				t.Errorf("%q %v", got, err)
			}
			// RFC 6120 §4.9.1.2: the header comes before the error.
			if !strings.Contains(string(got), "<stream:stream ") || !strings.HasSuffix(string(got), "</stream:stream>") {
				t.Errorf("%q", got)
			}
		})
	}
}
