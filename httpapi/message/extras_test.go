package message

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// payload writes the draft and returns what stands in the message.
func payload(t *testing.T, in string, to jid.JID) string {
	t.Helper()
	var d Draft
	if err := Decode([]byte(in), &d); err != nil {
		t.Fatalf("%s: %v", in, err)
	}
	st, err := d.Stanza(romeo, to, wire.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", in, err)
	}
	return st.Payload()
}

// The elements are those of the examples in the specifications.
func TestExtrasElements(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{
			"XEP-0461 example 3", `{"body":"Great idea!","reply":{"to":"anna@example.com/tablet","id":"message-id1"}}`,
			`<body>Great idea!</body><reply to='anna@example.com/tablet' id='message-id1' xmlns='urn:xmpp:reply:0' />`,
		},
		{
			"XEP-0461 example 4",
			`{"body":"> Anna wrote:\n> We should bake a cake\nGreat idea!","reply":{"to":"anna@example.com/laptop","id":"message-id1"},
			  "fallback":[{"for":"urn:xmpp:reply:0","body":[{"start":0,"end":38}]}]}`,
			"<body>&gt; Anna wrote:\n&gt; We should bake a cake\nGreat idea!</body>" +
				`<reply to='anna@example.com/laptop' id='message-id1' xmlns='urn:xmpp:reply:0' />
				<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start="0" end="38" /></fallback>`,
		},
		{
			"XEP-0444 example 6", `{"reactions":{"id":"744f6e18-a57a-11e9-a656-4889e7820c76","emojis":["👋","🐢"]}}`,
			`<reactions id='744f6e18-a57a-11e9-a656-4889e7820c76' xmlns='urn:xmpp:reactions:0'><reaction>👋</reaction><reaction>🐢</reaction></reactions>
			 <store xmlns="urn:xmpp:hints"/>`,
		},
		{
			"XEP-0444 example 7", `{"reactions":{"id":"744f6e18","emojis":[]}}`,
			`<reactions id='744f6e18' xmlns='urn:xmpp:reactions:0'/><store xmlns="urn:xmpp:hints"/>`,
		},
		{
			"XEP-0308 example 4", `{"body":"But soft, what light through yonder window breaks?","replaces":"bad1","id":"good1"}`,
			`<body>But soft, what light through yonder window breaks?</body><replace id='bad1' xmlns='urn:xmpp:message-correct:0'/>`,
		},
		{
			"XEP-0424 example 4", `{"retracts":"wrong-recipient-1","body":"/me retracted a previous message, but it's unsupported by your client."}`,
			`<body>/me retracted a previous message, but it's unsupported by your client.</body><retract id="wrong-recipient-1" xmlns='urn:xmpp:message-retract:1'/>
			 <fallback xmlns="urn:xmpp:fallback:0" for='urn:xmpp:message-retract:1'/><store xmlns="urn:xmpp:hints"/>`,
		},
		{"XEP-0184 example 3", `{"body":"My lord","receipt_request":true}`, `<body>My lord</body><request xmlns='urn:xmpp:receipts'/>`},
		{"XEP-0184 example 4", `{"receipt":"richard2-4.1.247"}`, `<received xmlns='urn:xmpp:receipts' id='richard2-4.1.247'/>`},
		{"XEP-0333 example 3", `{"body":"Hi","marker":{"type":"markable"}}`, `<body>Hi</body><markable xmlns='urn:xmpp:chat-markers:0'/>`},
		{"XEP-0333 example 4", `{"marker":{"type":"displayed","id":"the-msg-1"}}`, `<displayed xmlns='urn:xmpp:chat-markers:0' id='the-msg-1'/>`},
		{"XEP-0085", `{"chat_state":"composing","thread":"t"}`, `<thread>t</thread><composing xmlns='http://jabber.org/protocol/chatstates'/>`},
		{
			"XEP-0334 example 1", `{"body":"V","hints":["no-copy","no-store"]}`,
			`<body>V</body><no-copy xmlns="urn:xmpp:hints"/><no-store xmlns="urn:xmpp:hints"/>`,
		},
		{
			"XEP-0359", `{"body":"x","origin_id":"de305d54","stanza_ids":[{"id":"5f3dbc5e"}]}`,
			`<body>x</body><stanza-id xmlns='urn:xmpp:sid:0' id='5f3dbc5e' by='romeo@example.net'/><origin-id xmlns='urn:xmpp:sid:0' id='de305d54'/>`,
		},
		{
			"XEP-0203", `{"body":"x","delay":{"stamp":"2002-09-11T01:08:25+02:00","reason":"Offline Storage"}}`,
			`<body>x</body><delay xmlns='urn:xmpp:delay' from='romeo@example.net' stamp='2002-09-10T23:08:25Z'>Offline Storage</delay>`,
		},
		{
			"XEP-0066 example 6", `{"body":"Yeah","oob":{"url":"http://www.jabber.org/images/psa-license.jpg"}}`,
			`<body>Yeah</body><x xmlns='jabber:x:oob'><url>http://www.jabber.org/images/psa-license.jpg</url></x>`,
		},
		{
			"XEP-0385 example 1",
			`{"body":"Look at the nice view from the summit.","media":[{"url":"https://download.montague.lit/summit.jpg","type":"image/jpeg","name":"summit.jpg",
			  "size":3032449,"hashes":{"sha3-256":"2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU="},"desc":"Photo from the summit.","begin":17,"end":20}]}`,
			`<body>Look at the nice view from the summit.</body>
			<reference xmlns='urn:xmpp:reference:0' begin='17' end='20' type='data'><media-sharing xmlns='urn:xmpp:sims:1'>
			<file xmlns='urn:xmpp:jingle:apps:file-transfer:5'><media-type>image/jpeg</media-type><name>summit.jpg</name><size>3032449</size>
			<hash xmlns='urn:xmpp:hashes:2' algo='sha3-256'>2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU=</hash><desc>Photo from the summit.</desc></file>
			<sources><reference xmlns='urn:xmpp:reference:0' type='data' uri='https://download.montague.lit/summit.jpg' /></sources></media-sharing></reference>`,
		},
		{
			"RFC 6121 §5.2.3", `{"body":"Wherefore art thou, Romeo?","bodies":{"cs":"Pročež jsi ty, Romeo?"},"subjects":{"cs":"Úpěnlivá prosba!"},"subject":"I implore you!"}`,
			`<subject>I implore you!</subject><subject xml:lang='cs'>Úpěnlivá prosba!</subject>
			 <body>Wherefore art thou, Romeo?</body><body xml:lang='cs'>Pročež jsi ty, Romeo?</body>`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := set(t, payload(t, tt.in, juliet))
			if want := set(t, tt.want); !reflect.DeepEqual(got, want) {
				t.Errorf("\n got %v\nwant %v", got, want)
			}
		})
	}
}

