package kit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/stanza"
	"trivium/core/store"
)

const caps = `<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x-trivium:gateway' ver='*'/>`

const offered = `<x xmlns='jabber:x:data' type='form'><title>Registration with Text messages</title>
	<instructions>Your number and PIN, please.</instructions>
	<field var='FORM_TYPE' type='hidden'><value>jabber:iq:register</value></field>
	<field var='phone' type='text-single' label='Number'><required/>%s</field>
	<field var='password' type='text-private' label='PIN'>%s</field>
	<field var='plan' type='list-single' label='Plan'><option><value>basic</value></option><option><value>all</value></option></field></x>`

func form(phone, pin string) string {
	return strings.Replace(strings.Replace(offered, "%s", phone, 1), "%s", pin, 1)
}

func result(to, payload string) string {
	return `<iq type='result' id='1' from='` + domain + `' to='` + to + `'>` + payload + `</iq>`
}

func refusal(to, typ, condition string) string {
	return `<iq type='error' id='1' from='` + domain + `' to='` + to + `'><error type='` + typ + `'>` +
		`<` + condition + ` xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>`
}

func ask(c *modtest.Client, typ, payload string) {
	c.Send(`<iq type='` + typ + `' to='` + domain + `' id='1'>` + payload + `</iq>`)
}

const romeo = "romeo@example.org/orchard"

// XEP-0100 §4.1.1: registration, then the subscriptions, then the log-in.
func TestRegister(t *testing.T) {
	w := start(t, telephone, kit.Options{})
	w.up()
	c := w.online(romeo)

	ask(c, "get", `<query xmlns='jabber:iq:register'/>`)
	c.Expect(result(romeo, `<query xmlns='jabber:iq:register'><instructions>Your number and PIN, please.</instructions>
		<phone/><password/>`+form("", "<required/>")+`</query>`))
	for _, payload := range []string{
		`<query xmlns='jabber:iq:register'><phone>15551234</phone></query>`,
		`<query xmlns='jabber:iq:register'><phone>15551234</phone><password/></query>`, // XEP-0077 §3.1: empty is missing
		`<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field var='phone'><value>1</value></field>
			<field var='password'><value>2</value></field><field var='plan'><value>none</value></field></x></query>`,
	} {
		ask(c, "set", payload)
		c.Expect(refusal(romeo, "modify", "not-acceptable"))
	}
	w.net.quiet(t)

	ask(c, "set", `<query xmlns='jabber:iq:register'><phone>15551234</phone><password>0000</password></query>`)
	w.net.expect(t, "registered romeo@example.org password=0000 phone=15551234")
	c.Expect(result(romeo, ""),
		`<presence type='subscribe' from='sms.example.org' to='romeo@example.org'/>`,
		`<presence from='sms.example.org' to='romeo@example.org'>`+caps+`</presence>`)

	// The user's server and client do their part.
	c.Send(`<presence type='subscribed' to='sms.example.org'/>`) // behind it comes the user's presence: a log-in
	w.net.expect(t, "presence romeo@example.org/orchard sms.example.org")
	expect(t, c, `<presence from='sms.example.org' to='romeo@example.org/orchard'>`+caps+`</presence>`)
	c.Send(`<presence type='subscribe' to='sms.example.org'/>`)
	expect(t, c, `<presence type='subscribed' from='sms.example.org' to='romeo@example.org'/>`,
		`<presence from='sms.example.org' to='romeo@example.org'>`+caps+`</presence>`)

	// XEP-0100 §4.2: what is on file, without the secret; an empty one keeps it.
	ask(c, "get", `<query xmlns='jabber:iq:register'/>`)
	expect(t, c, result(romeo, `<query xmlns='jabber:iq:register'><registered/><instructions>Your number and PIN, please.</instructions>
		<phone>15551234</phone><password/>`+form("<value>15551234</value>", "")+`</query>`))
	ask(c, "set", `<query xmlns='jabber:iq:register'><phone>15559999</phone><password/></query>`)
	w.net.expect(t, "changed romeo@example.org password=0000 phone=15559999")
	expect(t, c, result(romeo, ""))

	w = w.restart(telephone)
	r, err := w.gw.Registration(context.Background(), jid.Must("romeo@example.org"))
	if err != nil || r.Fields["phone"] != "15559999" || r.Fields["password"] != "0000" || w.gw.Count() != 1 {
		t.Fatalf("after a restart: %+v, %v, %d", r, err, w.gw.Count())
	}
}

