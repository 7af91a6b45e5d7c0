package core

import (
	"errors"
	"testing"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// RFC 6121 §8.5.1, §11: to a stranger an account that is not there answers like
// one that is, whatever feature is asked for.
func TestNoFeatureTellsAccounts(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.New(db, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"romeo", "juliet"} {
		if err := users.CreateAccount(t.Context(), jid.Must(name+"@example.org"), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	srv, err := New(Options{Hosts: []VirtualHost{{Domain: "example.org"}}, Store: db, Auth: users, Modules: func(*Server) []module.Module {
		return mod.New(users, mod.Options{}).Modules()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Modules.Stop(); db.Close() })
	ask := func(kind stanza.Kind, typ, to string, payload ...stanza.Payload) string {
		var turn router.Turn
		st := stanza.New(kind, typ, jid.Must("romeo@example.org/orchard"), jid.Must(to), "1", payload...)
		err := srv.Router.Route(t.Context(), &router.Packet{Stanza: st, Turn: &turn})
		turn.Flush()
		var e *stanza.Error
		switch {
		case errors.As(err, &e):
			return string(e.AppendXML(nil))
		case err != nil:
			t.Fatalf("%s: %v", st, err)
		}
		return "an answer, or silence"
	}
	for _, resource := range []string{"", "/balcony"} {
		for _, q := range []struct{ space, local string }{
			{"http://jabber.org/protocol/disco#info", "query"}, // XEP-0030 §8
			{"http://jabber.org/protocol/disco#items", "query"},
			{"jabber:iq:last", "query"},    // XEP-0012 §4
			{"jabber:iq:version", "query"}, // XEP-0092
			{"jabber:iq:private", "query"}, // XEP-0049
			{"jabber:iq:roster", "query"},  // RFC 6121 §2.1
			{"jabber:iq:register", "query"},
			{"urn:xmpp:time", "time"},
			{"urn:xmpp:ping", "ping"},
			{"urn:xmpp:blocking", "blocklist"},
			{"urn:xmpp:blocking", "block"},
			{"urn:xmpp:carbons:2", "enable"},
			{"urn:ietf:params:xml:ns:xmpp-session", "session"},
			{"vcard-temp", "vCard"}, // XEP-0054 §3.1
			{"urn:x", "unknown"},
		} {
			for _, typ := range []string{stanza.Get, stanza.Set} {
				el := stanza.El(q.space, q.local)
				there, nobody := ask(stanza.IQ, typ, "juliet@example.org"+resource, el), ask(stanza.IQ, typ, "nobody@example.org"+resource, el)
				if there != nobody {
					t.Errorf("iq %s {%s}%s to %q:\njuliet %s\nnobody %s", typ, q.space, q.local, resource, there, nobody)
				}
			}
		}
		for _, typ := range []string{"", stanza.Unavailable, stanza.Subscribe, stanza.Unsubscribe, stanza.Subscribed, stanza.Unsubscribed, stanza.Probe} {
			if there, nobody := ask(stanza.Presence, typ, "juliet@example.org"+resource), ask(stanza.Presence, typ, "nobody@example.org"+resource); there != nobody {
				t.Errorf("presence %q to %q:\njuliet %s\nnobody %s", typ, resource, there, nobody)
			}
		}
	}
}
