package core

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"trivium/core/auth"
	"trivium/core/c2s"
	"trivium/core/certs"
	"trivium/core/jid"
	"trivium/core/store"
)

// server runs a Server with romeo and juliet at example.org and returns its
// address and the pool that trusts its certificate.
func server(t *testing.T, mode Mode, o c2s.Options) (string, *x509.CertPool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	db, err := store.Open(ctx, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.New(db, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"romeo", "juliet"} {
		if err := users.CreateAccount(ctx, jid.Must(name+"@example.org"), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	cs, err := certs.New(certs.Options{Dir: t.TempDir(), Hosts: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := New(Options{
		Hosts: []VirtualHost{{Domain: "example.org"}}, Store: db, Auth: users, Certs: cs, Sessions: o,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { defer close(over); srv.Run(ctx, time.Second) }()
	go srv.ServeTCP(ctx, ln, mode)
	t.Cleanup(func() { cancel(); <-over; db.Close() })
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(cs.CAPath())
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(pem)
	return ln.Addr().String(), pool
}

// peer is a client that reads and writes text.
type peer struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *peer {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{t, c, bufio.NewReader(c)}
}

func (p *peer) send(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.c, format, args...); err != nil {
		p.t.Fatal(err)
	}
}

// until reads up to and with the end of what is wanted.
func (p *peer) until(want string) string {
	p.t.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), want) {
		c, err := p.r.ReadByte()
		if err != nil {
			p.t.Fatalf("waiting for %q: %v after %q", want, err, b.String())
		}
		b.WriteByte(c)
	}
	return b.String()
}

const header = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'>`

func (p *peer) open() string {
	p.t.Helper()
	p.send(header)
	return p.until("</stream:features>")
}

func (p *peer) secure(pool *x509.CertPool) {
	p.t.Helper()
	p.send(`<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>`)
	p.until(`<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>`)
	p.c = tls.Client(p.c, &tls.Config{RootCAs: pool, ServerName: "example.org"})
	p.r = bufio.NewReader(p.c)
}

func (p *peer) login(user, password string) {
	p.t.Helper()
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		p.t.Fatal(err)
	}
	conv := client.NewConversation()
	first, _ := conv.Step("")
	p.send(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>%s</auth>`, base64.StdEncoding.EncodeToString([]byte(first)))
	second, err := conv.Step(p.text("challenge"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(`<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>`, base64.StdEncoding.EncodeToString([]byte(second)))
	if _, err := conv.Step(p.text("success")); err != nil {
		p.t.Fatal(err)
	}
}

// text reads one SASL element and decodes what it holds.
func (p *peer) text(name string) string {
	p.t.Helper()
	all := p.until("</" + name + ">")
	all = strings.TrimSuffix(all, "</"+name+">")
	b, err := base64.StdEncoding.DecodeString(all[strings.LastIndexByte(all, '>')+1:])
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

func (p *peer) bind(resource string) {
	p.t.Helper()
	p.send(`<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>`, resource)
	p.until("</iq>")
}

func TestLoginOverSTARTTLS(t *testing.T) {
	addr, pool := server(t, Mode{RequireTLS: true}, c2s.Options{})
	connect := func(user, resource string) *peer {
		p := dial(t, addr)
		// RFC 6120 §5.4.1: where TLS is mandatory, nothing else is on offer.
		if f := p.open(); !strings.Contains(f, `<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>`) {
			t.Fatalf("features in clear: %s", f)
		}
		p.secure(pool)
		if f := p.open(); !strings.Contains(f, "<mechanism>SCRAM-SHA-256-PLUS</mechanism>") || strings.Contains(f, "starttls") {
			t.Fatalf("features under TLS: %s", f)
		}
		p.login(user, "secret")
		if f := p.open(); !strings.Contains(f, `<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>`) {
			t.Fatalf("features after login: %s", f)
		}
		p.bind(resource)
		return p
	}
	romeo, juliet := connect("romeo", "orchard"), connect("juliet", "balcony")
	for i := range 200 {
		romeo.send(`<message to='juliet@example.org/balcony' id='m%d'><body>Art thou not Romeo?</body></message>`, i)
	}
	for i := range 200 {
		want := fmt.Sprintf(`<message from='romeo@example.org/orchard' to='juliet@example.org/balcony' id='m%d'><body>Art thou not Romeo?</body></message>`, i)
		if got := juliet.until("</message>"); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	romeo.send("</stream:stream>")
	romeo.until("</stream:stream>")
}

func TestNegotiationErrors(t *testing.T) {
	addr, _ := server(t, Mode{}, c2s.Options{Attempts: 2})
	for _, tt := range []struct{ name, send, want string }{
		{"host-unknown, RFC 6120 §4.9.3.6", strings.Replace(header, "example.org", "elsewhere.example", 1), "<host-unknown"},
		{"invalid-namespace of the content, §4.9.3.10", strings.Replace(header, "jabber:client", "jabber:server", 1), "<invalid-namespace"},
		{"invalid-namespace of the stream, §4.9.3.10", strings.Replace(header, "etherx.jabber.org", "x.example", 1), "<invalid-namespace"},
		{"unsupported-version, §4.9.3.25", strings.Replace(header, "version='1.0' to", "version='0.9' to", 1), "<unsupported-version"},
		{"not-authorized, §4.9.3.12", header + "<message to='juliet@example.org'/>", "<not-authorized"},
		{"not-well-formed, §4.9.3.13", header + "<a></b>", "<not-well-formed"},
		{"restricted-xml, §4.9.3.18", header + "<!-- hi -->", "<restricted-xml"},
		{"before a header, §4.9.1.2", "<a></b>", "stream:error"},
		{"a nested header", header + header, "stream:error"},
		{"a nested header without an XML declaration", header + header[len("<?xml version='1.0'?>"):], "<unsupported-stanza-type"},
		{"too many logins, §6.4.5", header + strings.Repeat("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='NONE'/>", 2), "<policy-violation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, addr)
			p.send("%s", tt.send)
			got := p.until("</stream:stream>")
			if !strings.Contains(got, tt.want) || !strings.Contains(got, "<stream:stream") {
				t.Errorf("got %s", got)
			}
			p.c.(*net.TCPConn).CloseWrite()
			if b, err := p.r.ReadByte(); err == nil {
				t.Errorf("more after the end: %q", b)
			}
		})
	}
}

func TestSASLFailures(t *testing.T) {
	addr, _ := server(t, Mode{}, c2s.Options{})
	const ns = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
	for _, tt := range []struct{ name, send, want string }{
		{"§6.5.7", `<auth ` + ns + ` mechanism='X'/>`, "<invalid-mechanism/>"},
		{"§6.5.5", `<auth ` + ns + ` mechanism='SCRAM-SHA-256'>?</auth>`, "<incorrect-encoding/>"},
		{"§6.5.4", `<auth ` + ns + ` mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>`, "<encryption-required/>"},
		{"§6.5.1", `<auth ` + ns + ` mechanism='SCRAM-SHA-256'/><abort ` + ns + `/>`, "<aborted/>"},
		{"§6.5.8", `<auth ` + ns + ` mechanism='SCRAM-SHA-256'>bm90IHNjcmFt</auth>`, "<malformed-request/>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, addr)
			p.open()
			p.send("%s", tt.send)
			if got := p.until("</failure>"); !strings.Contains(got, tt.want) {
				t.Errorf("got %s", got)
			}
		})
	}
}
