package c2s

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/store"
	"trivium/core/stream"
)

// prepared is a client that sends what was prepared and waits for what must come.
type prepared struct {
	b    *testing.B
	conn net.Conn
	buf  []byte
	got  []byte
}

func (p *prepared) say(s, until string) {
	go func() { _, _ = io.WriteString(p.conn, s) }()
	p.got = p.got[:0]
	for !bytes.Contains(p.got, []byte(until)) {
		n, err := p.conn.Read(p.buf)
		p.got = append(p.got, p.buf[:n]...)
		if err != nil {
			p.b.Fatalf("got %s, want %s", p.got, until)
		}
	}
}

// BenchmarkLogin is a login from the first octet to a bound session, over a pipe,
// with the little that a client does which has prepared everything.
func BenchmarkLogin(b *testing.B) {
	db, err := store.Open(b.Context(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	users, err := auth.New(db, auth.Options{Iterations: sasl.MinIterations})
	if err != nil {
		b.Fatal(err)
	}
	user := jid.Must("user@example.org")
	if err := users.CreateAccount(b.Context(), user, password); err != nil {
		b.Fatal(err)
	}
	r := router.New(router.Options{})
	r.Serve("example.org", r.Local())
	host := module.NewHost(r, db, slog.New(slog.DiscardHandler), time.Now, []string{"example.org"}, users.Exists)
	if err := host.Build(); err != nil {
		b.Fatal(err)
	}
	accounts := users.Host("example.org")
	svc := New(r, host, Options{Hosts: []VirtualHost{{
		Domain: jid.Must("example.org"), Backend: accounts,
		SASL: sasl.Options{Nonce: func() string { return "the server's nonce" }},
	}}})
	grant, err := accounts.(clientKeeper).NoteClient(b.Context(), "user", auth.ClientLogin{
		ID: device, Software: "AwesomeXMPP", Device: "Kiva's Phone", Mechanism: "PLAIN", Password: true, Began: time.Now(), Request: "HT-SHA-256-NONE",
	})
	if err != nil {
		b.Fatal(err)
	}
	h := hmac.New(sha256.New, []byte(grant.Token))
	_, _ = io.WriteString(h, "Initiator")
	byToken := func(inline string) string {
		return authenticate("HT-SHA-256-NONE", "user\x00"+string(h.Sum(nil)), agent+"<fast xmlns='urn:xmpp:fast:0'/>"+inline)
	}

	const first = "n,,n=user,r=abc"
	x, err := svc.first.sasl.Offer(true, nil).Start("SCRAM-SHA-256")
	if err != nil {
		b.Fatal(err)
	}
	client, err := scram.SHA256.NewClient("user", password, "")
	if err != nil {
		b.Fatal(err)
	}
	conv := client.WithNonceGenerator(func() string { return "abc" }).NewConversation()
	_, _ = conv.Step("")
	challenge, _, err := x.Step(b.Context(), []byte(first))
	if err != nil {
		b.Fatal(err)
	}
	final, err := conv.Step(string(challenge))
	if err != nil {
		b.Fatal(err)
	}

	p := &prepared{b: b, buf: make([]byte, 8192)}
	run := func(steps []string) {
		ours, theirs := net.Pipe()
		p.conn = theirs
		over := make(chan struct{})
		sock := stream.NewSocket(addressed{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))})
		svc.Accept(protected{stream.NewTCP(sock, svc.Before())}, true, func() { close(over) })
		p.say(header, "</stream:features>")
		for i := 0; i < len(steps); i += 2 {
			p.say(steps[i], steps[i+1])
		}
		_ = theirs.Close()
		<-over
	}
	run([]string{byToken("<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>"), "</stream:features>"})
	_, id, _ := strings.Cut(string(p.got), "<enabled xmlns='urn:xmpp:sm:3' id='")
	id, _, _ = strings.Cut(id, "'")

	const sasl1 = " xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
	for _, bb := range []struct {
		name  string
		steps []string // what is said, and what ends the answer
	}{
		{"FAST, resumption", []string{byToken("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>"), "<resumed "}},
		{"FAST, Bind 2", []string{byToken("<bind xmlns='urn:xmpp:bind:0'><tag>Awesome2</tag></bind>"), "</stream:features>"}},
		{"SCRAM-SHA-256, Bind 2", []string{
			authenticate("SCRAM-SHA-256", first, agent+bindTag), "</challenge>",
			"<response xmlns='urn:xmpp:sasl:2'>" + b64(final) + "</response>", "</stream:features>",
		}},
		{"SCRAM-SHA-256, RFC 6120", []string{
			"<auth" + sasl1 + " mechanism='SCRAM-SHA-256'>" + b64(first) + "</auth>", "</challenge>",
			"<response" + sasl1 + ">" + b64(final) + "</response>", "</success>",
			header, "</stream:features>",
			"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>a</resource></bind></iq>", "</iq>",
		}},
	} {
		b.Run(strings.ReplaceAll(bb.name, " ", "_"), func(b *testing.B) {
			p.b = b
			b.ReportAllocs()
			for b.Loop() {
				run(bb.steps)
			}
		})
	}
	svc.Shutdown(context.Background())
}
