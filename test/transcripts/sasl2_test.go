package transcripts

import (
	"errors"
	"net/http"
	"testing"

	"trivium/bosh"
	"trivium/core/jid"
	"trivium/test/harness"
)

// TestModernLogin is one client's life with SASL2, over STARTTLS and over HTTPS as a
// proxy in front of us has it: it comes with its password, binds and asks for a token
// (XEP-0386, XEP-0484), is lost, and resumes by its token in one round trip, over
// another framing too (XEP-0198 §8.2); with a new password it is out.
func TestModernLogin(t *testing.T) {
	for _, way := range [][2]string{{"tcp", "tcp"}, {"bosh", "bosh"}, {"tcp", "bosh"}, {"bosh", "tcp"}} {
		t.Run(way[0]+" and "+way[1], func(t *testing.T) { modernLogin(t, way[0], way[1]) })
	}
}

func modernLogin(t *testing.T, framing, second string) {
	srv := harness.Start(t, harness.Options{
		TLS: true, Accounts: []string{"juliet@example.org"},
		BOSH: bosh.Options{Secure: func(*http.Request) bool { return true }},
	})
	const (
		ns    = "urn:xmpp:sasl:2"
		agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>AwesomeXMPP</software><device>Kiva&apos;s Phone</device></user-agent>"
		fast  = "<fast xmlns='urn:xmpp:fast:0'/>"
	)
	login := func(token, inline string) (*harness.Client, *harness.Node, error) {
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
		offer := c.Stream.Child(ns, "authentication")
		if offer == nil || (c.Stream.Child("urn:xmpp:sasl-cb:0", "sasl-channel-binding") != nil) != (framing == "tcp") {
			t.Fatalf("features %s", c.Stream)
		}
		n, err := c.LogIn(harness.Login{User: "juliet", Host: "example.org", Password: harness.Password, Token: token, Inline: agent + inline})
		return c, n, err
	}
	bind := "<bind xmlns='urn:xmpp:bind:0'><tag>AwesomeXMPP</tag><enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>"

	c, n, err := login("", bind+"<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>")
	if err != nil {
		t.Fatal(err)
	}
	bound, token := n.Child("urn:xmpp:bind:0", "bound"), n.Child("urn:xmpp:fast:0", "token")
	if bound == nil || token == nil || bound.Child("urn:xmpp:sm:3", "enabled") == nil {
		t.Fatalf("got %s", n)
	}
	full, id := c.JID, attrOf(bound.Child("urn:xmpp:sm:3", "enabled"), "id")
	if j, err := jid.Parse(full); err != nil || j.Bare() != jid.Must("juliet@example.org") {
		t.Fatalf("bound to %s, %v", full, err)
	}
	secret := attrOf(token, "token")
	c.Drop()

	framing = second
	_, n, err = login(secret, fast+"<resume xmlns='urn:xmpp:sm:3' previd='"+id+"' h='0'/>"+bind)
	if err != nil {
		t.Fatal(err)
	}
	if n.Child("urn:xmpp:sm:3", "resumed") == nil || n.Child("urn:xmpp:bind:0", "bound") != nil ||
		n.Child(ns, "authorization-identifier").Text != full {
		t.Fatalf("got %s", n)
	}
	if err := srv.Auth.SetPassword(t.Context(), jid.Must("juliet@example.org"), "another"); err != nil {
		t.Fatal(err)
	}
	var failure *harness.FailureError
	if _, n, err = login(secret, fast+bind); !errors.As(err, &failure) || failure.Node.Child("urn:ietf:params:xml:ns:xmpp-sasl", "not-authorized") == nil {
		t.Fatalf("got %s, %v", n, err)
	}
}

func attrOf(n *harness.Node, name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
