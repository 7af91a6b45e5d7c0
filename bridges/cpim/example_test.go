package cpim_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"trivium/bridges/cpim"
	"trivium/bridges/cpim/pidf"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// show prints an object with the line ends of a terminal.
func show(object []byte) { fmt.Println(strings.ReplaceAll(string(object), "\r\n", "\n")) }

// A message leaves XMPP.
func ExampleMapper_AppendMessage() {
	m := cpim.New(cpim.Options{Name: func(jid.JID) string { return "Alice Liddell" }})
	st := stanza.New(stanza.Message, stanza.Chat, jid.Must("alice@xmpp.example/phone"), jid.Must("bob@im.example"), "1",
		stanza.TextEl(stanza.NSClient, "subject", "Oběd").SetLang("cs"),
		stanza.TextEl(stanza.NSClient, "body", "Lunch at noon?"))
	object, err := m.AppendMessage(nil, st, cpim.Meta{
		Received: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), StanzaID: "7d0e2a9b",
	})
	if err != nil {
		fmt.Println(err)
	}
	show(object)
	// Output:
	// Content-Type: Message/CPIM
	//
	// From: Alice Liddell <im:alice@xmpp.example>
	// To: Alice Liddell <im:bob@im.example>
	// DateTime: 2026-03-01T12:00:00Z
	// Subject:;lang=cs Oběd
	//
	// Content-Type: text/plain; charset=utf-8
	// Content-ID: <7d0e2a9b@xmpp.example>
	//
	// Lunch at noon?
}

// A message that cannot be carried says what its sender is to be told.
func ExampleMapper_Message_encrypted() {
	st := stanza.New(stanza.Message, stanza.Chat, jid.Must("alice@xmpp.example/phone"), jid.Must("bob@im.example"), "1",
		stanza.El("urn:xmpp:omemo:2", "encrypted"))
	_, err := cpim.New(cpim.Options{}).Message(st, cpim.Meta{})
	var se *stanza.Error
	if errors.As(err, &se) {
		fmt.Println(st.ErrorReply(se))
	}
	// Output:
	// <message from='bob@im.example' to='alice@xmpp.example/phone' type='error' id='1'><error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>this contact cannot read messages encrypted with OMEMO</text></error></message>
}

// A message comes in. The transport has said who it is from.
func ExampleMapper_ReadMessage() {
	m := cpim.New(cpim.Options{Lost: func(part, why string) { fmt.Println("left behind:", part, why) }})
	object := "Content-Type: Message/CPIM\r\n\r\n" +
		"From: Bob <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\ncc: <im:carol@im.example>\r\n\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-ID: <a1b2@im.example>\r\nContent-Language: en\r\n\r\nSee you there"
	stanzas, err := m.ReadMessage(object, cpim.Envelope{From: jid.Must("bob@im.example")}, time.Now())
	if err != nil {
		fmt.Println(err) // a *stanza.Error: its condition goes back as the failure
	}
	for _, st := range stanzas {
		fmt.Println(st)
	}
	// Output:
	// left behind: cc is not passed on
	// <message from='bob@im.example' to='alice@xmpp.example' id='a1b2@im.example'><body xml:lang='en'>See you there</body></message>
}

// The presence of a user with two clients goes out in one document.
func ExamplePresentity() {
	m := cpim.New(cpim.Options{NoDateTime: true})
	alice, watcher := jid.Must("alice@xmpp.example"), jid.Must("bob@im.example")
	p, err := m.Presentity(alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p.Update(stanza.New(stanza.Presence, "", jid.Must("alice@xmpp.example/desk"), watcher, ""), now)
	p.Update(stanza.New(stanza.Presence, "", jid.Must("alice@xmpp.example/phone"), watcher, "",
		stanza.TextEl(stanza.NSClient, "show", "away")), now)
	msg, err := p.Notification(p.Document(now), watcher, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	object, err := msg.AppendTo(nil)
	if err != nil {
		fmt.Println(err)
	}
	show([]byte(strings.ReplaceAll(string(object), "><", ">\n<")))
	// Output:
	// Content-Type: Message/CPIM
	//
	// From: <im:alice@xmpp.example>
	// To: <im:bob@im.example>
	//
	// Content-Type: application/pidf+xml; charset=utf-8
	//
	// <?xml version='1.0' encoding='UTF-8'?>
	// <presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:alice@xmpp.example'>
	// <tuple id='ID-desk'>
	// <status>
	// <basic>open</basic>
	// </status>
	// <contact>im:alice@xmpp.example</contact>
	// <timestamp>2026-03-01T12:00:00Z</timestamp>
	// </tuple>
	// <tuple id='ID-phone'>
	// <status>
	// <basic>open</basic>
	// <show xmlns='jabber:client'>away</show>
	// <im:im xmlns:im='urn:ietf:params:xml:ns:pidf:im'>away</im:im>
	// </status>
	// <contact>im:alice@xmpp.example</contact>
	// <timestamp>2026-03-01T12:00:00.001Z</timestamp>
	// </tuple>
	// </presence>
}

// A presence document comes in, and only what has changed goes on.
func ExampleMapper_Notify() {
	m := cpim.New(cpim.Options{})
	bob, alice := jid.Must("bob@im.example"), jid.Must("alice@xmpp.example")
	var watched cpim.Watched // what alice knows of bob
	for _, basic := range []pidf.Basic{pidf.Open, pidf.Open, pidf.Closed} {
		doc := &pidf.Presence{Entity: "pres:bob@im.example", Tuples: []pidf.Tuple{{
			ID: "desk", Basic: basic, IM: "busy", Notes: []pidf.Note{{Lang: "en", Text: "on the phone"}},
		}}}
		for _, st := range m.Notify(&watched, cpim.Notification{From: bob, To: alice, Document: doc}) {
			fmt.Println(st)
		}
	}
	// Output:
	// <presence from='bob@im.example/desk' to='alice@xmpp.example'><show>dnd</show><status xml:lang='en'>on the phone</status></presence>
	// <presence from='bob@im.example/desk' to='alice@xmpp.example' type='unavailable'><status xml:lang='en'>on the phone</status></presence>
}
