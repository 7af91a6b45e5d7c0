package kit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/router"
	"trivium/core/stanza"
)

func timeout(from, to, id string) string {
	return `<iq type='error' id='` + id + `' from='` + from + `' to='` + to + `'><error type='wait'>
		<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>`
}

func (w *world) send(xml string) error {
	var t router.Turn
	defer t.Flush()
	return w.gw.Send(context.Background(), &t, modtest.Parse(w.t, xml), nil)
}

// What the gateway does not answer the network does: once, to whom has asked.
func TestRequest(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{RequestTimeout: time.Hour})
	w.up()
	c := w.online(chamber)
	c.Send(`<iq type='get' to='` + plus1 + `' id='q1'><query xmlns='urn:x'/></iq>`)
	w.net.expect(t, "iq get juliet@example.org/chamber +1@sms.example.org q1")
	c.Send(`<iq type='get' to='` + plus1 + `' id='q1'><query xmlns='urn:x'/></iq>`) // the same id again
	expect(t, c, `<iq type='error' id='q1' from='`+plus1+`' to='`+chamber+`'><error type='cancel'>
		<conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>`)
	for _, bad := range []string{
		`<iq type='result' from='+2@sms.example.org' to='` + chamber + `' id='q1'/>`, // was not asked
		`<iq type='result' from='` + plus1 + `' to='` + chamber + `' id='q2'/>`,
		`<iq type='result' from='` + plus1 + `' to='` + balcony + `' id='q1'/>`,
	} {
		if err := w.send(bad); !errors.Is(err, kit.ErrNoRequest) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	answer := `<iq type='result' from='` + plus1 + `' to='` + chamber + `' id='q1'><query xmlns='urn:x'>42</query></iq>`
	if err := w.send(answer); err != nil {
		t.Fatal(err)
	}
	expect(t, c, answer)
	if err := w.send(answer); !errors.Is(err, kit.ErrNoRequest) {
		t.Errorf("answered twice: %v", err)
	}
	c.Quiet()

	// A network that answers from within, and one that refuses.
	w.net.onIQ = func(_ context.Context, st *stanza.Stanza) error {
		if st.ID == "q4" {
			return stanza.Err(stanza.NotAllowed, "no")
		}
		var t router.Turn
		defer t.Flush()
		return w.gw.Send(context.Background(), &t, st.Result(nil), nil)
	}
	c.Send(`<iq type='set' to='` + plus1 + `' id='q3'><query xmlns='urn:x'/></iq>`)
	expect(t, c, `<iq type='result' from='`+plus1+`' to='`+chamber+`' id='q3'/>`)
	c.Send(`<iq type='set' to='` + plus1 + `' id='q4'><query xmlns='urn:x'/></iq>`)
	expect(t, c, `<iq type='error' id='q4' from='`+plus1+`' to='`+chamber+`'><error type='cancel'>
		<not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error></iq>`)
	if err := w.send(`<iq type='result' from='` + plus1 + `' to='` + chamber + `' id='q4'/>`); !errors.Is(err, kit.ErrNoRequest) {
		t.Errorf("answered after it was refused: %v", err)
	}
}

// RFC 6120 §8.2.3: every request gets an answer, also of a network that is silent, slow
// or gone; and what waits is bounded.
func TestUnanswered(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{RequestTimeout: 20 * time.Millisecond})
	w.up()
	c := w.online(chamber)
	c.Send(`<iq type='get' to='` + plus1 + `' id='q1'><query xmlns='urn:x'/></iq>`)
	expect(t, c, timeout(plus1, chamber, "q1"))
	if err := w.send(`<iq type='result' from='` + plus1 + `' to='` + chamber + `' id='q1'/>`); !errors.Is(err, kit.ErrNoRequest) {
		t.Errorf("too late: %v", err)
	}
	for _, bad := range []string{``, `<a xmlns='urn:x'/><b xmlns='urn:x'/>`} {
		c.Send(`<iq type='get' to='` + plus1 + `' id='q2'>` + bad + `</iq>`)
		if got := c.Next(); !strings.Contains(got, "<bad-request ") {
			t.Errorf("%q: %s", bad, got)
		}
	}

	w = start(t, kit.Definition{}, kit.Options{RequestTimeout: time.Hour, MaxUserRequests: 2, MaxRequests: 3})
	w.up()
	c = w.online(chamber)
	r := w.online(romeo)
	full := func(c *modtest.Client, id string) {
		t.Helper()
		c.Send(`<iq type='get' to='` + plus1 + `' id='` + id + `'><query xmlns='urn:x'/></iq>`)
		if got := c.Next(); !strings.Contains(got, "<resource-constraint ") || !strings.Contains(got, "type='wait'") {
			t.Errorf("%s: %s", id, got)
		}
	}
	for i := range 2 {
		c.Send(fmt.Sprintf(`<iq type='get' to='%s' id='a%d'><query xmlns='urn:x'/></iq>`, plus1, i))
	}
	full(c, "a2")
	r.Send(`<iq type='get' to='` + plus1 + `' id='b0'><query xmlns='urn:x'/></iq>`)
	full(r, "b1")
	w.gw.SetUp(false) // there will be no answers
	c.ExpectSet(timeout(plus1, chamber, "a0"), timeout(plus1, chamber, "a1"))
	r.Expect(timeout(plus1, romeo, "b0"))
}

