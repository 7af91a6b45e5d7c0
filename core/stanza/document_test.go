package stanza

import (
	"testing"

	"trivium/core/jid"
)

func TestDocumentRoundTrip(t *testing.T) {
	payload := El(NSClient, "body").AddText("art <thou> not & Romeo?")
	for _, st := range []*Stanza{
		New(Message, Chat, jid.Must("romeo@example.org/orchard"), jid.Must("juliet@example.com"), "a'1", payload, El("urn:xmpp:hints", "store")),
		New(Message, "", jid.Must("romeo@example.org/orchard"), jid.Must("juliet@example.com"), "", payload).Append(El("urn:xmpp:delay", "delay")),
		New(Presence, Subscribe, jid.Must("romeo@example.org"), jid.Must("juliet@example.com"), "x"),
		New(IQ, Get, jid.Must("example.org"), jid.Must("juliet@example.com/b"), "x", El("urn:xmpp:ping", "ping")),
	} {
		st.Lang = "cs"
		raw := st.AppendDocument([]byte("kept"))
		if string(raw[:4]) != "kept" {
			t.Fatalf("AppendDocument lost what was there: %s", raw)
		}
		got, err := ParseDocument(raw[4:])
		if err != nil {
			t.Fatalf("%s: %v", raw[4:], err)
		}
		if got.String() != st.String() {
			t.Errorf("got  %s\nwant %s", got, st)
		}
		if b, ok := got.Body(); st.Kind == Message && (!ok || b != "art <thou> not & Romeo?") {
			t.Errorf("body %q %v in %s", b, ok, raw[4:])
		}
	}
	for _, raw := range []string{"", "<message/>", "<a xmlns='jabber:client'/>", "<message xmlns='jabber:client'/> ", "<message xmlns='jabber:client'>", "<message xmlns='jabber:client'/><message xmlns='jabber:client'/>"} {
		if _, err := ParseDocument([]byte(raw)); err == nil {
			t.Errorf("ParseDocument(%q) found a stanza", raw)
		}
	}
}
