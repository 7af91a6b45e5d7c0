package kit_test

import (
	"context"
	"errors"
	"testing"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/stanza"
)

const plus1 = "+1@sms.example.org"

func pres(typ, from, to, payload string) string {
	if typ != "" {
		typ = ` type='` + typ + `'`
	}
	if typ == "" {
		payload += caps
	}
	return `<presence` + typ + ` from='` + from + `' to='` + to + `'>` + payload + `</presence>`
}

// befriend has juliet see the contact +1.
func befriend(t *testing.T, w *world, c *modtest.Client) {
	t.Helper()
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`)
	w.net.expect(t, "subscribe "+c.JID.Bare().String()+" "+plus1)
	if routed, err := w.gw.Subscribe(context.Background(), stanza.Subscribed, contact("+1"), c.JID, ""); err != nil || !routed {
		t.Fatalf("%v, %v", routed, err)
	}
	expect(t, c, pres("subscribed", plus1, c.JID.Bare().String(), ""))
}

const (
	juliet = "juliet@example.org"
	// chamber and balcony are her resources.
	chamber = juliet + "/chamber"
	balcony = juliet + "/balcony"
)

// XEP-0100 §4.6: a contact is added, both ways, and RFC 6121 §4.3: probes are answered
// from what was set.
func TestAddContact(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{})
	w.up()
	c := w.online(chamber)
	c.Send(`<presence type='subscribe' to='` + plus1 + `/x' id='s1'><status>Hello</status></presence>`)
	w.net.expect(t, "subscribe juliet@example.org +1@sms.example.org")
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`) // Table 6: once is enough
	w.net.quiet(t)
	set(w, `<presence from='`+plus1+`'><show>dnd</show></presence>`) // she does not see it yet
	w.settle()

	routed, err := w.gw.Subscribe(context.Background(), stanza.Subscribed, contact("+1"), jid.Must(juliet), "")
	if err != nil || !routed {
		t.Fatal(routed, err)
	}
	expect(t, c, pres("subscribed", plus1, juliet, ""), pres("", plus1, juliet, "<show>dnd</show>"))
	if routed, err := w.gw.Subscribe(context.Background(), stanza.Subscribed, contact("+1"), jid.Must(juliet), ""); err != nil || routed {
		t.Error("Table 4: a second approval was routed", err)
	}
	if _, err := w.gw.Subscribe(context.Background(), stanza.Subscribe, contact("+1"), jid.Must(juliet), "It is me"); err != nil {
		t.Fatal(err)
	}
	expect(t, c, pres("subscribe", plus1, juliet, "<status>It is me</status>"))
	c.Send(`<presence type='subscribed' to='` + plus1 + `'/>`)
	w.net.expect(t, "subscribed juliet@example.org +1@sms.example.org", "presence juliet@example.org/chamber +1@sms.example.org")

	// Another resource: the server probes, the gateway answers with the last that was set.
	set(w, `<presence from='`+plus1+`'><show>away</show></presence>`)
	expect(t, c, pres("", plus1, juliet, "<show>away</show>"))
	b := w.Connect(balcony)
	b.Send(`<presence/>`)
	// The probe comes from the account's bare address.
	b.ExpectSet(`<presence from='`+balcony+`' to='`+balcony+`'/>`, `<presence from='`+chamber+`' to='`+balcony+`'/>`, pres("", plus1, juliet, "<show>away</show>"))

	list, err := w.gw.Contacts(context.Background(), jid.Must(juliet))
	if err != nil || len(list) != 1 || list[0].Subscription != "both" || list[0].JID.String() != plus1 {
		t.Errorf("%+v, %v", list, err)
	}
	// XEP-0100 §4.7: the user removes the contact.
	w.net.expect(t, "presence juliet@example.org/balcony +1@sms.example.org")
	expect(t, c, `<presence from='`+balcony+`' to='`+chamber+`'/>`, pres("", plus1, juliet, "<show>away</show>"))
	c.Send(`<presence type='unsubscribe' to='` + plus1 + `'/>`)
	w.net.expect(t, "unsubscribe juliet@example.org +1@sms.example.org")
	expect(t, c, pres("unavailable", plus1, juliet, ""))
	c.Send(`<presence type='unsubscribed' to='` + plus1 + `'/>`)
	for _, want := range []string{"presence juliet@example.org/chamber +1@sms.example.org unavailable", "presence juliet@example.org/balcony +1@sms.example.org unavailable"} {
		w.net.expect(t, want)
	}
	w.net.expect(t, "unsubscribed juliet@example.org +1@sms.example.org")
	if list, err := w.gw.Contacts(context.Background(), jid.Must(juliet)); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// probe has a session probe a contact, and waits until all that was before has been told.