// The network asks, too.
func TestNetworkAsks(t *testing.T) {
	w := start(t, kit.Definition{}, kit.Options{RequestTimeout: time.Hour})
	c := w.online(chamber)
	befriend(t, w, c)
	c.Send(`<presence to='` + plus1 + `'/>`) // lets the contact's iqs through
	w.net.expect(t, "presence juliet@example.org/chamber +1@sms.example.org")
	if err := w.send(`<iq type='get' from='` + plus1 + `' to='` + chamber + `' id='n1'><query xmlns='jabber:iq:version'/></iq>`); err != nil {
		t.Fatal(err)
	}
	expect(t, c, `<iq type='get' from='`+plus1+`' to='`+chamber+`' id='n1'><query xmlns='jabber:iq:version'/></iq>`)
	for range 2 { // the second answer is nobody's
		c.Send(`<iq type='result' to='` + plus1 + `' id='n1'><query xmlns='jabber:iq:version'/></iq>`)
	}
	c.Send(`<iq type='result' to='` + plus1 + `' id='n2'/>`)
	c.Send(`<message to='` + plus1 + `'><body>next</body></message>`)
	w.net.expect(t, "iq result juliet@example.org/chamber +1@sms.example.org n1", "message juliet@example.org/chamber +1@sms.example.org next")
	if err := w.send(`<iq type='get' from='` + plus1 + `' to='` + chamber + `'><query xmlns='urn:x'/></iq>`); err == nil {
		t.Error("a request without an id was sent")
	}
}

