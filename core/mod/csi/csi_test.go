package csi_test

import (
	"fmt"
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/mod/csi"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
)

const (
	state     = `<composing xmlns='http://jabber.org/protocol/chatstates'/>`
	body      = `<body>Art thou not Romeo?</body>`
	hint      = `<no-store xmlns='urn:xmpp:hints'/>`
	id        = `<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='1'/>`
	displayed = `<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>`
	event     = `<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='%s'/></event>`
	room      = `<x xmlns='http://jabber.org/protocol/muc#user'>%s</x>`
	self      = "juliet@example.org"
)

func carbon(direction, message string) string {
	return `<message from='juliet@example.org' to='juliet@example.org/phone' type='chat'><` + direction + ` xmlns='urn:xmpp:carbons:2'>` +
		`<forwarded xmlns='urn:xmpp:forward:0'>` + strings.Replace(message, "<message", "<message xmlns='jabber:client'", 1) +
		`</forwarded></` + direction + `></message>`
}

// XEP-0352 §3.2 leaves to the server what can wait.
func TestClassify(t *testing.T) {
	const to = ` to='juliet@example.org/phone' from='%s'`
	msg := func(from, typ, payload string) string {
		return fmt.Sprintf(`<message`+to+` type='%s'>%s</message>`, from, typ, payload)
	}
	pres := func(typ, payload string) string {
		return fmt.Sprintf(`<presence`+to+`%s>%s</presence>`, "romeo@example.net/orchard", typ, payload)
	}
	const romeo, muc = "romeo@example.net/orchard", "cave@rooms.example/romeo"
	m := csi.New(csi.Options{})
	for _, tt := range []struct {
		name, xml string
		want      module.Urgency
	}{
		{"iq request", `<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>`, module.Now},
		{"iq result", `<iq type='result' id='1'/>`, module.Now},

		{"available", pres("", `<show>away</show>`), module.Latest},
		{"unavailable", pres(" type='unavailable'", ""), module.Latest},
		{"subscription request", pres(" type='subscribe'", ""), module.Now},
		{"subscription approved", pres(" type='subscribed'", ""), module.Now},
		{"presence error", pres(" type='error'", ""), module.Now},
		{"occupant of a room", pres("", fmt.Sprintf(room, `<item affiliation='member' role='participant'/>`)), module.Latest},
		{"joined a room, XEP-0045 §7.2.2", pres("", fmt.Sprintf(room, `<status code='110'/>`)), module.Now},
		{"removed from a room, XEP-0045 §8.2", pres(" type='unavailable'", fmt.Sprintf(room, `<status code='307'/><status code='110'/>`)), module.Now},
		{"a number in a name", pres("", fmt.Sprintf(room, `<item nick='110'/>`)), module.Latest},

		{"chat", msg(romeo, "chat", body), module.Now},
		{"chat with a state", msg(romeo, "chat", state+body), module.Now},
		{"room message", msg(muc, "groupchat", body), module.Now},
		{"announcement", msg("example.org", "headline", body), module.Now},
		{"subject alone", msg(romeo, "normal", `<subject>x</subject>`), module.Now},
		{"subject of a room, XEP-0045 §7.2.15", msg(muc, "groupchat", `<subject>x</subject>`), module.Later},
		{"error", msg(romeo, "error", state), module.Now},
		{"nothing", msg(romeo, "chat", ""), module.Later},

		{"typing", msg(romeo, "chat", state), module.Latest},
		{"typing, as sent by clients", msg(romeo, "chat", state+`<thread>t</thread>`+hint+id), module.Latest},
		{"typing in a room", msg(muc, "groupchat", state), module.Latest},
		{"receipt", msg(romeo, "chat", `<received xmlns='urn:xmpp:receipts' id='1'/>`+id), module.Later},
		{"receipt and state", msg(romeo, "chat", state+`<received xmlns='urn:xmpp:receipts' id='1'/>`), module.Later},
		{"marker", msg(romeo, "chat", displayed), module.Later},
		{"reaction", msg(romeo, "chat", `<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>x</reaction></reactions>`+hint), module.Later},
		{"hint alone", msg(romeo, "chat", hint), module.Later},

		{"OMEMO 0.3", msg(romeo, "chat", `<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'/><payload>eA==</payload></encrypted>`), module.Now},
		{"OMEMO", msg(romeo, "chat", `<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/><payload>eA==</payload></encrypted>`), module.Now},
		{"OMEMO keys", msg(romeo, "chat", `<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/></encrypted><encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:omemo:2'/>`), module.Later},
		{"OX", msg(romeo, "chat", `<openpgp xmlns='urn:xmpp:openpgp:0'>eA==</openpgp>`), module.Now},
		{"PGP", msg(romeo, "chat", `<x xmlns='jabber:x:encrypted'>eA==</x>`), module.Now},

		{"invitation, XEP-0045 §7.8.2", msg("cave@rooms.example", "normal", fmt.Sprintf(room, `<invite from='romeo@example.net'/>`)), module.Now},
		{"direct invitation, XEP-0249", msg(romeo, "normal", `<x xmlns='jabber:x:conference' jid='cave@rooms.example'/>`), module.Now},
		{"room configuration, XEP-0045 §10.2.1", msg("cave@rooms.example", "groupchat", fmt.Sprintf(room, `<status code='104'/>`)), module.Later},
		{"call, XEP-0353", msg(romeo, "chat", `<propose xmlns='urn:xmpp:jingle-message:0' id='1'/><store xmlns='urn:xmpp:hints'/>`), module.Now},
		{"call taken back", msg(romeo, "chat", `<retract xmlns='urn:xmpp:jingle-message:0' id='1'/>`), module.Now},
		{"attention, XEP-0224", msg(romeo, "headline", `<attention xmlns='urn:xmpp:attention:0'/>`), module.Now},
		{"archive", msg("juliet@example.org", "", `<result xmlns='urn:xmpp:mam:2' id='1'/>`), module.Now},
		{"unknown", msg(romeo, "", `<x xmlns='urn:example'/>`), module.Now},
		{"unknown beside a state", msg(romeo, "", state+`<x xmlns='urn:example'/>`), module.Now},

		{"avatar", msg("romeo@example.net", "headline", fmt.Sprintf(event, "urn:xmpp:avatar:metadata")), module.Later},
		{"own bookmarks", msg(self, "headline", fmt.Sprintf(event, "urn:xmpp:bookmarks:1")), module.Later},
		{"read elsewhere, XEP-0490", msg(self, "headline", fmt.Sprintf(event, "urn:xmpp:mds:displayed:0")), module.Now},
		{"read by another", msg("romeo@example.net", "headline", fmt.Sprintf(event, "urn:xmpp:mds:displayed:0")), module.Later},

		{"received elsewhere", carbon("received", msg(romeo, "chat", body)), module.Now},
		{"typing, elsewhere", carbon("received", msg(romeo, "chat", state)), module.Later},
		{"marker, elsewhere", carbon("received", msg(romeo, "chat", displayed)), module.Later},
		{"OMEMO keys, elsewhere", carbon("received", msg(romeo, "chat", `<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/></encrypted>`)), module.Later},
		{"sent elsewhere", carbon("sent", msg(self+"/desk", "chat", body)), module.Now},
		{"read elsewhere, XEP-0333", carbon("sent", msg(self+"/desk", "chat", displayed)), module.Now},
		{"typed elsewhere", carbon("sent", msg(self+"/desk", "chat", state)), module.Later},
		{"forged carbon", strings.Replace(carbon("received", msg(romeo, "chat", state)), "from='juliet@example.org'", "from='mallory@example.net'", 1), module.Now},
	} {
		if got := m.Classify(jid.Must(self), modtest.Parse(t, tt.xml)); got != tt.want {
			t.Errorf("%s: %d, want %d\n%s", tt.name, got, tt.want, tt.xml)
		}
	}
}

