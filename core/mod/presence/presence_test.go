package presence_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
)

// contacts is a roster service with fixed subscriptions: who sees whom.
type contacts map[jid.JID][]jid.JID

func (c contacts) Subscribers(_ context.Context, account jid.JID) ([]jid.JID, error) {
	return c[account], nil
}

func (c contacts) Subscriptions(_ context.Context, account jid.JID) (list []jid.JID, _ error) {
	for of, seenBy := range c {
		for _, j := range seenBy {
			if j == account {
				list = append(list, of)
			}
		}
	}
	return list, nil
}

func (c contacts) Subscribed(_ context.Context, account, contact jid.JID) (bool, error) {
	for _, j := range c[account] {
		if j == contact {
			return true, nil
		}
	}
	return false, nil
}

// see adds that from sees the presence of the others.
func (c contacts) see(from string, others ...string) contacts {
	for _, o := range others {
		c[jid.Must(o)] = append(c[jid.Must(o)], jid.Must(from))
	}
	return c
}

func mutual(a string, others ...string) contacts {
	c := contacts{}.see(a, others...)
	for _, o := range others {
		c.see(o, a)
	}
	return c
}

const (
	balcony = "juliet@example.com/balcony"
	chamber = "juliet@example.com/chamber"
	orchard = "romeo@example.net/orchard"
)

func expectError(t *testing.T, c *modtest.Client, typ, condition string) {
	t.Helper()
	got := c.Next()
	if !strings.Contains(got, `type='error'`) || !strings.Contains(got, `<error type='`+typ+`'><`+condition+` xmlns`) {
		t.Fatalf("got %s, want %s %s", got, typ, condition)
	}
}

// RFC 6121 §4.2, §4.4, §4.5 with contacts here and elsewhere.
func TestBroadcast(t *testing.T) {
	s := modtest.New(t, presence.New(mutual("juliet@example.com", "romeo@example.net", "benvolio@remote.example"), presence.Options{}))
	romeo := s.Connect(orchard)
	romeo.Send(`<presence><show>chat</show></presence>`)
	romeo.Expect(`<presence from='romeo@example.net/orchard' to='romeo@example.net/orchard'><show>chat</show></presence>`)
	idle := s.Connect("romeo@example.net/idle") // connected, not available
	stranger := s.Connect("tybalt@example.com/x")
	stranger.Send(`<presence/>`).Take()
	peer := s.Peer("remote.example")

	// §4.2.2: contacts, the resource itself, and probes; §4.3.1: none for romeo, whose
	// presence comes at once.
	juliet := s.Connect(balcony)
	juliet.Send(`<presence id='p1'/>`)
	juliet.Expect(
		`<presence id='p1' from='juliet@example.com/balcony' to='juliet@example.com/balcony'/>`,
		`<presence from='romeo@example.net/orchard' to='juliet@example.com/balcony'><show>chat</show></presence>`)
	romeo.Expect(`<presence id='p1' from='juliet@example.com/balcony' to='romeo@example.net'/>`)
	peer.Expect(`<presence id='p1' from='juliet@example.com/balcony' to='benvolio@remote.example'/>`,
		`<presence from='juliet@example.com' to='benvolio@remote.example' type='probe'/>`)
	peer.Send(`<presence from='benvolio@remote.example/x' to='juliet@example.com'/>`)
	juliet.Expect(`<presence from='benvolio@remote.example/x' to='juliet@example.com'/>`)

	// A second resource: each learns of the other.
	second := s.Connect(chamber)
	second.Send(`<presence><priority>5</priority></presence>`)
	juliet.Expect(`<presence from='juliet@example.com/chamber' to='juliet@example.com/balcony'><priority>5</priority></presence>`)
	second.ExpectSet(
		`<presence from='juliet@example.com/chamber' to='juliet@example.com/chamber'><priority>5</priority></presence>`,
		`<presence id='p1' from='juliet@example.com/balcony' to='juliet@example.com/chamber'/>`,
		`<presence from='romeo@example.net/orchard' to='juliet@example.com/chamber'><show>chat</show></presence>`)
	romeo.Expect(`<presence from='juliet@example.com/chamber' to='romeo@example.net'><priority>5</priority></presence>`)
	peer.Take()

	// §4.4.2: the full XML, and no more probes.
	const caps = `<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>`
	juliet.Send(`<presence xml:lang='cs'><show>away</show>` + caps + `</presence>`)
	for _, to := range []struct {
		c    interface{ Expect(...string) }
		addr string
	}{{juliet, balcony}, {second, chamber}, {romeo, "romeo@example.net"}, {peer, "benvolio@remote.example"}} {
		to.c.Expect(`<presence xml:lang='cs' from='juliet@example.com/balcony' to='` + to.addr + `'><show>away</show>` + caps + `</presence>`)
	}
	peer.Quiet()

	// §4.5.2, gracefully and not.
	juliet.Send(`<presence type='unavailable'><status>going on vacation</status></presence>`)
	for _, to := range []struct {
		c    interface{ Expect(...string) }
		addr string
	}{{juliet, balcony}, {second, chamber}, {romeo, "romeo@example.net"}, {peer, "benvolio@remote.example"}} {
		to.c.Expect(`<presence from='juliet@example.com/balcony' to='` + to.addr + `' type='unavailable'><status>going on vacation</status></presence>`)
	}
	juliet.Send(`<presence type='unavailable'/>`)
	juliet.Close() // it was not available any more
	romeo.Quiet()
	second.Quiet()
	second.Close()
	romeo.Expect(`<presence from='juliet@example.com/chamber' to='romeo@example.net' type='unavailable'/>`)
	peer.Expect(`<presence from='juliet@example.com/chamber' to='benvolio@remote.example' type='unavailable'/>`)

	idle.Quiet()
	stranger.Quiet()
	juliet.Quiet()
}