// XEP-0100 §4.3.1, XEP-0077 §3.2.
func TestUnregister(t *testing.T) {
	w := start(t, telephone, kit.Options{})
	w.up()
	c := w.online(romeo)
	user := jid.Must("romeo@example.org")
	ask(c, "set", `<query xmlns='jabber:iq:register'><remove/></query>`)
	c.Expect(`<iq type='error' id='1' from='sms.example.org' to='` + romeo + `'><error type='auth'>
		<registration-required xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`)
	if err := w.gw.Enroll(context.Background(), user, map[string]string{"phone": "1"}); err != nil {
		t.Fatal(err)
	}
	w.net.expect(t, "registered romeo@example.org phone=1")
	expect(t, c, `<presence type='subscribe' from='sms.example.org' to='romeo@example.org'/>`,
		`<presence from='sms.example.org' to='romeo@example.org'>`+caps+`</presence>`)
	set(w, `<presence from='+1@sms.example.org'><show>away</show></presence>`)
	w.settle()
	if err := w.gw.PutContact(context.Background(), user, contact("+1"), "One", nil, false); err != nil {
		t.Fatal(err)
	}
	c.Send(`<presence type='subscribe' to='+1@sms.example.org'/>`)
	w.net.expect(t, "subscribe romeo@example.org +1@sms.example.org")
	expect(t, c, `<presence type='subscribed' from='+1@sms.example.org' to='romeo@example.org'/>`,
		`<presence from='+1@sms.example.org' to='romeo@example.org'><show>away</show>`+caps+`</presence>`)

	ask(c, "set", `<query xmlns='jabber:iq:register'><remove/><phone/></query>`)
	expect(t, c, refusal(romeo, "modify", "bad-request"))
	ask(c, "set", `<query xmlns='jabber:iq:register'><remove/></query>`)
	w.net.expect(t, "unregistered romeo@example.org phone=1")
	expect(t, c, result(romeo, ""),
		`<presence type='unavailable' from='+1@sms.example.org' to='romeo@example.org'/>`,
		`<presence type='unsubscribed' from='+1@sms.example.org' to='romeo@example.org'/>`,
		`<presence type='unsubscribe' from='sms.example.org' to='romeo@example.org'/>`,
		`<presence type='unavailable' from='sms.example.org' to='romeo@example.org'/>`)
	if list, err := w.gw.Contacts(context.Background(), user); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	if _, err := w.gw.Registration(context.Background(), user); !errors.Is(err, kit.ErrNotRegistered) {
		t.Error(err)
	}
	if err := w.gw.Unregister(context.Background(), user); !errors.Is(err, kit.ErrNotRegistered) || w.gw.Count() != 0 {
		t.Error(err, w.gw.Count())
	}
}

// XEP-0100 §4.1.2: the network does not accept the credentials.
func TestRegistrationRefused(t *testing.T) {
	w := start(t, telephone, kit.Options{MaxRegistrations: 1, MaxRegistering: 1})
	w.net.refuse = stanza.Err(stanza.NotAcceptable, "wrong PIN")
	c := w.online(romeo)
	fill := `<query xmlns='jabber:iq:register'><phone>1</phone><password>2</password></query>`
	ask(c, "set", fill)
	c.Expect(refusal(romeo, "modify", "not-acceptable"))
	if w.gw.Count() != 0 {
		t.Error("registered")
	}
	w.net.mu.Lock()
	w.net.refuse, w.net.stalled = nil, make(chan struct{})
	w.net.mu.Unlock()
	ask(c, "set", fill)
	ask(c, "set", fill) // one is under way
	c.Expect(refusal(romeo, "wait", "resource-constraint"))
	close(w.net.stalled)
	c.Expect(result(romeo, ""))
	if err := w.gw.Enroll(context.Background(), jid.Must("juliet@example.org"), nil); !errors.Is(err, kit.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
}

// XEP-0077 §3.1: a host without registration says so; and what a user has asked of a
// gateway before registering is granted then.
func TestNoRegistration(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{})
	w.up()
	c := w.online(romeo)
	for _, typ := range []string{"get", "set"} {
		ask(c, typ, `<query xmlns='jabber:iq:register'/>`)
		c.Expect(refusal(romeo, "cancel", "service-unavailable"))
	}
	w.net.quiet(t)

	w = start(t, telephone, kit.Options{})
	w.up()
	c = w.online(romeo)
	c.Send(`<presence type='subscribe' to='sms.example.org'/>`)
	if err := w.gw.Enroll(context.Background(), jid.Must("romeo@example.org"), nil); err != nil {
		t.Fatal(err)
	}
	expect(t, c, `<presence type='subscribed' from='sms.example.org' to='romeo@example.org'/>`)
}

