package module_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/blocking"
	"trivium/core/mod/carbons"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/router"
	"trivium/core/stanza"
)

func submitted(t *testing.T) *modtest.Server {
	contacts := roster.New(roster.Options{})
	here := presence.New(contacts, presence.Options{})
	contacts.ShowWith(here)
	return modtest.New(t, archive.New(archive.Options{Default: archive.Always}), contacts, here, blocking.New(here, blocking.Options{}), carbons.New())
}

func submit(t *testing.T, srv *modtest.Server, xml string) error {
	t.Helper()
	var turn router.Turn
	st := modtest.Parse(t, xml)
	err := srv.Host.Submit(context.Background(), &turn, st, nil)
	turn.Flush()
	return err
}

// TestSubmit: what a program sends as an account is in the account's archive, and its
// clients get copies (XEP-0280 §7, XEP-0313 §3).
func TestSubmit(t *testing.T) {
	srv := submitted(t)
	phone := srv.Connect("bot@example.org/phone")
	phone.Send(`<presence/>`).Send(`<iq type='set' id='c1'><enable xmlns='urn:xmpp:carbons:2'/></iq>`).Take()
	juliet := srv.Connect("juliet@example.com/balcony")
	juliet.Send(`<presence/>`).Take()

	err := submit(t, srv, `<message from='bot@example.org' to='juliet@example.com' type='chat' id='m1'><body>Art thou not Romeo?</body></message>`)
	if err != nil {
		t.Fatal(err)
	}
	if got := juliet.Next(); !strings.Contains(got, "from='bot@example.org'") || !strings.Contains(got, "<body>Art thou not Romeo?</body>") {
		t.Errorf("juliet got %s", got)
	}
	got := phone.Next()
	if !strings.Contains(got, "<sent xmlns='urn:xmpp:carbons:2'>") || !strings.Contains(got, "by='bot@example.org'") {
		t.Errorf("the bot's phone got %s", got)
	}

	// RFC 6121 §3.1.2: a request that a program sends is in the account's roster.
	if err := submit(t, srv, `<presence from='bot@example.org' to='juliet@example.com' type='subscribe'/>`); err != nil {
		t.Fatal(err)
	}
	juliet.Expect(`<presence from='bot@example.org' to='juliet@example.com' type='subscribe'/>`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answer, err := srv.Host.Ask(ctx, modtest.Parse(t, `<iq from='bot@example.org' type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>`))
	if err != nil || !strings.Contains(answer.String(), "ask='subscribe'") {
		t.Errorf("roster %v, %v", answer, err)
	}

	// XEP-0191 §3.3: an account that has blocked somebody does not write to them.
	answer, err = srv.Host.Ask(ctx, modtest.Parse(t, `<iq from='bot@example.org' type='set' id='b1'><block xmlns='urn:xmpp:blocking'><item jid='juliet@example.com'/></block></iq>`))
	if err != nil || answer.Type != stanza.Result {
		t.Fatalf("%v, %v", answer, err)
	}
	err = submit(t, srv, `<message from='bot@example.org' to='juliet@example.com' type='chat' id='m2'><body>Hist!</body></message>`)
	if e, ok := err.(*stanza.Error); !ok || e.Condition != stanza.NotAcceptable {
		t.Errorf("a blocked address is written to: %v", err)
	}
	answer, err = srv.Host.Ask(ctx, modtest.Parse(t, `<iq from='bot@example.org' to='juliet@example.com/balcony' type='get' id='v1'><query xmlns='jabber:iq:version'/></iq>`))
	if err != nil || answer.Type != stanza.TypeError || !strings.Contains(answer.String(), "not-acceptable") {
		t.Errorf("a blocked address is asked: %v, %v", answer, err)
	}
}

// TestAskClient: a client answers what a program asks.
func TestAskClient(t *testing.T) {
	srv := submitted(t)
	juliet := srv.Connect("juliet@example.com/balcony")
	juliet.Send(`<presence to='bot@example.org'/>`) // RFC 6121 §8.5.3.1: it may ask
	answers := make(chan *stanza.Stanza, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		st := stanza.New(stanza.IQ, stanza.Get, jid.Must("bot@example.org"), juliet.JID, "v1", stanza.El("jabber:iq:version", "query"))
		a, err := srv.Host.Ask(ctx, st)
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	juliet.Expect(`<iq from='bot@example.org' to='juliet@example.com/balcony' type='get' id='v1'><query xmlns='jabber:iq:version'/></iq>`)
	juliet.Send(`<iq to='bot@example.org' type='result' id='v1'><query xmlns='jabber:iq:version'><name>Nurse</name></query></iq>`)
	if a := <-answers; a == nil || !strings.Contains(a.String(), "<name>Nurse</name>") {
		t.Errorf("answer %v", a)
	}
}

// TestSubmitIsNoServer: a program that speaks for an account cannot make its clients
// believe that the server speaks: a carbon comes from the bare address (XEP-0280 §11).
func TestSubmitIsNoServer(t *testing.T) {
	srv := submitted(t)
	phone := srv.Connect("bot@example.org/phone")
	phone.Send(`<presence/>`).Take()
	for _, to := range []string{"bot@example.org", "bot@example.org/phone"} {
		err := submit(t, srv, `<message from='bot@example.org' to='`+to+`' type='chat' id='m1'>
			<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='juliet@example.com'><body>Hist!</body></message></forwarded></received></message>`)
		if err != nil {
			t.Fatal(err)
		}
		if got := phone.Next(); !strings.Contains(got, "from='bot@example.org/rest'") {
			t.Errorf("to %s: %s", to, got)
		}
	}
}