// RFC 6121 §4.5.2, Implementation Note: presence after "unavailable" is initial.
func TestInitialAgain(t *testing.T) {
	s := modtest.New(t, presence.New(mutual("juliet@example.com", "romeo@example.net"), presence.Options{}))
	romeo, juliet := s.Connect(orchard), s.Connect(balcony)
	romeo.Send(`<presence/>`)
	juliet.Send(`<presence/>`).Send(`<presence type='unavailable'/>`).Take()
	juliet.Send(`<presence/>`)
	juliet.Expect(`<presence from='juliet@example.com/balcony' to='juliet@example.com/balcony'/>`,
		`<presence from='romeo@example.net/orchard' to='juliet@example.com/balcony'/>`)
}

// RFC 6121 §4.7.2.3.
func TestPriority(t *testing.T) {
	s := modtest.New(t, presence.New(contacts{}, presence.Options{}))
	juliet := s.Connect(balcony)
	for _, tt := range []struct {
		xml  string
		want int
	}{
		{"", 0},
		{"<priority>1</priority>", 1},
		{"<priority>-128</priority>", -128},
		{"<priority>127</priority>", 127},
		{"<priority>\n 7 </priority>", 7},
		{"<priority xmlns='urn:other'>9</priority>", 0},
	} {
		juliet.Send(`<presence>` + tt.xml + `</presence>`).Take()
		if p := juliet.Session.Presence(); p == nil || int(p.Priority) != tt.want {
			t.Errorf("%s: %+v, want %d", tt.xml, p, tt.want)
		}
	}
	before := juliet.Session.Presence()
	for _, xml := range []string{
		"<priority>128</priority>", "<priority>-129</priority>", "<priority/>", "<priority>high</priority>", "<priority>1.5</priority>",
		"<priority>1</priority><priority>1</priority>", "<priority>1<x/></priority>",
	} {
		juliet.Send(`<presence id='x'>` + xml + `</presence>`)
		expectError(t, juliet, "modify", "bad-request")
		if juliet.Session.Presence() != before {
			t.Errorf("%s changed the presence", xml)
		}
	}
}

