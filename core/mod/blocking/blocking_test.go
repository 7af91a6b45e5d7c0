package blocking_test

import (
	"fmt"
	"strings"
	"testing"

	"trivium/core/mod/blocking"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
)

func modules(o blocking.Options) []module.Module {
	r := roster.New(roster.Options{})
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	return []module.Module{blocking.New(p, o), r, p}
}

const (
	balcony = "juliet@example.com/balcony"
	chamber = "juliet@example.com/chamber"
	orchard = "romeo@example.net/orchard"
)

func iq(from, id, payload string) string {
	return `<iq type='set' id='` + id + `'>` + payload + `</iq>`
}

func result(to, id, payload string) string {
	return `<iq type='result' id='` + id + `' from='juliet@example.com' to='` + to + `'>` + payload + `</iq>`
}

func push(to, payload string) string {
	return `<iq type='set' from='juliet@example.com' to='` + to + `'>` + payload + `</iq>`
}

const ask = `<iq type='get' id='blocklist1'><blocklist xmlns='urn:xmpp:blocking'/></iq>`

// XEP-0191 §3.2 to §3.5.
func TestCommands(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	juliet, second, third := s.Connect(balcony), s.Connect(chamber), s.Connect("juliet@example.com/idle")
	juliet.Send(ask)
	juliet.Expect(result(balcony, "blocklist1", `<blocklist xmlns='urn:xmpp:blocking'/>`))
	second.Send(ask).Take()

	const one = `<block xmlns='urn:xmpp:blocking'><item jid='romeo@montague.net'/></block>`
	juliet.Send(iq(balcony, "block1", one))
	juliet.Expect(push(balcony, one), result(balcony, "block1", ""))
	second.Expect(push(chamber, one))
	third.Quiet() // has not asked for the list

	const two = `<block xmlns='urn:xmpp:blocking'><item jid='Iago@Shakespeare.lit'/><item jid='romeo@montague.net'/></block>`
	juliet.Send(iq(balcony, "block2", two))
	juliet.Expect(push(balcony, strings.ToLower(two)), result(balcony, "block2", ""))
	second.Take()
	third.Send(ask)
	third.Expect(result("juliet@example.com/idle", "blocklist1",
		`<blocklist xmlns='urn:xmpp:blocking'><item jid='iago@shakespeare.lit'/><item jid='romeo@montague.net'/></blocklist>`))

	const un = `<unblock xmlns='urn:xmpp:blocking'><item jid='romeo@montague.net'/></unblock>`
	juliet.Send(iq(balcony, "unblock1", un))
	juliet.Expect(push(balcony, un), result(balcony, "unblock1", ""))
	second.Expect(push(chamber, un))
	third.Expect(push("juliet@example.com/idle", un))

	// The list survives the process.
	for _, c := range []*modtest.Client{juliet, second, third} {
		c.Close()
	}
	s = s.Restart(modules(blocking.Options{})...)
	juliet = s.Connect(balcony)
	juliet.Send(ask)
	juliet.Expect(result(balcony, "blocklist1", `<blocklist xmlns='urn:xmpp:blocking'><item jid='iago@shakespeare.lit'/></blocklist>`))

	const all = `<unblock xmlns='urn:xmpp:blocking'/>`
	juliet.Send(iq(balcony, "unblock2", all))
	juliet.Expect(push(balcony, all), result(balcony, "unblock2", ""))
	juliet.Send(ask)
	juliet.Expect(result(balcony, "blocklist1", `<blocklist xmlns='urn:xmpp:blocking'/>`))
}

func expectError(t *testing.T, c interface{ Next() string }, typ, condition string) {
	t.Helper()
	got := c.Next()
	if !strings.Contains(got, `type='error'`) || !strings.Contains(got, `<error type='`+typ+`'><`+condition+` xmlns`) {
		t.Fatalf("got %s, want %s %s", got, typ, condition)
	}
}

func TestCommandErrors(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{Items: 2})...)
	juliet := s.Connect(balcony)
	for _, tt := range []struct{ payload, typ, condition string }{
		{`<block xmlns='urn:xmpp:blocking'/>`, "modify", "bad-request"}, // §3.3
		{`<block xmlns='urn:xmpp:blocking'><item/></block>`, "modify", "bad-request"},
		{`<block xmlns='urn:xmpp:blocking'><other jid='a@b'/></block>`, "modify", "bad-request"},
		{`<unblock xmlns='urn:xmpp:blocking'><item/></unblock>`, "modify", "bad-request"},
		{`<block xmlns='urn:xmpp:blocking'><item jid='a@b@c'/></block>`, "modify", "jid-malformed"},
		{`<block xmlns='urn:xmpp:blocking'><item jid='a.example'/><item jid='b.example'/><item jid='c.example'/></block>`, "cancel", "resource-constraint"},
	} {
		juliet.Send(iq(balcony, "x", tt.payload))
		expectError(t, juliet, tt.typ, tt.condition)
	}
	juliet.Send(ask)
	juliet.Expect(result(balcony, "blocklist1", `<blocklist xmlns='urn:xmpp:blocking'/>`))
	juliet.Send(`<iq type='get' id='x' to='romeo@example.net'><blocklist xmlns='urn:xmpp:blocking'/></iq>`)
	expectError(t, juliet, "auth", "forbidden")
}