func start(t testing.TB, o csi.Options) (*modtest.Server, *modtest.Client, func(string)) {
	s := modtest.New(t, csi.New(o))
	juliet := s.Connect("juliet@example.org/phone")
	return s, juliet, func(local string) {
		t.Helper()
		var turn module.Turn
		if err := s.Host.NonzaFor(csi.NS, local)(t.Context(), juliet.Session, &turn, stanza.El(csi.NS, local)); err != nil {
			t.Fatal(err)
		}
		turn.Flush()
	}
}

// What can wait comes in front of what cannot, or when the user is back; of
// presence and chat states the last.
func TestHold(t *testing.T) {
	s, juliet, indicate := start(t, csi.Options{})
	romeo := s.Connect("romeo@example.net/orchard")
	const (
		away   = `<presence to='juliet@example.org/phone'><show>away</show></presence>`
		back   = `<presence to='juliet@example.org/phone'/>`
		typing = `<message to='juliet@example.org/phone' type='chat'>` + state + `</message>`
		paused = `<message to='juliet@example.org/phone' type='chat'><paused xmlns='http://jabber.org/protocol/chatstates'/></message>`
		read   = `<message to='juliet@example.org/phone' type='chat'>` + displayed + `</message>`
		chat   = `<message to='juliet@example.org/phone' type='chat'>` + body + `</message>`
	)
	from := func(xml string) string {
		i := strings.IndexByte(xml, ' ')
		return xml[:i] + " from='romeo@example.net/orchard'" + xml[i:]
	}
	romeo.Send(typing)
	juliet.Expect(from(typing)) // XEP-0352 §5: active until the client says otherwise

	indicate("inactive")
	for _, xml := range []string{away, typing, read, paused, back} {
		romeo.Send(xml)
	}
	juliet.Quiet()
	romeo.Send(chat)
	juliet.Expect(from(read), from(paused), from(back), from(chat))

	romeo.Send(away)
	juliet.Quiet()
	indicate("active")
	juliet.Expect(from(away))
	romeo.Send(typing)
	juliet.Expect(from(typing))
}