// RFC 6121 §4.3.2 and §4.3.2.1, rule by rule.
func TestProbes(t *testing.T) {
	seen := time.Date(2002, 9, 10, 23, 41, 7, 0, time.UTC)
	s := modtest.New(t, presence.New(contacts{}.see("juliet@remote.example", "romeo@example.net", "mercutio@example.com"),
		presence.Options{LastSeen: func(_ context.Context, j jid.JID) (time.Time, error) {
			if j.Local() == "mercutio" {
				return seen, nil
			}
			return time.Time{}, nil
		}}))
	foo, bar := s.Connect("romeo@example.net/foo"), s.Connect("romeo@example.net/bar")
	s.Connect("romeo@example.net/idle")
	foo.Send(`<presence id='hzf1v27k'/>`)
	bar.Send(`<presence id='ps6t1fu3'><show>away</show></presence>`)
	peer := s.Peer("remote.example")
	peer.Take()
	probe := func(from, to string) {
		peer.Send(`<presence from='` + from + `' id='xv291f38' to='` + to + `' type='probe'/>`)
	}
	// Rule 4.
	probe("juliet@remote.example", "romeo@example.net")
	peer.Expect(`<presence from='romeo@example.net/foo' id='hzf1v27k' to='juliet@remote.example'/>`,
		`<presence from='romeo@example.net/bar' id='ps6t1fu3' to='juliet@remote.example'><show>away</show></presence>`)
	// Rule 3.
	probe("juliet@remote.example", "mercutio@example.com")
	peer.Expect(`<presence from='mercutio@example.com' id='xv291f38' to='juliet@remote.example' type='unavailable'><delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:41:07Z'/></presence>`)
	// Rule 1.
	probe("tybalt@remote.example", "romeo@example.net")
	peer.Expect(`<presence from='romeo@example.net' id='xv291f38' to='tybalt@remote.example' type='unsubscribed'/>`)
	probe("tybalt@remote.example", "romeo@example.net/foo")
	peer.Expect(`<presence from='romeo@example.net' id='xv291f38' to='tybalt@remote.example' type='unsubscribed'/>`)
	// A full address: mere availability of that resource.
	probe("juliet@remote.example/x", "romeo@example.net/bar")
	peer.Expect(`<presence from='romeo@example.net/bar' to='juliet@remote.example/x'/>`)
	probe("juliet@remote.example", "romeo@example.net/idle")
	peer.Expect(`<presence from='romeo@example.net/idle' id='xv291f38' to='juliet@remote.example' type='unavailable'/>`)
	// §4.6.6: directed presence, for that resource only and without its children.
	bar.Send(`<presence to='room@remote.example/nick'><show>dnd</show></presence>`)
	peer.Next()
	probe("room@remote.example/nick", "romeo@example.net/bar")
	peer.Expect(`<presence from='romeo@example.net/bar' to='room@remote.example/nick'/>`)
	probe("room@remote.example/nick", "romeo@example.net/foo")
	peer.Expect(`<presence from='romeo@example.net' id='xv291f38' to='room@remote.example/nick' type='unsubscribed'/>`)
	peer.Quiet()

	// A client may probe as well (§4.3): its own account sees itself.
	foo.Take()
	foo.Send(`<presence type='probe' to='romeo@example.net' id='me'/>`)
	foo.Expect(`<presence from='romeo@example.net/foo' id='hzf1v27k' to='romeo@example.net/foo'/>`,
		`<presence from='romeo@example.net/bar' id='ps6t1fu3' to='romeo@example.net/foo'><show>away</show></presence>`)
}

// RFC 6121 §4.6.
func TestDirected(t *testing.T) {
	s := modtest.New(t, presence.New(contacts{}.see("nurse@remote.example", "juliet@example.com"), presence.Options{Directed: 3}))
	juliet, tybalt := s.Connect(balcony), s.Connect("tybalt@example.com/x")
	tybalt.Send(`<presence/>`).Take()
	peer := s.Peer("remote.example")

	// Rule 3: before initial presence.
	juliet.Send(`<presence to='tybalt@example.com/x'><status>hi</status></presence>`)
	tybalt.Expect(`<presence from='juliet@example.com/balcony' to='tybalt@example.com/x'><status>hi</status></presence>`)
	juliet.Send(`<presence/>`).Take()
	peer.Take()
	tybalt.Quiet()
	// Rule 2: no broadcast of available presence.
	juliet.Send(`<presence to='room@remote.example/j'/>`)
	peer.Expect(`<presence from='juliet@example.com/balcony' to='room@remote.example/j'/>`)
	juliet.Send(`<presence><show>away</show></presence>`)
	peer.Expect(`<presence from='juliet@example.com/balcony' to='nurse@remote.example'><show>away</show></presence>`)
	peer.Quiet()
	tybalt.Quiet()
	// Rule 1: a subscriber is no target of its own.
	juliet.Send(`<presence to='nurse@remote.example'/>`)
	peer.Next()
	// Directed unavailable, and unavailable from the other side, end it.
	juliet.Send(`<presence to='a@remote.example'/>`).Send(`<presence to='a@remote.example' type='unavailable'/>`)
	juliet.Send(`<presence to='b@remote.example'/>`)
	peer.Send(`<presence from='b@remote.example' to='juliet@example.com/balcony' type='unavailable'/>`)
	peer.Take()
	juliet.Take()

	juliet.Send(`<presence type='unavailable'><status>bye</status></presence>`)
	peer.ExpectSet(
		`<presence from='juliet@example.com/balcony' to='nurse@remote.example' type='unavailable'><status>bye</status></presence>`,
		`<presence from='juliet@example.com/balcony' to='room@remote.example/j' type='unavailable'><status>bye</status></presence>`)
	tybalt.Expect(`<presence from='juliet@example.com/balcony' to='tybalt@example.com/x' type='unavailable'><status>bye</status></presence>`)
	peer.Quiet()

	// Bounded.
	juliet.Take()
	for i := range 3 {
		juliet.Send(fmt.Sprintf(`<presence to='room%d@remote.example/j'/>`, i))
	}
	juliet.Send(`<presence to='room1@remote.example/j'/>`)
	juliet.Quiet()
	peer.Take()
	juliet.Send(`<presence to='room9@remote.example/j' id='x'/>`)
	expectError(t, juliet, "wait", "resource-constraint")
	peer.Quiet()

	// Ungraceful end of a session that was not available.
	juliet.Close()
	peer.ExpectSet(
		`<presence from='juliet@example.com/balcony' to='room0@remote.example/j' type='unavailable'/>`,
		`<presence from='juliet@example.com/balcony' to='room1@remote.example/j' type='unavailable'/>`,
		`<presence from='juliet@example.com/balcony' to='room2@remote.example/j' type='unavailable'/>`)
	peer.Quiet()
}

