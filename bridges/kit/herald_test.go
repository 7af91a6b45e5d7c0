package kit_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/router"
	"trivium/core/stanza"
)

// prepared is a gateway of which nothing is announced before run.
func prepared(t *testing.T, d kit.Definition) *world {
	t.Helper()
	w := &world{Server: modtest.New(t, modules()...), t: t}
	w.prepare(d, kit.Options{})
	return w
}

// presences are those among what has come.
func presences(list []string) (out []string) {
	for _, s := range list {
		if strings.HasPrefix(s, "<presence") {
			out = append(out, s)
		}
	}
	return out
}

// What a user was told in answer to a log-in, a subscription or a probe is not announced
// behind it, however late the announcement is.
func TestAnswerSupersedesAnnouncement(t *testing.T) {
	w := prepared(t, kit.Definition{})
	c := w.online(chamber)
	c.Send(`<presence to='sms.example.org'/>`) // a log-in before there is anything
	expect(t, c, `<presence type='error' from='sms.example.org' to='`+chamber+`'><error type='wait'>
		<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></presence>`)
	c.Send(`<presence type='unavailable' to='sms.example.org'/>`)
	expect(t, c, pres("unavailable", "sms.example.org", chamber, ""))
	set(w, `<presence from='`+plus1+`'><show>away</show></presence>`)
	w.gw.SetUp(true)

	c.Send(`<presence to='sms.example.org'/>`)
	expect(t, c, pres("", "sms.example.org", chamber, ""))
	c.Send(`<presence type='subscribe' to='sms.example.org'/>`)
	expect(t, c, pres("subscribed", "sms.example.org", juliet, ""), pres("", "sms.example.org", juliet, ""))
	w.net.expect(t, "presence juliet@example.org/chamber sms.example.org",
		"presence juliet@example.org/chamber sms.example.org unavailable", "presence juliet@example.org/chamber sms.example.org")
	befriend(t, w, c)
	expect(t, c, pres("", plus1, juliet, "<show>away</show>"))
	set(w, `<presence from='`+plus1+`'><show>dnd</show></presence>`)
	b := w.Connect(balcony)
	b.Send(`<presence/>`) // her server probes for it
	b.ExpectSet(`<presence from='`+balcony+`' to='`+balcony+`'/>`, `<presence from='`+chamber+`' to='`+balcony+`'/>`,
		pres("", "sms.example.org", juliet, ""), pres("", plus1, juliet, "<show>dnd</show>"))
	c.ExpectSet(`<presence from='`+balcony+`' to='`+chamber+`'/>`, pres("", "sms.example.org", juliet, ""), pres("", plus1, juliet, "<show>dnd</show>"))

	w.run()
	w.settle()
	for _, s := range []*modtest.Client{c, b} {
		if late := presences(s.Take()); len(late) > 0 {
			t.Errorf("%s: told again: %q", s.JID, late)
		}
	}
	// What has not been told is, once.
	set(w, `<presence from='`+plus1+`' type='unavailable'/>`)
	w.gw.SetUp(false)
	expect(t, c, pres("unavailable", plus1, juliet, ""), pres("unavailable", "sms.example.org", juliet, ""))
	w.gw.SetUp(true)
	expect(t, c, pres("", "sms.example.org", juliet, ""))
	w.settle()
	if late := presences(c.Take()); len(late) > 0 {
		t.Errorf("told again: %q", late)
	}
}

// A user who is subscribed, and logs in before the return of the gateway was announced,
// has heard of it by the answer.
func TestLogInSupersedesAnnouncement(t *testing.T) {
	w := prepared(t, kit.Definition{})
	c := w.online(chamber)
	c.Send(`<presence type='subscribe' to='sms.example.org'/>`)
	expect(t, c, pres("subscribed", "sms.example.org", juliet, ""))
	w.gw.SetUp(true)
	c.Send(`<presence to='sms.example.org'/>`)
	expect(t, c, pres("", "sms.example.org", juliet, ""))
	w.run()
	w.settle()
	if late := presences(c.Take()); len(late) > 0 {
		t.Errorf("told again: %q", late)
	}
}

// barrier is a slow peer: it takes one stanza in two steps.
type barrier chan struct{}

func (b barrier) Handle(context.Context, *router.Packet) error {
	<-b
	<-b
	return nil
}

// A loss that is over before it was announced is told, and then the return: those who
// have asked in between were told that the gateway is lost.
func TestShortLoss(t *testing.T) {
	w := start(t, kit.Definition{Presence: "assumed", Subscriptions: "accept"}, kit.Options{})
	w.up()
	p := w.Peer("example.edu")
	p.Send(`<presence type='subscribe' from='romeo@example.edu' to='` + plus1 + `'/>`)
	p.Expect(pres("subscribed", plus1, "romeo@example.edu", ""), pres("", plus1, "romeo@example.edu", ""))
	stop := make(barrier)
	w.Router.Serve("slow.example", stop)
	set(w, `<presence from='+2@sms.example.org' to='a@slow.example'/>`)
	stop <- struct{}{} // what is announced now waits here
	w.gw.SetUp(false)
	p.Send(`<presence type='probe' from='romeo@example.edu' to='` + plus1 + `' id='p'/>`)
	p.Expect(`<presence type='unavailable' id='p' from='` + plus1 + `' to='romeo@example.edu'/>`)
	w.gw.SetUp(true)
	close(stop)
	w.settle()
	p.Expect(pres("", plus1, "romeo@example.edu", "")) // once, and the loss not again
	p.Quiet()
}

