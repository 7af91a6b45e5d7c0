package hostile

import (
	"encoding/base64"
	"strings"
	"testing"

	"trivium/core/c2s"
	"trivium/core/router"
	"trivium/test/harness"
)

const starttls = "<starttls xmlns='" + harness.NSTLS + "'/>"

func auth(mechanism, data string) string {
	return "<auth xmlns='" + harness.NSSASL + "' mechanism='" + mechanism + "'>" + base64.StdEncoding.EncodeToString([]byte(data)) + "</auth>"
}

// RFC 6120 §5.4.3.3: what came in clear behind <starttls/> counts for nothing.
func TestCommandsInjectedBehindStartTLS(t *testing.T) {
	s := start(t, harness.Options{TLS: true})
	r := dial(t, s)
	r.send(header)
	if f := r.until("</stream:features>"); strings.Contains(f, "mechanism") {
		t.Fatalf("mechanisms in clear: %s", f)
	}
	r.send(starttls + header + auth("PLAIN", "\x00mallory\x00"+harness.Password))
	if got := r.until("/>"); !strings.Contains(got, "<proceed") {
		t.Fatal(got)
	}
	sec := r.secure(s)
	sec.send(header)
	if got := sec.until("</stream:features>"); strings.Contains(got, "<success") || strings.Contains(got, "<failure") || !strings.Contains(got, "PLAIN") {
		t.Fatalf("what came in clear was used: %s", got)
	}
	sec.send(starttls) // §5.3.4: no second time
	if got := sec.until("</stream:stream>"); !strings.Contains(got, "<failure xmlns='"+harness.NSTLS+"'/>") {
		t.Fatal(got)
	}
}

// The whole exchange can be lost in clear: nothing but STARTTLS is open there.
func TestLoginInClearWhereTLSIsRequired(t *testing.T) {
	s := start(t, harness.Options{TLS: true})
	r := dial(t, s)
	r.send(header + auth("PLAIN", "\x00mallory\x00"+harness.Password))
	if got := r.until("</failure>"); !strings.Contains(got, "encryption-required") { // RFC 6120 §6.5.4
		t.Fatal(got)
	}
}

// RFC 6120 §6.3.8, §6.5; RFC 4616 §2; RFC 5802 §7.
func TestAbusedMechanisms(t *testing.T) {
	s := start(t, harness.Options{TLS: true})
	const p = harness.Password
	for _, tt := range []struct{ in, want string }{
		{auth("PLAIN", "\x00mallory\x00"+p), "<success"},
		{auth("PLAIN", "mallory@example.org\x00mallory\x00"+p), "<success"},
		{auth("PLAIN", "juliet@example.org\x00mallory\x00"+p), "<invalid-authzid/>"},
		{auth("PLAIN", "\x00mallory\x00"+p+"\x00"), "<malformed-request/>"},
		{auth("PLAIN", "\x00mallory"), "<malformed-request/>"},
		{auth("PLAIN", "\x00\x00"+p), "<malformed-request/>"},
		{auth("PLAIN", "\x00mallory\x00"), "<malformed-request/>"},
		{auth("PLAIN", "\x00mall\xFFory\x00"+p), "<malformed-request/>"},
		{auth("PLAIN", "\x00mallory\nINFO all is well\x00"+p), "<not-authorized/>"},
		{auth("PLAIN", "\x00"+strings.Repeat("m", 5000)+"\x00"+p), "<not-authorized/>"},
		{auth("NONE", ""), "<invalid-mechanism/>"},
		{"<auth xmlns='" + harness.NSSASL + "' mechanism='PLAIN'>!!!!</auth>", "<incorrect-encoding/>"},
		{"<response xmlns='" + harness.NSSASL + "'/>", "<malformed-request/>"},
		{"<abort xmlns='" + harness.NSSASL + "'/>", "<aborted/>"},
		{auth("SCRAM-SHA-1", "n,a=juliet,n=mallory,r=fyko"), "<invalid-authzid/>"},
		{auth("SCRAM-SHA-1", "y,,n=mallory,r=fyko"), "<not-authorized/>"}, // RFC 5802 §6: -PLUS was offered
		{auth("SCRAM-SHA-1", "p=tls-exporter,,n=mallory,r=fyko"), "<malformed-request/>"},
		{auth("SCRAM-SHA-1-PLUS", "p=tls-magic,,n=mallory,r=fyko"), "<"},
		{auth("SCRAM-SHA-1", "n,,m=ext,n=mallory,r=fyko"), "<malformed-request/>"},
		{auth("SCRAM-SHA-1", "n,,n=,r=fyko"), "<malformed-request/>"},
		{auth("SCRAM-SHA-1", "n,,n=mallory"), "<malformed-request/>"},
		{auth("SCRAM-SHA-1", "n,,n=nobody,r=fyko"), "<challenge"}, // as if there were such an account
	} {
		r := dial(t, s)
		r.send(header)
		r.until("</stream:features>")
		r.send(starttls)
		r.until("<proceed xmlns='" + harness.NSTLS + "'/>")
		sec := r.secure(s)
		sec.send(header)
		sec.until("</stream:features>")
		sec.send(tt.in)
		got := sec.until(">")
		for strings.HasPrefix(got, "<failure") && !strings.Contains(got, "</failure>") {
			got += sec.until("</failure>")
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%.150s: got %s, want %s", tt.in, got, tt.want)
		}
		sec.Close()
	}
}

// RFC 6120 §6.4.5: tries are limited, however they end and however they come.
func TestLoginAttemptsAreLimited(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{Attempts: 3}})
	abort := auth("SCRAM-SHA-1", "n,,n=mallory,r=fyko") + "<abort xmlns='" + harness.NSSASL + "'/>"
	for _, in := range []string{abort, auth("NONE", ""), "<response xmlns='" + harness.NSSASL + "'/>", "<abort xmlns='" + harness.NSSASL + "'/>"} {
		r := dial(t, s)
		r.send(header + strings.Repeat(in, 50))
		got := r.until("</stream:stream>")
		if n := strings.Count(got, "<failure"); n != 3 || !strings.Contains(got, "<policy-violation") {
			t.Errorf("%d tries of %.80s, then %s", n, in, got[strings.LastIndex(got, "<stream:error"):])
		}
	}
}

// RFC 6120 §7.6.2.1, §7.7.2.
func TestTooManyResources(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{MaxSessions: 3, Conflict: router.ConflictReplace}})
	var first *harness.Client
	for i, resource := range []string{"a", "b", "c"} {
		c := login(t, s, harness.Framings[i], "mallory", resource)
		if i == 0 {
			first = c
		}
	}
	conn, err := s.Dial("tcp")
	must(t, err)
	t.Cleanup(conn.Drop)
	c := &harness.Client{Conn: conn}
	must(t, c.Start("example.org"))
	must(t, c.Authenticate("mallory", "example.org", harness.Password))
	bind := func(resource, want string) {
		t.Helper()
		n := request(t, c, "<iq type='set' id='1'><bind xmlns='"+harness.NSBind+"'><resource>"+resource+"</resource></bind></iq>")
		if e := n.Child(harness.NSClient, "error"); e == nil || e.Child(harness.NSStanzas, want) == nil {
			t.Fatalf("%.20s: want %s, got %s", resource, want, n)
		}
	}
	bind("d", "resource-constraint")
	bind(strings.Repeat("x", 1024), "bad-request") // RFC 7622 §3.4
	bind("&#xA;level=ERROR", "bad-request")
	alive(t, first)
	must(t, c.Bind("a")) // takes over
	for {
		if _, err := first.Receive(); err != nil {
			break
		}
	}
	alive(t, c)
}