// RFC 6121 §8.5.3.1.
func TestStrangersRequests(t *testing.T) {
	s := modtest.New(t, presence.New(contacts{}.see("nurse@example.com", "juliet@example.com"), presence.Options{}))
	juliet, other := s.Connect(balcony), s.Connect(chamber)
	nurse, tybalt := s.Connect("nurse@example.com/x"), s.Connect("tybalt@example.com/x")
	juliet.Send(`<presence/>`).Take()
	const request = `<iq type='get' id='v' to='juliet@example.com/balcony'><query xmlns='jabber:iq:version'/></iq>`
	tybalt.Send(request)
	expectError(t, tybalt, "cancel", "service-unavailable")
	juliet.Quiet()
	// An answer is the same as for a resource that is not there.
	tybalt.Send(strings.Replace(request, "balcony", "nothing", 1))
	expectError(t, tybalt, "cancel", "service-unavailable")
	for _, c := range []*modtest.Client{nurse, other} {
		c.Send(request)
		juliet.Expect(`<iq from='` + c.JID.String() + `' type='get' id='v' to='juliet@example.com/balcony'><query xmlns='jabber:iq:version'/></iq>`)
	}
	juliet.Send(`<presence to='tybalt@example.com'/>`)
	tybalt.Send(request)
	juliet.Expect(`<iq from='tybalt@example.com/x' type='get' id='v' to='juliet@example.com/balcony'><query xmlns='jabber:iq:version'/></iq>`)
	// Answers always pass.
	juliet.Send(`<presence to='tybalt@example.com' type='unavailable'/>`)
	tybalt.Send(`<iq type='result' id='r' to='juliet@example.com/balcony'/>`)
	juliet.Expect(`<iq from='tybalt@example.com/x' type='result' id='r' to='juliet@example.com/balcony'/>`)
}

// RFC 6121 §4.3.2 rule 1: rosters that disagree are put right.
func TestDisagreement(t *testing.T) {
	r := roster.New(roster.Options{})
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	s := modtest.New(t, []module.Module{r, p}...)
	romeo, juliet := s.Connect(orchard), s.Connect(balcony)
	romeo.Send(`<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>`)
	romeo.Send(`<presence/>`)
	romeo.Send(`<presence to='juliet@example.com' type='subscribe'/>`)
	juliet.Send(`<presence/>`)
	juliet.Send(`<presence to='romeo@example.net' type='subscribed'/>`)
	s.Remove("juliet@example.com") // her side is lost
	juliet.Close()
	romeo.Send(`<presence type='unavailable'/>`)
	if err := s.Store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	romeo.Close()
	s = s.Restart(modules()...)
	juliet = s.Connect(balcony)
	juliet.Send(`<presence/>`).Take()
	romeo = s.Connect(orchard)
	romeo.Send(`<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>`).Take()
	romeo.Send(`<presence/>`)
	romeo.Expect(
		`<presence from='romeo@example.net/orchard' to='romeo@example.net/orchard'/>`,
		`<presence from='juliet@example.com' to='romeo@example.net' type='unsubscribed'/>`,
		`<iq type='set' from='romeo@example.net' to='romeo@example.net/orchard'><query xmlns='jabber:iq:roster' ver='*'><item jid='juliet@example.com' subscription='none'/></query></iq>`)
	juliet.Quiet()
}

func modules() []module.Module {
	r := roster.New(roster.Options{})
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	return []module.Module{r, p}
}