func probe(t *testing.T, w *world, c *modtest.Client, want string) {
	t.Helper()
	c.Send(`<presence type='probe' to='` + plus1 + `'/>`)
	expect(t, c, want)
}

// RFC 6121 §4.3.2.
func TestProbe(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{})
	c := w.online(chamber)
	p := w.Peer("example.edu") // her own server would keep the answer from her
	p.Send(`<presence type='probe' from='romeo@example.edu' to='` + plus1 + `' id='p1'/>`)
	p.Expect(`<presence type='unsubscribed' from='` + plus1 + `' to='romeo@example.edu' id='p1'/>`) // rule 1
	befriend(t, w, c)
	probe(t, w, c, pres("unavailable", plus1, chamber, "")) // nothing is known
	set(w, `<presence from='`+plus1+`/phone'/>`)
	probe(t, w, c, pres("unavailable", plus1, chamber, "")) // the gateway is down
	w.gw.SetUp(true)
	expect(t, c, pres("", plus1+"/phone", juliet, ""))
	probe(t, w, c, pres("", plus1+"/phone", chamber, ""))
	c.Send(`<presence type='probe' to='` + plus1 + `/phone'/>`).Send(`<presence type='probe' to='` + plus1 + `/desk'/>`)
	expect(t, c, pres("", plus1+"/phone", chamber, ""), pres("unavailable", plus1+"/desk", chamber, ""))
	set(w, `<presence from='`+plus1+`/phone' type='unavailable'><status>asleep</status></presence>`)
	expect(t, c, pres("unavailable", plus1+"/phone", juliet, "<status>asleep</status>"))
	probe(t, w, c, pres("unavailable", plus1+"/phone", chamber, "<status>asleep</status>"))
	// What only she sees.
	set(w, `<presence from='`+plus1+`/phone' to='juliet@example.org'><show>xa</show></presence>`)
	expect(t, c, pres("", plus1+"/phone", juliet, "<show>xa</show>"))
	probe(t, w, c, pres("", plus1+"/phone", chamber, "<show>xa</show>"))

	w = w.restart(kit.Definition{})
	w.up()
	c = w.Connect(chamber)
	probe(t, w, c, pres("", plus1+"/phone", chamber, "<show>xa</show>"))
	if err := w.gw.ClearPresence(context.Background(), contact("+1")); err != nil {
		t.Fatal(err)
	}
	probe(t, w, c, pres("unavailable", plus1, chamber, ""))
	if n := len(w.gw.Presences(contact("+1"))); n != 0 {
		t.Errorf("%d left", n)
	}
}

