package archive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"trivium/core/mod/archive"
	"trivium/core/mod/disco"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
)

// XEP-0313 §4.1.6, Example 12, but for the fields of others.
func TestForm(t *testing.T) {
	for _, search := range []bool{false, true} {
		s, _ := start(t, archive.Options{FullText: search})
		juliet := s.Connect(chamber)
		more := ""
		if search { // XEP-0431 §3.1
			more = `<field type='text-single' var='{urn:xmpp:fulltext:0}fulltext'/>`
		}
		juliet.Send(`<iq type='get' id='form1'><query xmlns='urn:xmpp:mam:2'/></iq>`)
		juliet.Expect(`<iq type='result' id='form1' from='juliet@example.com' to='juliet@example.com/chamber'>
  <query xmlns='urn:xmpp:mam:2'>
    <x xmlns='jabber:x:data' type='form'>
      <field type='hidden' var='FORM_TYPE'>
        <value>urn:xmpp:mam:2</value>
      </field>
      <field type='jid-single' var='with'/>
      <field type='text-single' var='start'/>
      <field type='text-single' var='end'/>
      <field type='text-single' var='before-id'/>
      <field type='text-single' var='after-id'/>
      <field type='list-multi' var='ids'>
        <validate xmlns="http://jabber.org/protocol/xdata-validate" datatype="xs:string">
          <open/>
        </validate>
      </field>
      <field type='boolean' var='include-groupchat'/>` + more + `
    </x>
  </query>
</iq>`)
	}
}

