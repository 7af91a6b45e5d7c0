package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"trivium/bridges/cpim/message"
	"trivium/bridges/cpim/pidf"
)

const addresses = ` from='juliet@example.org/balcony' to='romeo@sms.example.org'`

var noon = time.Date(2026, 3, 1, 12, 0, 0, 250000000, time.UTC)

func stanzaEvent(typ Type, doc string) *Event {
	return &Event{
		Seq: noon.UnixMicro(), Type: typ, Time: noon, Host: "sms.example.org", From: juliet, To: romeo,
		Stanza: []byte(doc),
	}
}

func TestEncodeJSON(t *testing.T) {
	const envelope = `"timestamp":"2026-03-01T12:00:00.25Z","host":"sms.example.org",`
	for _, tt := range []struct {
		name string
		e    *Event
		data string // without xml
	}{
		{
			"message",
			stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+` type='chat' id='m1'><body>Art thou &lt;Romeo&gt; &amp; co?</body></message>`),
			`{"id":"m1","from":"juliet@example.org/balcony","to":"romeo@sms.example.org","type":"chat","body":"Art thou <Romeo> & co?"}`,
		},
		{
			"presence",
			stanzaEvent(Presence, `<presence xmlns='jabber:client'`+addresses+`><show>away</show><status>at the ball</status><priority>-3</priority></presence>`),
			`{"from":"juliet@example.org/balcony","to":"romeo@sms.example.org","type":"available","show":"away","status":"at the ball","priority":-3}`,
		},
		{
			"presence with odd values",
			stanzaEvent(Presence, `<presence xmlns='jabber:client'`+addresses+` type='unavailable'><show>asleep</show><priority>900</priority></presence>`),
			`{"from":"juliet@example.org/balcony","to":"romeo@sms.example.org","type":"unavailable"}`,
		},
		{
			"subscription",
			stanzaEvent(Subscription, `<presence xmlns='jabber:client'`+addresses+` type='subscribe'><status>please</status></presence>`),
			`{"from":"juliet@example.org/balcony","to":"romeo@sms.example.org","type":"subscribe","status":"please"}`,
		},
		{
			"iq",
			stanzaEvent(IQ, `<iq xmlns='jabber:client'`+addresses+` type='get' id='v1'><vCard xmlns='vcard-temp'/></iq>`),
			`{"id":"v1","from":"juliet@example.org/balcony","to":"romeo@sms.example.org","type":"get","payload_namespace":"vcard-temp","payload_name":"vCard"}`,
		},
		{
			"delivery",
			&Event{Seq: noon.UnixMicro(), Type: Delivery, Time: noon, Host: "sms.example.org", Data: []byte(`{"state": "delivered"}`)},
			`{"state":"delivered"}`,
		},
		{"test", &Event{Seq: noon.UnixMicro(), Type: Test, Time: noon, Host: "sms.example.org"}, `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			typ, body, err := (&Encoder{}).Encode(tt.e, JSON)
			if err != nil || typ != "application/json" {
				t.Fatal(typ, err)
			}
			data := tt.data
			if tt.e.Stanza != nil {
				var xml strings.Builder
				enc := json.NewEncoder(&xml)
				enc.SetEscapeHTML(false)
				if err := enc.Encode(string(tt.e.Stanza)); err != nil {
					t.Fatal(err)
				}
				data = strings.TrimSuffix(data, "}") + `,"xml":` + strings.TrimSpace(xml.String()) + "}"
			}
			want := `{"id":"` + tt.e.ID() + `","type":"` + string(tt.e.Type) + `",` + envelope + `"data":` + data + `}`
			if string(body) != want {
				t.Errorf("got  %s\nwant %s", body, want)
			}
		})
	}
}

func TestEncodeXML(t *testing.T) {
	const doc = `<presence xmlns='jabber:client'` + addresses + `/>`
	typ, body, err := (&Encoder{}).Encode(stanzaEvent(Presence, doc), XML)
	if err != nil || typ != "application/xml" || string(body) != doc {
		t.Error(typ, string(body), err)
	}
	typ, body, err = (&Encoder{}).Encode(&Event{Type: Test, Data: []byte(`{}`)}, XML)
	if err != nil || typ != "application/json" || !json.Valid(body) {
		t.Error(typ, string(body), err)
	}
}

func TestEncodeMessageCPIM(t *testing.T) {
	e := stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+` type='chat'><subject>Hi</subject><body>Art thou Romeo?</body></message>`)
	typ, body, err := (&Encoder{}).Encode(e, CPIM)
	if err != nil || typ != "message/cpim" {
		t.Fatal(typ, err)
	}
	// RFC 3862 §2: the message headers come first, the media type is the transport's.
	if !strings.HasPrefix(string(body), "From: ") {
		t.Errorf("it begins with %q", body[:20])
	}
	m, err := message.Parse(string(body), message.Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if m.From.URI != "im:juliet@example.org" || len(m.To) != 1 || m.To[0].URI != "im:romeo@sms.example.org" ||
		!m.DateTime.Equal(noon.Truncate(time.Second)) && !m.DateTime.Equal(noon) ||
		len(m.Subjects) != 1 || m.Subjects[0].Text != "Hi" || m.Content.Body != "Art thou Romeo?" {
		t.Errorf("got %+v", m)
	}
}

func TestEncodePresenceCPIM(t *testing.T) {
	for _, tt := range []struct {
		doc  string
		want pidf.Basic
		note string
	}{
		{`<presence xmlns='jabber:client'` + addresses + `><show>dnd</show><status>busy</status></presence>`, pidf.Open, "busy"},
		{`<presence xmlns='jabber:client'` + addresses + ` type='unavailable'/>`, pidf.Closed, ""},
	} {
		typ, body, err := (&Encoder{}).Encode(stanzaEvent(Presence, tt.doc), CPIM)
		if err != nil || typ != "application/pidf+xml" {
			t.Fatal(typ, err)
		}
		p, err := pidf.Parse(string(body), pidf.Options{Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		if p.Entity != "pres:juliet@example.org" || len(p.Tuples) != 1 || p.Tuples[0].ID != "ID-balcony" || p.Tuples[0].Basic != tt.want {
			t.Errorf("got %+v", p)
		}
		if notes := p.Tuples[0].Notes; tt.note != "" && (len(notes) != 1 || notes[0].Text != tt.note) {
			t.Errorf("notes %+v", notes)
		}
	}
}

// TestEncodeFallback: what CPIM cannot carry is JSON and says so; nothing that is
// encrypted loses its protection.
func TestEncodeFallback(t *testing.T) {
	for name, e := range map[string]*Event{
		"chat state": stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+` type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>`),
		"encrypted": stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+` type='chat'><encrypted xmlns='eu.siacs.conversations.axolotl'>`+
			`<header sid='1'/></encrypted><body>I sent you an OMEMO encrypted message</body></message>`),
		"error":        stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+` type='error'><body>x</body></message>`),
		"room":         stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+` type='groupchat'><body>x</body></message>`),
		"subscription": stanzaEvent(Subscription, `<presence xmlns='jabber:client'`+addresses+` type='subscribe'/>`),
		"probe":        stanzaEvent(Presence, `<presence xmlns='jabber:client'`+addresses+` type='probe'/>`),
		"iq":           stanzaEvent(IQ, `<iq xmlns='jabber:client'`+addresses+` type='get' id='v1'><vCard xmlns='vcard-temp'/></iq>`),
		"encoded S/MIME": stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+`><e2e xmlns='urn:ietf:params:xml:ns:xmpp-e2e'>`+
			"Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\nAAAA</e2e></message>"),
		"delivery": {Type: Delivery, Time: noon, Data: []byte(`{"state":"delivered"}`)},
	} {
		typ, body, err := (&Encoder{}).Encode(e, CPIM)
		var envelope struct {
			Data struct{ XML string }
		}
		if err != nil || typ != "application/json" || json.Unmarshal(body, &envelope) != nil || envelope.Data.XML != string(e.Stanza) {
			t.Errorf("%s: %s, %s, %v", name, typ, body, err)
		}
	}
}

// TestEncodeEndToEnd: RFC 3923 §3: an object goes on octet for octet.
func TestEncodeEndToEnd(t *testing.T) {
	const object = "Content-Type: multipart/signed; boundary=next;\n protocol=\"application/pkcs7-signature\"\n\n--next\nContent-Type: text/plain\n\nx\n--next--\n"
	e := stanzaEvent(Message, `<message xmlns='jabber:client'`+addresses+`><e2e xmlns='urn:ietf:params:xml:ns:xmpp-e2e'>`+object+`</e2e></message>`)
	typ, body, err := (&Encoder{}).Encode(e, CPIM)
	if err != nil || !strings.HasPrefix(typ, "multipart/signed; boundary=next;") || strings.ContainsAny(typ, "\r\n") ||
		string(body) != object[strings.Index(object, "\n\n")+2:] {
		t.Errorf("%q %q %v", typ, body, err)
	}
}

func TestEncodeDamaged(t *testing.T) {
	for _, f := range []Format{JSON, CPIM} {
		if _, _, err := (&Encoder{}).Encode(stanzaEvent(Message, `<message`), f); err == nil {
			t.Errorf("%s: no error", f)
		}
	}
	for _, s := range []string{"yaml", "JSON", " json"} {
		if _, err := ParseFormat(s); err == nil {
			t.Errorf("ParseFormat(%q): no error", s)
		}
	}
}