// The loss of the network is told to those who saw contacts available, and its return.
func TestLoss(t *testing.T) {
	w := start(t, kit.Definition{Presence: "set"}, kit.Options{})
	w.up()
	c := w.online(chamber)
	befriend(t, w, c)
	set(w, `<presence from='`+plus1+`'/>`)
	expect(t, c, pres("", plus1, juliet, ""))
	// She is no subscriber of +2, but has been told of it; nor of the gateway, but is logged in.
	set(w, `<presence from='+2@sms.example.org' to='`+juliet+`'/>`)
	expect(t, c, pres("", "+2@sms.example.org", juliet, ""))
	c.Send(`<presence to='sms.example.org'/>`)
	w.net.expect(t, "presence juliet@example.org/chamber sms.example.org")
	expect(t, c, pres("", "sms.example.org", chamber, ""))

	w.gw.SetUp(false)
	expect(t, c, pres("unavailable", plus1, juliet, ""), pres("unavailable", "+2@sms.example.org", juliet, ""), pres("unavailable", "sms.example.org", chamber, ""))
	set(w, `<presence from='`+plus1+`'><show>chat</show></presence>`) // nobody hears of it
	c.Send(`<message to='` + plus1 + `'><body>still there?</body></message>`)
	w.net.expect(t, "message juliet@example.org/chamber +1@sms.example.org still there?")
	c.Send(`<iq type='get' to='` + plus1 + `' id='1'><query xmlns='urn:x'/></iq>`)
	expect(t, c, `<iq type='error' id='1' from='`+plus1+`' to='`+chamber+`'><error type='wait'>
		<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>`)
	// XEP-0100 §4.4.2: a log-in fails.
	b := w.online(balcony)
	expect(t, b, `<presence from='`+chamber+`' to='`+balcony+`'/>`, pres("unavailable", plus1, juliet, "")) // the answer to a probe
	b.Send(`<presence to='sms.example.org'/>`)
	expect(t, b, `<presence type='error' from='sms.example.org' to='`+balcony+`'><error type='wait'>
		<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></presence>`)
	expect(t, c, `<presence from='`+balcony+`' to='`+chamber+`'/>`, pres("unavailable", plus1, juliet, ""))

	w.gw.SetUp(true)
	expect(t, c, pres("", plus1, juliet, "<show>chat</show>"), pres("", "+2@sms.example.org", juliet, ""), pres("", "sms.example.org", chamber, ""))
	expect(t, b, pres("", plus1, juliet, "<show>chat</show>"), pres("", "+2@sms.example.org", juliet, ""), pres("", "sms.example.org", balcony, ""))
}

// XEP-0100 §4.5.1.
func TestLogOut(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{})
	w.up()
	c := w.online(chamber)
	for range 2 {
		c.Send(`<presence to='sms.example.org'/>`).Send(`<presence to='sms.example.org'><show>away</show></presence>`)
		w.net.expect(t, "presence juliet@example.org/chamber sms.example.org", "presence juliet@example.org/chamber sms.example.org")
		c.Expect(pres("", "sms.example.org", chamber, "")) // once
		if on := w.gw.Online(jid.Must(juliet)); len(on) != 1 || on[0].String() != chamber {
			t.Errorf("online: %v", on)
		}
		c.Send(`<presence type='unavailable' to='sms.example.org'/>`)
		w.net.expect(t, "presence juliet@example.org/chamber sms.example.org unavailable")
		c.Expect(pres("unavailable", "sms.example.org", chamber, ""))
	}
	if on := w.gw.Online(jid.Must(juliet)); len(on) != 0 {
		t.Errorf("online: %v", on)
	}
}

// Gateways of bots: whoever asks sees a contact that is always there.
func TestAccept(t *testing.T) {
	w := start(t, kit.Definition{Subscriptions: "accept", Presence: "assumed"}, kit.Options{})
	w.up()
	c := w.online(chamber)
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`)
	w.net.expect(t, "subscribe juliet@example.org +1@sms.example.org")
	expect(t, c, pres("subscribed", plus1, juliet, ""), pres("", plus1, juliet, ""))
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`) // Table 6 [2]
	expect(t, c, pres("", plus1, juliet, ""))                 // her server keeps the approval from her: Table 8
	w.net.quiet(t)
	set(w, `<presence from='`+plus1+`' type='unavailable'/>`)
	expect(t, c, pres("unavailable", plus1, juliet, ""))
	if err := w.gw.ClearPresence(context.Background(), contact("+1")); err != nil {
		t.Fatal(err)
	}
	probe(t, w, c, pres("", plus1, chamber, ""))
}