// An operator may think otherwise.
func TestUrgent(t *testing.T) {
	s, juliet, indicate := start(t, csi.Options{Urgent: []string{"http://jabber.org/protocol/chatstates"}})
	indicate("inactive")
	s.Connect("romeo@example.net/orchard").Send(`<message to='juliet@example.org/phone' type='chat'>` + state + `</message>`)
	if x := juliet.Next(); !strings.Contains(x, "composing") {
		t.Error(x)
	}
}

// XEP-0386: the state may be told while binding.
func TestInline(t *testing.T) {
	s, juliet, _ := start(t, csi.Options{})
	if got := s.Host.InlineFeatures(); len(got) != 1 || got[0] != "urn:xmpp:csi:0" {
		t.Errorf("features %v", got)
	}
	var turn module.Turn
	p, err := s.Host.SwitchOn(t.Context(), juliet.Session, &turn, stanza.El(csi.NS, "inactive"))
	if p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	romeo := s.Connect("romeo@example.net/orchard")
	romeo.Send(`<presence to='juliet@example.org/phone'/>`)
	juliet.Quiet()
	romeo.Send(`<message to='juliet@example.org/phone' type='chat'>` + body + `</message>`)
	for _, want := range []string{"<presence", "<message"} {
		if x := juliet.Next(); !strings.HasPrefix(x, want) {
			t.Errorf("got %s, want %s", x, want)
		}
	}
}

// XEP-0352 §4.1.
func TestFeature(t *testing.T) {
	s, _, _ := start(t, csi.Options{})
	if got := s.Host.StreamFeatures(module.BeforeLogin, "example.org"); len(got) != 0 {
		t.Errorf("%d features before authentication", len(got))
	}
	got := s.Host.StreamFeatures(module.AfterLogin, "example.org")
	if len(got) != 1 || modtest.Diff(`<csi xmlns='urn:xmpp:csi:0'/>`, string(got[0].AppendXML(nil))) != "" {
		t.Errorf("%v", got)
	}
}

func BenchmarkClassify(b *testing.B) {
	account, m := jid.Must(self), csi.New(csi.Options{})
	for _, bb := range []struct{ name, xml string }{
		{"presence", `<presence from='romeo@example.net/orchard'><show>away</show></presence>`},
		{"chat", `<message from='romeo@example.net/orchard' type='chat'>` + body + `</message>`},
		{"carbon", carbon("received", `<message from='romeo@example.net/orchard' type='chat'>`+body+`</message>`)},
	} {
		st := modtest.Parse(b, bb.xml)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Classify(account, st)
			}
		})
	}
}

// FuzzClassify: whatever stands beside it, and whoever sends it, a message with a
// body goes at once, and so does a request for a subscription.
func FuzzClassify(f *testing.F) {
	for _, payload := range []string{
		state, hint, displayed, fmt.Sprintf(event, "x"), fmt.Sprintf(room, "<invite/>"),
		`<received xmlns='urn:xmpp:carbons:2'/>`, `<encrypted xmlns='urn:xmpp:omemo:2'/>`, `<x:y xmlns:x='urn:x'/>`, "",
	} {
		f.Add(payload, true, "chat")
		f.Add(payload, false, "groupchat")
	}
	m, account := csi.New(csi.Options{}), jid.Must(self)
	f.Fuzz(func(t *testing.T, payload string, own bool, typ string) {
		from := jid.Must("romeo@example.net/orchard")
		if own {
			from = account
		}
		st, err := stanza.New(stanza.Message, typ, from, account, "").WithPayloadXML(payload + "<body>x</body>")
		if err != nil {
			return
		}
		if u := m.Classify(account, st); u != module.Now && !st.Has("urn:xmpp:carbons:2", "received") && !st.Has("urn:xmpp:carbons:2", "sent") {
			t.Errorf("urgency %d", u)
		}
		if st.Type, st.Kind = stanza.Subscribe, stanza.Presence; m.Classify(account, st) != module.Now {
			t.Error("a request for a subscription waits")
		}
	})
}