// XEP-0191 §6.
func TestMatching(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	juliet := s.Connect(balcony)
	for _, tt := range []struct {
		item            string
		blocked, passes []string
	}{
		{"u@d.example/r", []string{"u@d.example/r"}, []string{"u@d.example/other", "u@d.example", "d.example"}},
		{"u@d.example", []string{"u@d.example", "u@d.example/r"}, []string{"v@d.example", "d.example", "d.example/r"}},
		{"d.example/r", []string{"d.example/r"}, []string{"d.example", "d.example/other", "u@d.example/r"}},
		{"d.example", []string{"d.example", "u@d.example", "u@d.example/r", "d.example/r"}, []string{"sub.d.example", "example", "u@other.example"}},
	} {
		juliet.Send(iq(balcony, "b", `<block xmlns='urn:xmpp:blocking'><item jid='`+tt.item+`'/></block>`)).Take()
		message := func(j string) string {
			return `<message from='` + j + `' to='` + balcony + `'><body>x</body></message>`
		}
		for _, j := range tt.blocked {
			_, domain, ok := strings.Cut(j, "@")
			if !ok {
				domain = j
			}
			domain, _, _ = strings.Cut(domain, "/")
			s.Peer(domain).Send(message(j))
			expectError(t, s.Peer(domain), "cancel", "service-unavailable")
			juliet.Quiet()
			juliet.Send(`<message to='` + j + `' id='m'/>`)
			juliet.Expect(`<message type='error' id='m' from='` + j + `' to='` + balcony + `'><error type='cancel'>` +
				`<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><blocked xmlns='urn:xmpp:blocking:errors'/></error></message>`)
			s.Peer(domain).Quiet()
		}
		for _, j := range tt.passes {
			s.Peer("x").Send(message(j))
			juliet.Expect(message(j))
		}
		juliet.Send(iq(balcony, "u", `<unblock xmlns='urn:xmpp:blocking'/>`)).Take()
		s.Peer("d.example").Send(message(tt.item))
		juliet.Expect(message(tt.item))
	}
}

// XEP-0191 §3.3: every kind of stanza, to accounts with and without sessions.
func TestInbound(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	juliet := s.Connect(balcony)
	juliet.Send(`<presence/>`)
	juliet.Send(iq(balcony, "b", `<block xmlns='urn:xmpp:blocking'><item jid='romeo@remote.example'/></block>`)).Take()
	romeo := s.Peer("remote.example")
	for _, online := range []bool{true, false} {
		for _, to := range []string{"juliet@example.com", balcony} {
			addr := ` from='romeo@remote.example/x' to='` + to + `' id='i'`
			for _, typ := range []string{"", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "unavailable", "error"} {
				if typ != "" {
					typ = ` type='` + typ + `'`
				}
				romeo.Send(`<presence` + addr + typ + `/>`)
			}
			for _, silent := range []string{
				`<message type='error'` + addr + `/>`, `<message type='headline'` + addr + `/>`,
				`<iq type='result'` + addr + `/>`, `<iq type='error'` + addr + `/>`,
			} {
				romeo.Send(silent)
			}
			romeo.Quiet()
			for _, answered := range []string{
				`<message` + addr + `><body>x</body></message>`, `<message type='chat'` + addr + `/>`,
				`<message type='groupchat'` + addr + `/>`, `<iq type='get'` + addr + `><ping xmlns='urn:xmpp:ping'/></iq>`,
				`<iq type='set'` + addr + `><x xmlns='urn:x'/></iq>`,
			} {
				romeo.Send(answered)
				expectError(t, romeo, "cancel", "service-unavailable")
				romeo.Quiet()
			}
			juliet.Quiet()
		}
		if online {
			juliet.Close()
		}
	}
}