// A network that answers a request from within the notice of it.
func TestAnswerAtOnce(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{})
	w.up()
	w.net.onMore = func(ctx context.Context, st *stanza.Stanza) {
		if st.Type == stanza.Subscribe {
			if _, err := w.gw.Subscribe(ctx, stanza.Subscribed, st.To, st.From, ""); err != nil {
				t.Error(err)
			}
		}
	}
	c := w.online(chamber)
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`)
	w.net.expect(t, "subscribe juliet@example.org +1@sms.example.org")
	expect(t, c, pres("subscribed", plus1, juliet, ""))
	if got, _, err := w.gw.Contact(context.Background(), jid.Must(juliet), contact("+1")); err != nil || got.Subscription != "to" || got.Approved || got.Asked {
		t.Errorf("%+v, %v", got, err)
	}
}

// XEP-0100 §5.2, §7: contact lists of the network.
func TestContactList(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{MaxContacts: 2})
	w.up()
	ctx := context.Background()
	c := w.online(chamber)
	if err := w.gw.PutContact(ctx, jid.Must(juliet), contact("+1"), "Nurse", []string{"Verona"}, true); err != nil {
		t.Fatal(err)
	}
	expect(t, c, pres("subscribe", plus1, juliet, ""))
	ask(c, "get", `<query xmlns='http://jabber.org/protocol/disco#items'/>`)
	expect(t, c, result(chamber, `<query xmlns='http://jabber.org/protocol/disco#items'><item jid='+1@sms.example.org' name='Nurse'/></query>`))
	if n, err := w.gw.Suggest(ctx, jid.Must(juliet)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	expect(t, c, `<message from='sms.example.org' to='juliet@example.org'><x xmlns='http://jabber.org/protocol/rosterx'>
		<item action='add' jid='+1@sms.example.org' name='Nurse'><group>Verona</group></item></x></message>`)
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`) // granted beforehand
	expect(t, c, pres("subscribed", plus1, juliet, ""))
	if err := w.gw.PutContact(ctx, jid.Must(juliet), contact("+2"), "", nil, false); err != nil {
		t.Fatal(err)
	}
	if err := w.gw.PutContact(ctx, jid.Must(juliet), contact("+3"), "", nil, false); !errors.Is(err, kit.ErrTooMany) {
		t.Errorf("a third contact: %v", err)
	}
	c.Send(`<presence type='subscribe' to='+4@sms.example.org'/>`)
	w.net.expect(t, "subscribe juliet@example.org +1@sms.example.org", "subscribe juliet@example.org +4@sms.example.org")
	expect(t, c, `<presence type='error' from='+4@sms.example.org' to='`+chamber+`'><error type='wait'>
		<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></presence>`)
	if ok, err := w.gw.RemoveContact(ctx, jid.Must(juliet), contact("+1")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	expect(t, c, pres("unsubscribe", plus1, juliet, ""), pres("unsubscribed", plus1, juliet, ""))
	if ok, err := w.gw.RemoveContact(ctx, jid.Must(juliet), contact("+1")); ok || err != nil {
		t.Error("removed twice", err)
	}
}

func TestForeign(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{MaxPresences: 1})
	ctx := context.Background()
	other := jid.Must("romeo@example.org")
	for name, err := range map[string]error{
		"presence": w.gw.SetPresence(ctx, stanza.New(stanza.Presence, "", other, jid.JID{}, "")),
		"clear":    w.gw.ClearPresence(ctx, other),
		"profile":  w.gw.SetProfile(ctx, other, kit.Profile{}),
		"contact":  w.gw.PutContact(ctx, jid.Must(juliet), other, "", nil, false),
		"send":     w.gw.Send(ctx, nil, stanza.New(stanza.Message, "", other, other, ""), nil),
	} {
		if !errors.Is(err, kit.ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	set(w, `<presence from='`+plus1+`'/>`)
	set(w, `<presence from='`+plus1+`'><show>away</show></presence>`)
	if err := w.gw.SetPresence(ctx, modtest.Parse(t, `<presence from='+2@sms.example.org'/>`)); !errors.Is(err, kit.ErrTooMany) {
		t.Errorf("one presence too many: %v", err)
	}
}
