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
	byToken := authenticate("HT-SHA-256-NONE", "user\x00"+string(h.Sum(nil)), agent+"<fast xmlns='urn:xmpp:fast:0'/>"+bindTag)

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

	const sasl1 = " xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
	for _, bb := range []struct {
		name  string
		steps []string // what is said, and what ends the answer
	}{
		{"RFC 6120, SCRAM-SHA-256", []string{
			"<auth" + sasl1 + " mechanism='SCRAM-SHA-256'>" + b64(first) + "</auth>", "</challenge>",
			"<response" + sasl1 + ">" + b64(final) + "</response>", "</success>",
			header, "</stream:features>",
			"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>a</resource></bind></iq>", "</iq>",
		}},
		{"SASL2 and Bind 2, SCRAM-SHA-256", []string{
			authenticate("SCRAM-SHA-256", first, agent+bindTag), "</challenge>",
			"<response xmlns='urn:xmpp:sasl:2'>" + b64(final) + "</response>", "</stream:features>",
		}},
		{"SASL2 and Bind 2, FAST", []string{byToken, "</stream:features>"}},
	} {
		b.Run(strings.ReplaceAll(bb.name, " ", "_"), func(b *testing.B) {
			p := &prepared{b: b, buf: make([]byte, 8192)}
			b.ReportAllocs()
			for b.Loop() {
				ours, theirs := net.Pipe()
				p.conn = theirs
				over := make(chan struct{})
				sock := stream.NewSocket(addressed{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))})
				svc.Accept(protected{stream.NewTCP(sock, svc.Before())}, true, func() { close(over) })
				p.say(header, "</stream:features>")
				for i := 0; i < len(bb.steps); i += 2 {
					p.say(bb.steps[i], bb.steps[i+1])
				}
				_ = theirs.Close()
				<-over
			}
		})
	}
	svc.Shutdown(context.Background())
}
