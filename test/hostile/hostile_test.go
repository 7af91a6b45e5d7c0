// Package hostile attacks a whole server as strangers and bad clients do, and
// checks that it answers as the standards say, that nobody else notices, and
// that nothing is left behind.
package hostile

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"trivium/test/harness"
)

// start runs a server with the accounts that the attacks need.
func start(t *testing.T, o harness.Options) *harness.Server {
	t.Helper()
	o.Accounts = append(o.Accounts, "mallory@example.org", "juliet@example.org", "romeo@example.org")
	return harness.Start(t, o)
}

// login binds a session over a framing.
func login(t *testing.T, s *harness.Server, framing, user, resource string) *harness.Client {
	t.Helper()
	return loginLang(t, s, framing, user, resource, "")
}

func loginLang(t *testing.T, s *harness.Server, framing, user, resource, lang string) *harness.Client {
	t.Helper()
	conn, err := s.Dial(framing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Drop)
	c := &harness.Client{Conn: conn, Lang: lang}
	for _, err := range []error{c.Start("example.org"), c.Authenticate(user, "example.org", harness.Password), c.Bind(resource)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// must fails the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request sends an iq and returns its answer.
func request(t *testing.T, c *harness.Client, iq string) *harness.Node {
	t.Helper()
	n, err := c.Request(iq)
	if err != nil {
		t.Fatalf("%.200s: %v", iq, err)
	}
	return n
}

// wellAnswered checks that a session still gets answers.
func alive(t *testing.T, c *harness.Client) {
	t.Helper()
	if err := c.Sync(); err != nil {
		t.Fatalf("%s is no longer served: %v", c.JID, err)
	}
}

// header is a stream header to example.org.
const header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'>"

// raw is one TCP connection without any protocol.
type raw struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, s *harness.Server) raw {
	t.Helper()
	c, err := net.Dial("tcp", s.TCP)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return raw{t, c}
}

func (r raw) send(text string) {
	r.t.Helper()
	_ = r.SetWriteDeadline(time.Now().Add(harness.Patience))
	_, _ = io.WriteString(r.Conn, text) // the server may have closed: what it says is checked by reading
}

// until reads until the text holds want and returns all of it.
func (r raw) until(want string) string {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(harness.Patience))
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), want) {
		n, err := r.Read(buf)
		got.Write(buf[:n])
		if err != nil && !strings.Contains(got.String(), want) {
			r.t.Fatalf("want %q, got %q and %v", want, got.String(), err)
		}
	}
	return got.String()
}

// secure changes to TLS.
func (r raw) secure(s *harness.Server) raw {
	r.t.Helper()
	c := tls.Client(r.Conn, &tls.Config{RootCAs: s.CA, ServerName: "example.org"})
	must(r.t, c.Handshake())
	return raw{r.t, c}
}

// repeat is strings.Repeat with formatted counters.
func repeat(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

// names makes n attributes.
func names(n int) string {
	return repeat(n, func(i int) string { return fmt.Sprintf(" a%d='x'", i) })
}