// XEP-0050: the same by a command.
func TestCommand(t *testing.T) {
	w := start(t, telephone, kit.Options{})
	c := w.online(romeo)
	ask(c, "get", `<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>`)
	c.Expect(result(romeo, `<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'>
		<item jid='sms.example.org' node='register' name='*'/><item jid='sms.example.org' node='unregister' name='*'/></query>`))
	ask(c, "get", `<query xmlns='http://jabber.org/protocol/disco#info' node='register'/>`)
	c.Expect(result(romeo, `<query xmlns='http://jabber.org/protocol/disco#info' node='register'>
		<identity category='automation' type='command-node' name='*'/><feature var='http://jabber.org/protocol/commands'/><feature var='jabber:x:data'/></query>`))
	ask(c, "set", `<command xmlns='http://jabber.org/protocol/commands' node='register' action='execute'/>`)
	got := c.Next()
	if d := modtest.Diff(result(romeo, `<command xmlns='http://jabber.org/protocol/commands' node='register' sessionid='*' status='executing' xml:lang='en'>
		<actions execute='complete'><complete/></actions>`+form("", "<required/>")+`</command>`), got); d != "" {
		t.Fatal(d, got)
	}
	_, rest, _ := strings.Cut(got, "sessionid='")
	id, _, _ := strings.Cut(rest, "'")
	submit := func(session, action, payload string) {
		ask(c, "set", `<command xmlns='http://jabber.org/protocol/commands' node='register' sessionid='`+session+`' action='`+action+`'>`+payload+`</command>`)
	}
	filled := `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>jabber:iq:register</value></field>
		<field var='phone'><value>1</value></field><field var='password'><value>2</value></field></x>`
	for _, tt := range []struct{ session, action, payload, condition string }{
		{"x" + id, "complete", filled, "bad-sessionid"},
		{id, "next", filled, "bad-action"},
		{id, "jump", filled, "malformed-action"},
		{id, "complete", "", "bad-payload"},
		{id, "complete", `<x xmlns='jabber:x:data' type='submit'/>`, "bad-payload"},
	} {
		submit(tt.session, tt.action, tt.payload)
		if got := c.Next(); !strings.Contains(got, "<"+tt.condition+" ") || !strings.Contains(got, "<bad-request ") {
			t.Errorf("%+v: %s", tt, got)
		}
	}
	submit(id, "complete", filled)
	w.net.expect(t, "registered romeo@example.org password=2 phone=1")
	c.Expect(result(romeo, `<command xmlns='http://jabber.org/protocol/commands' node='register' sessionid='*' status='completed' xml:lang='en'>
		<note type='info'>You are registered.</note></command>`))
}

// An account that is removed leaves nothing behind, least of all its secrets.
func TestPurge(t *testing.T) {
	w := start(t, telephone, kit.Options{})
	user := jid.Must("romeo@example.org")
	ctx := context.Background()
	if err := w.gw.Enroll(ctx, user, map[string]string{"password": "2"}); err != nil {
		t.Fatal(err)
	}
	if err := w.gw.PutContact(ctx, user, contact("+1"), "One", []string{"a"}, false); err != nil {
		t.Fatal(err)
	}
	err := w.Store.Write(ctx, func(tx *store.Tx) error {
		w.gw.Forget(user)
		return kit.Purge(tx, user)
	})
	if err != nil {
		t.Fatal(err)
	}
	w = w.restart(telephone)
	if _, err := w.gw.Registration(ctx, user); !errors.Is(err, kit.ErrNotRegistered) {
		t.Error(err)
	}
	if list, err := w.gw.Contacts(ctx, user); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
