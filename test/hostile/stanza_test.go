package hostile

import (
	"errors"
	"strings"
	"testing"

	"trivium/test/harness"
)

// RFC 6120 §8.1.2.1, §4.9.3.9: whoever names another sender is put out, and
// nothing of it arrives.
func TestForgedSender(t *testing.T) {
	s := start(t, harness.Options{})
	juliet := login(t, s, "tcp", "juliet", "here")
	available(t, juliet)
	for _, from := range []string{
		"juliet@example.org", "juliet@example.org/here", "romeo@example.org", "example.org", "mallory@example.org/other",
		"mallory@other.example", "", "@", "mallory@example.org\u200B",
	} {
		for _, framing := range harness.Framings {
			c := login(t, s, framing, "mallory", "me")
			must(t, c.Send("<message to='juliet@example.org/here' from='"+from+"'><body>forged</body></message>"))
			if err := c.Sync(); err == nil {
				t.Errorf("%s: from %q is accepted", framing, from)
			} else if !errors.Is(err, harness.ErrEnd) {
				t.Errorf("%s: from %q: %v", framing, from, err)
			}
		}
	}
	alive(t, juliet)
	for n, err := juliet.Next(); ; n, err = juliet.Next() {
		must(t, err)
		if n.Name.Local == "message" {
			t.Fatalf("forged: %s", n)
		}
		if n.Is(harness.NSClient, "presence") {
			break // all else has been read by alive
		}
	}
	// Other spellings of the true address are no forgery (RFC 7622).
	for _, from := range []string{"mallory@example.org", "Mallory@EXAMPLE.org/me", "mallory@example.org/me"} {
		c := login(t, s, "tcp", "mallory", "me")
		must(t, c.Send("<message to='juliet@example.org/here' from='"+from+"'><body>true</body></message>"))
		n, err := juliet.Next()
		must(t, err)
		if n.Attr("from") != "mallory@example.org/me" {
			t.Errorf("from %q: %s", from, n)
		}
	}
}

// What a stranger asks of an account is answered as for an account that is not
// there (RFC 6121 §8.5.1, §11), and changes nothing.
func TestStrangerLearnsNothing(t *testing.T) {
	s := start(t, harness.Options{})
	juliet := login(t, s, "tcp", "juliet", "here")
	if n := request(t, juliet, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>"); n.Attr("type") != "result" {
		t.Fatal(n)
	}
	available(t, juliet)
	evil := login(t, s, "tcp", "mallory", "evil")
	ask := func(to, typ, payload string) string {
		t.Helper()
		n := request(t, evil, "<iq type='"+typ+"' id='x' to='"+to+"'>"+payload+"</iq>")
		if n.Attr("type") != "error" || n.Attr("from") != to {
			t.Errorf("%s to %s: %s", payload, to, n)
		}
		return strings.ReplaceAll(n.String(), to, "")
	}
	for _, q := range []struct{ typ, payload string }{
		{"get", "<query xmlns='jabber:iq:roster'/>"},
		{"set", "<query xmlns='jabber:iq:roster'><item jid='mallory@example.org'/></query>"},
		{"get", "<query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query>"},
		{"set", "<query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query>"},
		{"get", "<blocklist xmlns='urn:xmpp:blocking'/>"},
		{"set", "<block xmlns='urn:xmpp:blocking'><item jid='romeo@example.org'/></block>"},
		{"set", "<unblock xmlns='urn:xmpp:blocking'/>"},
		{"get", "<vCard xmlns='vcard-temp'/>"},
		{"set", "<vCard xmlns='vcard-temp'/>"},
		{"get", "<query xmlns='jabber:iq:last'/>"},
		{"get", "<query xmlns='jabber:iq:version'/>"},
		{"get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"},
		{"get", "<query xmlns='http://jabber.org/protocol/disco#items'/>"},
		{"set", "<enable xmlns='urn:xmpp:carbons:2'/>"},
		{"set", "<query xmlns='jabber:iq:register'><remove/></query>"},
		{"get", "<ping xmlns='urn:xmpp:ping'/>"},
		{"get", "<nothing xmlns='urn:nothing'/>"},
	} {
		if there, not := ask("juliet@example.org", q.typ, q.payload), ask("nobody@example.org", q.typ, q.payload); there != not {
			t.Errorf("%s tells them apart:\n%s\n%s", q.payload, there, not)
		}
		if there, not := ask("juliet@example.org/here", q.typ, q.payload), ask("nobody@example.org/here", q.typ, q.payload); there != not {
			t.Errorf("%s to a resource tells them apart:\n%s\n%s", q.payload, there, not)
		}
	}
	// RFC 6121 §3.1.6, A.3.3: unasked approvals grant nothing, results come from
	// whom they come.
	for _, st := range []string{
		"<presence to='juliet@example.org' type='subscribed'/>",
		"<presence to='juliet@example.org' type='unsubscribed'/>",
		"<presence to='juliet@example.org' type='unsubscribe'/>",
		"<presence to='juliet@example.org/here' type='probe'/>",
	} {
		must(t, evil.Send(st))
	}
	must(t, evil.Send("<iq to='juliet@example.org/here' type='result' id='push'><query xmlns='jabber:iq:roster'><item jid='x@example.org'/></query></iq>"))
	alive(t, evil)
	alive(t, juliet)
	for {
		n, err := juliet.Next()
		must(t, err)
		if n.Is(harness.NSClient, "iq") {
			if n.Attr("id") != "push" || n.Attr("from") != "mallory@example.org/evil" {
				t.Errorf("juliet got %s", n)
			}
			break
		}
		if n.Attr("from") != "juliet@example.org/here" {
			t.Errorf("juliet got %s", n)
		}
	}
	if n := request(t, juliet, "<iq type='get' id='r2'><query xmlns='jabber:iq:roster'/></iq>"); len(n.Child("jabber:iq:roster", "query").Children) != 0 {
		t.Errorf("the roster has changed: %s", n)
	}
}

// RFC 6120 §8.3.1: errors and results are never answered, wherever they go.
func TestErrorsAreNotAnswered(t *testing.T) {
	s := start(t, harness.Options{})
	c := login(t, s, "tcp", "mallory", "evil")
	for _, to := range []string{
		"", "example.org", "mallory@example.org", "mallory@example.org/gone", "juliet@example.org", "juliet@example.org/gone",
		"nobody@example.org", "nobody@example.org/x", "other.example", "x@other.example",
	} {
		attr := ""
		if to != "" {
			attr = " to='" + to + "'"
		}
		for _, st := range []string{"<iq type='error' id='e'", "<iq type='result' id='e'", "<message type='error'"} {
			must(t, c.Send(st+attr+"/>"))
		}
		if to != "" {
			must(t, c.Send("<presence type='error'"+attr+"/>"))
		}
	}
	if n := request(t, c, "<iq type='get' id='last' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>"); n.Attr("type") != "result" {
		t.Fatal(n)
	}
	must(t, c.Close())
	if n, err := c.Next(); err == nil {
		t.Errorf("answered: %s", n)
	}
}