// set returns the elements of a payload in one spelling; their order means nothing.
func set(t *testing.T, inner string) map[string]int {
	t.Helper()
	root, err := stanza.ParseElement("<x>" + inner + "</x>")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]int{}
	for _, c := range root.Children("", "") {
		list[spell(c)]++
	}
	return list
}

func spell(e *stanza.Element) string {
	attrs := map[string]string{}
	for _, a := range e.Attrs {
		attrs[a.Space+" "+a.Local] = a.Value
	}
	a, _ := json.Marshal(attrs)
	text := "{" + e.Space + "}" + e.Local + string(a)
	children := ""
	for _, n := range e.Nodes {
		if n.El != nil {
			children += spell(n.El)
		} else if e.Child("", "") == nil {
			children += n.Text
		}
	}
	return text + "(" + children + ")"
}

func TestExtrasRefused(t *testing.T) {
	for _, tt := range []struct{ in, field string }{
		{`{"receipt":"a","receipt_request":true}`, "receipt_request"}, // XEP-0184 §5.4
		{`{"receipt":"a","body":"x"}`, "receipt"},
		{`{"replaces":"a"}`, "body"},
		{`{"replaces":"a","marker":{"type":"markable"}}`, "replaces"},
		{`{"replaces":"a","id":"a","body":"x"}`, "replaces"},
		{`{"replaces":"a","retracts":"b","body":"x"}`, "retracts"},
		{`{"reactions":{"id":"a","emojis":["👋","👋"]}}`, "reactions.emojis[1]"}, // XEP-0444 §4
		{`{"reactions":{"id":"a","emojis":[" "]}}`, "reactions.emojis[0]"},
		{`{"reactions":{"id":"","emojis":["👋"]}}`, "reactions.id"},
		{`{"reactions":{"id":"a","emojis":["👋"]},"type":"headline"}`, "reactions"},
		{`{"chat_state":"typing"}`, "chat_state"},
		{`{"chat_state":"composing","body":"x"}`, "chat_state"}, // XEP-0085 §5.6
		{`{"chat_state":"active","body":"x","type":"normal"}`, "chat_state"},
		{`{"marker":{"type":"displayed"}}`, "marker.id"},
		{`{"marker":{"type":"seen","id":"x"}}`, "marker.type"},
		{`{"marker":{"type":"markable","id":"x"},"body":"x"}`, "marker.id"},
		{`{"hints":["store"]}`, "body"},
		{`{"hints":["shop"],"body":"x"}`, "hints[0]"},
		{`{"hints":["store","no-store"],"body":"x"}`, "hints[0]"},
		{`{"hints":["no-copy"],"body":"x"}`, "hints[0]"}, // XEP-0334 §4.3
		{`{"stanza_ids":[{"id":"a","by":"juliet@example.com"}],"body":"x"}`, "stanza_ids[0].by"},
		{`{"stanza_ids":[{"id":"a"},{"id":"b"}],"body":"x"}`, "stanza_ids[1].by"},
		{`{"delay":{"stamp":"yesterday"},"body":"x"}`, "delay.stamp"},
		{`{"delay":{"stamp":"2002-09-10T23:08:25Z","from":"example.com"},"body":"x"}`, "delay.from"},
		{`{"oob":{"url":"/relative"}}`, "oob.url"},
		{`{"media":[{"url":"https://a.example/b","type":"jpeg"}]}`, "media[0].type"},
		{`{"media":[{"url":"https://a.example/b","hashes":{"sha-256":"?"}}]}`, "media[0].hashes"},
		{`{"media":[{"url":"https://a.example/b","begin":3}]}`, "media[0].end"},
		{`{"fallback":[{"for":""}],"body":"x"}`, "fallback[0].for"},
		{`{"fallback":[{"for":"u","body":[{"start":3,"end":2}]}],"body":"x"}`, "fallback[0]"},
		{`{"bodies":{"no_tag":"x"}}`, "bodies"},
		{`{"bodies":{"en":"x"},"lang":"EN","body":"y"}`, "bodies"},
		{`{"bodies":{"en":"x","EN":"y"}}`, "bodies"},
		{`{"bodies":{"en":"\u0000"}}`, "bodies"},
		{`{"reply":{"id":"x"}}`, "body"},
		{`{"reply":{"id":"x","to":"@"},"body":"x"}`, "reply.to"},
	} {
		var d Draft
		if err := Decode([]byte(tt.in), &d); err != nil {
			t.Fatalf("%s: %v", tt.in, err)
		}
		_, err := d.Stanza(romeo, juliet.Bare(), wire.Limits{})
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field {
			t.Errorf("%s: %v, want a fault at %s", tt.in, err, tt.field)
		}
	}
}