// XEP-0191 §3.3, §3.4: presence goes with the block, among local and remote
// contacts, and no broadcast passes meanwhile.
func TestPresence(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	juliet, romeo := s.Connect(balcony), s.Connect(orchard)
	befriend(juliet, romeo)
	peer := s.Peer("remote.example")
	peer.Send(`<presence from='nurse@remote.example' to='juliet@example.com' type='subscribe'/>`)
	juliet.Send(`<presence to='nurse@remote.example' type='subscribed'/>`)
	juliet.Send(`<presence to='room@remote.example/j'/>`)
	romeo.Take()
	peer.Take()
	juliet.Take()

	juliet.Send(iq(balcony, "b", `<block xmlns='urn:xmpp:blocking'><item jid='romeo@example.net'/><item jid='remote.example'/><item jid='stranger@example.org'/></block>`))
	juliet.Take()
	romeo.Expect(`<presence from='juliet@example.com/balcony' to='romeo@example.net' type='unavailable'/>`)
	peer.ExpectSet(`<presence from='juliet@example.com/balcony' to='nurse@remote.example' type='unavailable'/>`,
		`<presence from='juliet@example.com/balcony' to='room@remote.example/j' type='unavailable'/>`)

	juliet.Send(`<presence><show>away</show></presence>`)
	juliet.Expect(`<presence from='juliet@example.com/balcony' to='juliet@example.com/balcony'><show>away</show></presence>`)
	romeo.Send(`<presence><show>dnd</show></presence>`).Take()
	juliet.Quiet()
	peer.Quiet()
	// A login of either side tells the other nothing.
	romeo.Send(`<presence type='unavailable'/>`).Take()
	romeo.Send(`<presence/>`)
	romeo.Expect(`<presence from='romeo@example.net/orchard' to='romeo@example.net/orchard'/>`)
	romeo.Quiet()
	juliet.Quiet()

	juliet.Send(iq(balcony, "u", `<unblock xmlns='urn:xmpp:blocking'><item jid='romeo@example.net'/><item jid='stranger@example.org'/></unblock>`))
	juliet.Take()
	romeo.Expect(`<presence from='juliet@example.com/balcony' to='romeo@example.net'><show>away</show></presence>`)
	juliet.Send(iq(balcony, "u", `<unblock xmlns='urn:xmpp:blocking'/>`))
	peer.Expect(`<presence from='juliet@example.com/balcony' to='nurse@remote.example'><show>away</show></presence>`)
	peer.Quiet()
	romeo.Quiet()
}

// befriend makes two accounts each other's contacts and leaves both available.
func befriend(a, b *modtest.Client) {
	for _, c := range []*modtest.Client{a, b} {
		c.Send(`<presence/>`)
	}
	ab, ba := a.JID.Bare().String(), b.JID.Bare().String()
	a.Send(`<presence to='` + ba + `' type='subscribe'/>`)
	b.Send(`<presence to='` + ab + `' type='subscribed'/>`)
	b.Send(`<presence to='` + ab + `' type='subscribe'/>`)
	a.Send(`<presence to='` + ba + `' type='subscribed'/>`)
	a.Take()
	b.Take()
}

// A subscription request that was stored before the block is not delivered after.
func TestStoredRequest(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	s.Peer("remote.example").Send(`<presence from='romeo@remote.example' to='juliet@example.com' type='subscribe'/>`)
	juliet := s.Connect(balcony)
	juliet.Send(iq(balcony, "b", `<block xmlns='urn:xmpp:blocking'><item jid='romeo@remote.example'/></block>`)).Take()
	juliet.Send(`<presence/>`)
	juliet.Expect(`<presence from='juliet@example.com/balcony' to='juliet@example.com/balcony'/>`)
	juliet.Quiet()
}

// XEP-0191 §5: an account's resources always reach each other.
func TestOwnResources(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	juliet, second := s.Connect(balcony), s.Connect(chamber)
	juliet.Send(iq(balcony, "b", `<block xmlns='urn:xmpp:blocking'><item jid='juliet@example.com'/><item jid='example.com'/></block>`)).Take()
	juliet.Send(`<message to='juliet@example.com/chamber'><body>x</body></message>`)
	second.Expect(`<message from='juliet@example.com/balcony' to='juliet@example.com/chamber'><body>x</body></message>`)
	second.Send(iq(chamber, "u", `<unblock xmlns='urn:xmpp:blocking'/>`))
	second.Expect(result(chamber, "u", ""))
}

func TestListIsPurged(t *testing.T) {
	s := modtest.New(t, modules(blocking.Options{})...)
	juliet := s.Connect(balcony)
	juliet.Send(iq(balcony, "b", `<block xmlns='urn:xmpp:blocking'><item jid='romeo@remote.example'/></block>`))
	juliet.Close()
	s.Remove("juliet@example.com")
	var n int
	if err := s.Store.QueryRow(t.Context(), `SELECT count(*) FROM blocking`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func BenchmarkNoList(b *testing.B) {
	m := blocking.New(nil, blocking.Options{})
	s := modtest.New(b, m)
	juliet := s.Connect(balcony)
	romeo := s.Connect(orchard)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if blocked, err := m.Blocked(ctx, juliet.Session.Account.Bare, romeo.JID); blocked || err != nil {
			b.Fatal(blocked, err)
		}
	}
}

func TestNoListCostsNoAllocation(t *testing.T) {
	m := blocking.New(nil, blocking.Options{})
	s := modtest.New(t, m)
	juliet, romeo := s.Connect(balcony), s.Connect(orchard)
	ask := func() {
		if blocked, err := m.Blocked(t.Context(), juliet.JID.Bare(), romeo.JID); blocked || err != nil {
			t.Fatal(fmt.Sprint(blocked, err))
		}
	}
	ask()
	if n := testing.AllocsPerRun(100, ask); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