// A resource that was taken over and is available again does not disappear.
func TestReplacedSession(t *testing.T) {
	s := modtest.New(t, presence.New(mutual("juliet@example.com", "romeo@example.net"), presence.Options{}))
	romeo := s.Connect(orchard)
	romeo.Send(`<presence/>`).Take()
	old := s.Connect(balcony)
	old.Send(`<presence/>`)
	old.Send(`<presence to='tybalt@remote.example'/>`)
	s.Peer("remote.example").Take()
	juliet := s.Connect(balcony)
	juliet.Send(`<presence id='new'/>`)
	romeo.Take()
	old.Close()
	romeo.Quiet()
	juliet.Take()
	s.Peer("remote.example").Expect(`<presence from='juliet@example.com/balcony' to='tybalt@remote.example' type='unavailable'/>`)
}

// RFC 6121 §11: an account that does not exist answers strangers as one that does.
func TestStrangersLearnNothing(t *testing.T) {
	s := modtest.New(t, modules()...)
	s.Missing("ghost@example.com")
	s.Connect(balcony).Send(`<presence/>`)
	tybalt := s.Connect("tybalt@example.org/x")
	for _, xml := range []string{
		`<iq type='get' id='i' to='%s/balcony'><query xmlns='jabber:iq:roster'/></iq>`,
		`<iq type='get' id='i' to='%s/other'><query xmlns='jabber:iq:roster'/></iq>`,
		`<iq type='set' id='i' to='%s'><query xmlns='jabber:iq:roster'/></iq>`,
		`<iq type='get' id='i' to='%s'><x xmlns='urn:unknown'/></iq>`,
		`<iq type='get' id='i' to='%s/balcony'><x xmlns='urn:unknown'/></iq>`,
		`<presence id='i' to='%s'/>`,
		`<presence id='i' to='%s' type='unavailable'/>`,
		`<presence id='i' to='%s' type='subscribed'/>`,
		`<presence id='i' to='%s' type='unsubscribe'/>`,
		`<presence id='i' to='%s' type='unsubscribed'/>`,
	} {
		tybalt.Send(fmt.Sprintf(xml, "ghost@example.com"))
		ghost := strings.ReplaceAll(strings.Join(tybalt.Take(), "\n"), "ghost@", "juliet@")
		tybalt.Send(fmt.Sprintf(xml, "juliet@example.com"))
		if juliet := strings.Join(tybalt.Take(), "\n"); juliet != ghost {
			t.Errorf("%s\n  there: %s\nmissing: %s", xml, juliet, ghost)
		}
		tybalt.Send(`<presence to='juliet@example.com' type='unavailable'/>`)
	}
}

// A contact that cannot be reached is told of once, by an error.
func TestUnreachableContact(t *testing.T) {
	s := modtest.New(t, presence.New(contacts{}.see("x@unreachable.example", "juliet@example.com"), presence.Options{}))
	juliet := s.Connect(balcony)
	juliet.Send(`<presence id='p'/>`)
	juliet.ExpectSet(`<presence id='p' from='juliet@example.com/balcony' to='juliet@example.com/balcony'/>`,
		`<presence id='p' from='x@unreachable.example' to='juliet@example.com/balcony' type='error'><error type='cancel'>`+
			`<remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>`)
	juliet.Send(`<presence type='unavailable'/>`)
	juliet.Expect(`<presence from='juliet@example.com/balcony' to='juliet@example.com/balcony' type='unavailable'/>`)
	juliet.Quiet()
}

// What a broadcast costs does not grow with an allocation for each contact.
func TestBroadcastAllocatesNothingPerContact(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget; make test counts without it too")
	}
	cost := func(n int) float64 {
		var friends []string
		for i := range n {
			friends = append(friends, fmt.Sprintf("friend%d@example.org", i))
		}
		s := modtest.New(t, presence.New(mutual("juliet@example.com", friends...), presence.Options{}))
		for _, f := range friends {
			c := s.Connect(f + "/x")
			c.Discard()
			c.Send(`<presence/>`)
		}
		juliet := s.Connect(balcony)
		juliet.Discard()
		st := modtest.Parse(t, `<presence><show>away</show></presence>`)
		st.From = juliet.JID
		var turn module.Turn
		return testing.AllocsPerRun(200, func() {
			p := module.Packet{Stanza: st, Session: juliet.Session, Turn: &turn}
			if err := s.Host.Announce(t.Context(), &p); err != nil {
				t.Fatal(err)
			}
			turn.Flush()
		})
	}
	if few, many := cost(2), cost(100); many > few+5 {
		t.Errorf("%v allocations with 2 contacts, %v with 100", few, many)
	}
}
