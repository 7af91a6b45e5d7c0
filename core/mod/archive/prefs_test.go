package archive_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
	"trivium/core/mod/roster"
	"trivium/core/module"
)

func prefs(fallback, always, never string) string {
	return `<prefs xmlns='urn:xmpp:mam:2' default='` + fallback + `'><always>` + always + `</always><never>` + never + `</never></prefs>`
}

func setPrefs(c *modtest.Client, p string) {
	c.Send(`<iq type='set' id='juliet3'>` + p + `</iq>`)
	c.Expect(`<iq type='result' id='juliet3' from='` + c.JID.Bare().String() + `' to='` + c.JID.String() + `'>` + p + `</iq>`)
}

// XEP-0441 §2.1, its examples.
func TestPreferences(t *testing.T) {
	s, _ := start(t, archive.Options{})
	juliet := s.Connect(chamber)
	get := func(c *modtest.Client, want string) {
		t.Helper()
		c.Send(`<iq type='get' id='juliet2'><prefs xmlns='urn:xmpp:mam:2'/></iq>`)
		c.Expect(`<iq type='result' id='juliet2' from='juliet@example.com' to='juliet@example.com/chamber'>` + want + `</iq>`)
	}
	get(juliet, prefs("always", "", ""))
	changed := prefs("roster", `<jid>romeo@montague.lit</jid>`, `<jid>montague@montague.lit</jid><jid>x@montague.lit/y z</jid>`)
	setPrefs(juliet, changed)
	get(juliet, changed)
	settle(t, s)
	n := s.Restart(modules(archive.New(archive.Options{Default: archive.Never}))...)
	juliet = n.Connect(chamber)
	get(juliet, changed)
	n.Remove("juliet@example.com")
	settle(t, n)
	again := n.Restart(modules(archive.New(archive.Options{Default: archive.Never}))...)
	get(again.Connect(chamber), prefs("never", "", ""))
}

func TestPreferencesRefused(t *testing.T) {
	s, _ := start(t, archive.Options{PrefsMax: 2})
	juliet := s.Connect(chamber)
	for _, tt := range []struct{ prefs, want string }{
		{`<prefs xmlns='urn:xmpp:mam:2'/>`, "bad-request"}, // §2.2: MUST be one of three
		{`<prefs xmlns='urn:xmpp:mam:2' default='sometimes'/>`, "bad-request"},
		{prefs("always", `<jid>@</jid>`, ``), "jid-malformed"},
		{prefs("always", ``, `<jid>a@example.org</jid><jid>b@example.org</jid><jid>c@example.org</jid>`), "policy-violation"},
	} {
		juliet.Send(`<iq type='set' id='p'>` + tt.prefs + `</iq>`)
		if x := juliet.Next(); !strings.Contains(x, "<"+tt.want+" ") {
			t.Errorf("%s: %s", tt.prefs, x)
		}
	}
	romeo := s.Connect(orchard)
	romeo.Send(`<iq type='get' id='p' to='juliet@example.com'><prefs xmlns='urn:xmpp:mam:2'/></iq>`)
	if x := romeo.Next(); !strings.Contains(x, "<forbidden ") {
		t.Error(x)
	}
}

// XEP-0441 §2.2 to §3.3.
func TestPolicies(t *testing.T) {
	const romeo, nurse = "romeo@example.net", "nurse@example.com"
	one := func(s string) string { return "<jid>" + s + "</jid>" }
	for _, tt := range []struct {
		name          string
		def           archive.Policy
		prefs         string // empty: the account has not said
		incoming, out bool   // kept of what comes from, and goes to, romeo@example.net/orchard
	}{
		{"server keeps", archive.Always, "", true, true},
		{"server does not", archive.Never, "", false, false},
		{"server keeps contacts", archive.Roster, "", false, false},
		{"account keeps", archive.Never, prefs("always", "", ""), true, true},
		{"account does not", archive.Always, prefs("never", "", ""), false, false},
		{"account keeps contacts", archive.Always, prefs("roster", "", ""), false, false},
		{"always", archive.Always, prefs("never", one(romeo), ""), true, true},
		{"never", archive.Always, prefs("always", "", one(romeo)), false, false},
		{"always a resource", archive.Always, prefs("never", one(orchard), ""), true, true},
		{"always another resource", archive.Always, prefs("never", one(garden), ""), false, false},
		{"never a resource", archive.Always, prefs("always", "", one(garden)), true, true},
		{"a resource but not the others", archive.Always, prefs("always", one(orchard), one(romeo)), true, true},
		{"both", archive.Always, prefs("always", one(romeo), one(romeo)), false, false},
		{"somebody else", archive.Always, prefs("always", "", one(nurse)), true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := start(t, archive.Options{Default: tt.def})
			juliet, from := online(s, chamber), online(s, orchard)
			if tt.prefs != "" {
				setPrefs(juliet, tt.prefs)
			}
			setPrefs(from, prefs("never", "", ""))
			from.Send(message("juliet@example.com", "in"))
			juliet.Next()
			juliet.Send(message(orchard, "out"))
			from.Next()
			var want []string
			if tt.incoming {
				want = append(want, "in")
			}
			if tt.out {
				want = append(want, "out")
			}
			ask(t, juliet, "", "").want(t, true, want...)
			ask(t, from, "", "").want(t, true)
		})
	}
}

// XEP-0441 §3.1: contacts by their bare address; notes to oneself are kept.
func TestRosterPolicy(t *testing.T) {
	contacts := roster.New(roster.Options{})
	m := archive.New(archive.Options{Default: archive.Roster, Contacts: contacts})
	contacts.ShowWith(nobody{})
	s := modtest.New(t, m, contacts, taker{})
	juliet := s.Connect(chamber)
	send(juliet, "romeo@example.net/orchard", "stranger")
	juliet.Send(`<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='romeo@example.net'/></query></iq>`)
	for !strings.Contains(juliet.Next(), "type='result'") {
	}
	send(juliet, "romeo@example.net/orchard", "contact")
	send(juliet, "nurse@example.com", "another")
	send(juliet, "juliet@example.com", "note")
	juliet.Take()
	ask(t, juliet, "", "").want(t, true, "contact", "note")
}

// An account's preferences hold at once for messages from any side.
func TestPreferencesChange(t *testing.T) {
	s, _ := start(t, archive.Options{})
	juliet, romeo := s.Connect(chamber), s.Connect(orchard)
	for i, p := range []string{"always", "never", "always"} {
		setPrefs(juliet, prefs(p, "", ""))
		send(romeo, "juliet@example.com", fmt.Sprint(i))
	}
	ask(t, juliet, "", "").want(t, true, "0", "2")
}

type nobody struct{}

func (nobody) Show(context.Context, *module.Turn, jid.JID, jid.JID)  {}
func (nobody) Hide(context.Context, *module.Turn, jid.JID, jid.JID)  {}
func (nobody) Withdraw(context.Context, *module.Turn, jid.JID) error { return nil }