// XEP-0313 §7.
func TestFeatures(t *testing.T) {
	m := archive.New(archive.Options{FullText: true})
	s := modtest.New(t, append(modules(m), disco.New(nil, disco.Options{}))...)
	juliet := s.Connect(chamber)
	features := func(to string) string {
		juliet.Send(`<iq type='get' id='disco1' to='` + to + `'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)
		return juliet.Next()
	}
	account, server := features("juliet@example.com"), features("example.com")
	for f, both := range map[string]bool{
		"urn:xmpp:mam:2": false, "urn:xmpp:mam:2#extended": false, "urn:xmpp:mam:2#groupchat-field": false, "urn:xmpp:sid:0": false,
		"urn:xmpp:message-retract:1": true, "urn:xmpp:message-retract:1#tombstone": false, "urn:xmpp:fulltext:0": false,
		"http://jabber.org/protocol/rsm": false,
	} {
		if !strings.Contains(account, "<feature var='"+f+"'/>") {
			t.Errorf("the account lacks %s", f)
		}
		if strings.Contains(server, "<feature var='"+f+"'/>") != both {
			t.Errorf("%s on the server: want %v", f, both)
		}
	}
}

func TestQueriesRefused(t *testing.T) {
	s, _ := start(t, archive.Options{PageMax: 3})
	juliet := s.Connect(chamber)
	send(juliet, orchard, "m")
	romeos := ask(t, s.Connect("romeo@example.net/x"), "", "").ids[0]
	full := strings.Repeat("<value>1</value>", 4)
	for _, tt := range []struct{ name, fields, rest, want string }{
		{"unknown field", field("{http://example.com/}stanza-content", "x"), "", "feature-not-implemented"}, // §4.1.6
		{"search that is off", field("{urn:xmpp:fulltext:0}fulltext", "x"), "", "feature-not-implemented"},
		{"start", field("start", "yesterday"), "", "bad-request"},
		{"end", field("end", "2010-07-07"), "", "bad-request"},
		{"with", field("with", "@"), "", "not-acceptable"}, // XEP-0004 §4
		{"groupchat", field("include-groupchat", "perhaps"), "", "not-acceptable"},
		{"field twice", field("with", "a@b") + field("with", "c@d"), "", "bad-request"},
		{"after-id", field("after-id", "09af3-cc343-b409f"), "", "item-not-found"}, // §4.1.4
		{"before-id", field("before-id", "7"), "", "item-not-found"},
		{"ids", field("ids", "7"), "", "item-not-found"},
		{"ids of another archive", field("ids", romeos), "", "item-not-found"},
		{"after-id of another archive", field("after-id", romeos), "", "item-not-found"},
		{"number in another spelling", field("ids", "+"+romeos), "", "item-not-found"},
		{"negative id", field("ids", "-1"), "", "item-not-found"},
		{"too many ids", `<field var='ids'>` + full + `</field>`, "", "policy-violation"},
		{"after", "", set(`<after>09af3-cc343-b409f</after>`), "item-not-found"}, // §5.2
		{"before", "", set(`<before>7</before>`), "item-not-found"},
		{"index", "", set(`<index>7</index>`), "feature-not-implemented"}, // XEP-0059 §2.6
		{"max", "", set(`<max>some</max>`), "bad-request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := ask(t, juliet, tt.fields, tt.rest); a.err != tt.want {
				t.Errorf("got %q, want %s", a.err, tt.want)
			}
		})
	}
	for _, form := range []string{
		`<x xmlns='jabber:x:data' type='submit'><field var='with'><value>a@b</value></field></x>`, // no FORM_TYPE
		`<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:1</value></field></x>`,
		`<x xmlns='jabber:x:data' type='cancel'/>`,
	} {
		if a := ask(t, juliet, "", form); a.err != "bad-request" {
			t.Errorf("%s: %q", form, a.err)
		}
	}
	juliet.Send(`<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2' node='x'/></iq>`)
	if x := juliet.Next(); !strings.Contains(x, "feature-not-implemented") {
		t.Error(x)
	}
	juliet.Quiet()
}

// XEP-0313 §8.1: forbidden, for every request, and nothing is told.
func TestArchivesOfOthers(t *testing.T) {
	s, _ := start(t, archive.Options{})
	send(s.Connect(chamber), "nurse@example.com", "secret")
	romeo := s.Connect(orchard)
	for _, tt := range []struct{ typ, payload string }{
		{"set", `<query xmlns='urn:xmpp:mam:2'/>`},
		{"get", `<query xmlns='urn:xmpp:mam:2'/>`},
		{"get", `<metadata xmlns='urn:xmpp:mam:2'/>`},
		{"get", `<prefs xmlns='urn:xmpp:mam:2'/>`},
		{"set", prefs("never", "", "")},
	} {
		for _, from := range []string{"", "remote"} {
			const request = `<iq type='%s' id='x' to='juliet@example.com'%s>%s</iq>`
			var got string
			if from == "" {
				romeo.Send(fmt.Sprintf(request, tt.typ, "", tt.payload))
				got = romeo.Next()
			} else {
				p := s.Peer("remote.example")
				p.Send(fmt.Sprintf(request, tt.typ, ` from='a@remote.example/x'`, tt.payload))
				got = p.Next()
			}
			if !strings.Contains(got, "<forbidden ") || strings.Contains(got, "secret") {
				t.Errorf("%s %s: %s", tt.typ, tt.payload, got)
			}
		}
	}
}

// XEP-0313 §5.5.
func TestMetadata(t *testing.T) {
	s, m := start(t, archive.Options{})
	juliet := s.Connect(chamber)
	get := func(want string) {
		t.Helper()
		juliet.Send(`<iq type='get' id='jui8921rr9'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
		juliet.Expect(`<iq type='result' id='jui8921rr9' from='juliet@example.com' to='juliet@example.com/chamber'>` + want + `</iq>`)
	}
	get(`<metadata xmlns='urn:xmpp:mam:2'/>`)
	send(juliet, orchard, "a")
	s.Advance(time.Minute)
	send(juliet, orchard, "b", "c")
	if m.Covers(juliet.Session) {
		t.Error("metadata alone are no messages")
	}
	a := ask(t, juliet, "", "")
	get(`<metadata xmlns='urn:xmpp:mam:2'><start id='` + a.ids[0] + `' timestamp='*'/><end id='` + a.ids[2] + `' timestamp='*'/></metadata>`)
	// In Bind 2 everybody is told (XEP-0386 §4.2).
	fresh := s.Connect("juliet@example.com/fresh")
	list := s.Host.Welcomes(t.Context(), fresh.Session)
	if len(list) != 1 {
		t.Fatalf("%d payloads", len(list))
	}
	el := list[0].(*stanza.Element)
	first, err := time.Parse(time.RFC3339, el.Child("", "start").Attr("timestamp"))
	if err != nil {
		t.Fatal(err)
	}
	last, err := time.Parse(time.RFC3339, el.Child("", "end").Attr("timestamp"))
	if err != nil {
		t.Fatal(err)
	}
	if d := last.Sub(first); d < time.Minute || d > time.Minute+10*time.Second {
		t.Errorf("from %v to %v", first, last)
	}
	if el.Child("", "end").Attr("id") != a.ids[2] || !m.Covers(fresh.Session) {
		t.Errorf("got %s", el)
	}
}

// XEP-0313 §6.1.1: a session that has asked the archive before it became available
// needs no offline messages.
func TestCovers(t *testing.T) {
	s, m := start(t, archive.Options{FullText: true})
	early, late := s.Connect(chamber), online(s, balcony)
	ask(t, early, "", "")
	ask(t, late, "", "")
	if !m.Covers(early.Session) || m.Covers(late.Session) {
		t.Errorf("early: %v, late: %v", m.Covers(early.Session), m.Covers(late.Session))
	}
	for i, tt := range []struct{ fields, rest string }{
		{field("ids", "1"), ""}, // fails
		{field("with", "romeo@example.net"), ""},
		{field("{urn:xmpp:fulltext:0}fulltext", "x"), ""},
		{"", set(`<max>0</max>`)},
	} {
		c := s.Connect(fmt.Sprintf("juliet@example.com/%d", i))
		ask(t, c, tt.fields, tt.rest)
		if m.Covers(c.Session) {
			t.Errorf("%v has not brought what waits", tt)
		}
	}
}

// Together with offline storage: what the archive has given is not given again, and
// what it has not got is.
func TestNoDoubleDelivery(t *testing.T) {
	s, _ := start(t, archive.Options{})
	romeo := s.Connect(orchard)
	send(romeo, "juliet@example.com", "kept")
	juliet := s.Connect(chamber)
	setPrefs(juliet, prefs("never", "", ""))
	send(romeo, "juliet@example.com", "not-kept")
	settle(t, s)
	ask(t, juliet, "", "").want(t, true, "kept")
	juliet.Send(`<presence/>`)
	for {
		x := juliet.Next()
		if strings.Contains(x, "id='kept'") {
			t.Errorf("delivered again: %s", x)
		}
		if strings.Contains(x, "id='not-kept'") {
			break
		}
	}
	juliet.Close()
	settle(t, s)
	// A session that does not ask gets what waits.
	setPrefs(s.Connect(garden), prefs("never", "", ""))
	juliet = s.Connect(chamber)
	setPrefs(juliet, prefs("always", "", ""))
	send(romeo, "juliet@example.com", "later")
	settle(t, s)
	last := online2(s, balcony)
	for {
		x := last.Next()
		if !strings.Contains(x, "id='later'") { // its presence; the one before may come again, see offline
			continue
		}
		if d := modtest.Diff(`<message from='`+orchard+`' to='juliet@example.com' type='chat' id='later'><body>later</body>`+
			`<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.com' id='*'/>`+
			`<delay xmlns='urn:xmpp:delay' from='example.com' stamp='*'>Offline Storage</delay></message>`, x); d != "" {
			t.Error(d)
		}
		break
	}
}

// A page is bounded in octets, but holds one message; what is behind can be asked
// for.
func TestPageBytes(t *testing.T) {
	s, _ := start(t, archive.Options{PageBytes: 10_000})
	juliet := s.Connect(chamber)
	for i := range 9 {
		juliet.Send(`<message to='` + orchard + `' type='chat' id='` + fmt.Sprint(i) + `'><body>` + strings.Repeat("x", 3000*(1+i/7*5)) + `</body></message>`)
	}
	ask(t, juliet, "", "").want(t, false, "0", "1", "2")
	a := ask(t, juliet, "", set(`<before/>`))
	a.want(t, false, "8") // larger than a page
	a = ask(t, juliet, "", set(`<before>`+a.first()+`</before>`))
	a.want(t, false, "7")
	ask(t, juliet, "", set(`<before>`+a.first()+`</before>`)).want(t, false, "4", "5", "6")
}

// A page has as many messages as the client wants and the server allows, and a
// session that is lost gets none.
func TestLimits(t *testing.T) {
	s, _ := start(t, archive.Options{Page: 2, PageMax: 4})
	juliet := s.Connect(chamber)
	send(juliet, orchard, "a", "b", "c", "d", "e", "f")
	ask(t, juliet, "", "").want(t, false, "a", "b")
	ask(t, juliet, "", set(`<max>3</max>`)).want(t, false, "a", "b", "c")
	ask(t, juliet, "", set(`<max>1000</max>`)).want(t, false, "a", "b", "c", "d")
	ask(t, juliet, field("include-groupchat", "true"), "").want(t, false, "a", "b") // §4.1.5: understood
	ask(t, juliet, field("include-groupchat", "false"), "").want(t, false, "a", "b")
	juliet.Session.Drop()
	juliet.Send(`<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2'/></iq>`)
	juliet.Quiet()
}

// Queries that have no session to answer to are refused: results are messages.
func TestWithoutSession(t *testing.T) {
	s, _ := start(t, archive.Options{})
	var turn module.Turn
	err := s.Router.Send(t.Context(), &turn, modtest.Parse(t, `<iq type='set' id='x' from='juliet@example.com/gone' to='juliet@example.com'><query xmlns='urn:xmpp:mam:2'/></iq>`), nil)
	if e, ok := err.(*stanza.Error); !ok || e.Condition != stanza.NotAllowed {
		t.Errorf("got %v", err)
	}
}

// The name of a query is echoed whatever is in it, and 'with' finds addresses that
// need escaping.
func TestEscaping(t *testing.T) {
	s, _ := start(t, archive.Options{})
	juliet := s.Connect(chamber)
	juliet.Send(`<message to='romeo@example.net/o&apos;&amp;&lt;' type='chat' id='m'><body>x</body></message>`)
	juliet.Send(`<message to='romeo@example.net/other' type='chat' id='n'><body>x</body></message>`)
	juliet.Send(`<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2' queryid='&apos;&lt;&quot;&gt;&amp;'>` +
		`<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>` +
		field("with", `romeo@example.net/o'&amp;&lt;`) + `</x></query></iq>`)
	el, err := stanza.ParseElement(juliet.Next())
	if err != nil {
		t.Fatal(err)
	}
	r := el.Child("", "result")
	if r.Attr("queryid") != `'<">&` || r.Child("", "forwarded").Child("", "message").Attr("to") != `romeo@example.net/o'&<` {
		t.Errorf("got %s", el)
	}
	if x := juliet.Next(); !strings.Contains(x, "complete='true'") {
		t.Error(x)
	}
}