// A connection that is lost before it was announced: only who has heard of it hears of
// the loss.
func TestShortConnection(t *testing.T) {
	w := prepared(t, kit.Definition{Presence: "assumed", Subscriptions: "accept"})
	p := w.Peer("example.edu")
	for _, user := range []string{"romeo@example.edu", "nurse@example.edu"} {
		p.Send(`<presence type='subscribe' from='` + user + `' to='` + plus1 + `'/>`)
		p.Expect(pres("subscribed", plus1, user, ""))
	}
	w.gw.SetUp(true)
	p.Send(`<presence type='probe' from='romeo@example.edu' to='` + plus1 + `'/>`)
	p.Expect(pres("", plus1, "romeo@example.edu", ""))
	w.gw.SetUp(false)
	w.gw.SetUp(true)
	w.gw.SetUp(false)
	w.run()
	p.Expect(pres("unavailable", plus1, "romeo@example.edu", ""))
	w.up()
	p.ExpectSet(pres("", plus1, "romeo@example.edu", ""), pres("", plus1, "nurse@example.edu", ""))
	p.Quiet()
}

// Whatever happens at the same time, nobody is told the same twice running, nothing comes
// before the grant, and the last that is told is what there is.
func TestEachStateIsToldOnce(t *testing.T) {
	w := start(t, kit.Definition{Subscriptions: "accept"}, kit.Options{})
	w.up()
	const users, changes = 8, 150
	peers := make([]*modtest.Peer, users)
	for i := range peers {
		peers[i] = w.Peer(fmt.Sprintf("u%d.example", i))
	}
	var all sync.WaitGroup
	all.Go(func() {
		for i := range changes {
			if err := w.gw.SetPresence(context.Background(), modtest.Parse(t, fmt.Sprintf(`<presence from='%s'><status>%d</status></presence>`, plus1, i))); err != nil {
				t.Error(err)
			}
		}
	})
	all.Go(func() {
		for i := range changes {
			w.gw.SetUp(i%2 == 1)
		}
	})
	for i, p := range peers {
		all.Go(func() {
			user := fmt.Sprintf("a@u%d.example", i)
			p.Send(`<presence type='subscribe' from='` + user + `' to='` + plus1 + `'/>`)
			for range i % 2 * changes / 10 { // every other user
				p.Send(`<presence type='probe' from='` + user + `' to='` + plus1 + `'/>`)
			}
		})
	}
	all.Wait()
	w.gw.SetUp(true)
	w.settle()
	set(w, `<presence from='`+plus1+`'><status>the end</status></presence>`)
	w.settle()
	for i, p := range peers {
		list := p.Take()
		if len(list) == 0 || !strings.Contains(list[0], "'subscribed'") {
			t.Fatalf("user %d got before the grant: %q", i, list[:min(1, len(list))])
		}
		for n := 1; n < len(list); n++ {
			if list[n] == list[n-1] && i%2 == 0 { // who probes is answered
				t.Errorf("user %d was told twice: %s", i, list[n])
			}
		}
		if last := list[len(list)-1]; !strings.Contains(last, "the end") {
			t.Errorf("user %d was told at last: %s", i, last)
		}
	}
}

// The presence of a contact is the last word also for those who leave while it is told.
func TestNothingAfterTheEnd(t *testing.T) {
	w := start(t, kit.Definition{Subscriptions: "accept"}, kit.Options{})
	w.up()
	p := w.Peer("example.edu")
	for i := range 60 {
		user := jid.Must(fmt.Sprintf("u%d@example.edu", i))
		p.Send(`<presence type='subscribe' from='` + user.String() + `' to='` + plus1 + `'/>`)
		var both sync.WaitGroup
		both.Go(func() { set(w, fmt.Sprintf(`<presence from='%s'><status>%d</status></presence>`, plus1, i)) })
		both.Go(func() {
			if _, err := w.gw.Subscribe(context.Background(), stanza.Unsubscribed, contact("+1"), user, ""); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		w.settle()
		seen := false
		for _, s := range p.Take() {
			if strings.Contains(s, "from='"+plus1+"'") && strings.Contains(s, "to='"+user.String()+"'") {
				seen = !strings.Contains(s, " type='unavailable'") && (seen || !strings.Contains(s, " type='"))
			}
		}
		if seen {
			t.Fatalf("%s still sees the contact", user)
		}
	}
}