// expected is what Describe should find of a draft that was sent.
func expected(d *Draft, from jid.JID) *Extras {
	if d.Extras == nil {
		return nil
	}
	x := *d.Extras
	if len(x.Bodies) == 0 {
		x.Bodies = nil
	}
	if len(x.Subjects) == 0 {
		x.Subjects = nil
	}
	if x.Reactions != nil {
		x.Reactions = &Reactions{x.Reactions.ID, append([]string{}, x.Reactions.Emojis...)}
	}
	if x.Retracts != "" && d.Body != "" && len(x.Fallback) == 0 {
		x.Fallback = []Fallback{{For: NSRetract}}
	}
	if len(x.Hints) == 0 {
		x.Hints = nil
		if x.Reactions != nil || x.Retracts != "" {
			x.Hints = []string{"store"}
		}
	}
	var ids []StanzaID
	for _, id := range x.StanzaIDs {
		ids = append(ids, StanzaID{id.ID, from.Bare().String()})
	}
	x.StanzaIDs = ids
	if x.Delay != nil {
		dl := *x.Delay
		at, _ := time.Parse(time.RFC3339, dl.Stamp)
		dl.Stamp = at.UTC().Format("2006-01-02T15:04:05.999999999Z")
		if dl.From == "" {
			dl.From = from.Bare().String()
		}
		x.Delay = &dl
	}
	var media []Media
	for _, m := range x.Media {
		if len(m.Hashes) == 0 {
			m.Hashes = nil
		}
		media = append(media, m)
	}
	x.Media = media
	var fallback []Fallback
	for _, f := range x.Fallback {
		fallback = append(fallback, Fallback{f.For, append([]Range(nil), f.Body...), append([]Range(nil), f.Subject...)})
	}
	x.Fallback = fallback
	if x.nothing() {
		return nil
	}
	return &x
}