func TestDisco(t *testing.T) {
	d := telephone
	w := start(t, d, kit.Options{Version: "1.2"})
	c := w.online(chamber)
	ask(c, "get", `<query xmlns='http://jabber.org/protocol/disco#info'/>`)
	got := c.Next()
	feature := func(vars ...string) (s string) {
		for _, v := range vars {
			s += `<feature var='` + v + `'/>`
		}
		return s
	}
	const form = `<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:x-trivium:gateway#capabilities</value></field>
		<field var='max_length' type='text-single'><value>%d</value></field>
		<field var='edits' type='boolean'><value>0</value></field><field var='retractions' type='boolean'><value>0</value></field>
		<field var='reactions' type='boolean'><value>%d</value></field><field var='replies' type='boolean'><value>0</value></field>
		<field var='typing' type='boolean'><value>0</value></field><field var='receipts' type='boolean'><value>%d</value></field>
		<field var='markers' type='boolean'><value>0</value></field>%s</x>`
	if diff := modtest.Diff(result(chamber, `<query xmlns='http://jabber.org/protocol/disco#info'><identity category='gateway' type='sms' name='Text messages'/>`+
		feature("http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items", "urn:xmpp:ping", "http://jabber.org/protocol/caps",
			"jabber:iq:gateway", `jid\20escaping`, "jabber:iq:register", "http://jabber.org/protocol/commands", "jabber:iq:version")+
		fmt.Sprintf(form, 160, 0, 1, `<field var='media' type='text-multi'><value>image/*</value></field>`)+`</query>`), got); diff != "" {
		t.Fatal(diff, got)
	}
	ctx := context.Background()
	if err := w.gw.SetProfile(ctx, contact("+1"), kit.Profile{Capabilities: &kit.Capabilities{MaxLength: 1000, Reactions: true, Emoji: []string{"👍"}}}); err != nil {
		t.Fatal(err)
	}
	c.Send(`<iq type='get' to='` + plus1 + `' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)
	got = c.Next()
	if diff := modtest.Diff(`<iq type='result' id='1' from='`+plus1+`' to='`+chamber+`'><query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='phone'/>`+
		feature("http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items", "urn:xmpp:ping", "http://jabber.org/protocol/caps", "urn:xmpp:reactions:0")+
		fmt.Sprintf(form, 1000, 1, 0, "")+`<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:reactions:0:restrictions</value></field>
			<field var='allowlist' type='text-multi'><value>👍</value></field></x></query></iq>`, got); diff != "" {
		t.Fatal(diff, got)
	}
	for _, tt := range []struct{ payload, want string }{
		{`<ping xmlns='urn:xmpp:ping'/>`, ""},
		{`<query xmlns='jabber:iq:version'/>`, `<query xmlns='jabber:iq:version'><name>Trivium</name><version>1.2</version></query>`},
		{`<query xmlns='jabber:iq:gateway'/>`, `<query xmlns='jabber:iq:gateway'><prompt>Telephone number</prompt></query>`},
		{`<query xmlns='http://jabber.org/protocol/disco#items'/>`, `<query xmlns='http://jabber.org/protocol/disco#items'/>`},
	} {
		ask(c, "get", tt.payload)
		c.Expect(result(chamber, tt.want))
	}
	for _, node := range []string{"nothing", "urn:x-trivium:gateway#nothing"} {
		ask(c, "get", `<query xmlns='http://jabber.org/protocol/disco#info' node='`+node+`'/>`)
		if got := c.Next(); !strings.Contains(got, "<item-not-found ") {
			t.Error(got)
		}
	}
}

// XEP-0115 §6.2: what presence points to is there, and changes when it changes.
func TestCaps(t *testing.T) {
	w := start(t, kit.Definition{Presence: "assumed"}, kit.Options{})
	w.up()
	c := w.online(chamber)
	befriend(t, w, c)
	expect(t, c, pres("", plus1, juliet, ""))
	ver := func() string {
		t.Helper()
		c.Send(`<presence type='probe' to='` + plus1 + `'/>`)
		_, rest, ok := strings.Cut(c.Next(), "ver='")
		if !ok {
			t.Fatal("no capabilities")
		}
		v, _, _ := strings.Cut(rest, "'")
		return v
	}
	first := ver()
	c.Send(`<iq type='get' to='` + plus1 + `' id='1'><query xmlns='http://jabber.org/protocol/disco#info' node='urn:x-trivium:gateway#` + first + `'/></iq>`)
	if got := c.Next(); !strings.Contains(got, "<identity ") {
		t.Error(got)
	}
	if err := w.gw.SetProfile(context.Background(), contact("+1"), kit.Profile{
		Capabilities: &kit.Capabilities{Edits: true},
		VCard:        `<vCard xmlns='vcard-temp'><FN>One</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>AQID</BINVAL></PHOTO></vCard>`,
	}); err != nil {
		t.Fatal(err)
	}
	// XEP-0153: the SHA-1 of 01 02 03.
	expect(t, c, strings.Replace(pres("", plus1, juliet, ""), `</presence>`,
		`<x xmlns='vcard-temp:x:update'><photo>7037807198c22a7d2b0807371d763779a84fdfcf</photo></x></presence>`, 1))
	if again := ver(); again == first {
		t.Error("the same string for other features")
	}
	c.Send(`<iq type='get' to='` + plus1 + `' id='1'><vCard xmlns='vcard-temp'/></iq>`)
	expect(t, c, `<iq type='result' id='1' from='`+plus1+`' to='`+chamber+`'><vCard xmlns='vcard-temp'><FN>One</FN>
		<PHOTO><TYPE>image/png</TYPE><BINVAL>AQID</BINVAL></PHOTO></vCard></iq>`)
	for _, bad := range []string{`<vCard xmlns='urn:x'/>`, `<vCard`, `<vCard xmlns='vcard-temp'/><a/>`} {
		if err := w.gw.SetProfile(context.Background(), contact("+1"), kit.Profile{VCard: bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	w = w.restart(kit.Definition{})
	if caps, own, err := w.gw.CapabilitiesOf(context.Background(), contact("+1")); err != nil || !own || !caps.Edits {
		t.Errorf("after a restart: %+v, %v, %v", caps, own, err)
	}
}

// XEP-0100 §6.3, XEP-0106 §3.
func TestAddress(t *testing.T) {
	w := start(t, kit.Definition{Prompt: "Name", Description: "Please enter it."}, kit.Options{})
	c := w.online(chamber)
	ask(c, "get", `<query xmlns='jabber:iq:gateway'/>`)
	c.Expect(result(chamber, `<query xmlns='jabber:iq:gateway'><desc>Please enter it.</desc><prompt>Name</prompt></query>`))
	for _, tt := range []struct{ name, jid string }{
		{"+1 555 1234", `+1\20555\201234@sms.example.org`},
		{" juliet@capulet.lit ", `juliet\40capulet.lit@sms.example.org`},
		{"d'artagnan", `d\27artagnan@sms.example.org`},
		{"", ""},
		{"  ", ""},
		{strings.Repeat("x", 1024), ""},
	} {
		ask(c, "set", `<query xmlns='jabber:iq:gateway'><prompt>`+tt.name+`</prompt></query>`)
		if tt.jid == "" {
			c.Expect(refusal(chamber, "modify", "not-acceptable"))
			continue
		}
		c.Expect(result(chamber, `<query xmlns='jabber:iq:gateway'><jid>`+tt.jid+`</jid></query>`))
		if got := kit.Name(jid.Must(tt.jid)); got != strings.TrimSpace(tt.name) {
			t.Errorf("%s is called %s", tt.jid, got)
		}
	}
}

// Who may not use a gateway is told so.
func TestStrangers(t *testing.T) {
	d := telephone
	d.Registered, d.Users = true, []string{"example.org"}
	w := start(t, d, kit.Options{})
	w.up()
	c := w.online(chamber)
	p := w.Peer("elsewhere.example")
	refused := func(kind, id, from, to, condition string) string {
		return `<` + kind + ` type='error' id='` + id + `' from='` + from + `' to='` + to + `'><error type='auth'>
			<` + condition + ` xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></` + kind + `>`
	}
	for _, payload := range []string{
		`<message id='1' to='` + plus1 + `'%s><body>x</body></message>`,
		`<iq id='1' type='get' to='` + plus1 + `'%s><query xmlns='urn:x'/></iq>`,
		`<presence id='1' to='` + plus1 + `'%s/>`,
	} {
		kind, _, _ := strings.Cut(payload[1:], " ")
		c.Send(fmt.Sprintf(payload, ""))
		c.Expect(refused(kind, "1", plus1, chamber, "registration-required"))
		p.Send(fmt.Sprintf(payload, " from='a@elsewhere.example/b'"))
		p.Expect(refused(kind, "1", plus1, "a@elsewhere.example/b", "forbidden"))
	}
	c.Send(`<presence type='subscribe' to='` + plus1 + `'/>`)
	if got := c.Next(); strings.Contains(got, "jabber:iq:roster") {
		got = c.Next()
		if !strings.Contains(got, "<registration-required ") {
			t.Error(got)
		}
	}
	p.Send(`<iq id='1' type='set' from='a@elsewhere.example/b' to='sms.example.org'><query xmlns='jabber:iq:register'><phone>1</phone><password>2</password></query></iq>`)
	p.Expect(refused("iq", "1", "sms.example.org", "a@elsewhere.example/b", "forbidden"))
	w.net.quiet(t)
	if err := w.gw.Enroll(context.Background(), jid.Must(juliet), nil); err != nil {
		t.Fatal(err)
	}
	c.Send(`<message to='` + plus1 + `'><body>x</body></message>`)
	w.net.expect(t, "registered juliet@example.org", "message juliet@example.org/chamber +1@sms.example.org x")
}

func TestTooLong(t *testing.T) {
	w := start(t, kit.Definition{RefuseLong: true, Capabilities: kit.Capabilities{MaxLength: 160}}, kit.Options{})
	c := w.online(chamber)
	fits, long := strings.Repeat("é", 160), strings.Repeat("é", 161)
	c.Send(`<message to='` + plus1 + `'><body>` + fits + `</body></message>`)
	w.net.expect(t, "message juliet@example.org/chamber +1@sms.example.org "+fits)
	c.Send(`<message id='1' to='` + plus1 + `'><body>` + long + `</body></message>`)
	c.Expect(`<message type='error' id='1' from='` + plus1 + `' to='` + chamber + `'><error type='modify'>
		<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
		<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>the message has 161 characters; this network carries at most 160</text></error></message>`)
	if err := w.gw.Define(kit.Definition{Capabilities: kit.Capabilities{MaxLength: 160}}); err != nil { // pass it on then
		t.Fatal(err)
	}
	c.Send(`<message to='` + plus1 + `'><body>` + long + `</body></message>`)
	w.net.expect(t, "message juliet@example.org/chamber +1@sms.example.org "+long)
}

func TestDefinition(t *testing.T) {
	for field, d := range map[string]kit.Definition{
		"type":                           {Type: "SMS"},
		"client":                         {Client: "toaster"},
		"subscriptions":                  {Subscriptions: "maybe"},
		"presence":                       {Presence: "maybe"},
		"registered_only":                {Registered: true},
		"name":                           {Name: strings.Repeat("x", 256)},
		"users[0]":                       {Users: []string{"@"}},
		"capabilities.max_length":        {Capabilities: kit.Capabilities{MaxLength: -1}},
		"capabilities.media[0]":          {Capabilities: kit.Capabilities{Media: []string{"picture"}}},
		"registration.fields[0].name":    {Registration: &kit.Form{Fields: []kit.Field{{}}}},
		"registration.fields[1].name":    {Registration: &kit.Form{Fields: []kit.Field{{Name: "a"}, {Name: "a"}}}},
		"registration.fields[0].kind":    {Registration: &kit.Form{Fields: []kit.Field{{Name: "a", Kind: "b"}}}},
		"registration.fields[0].options": {Registration: &kit.Form{Fields: []kit.Field{{Name: "a", Kind: "list"}}}},
	} {
		var e *kit.DefinitionError
		if err := d.Check(); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	d := telephone
	if err := d.Check(); err != nil {
		t.Error(err)
	}
}