// FuzzExtras: what a draft says is what Describe finds in its stanza, after a trip
// over the wire.
func FuzzExtras(f *testing.F) {
	for _, in := range []string{
		`{"body":"hi"}`, `{}`,
		`{"body":"x","subject":"y","lang":"en","bodies":{"de":"x","CS-cz":"<&>"},"subjects":{"fr":"\n"}}`,
		`{"body":"x","reply":{"id":"a'\"<\n","to":"a@b/c"},"origin_id":"o","stanza_ids":[{"id":"s"}]}`,
		`{"reactions":{"id":"a","emojis":["👋","❤️"]},"hints":["no-store"]}`,
		`{"reactions":{"id":"a","emojis":null}}`,
		`{"body":"x","replaces":"a","receipt_request":true,"chat_state":"active","marker":{"type":"markable"}}`,
		`{"retracts":"a","body":"gone"}`, `{"receipt":"a","type":"normal"}`, `{"marker":{"type":"acknowledged","id":"x"}}`,
		`{"body":"x","delay":{"stamp":"2002-09-10T23:08:25.5+01:00","reason":"r"},"oob":{"url":"x:y","desc":"d"}}`,
		`{"media":[{"url":"https://a.example/b?c&d","name":"n","type":"a/b; c=d","size":1,"hashes":{"x":"AA=="},"begin":0,"end":2}]}`,
		`{"body":"x","fallback":[{"for":"u","body":[{},{"start":1,"end":2}],"subject":[{"start":0,"end":1}]},{"for":"v"}]}`,
	} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var d Draft
		if Decode([]byte(in), &d) != nil {
			return
		}
		d.Extensions = "" // may hold the same elements
		st, err := d.Stanza(romeo, juliet, wire.Limits{})
		if err != nil {
			return
		}
		over, err := stanza.ParseDocument(st.AppendDocument(nil))
		if err != nil {
			t.Fatal(err)
		}
		got := Describe(over, nil)
		want := expected(&d, romeo)
		if !reflect.DeepEqual(got.Extras, want) {
			a, _ := json.Marshal(got.Extras)
			b, _ := json.Marshal(want)
			t.Fatalf("%s\n got %s\nwant %s", st, a, b)
		}
		if d.Body != "" && got.Body != d.Body || got.Subject != d.Subject && d.Subject != "" || got.Thread != d.Thread || got.Lang != d.Lang || got.ID != st.ID {
			t.Fatalf("%+v of %+v", got, d)
		}
	})
}

// FuzzDescribe: whatever comes can be told, and as JSON that reads back the same.
func FuzzDescribe(f *testing.F) {
	f.Add(`<message xmlns='jabber:client' from='a@b' to='c@d'><body>x</body><reply xmlns='urn:xmpp:reply:0'/><x xmlns='jabber:x:oob'><url>u</url></x></message>`)
	f.Add(`<message xmlns='jabber:client' from='a@b' to='c@d' type='error'><received xmlns='urn:xmpp:receipts' id='x'/><error type='cancel'/></message>`)
	f.Fuzz(func(t *testing.T, in string) {
		st, err := stanza.ParseDocument([]byte(in))
		if err != nil || st.Kind != stanza.Message {
			return
		}
		d := Describe(st, []byte(in))
		raw, err := json.Marshal(&d)
		if err != nil {
			t.Fatal(err)
		}
		var again Data
		if err := json.Unmarshal(raw, &again); err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		if twice, _ := json.Marshal(&again); string(twice) != string(raw) {
			t.Fatalf("%s\n%s", raw, twice)
		}
		if st.Type == stanza.TypeError && d.Extras != nil && (d.Receipt != "" || d.Marker != nil) {
			t.Fatalf("an error acknowledges: %s", raw)
		}
	})
}

// An error may quote the receipt that it is about: it is none.
func TestErrorIsNoReceipt(t *testing.T) {
	st, err := stanza.ParseDocument([]byte(`<message xmlns='jabber:client' from='a@b' to='c@d' type='error'><received xmlns='urn:xmpp:receipts' id='x'/>` +
		`<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`))
	if err != nil {
		t.Fatal(err)
	}
	if d := Describe(st, nil); d.Extras != nil || d.Error.Condition != "service-unavailable" {
		t.Errorf("%+v", d)
	}
}

func TestPlainCostsNothing(t *testing.T) {
	st := stanza.New(stanza.Message, stanza.Chat, romeo, juliet, "i", stanza.TextEl(stanza.NSClient, "body", strings.Repeat("x", 100)))
	if n := testing.AllocsPerRun(100, func() { extras(st) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
