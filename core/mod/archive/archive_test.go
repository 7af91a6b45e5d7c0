package archive_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
	"trivium/core/mod/offline"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
	"trivium/core/stanza"
)

const (
	chamber = "juliet@example.com/chamber"
	balcony = "juliet@example.com/balcony"
	orchard = "romeo@example.net/orchard"
	garden  = "romeo@example.net/garden"
)

// modules are those that the archive works with, in their order.
func modules(m *archive.Module) []module.Module {
	r := roster.New(roster.Options{})
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	return []module.Module{m, offline.New(offline.Options{Covered: m.Covers}), r, p}
}

func start(t testing.TB, o archive.Options) (*modtest.Server, *archive.Module) {
	t.Helper()
	m := archive.New(o)
	return modtest.New(t, modules(m)...), m
}

func settle(t testing.TB, s *modtest.Server) {
	t.Helper()
	if err := s.Store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// online connects a client that gets messages.
func online(s *modtest.Server, full string) *modtest.Client {
	c := s.Connect(full)
	c.Send(`<presence/>`)
	c.Expect(`<presence from='` + full + `' to='` + full + `'/>`)
	return c
}

// message is one chat message; the name is its id and its text.
func message(to, name string) string {
	return `<message to='` + to + `' type='chat' id='` + name + `'><body>` + name + `</body></message>`
}

// forwarded is the result for a message.
func forwarded(owner, session, stanza string) string {
	stanza = strings.Replace(stanza, "<message", "<message xmlns='jabber:client'", 1)
	return `<message from='` + owner + `' to='` + session + `'><result xmlns='urn:xmpp:mam:2' id='*'><forwarded xmlns='urn:xmpp:forward:0'>` +
		`<delay xmlns='urn:xmpp:delay' stamp='*'/>` + stanza + `</forwarded></result></message>`
}

// answer is what a query got.
type answer struct {
	names    []string // of the messages, in the order in which they came
	ids      []string // of the results
	fin      *stanza.Element
	complete bool
	err      string // the condition
}

func (a answer) first() string {
	return a.fin.Child("", "set").ChildText("", "first")
}

func (a answer) last() string {
	return a.fin.Child("", "set").ChildText("", "last")
}

// ask sends a query and takes what comes. form holds fields and behind them
// whatever else goes into the query.
func ask(t testing.TB, c *modtest.Client, fields, rest string) answer {
	t.Helper()
	form := ""
	if fields != "" {
		form = `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>` + fields + `</x>`
	}
	c.Send(`<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2' queryid='f27'>` + form + rest + `</query></iq>`)
	var a answer
	for {
		el, err := stanza.ParseElement(c.Next())
		if err != nil {
			t.Fatal(err)
		}
		if el.Local == "iq" {
			if el.Attr("type") == "error" {
				for _, e := range el.Child("", "error").Children(stanza.NSStanzas, "") {
					if e.Local != "text" {
						a.err = e.Local
					}
				}
				return a
			}
			a.fin = el.Child(archive.NS, "fin")
			a.complete = a.fin.Attr("complete") == "true"
			return a
		}
		r := el.Child(archive.NS, "result")
		if r == nil || r.Attr("queryid") != "f27" {
			t.Fatalf("not a result: %s", el)
		}
		f := r.Child(archive.NSForward, "forwarded")
		if _, err := time.Parse(time.RFC3339, f.Child(archive.NSDelay, "delay").Attr("stamp")); err != nil {
			t.Error(err)
		}
		a.ids = append(a.ids, r.Attr("id"))
		a.names = append(a.names, f.Child(stanza.NSClient, "message").Attr("id"))
	}
}

func field(name string, values ...string) string {
	s := `<field var='` + name + `'>`
	for _, v := range values {
		s += `<value>` + v + `</value>`
	}
	return s + `</field>`
}

func set(inner string) string {
	return `<set xmlns='http://jabber.org/protocol/rsm'>` + inner + `</set>`
}

func (a answer) want(t testing.TB, complete bool, names ...string) {
	t.Helper()
	if a.err != "" {
		t.Fatalf("the query failed with %s", a.err)
	}
	if got, want := strings.Join(a.names, " "), strings.Join(names, " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a.complete != complete {
		t.Errorf("complete is %v, want %v", a.complete, complete)
	}
}

var stanzaID = regexp.MustCompile(`<stanza-id xmlns='urn:xmpp:sid:0' by='([^']*)' id='([^']*)'/>`)

// idOf returns the stanza-id of a message that was received.
func idOf(t testing.TB, xml, by string) string {
	t.Helper()
	id := ""
	for _, m := range stanzaID.FindAllStringSubmatch(xml, -1) {
		if m[1] == by {
			if id != "" {
				t.Fatalf("two ids by %s in %s", by, xml)
			}
			id = m[2]
		}
	}
	if id == "" {
		t.Fatalf("no id by %s in %s", by, xml)
	}
	return id
}

// XEP-0313 §3.5, §4: the message is in both archives, the recipient learns its own
// id and not the sender's.
func TestBothArchives(t *testing.T) {
	s, _ := start(t, archive.Options{})
	romeo, juliet := online(s, orchard), online(s, balcony)
	const body = `<body>Call me but love, and I'll be new baptized; Henceforth I never will be Romeo.</body>`
	romeo.Send(`<message to='juliet@example.com/balcony' type='chat'>` + body + `</message>`)
	got := juliet.Next()
	id := idOf(t, got, "juliet@example.com")
	if strings.Count(got, "stanza-id") != 1 {
		t.Errorf("more than one id in %s", got)
	}
	original := `<message from='romeo@example.net/orchard' to='juliet@example.com/balcony' type='chat'>` + body + `</message>`
	juliet.Send(`<iq type='set' id='juliet1'><query xmlns='urn:xmpp:mam:2' queryid='f27'/></iq>`)
	juliet.Expect(
		strings.Replace(forwarded("juliet@example.com", balcony, original), "id='*'", "id='"+id+"' queryid='f27'", 1),
		`<iq type='result' id='juliet1' from='juliet@example.com' to='juliet@example.com/balcony'><fin xmlns='urn:xmpp:mam:2' complete='true'>`+
			set(`<first>`+id+`</first><last>`+id+`</last>`)+`</fin></iq>`)
	romeo.Send(`<iq type='set' id='r1'><query xmlns='urn:xmpp:mam:2'/></iq>`)
	romeo.Expect(forwarded("romeo@example.net", orchard, original),
		`<iq type='result' id='r1' from='romeo@example.net' to='romeo@example.net/orchard'><fin xmlns='urn:xmpp:mam:2' complete='true'>`+
			set(`<first>*</first><last>*</last>`)+`</fin></iq>`)
}

func send(c *modtest.Client, to string, names ...string) {
	for _, n := range names {
		c.Send(message(to, n))
	}
}

func TestPaging(t *testing.T) {
	s, _ := start(t, archive.Options{})
	romeo := online(s, orchard)
	send(romeo, "juliet@example.com", "a", "b", "c", "d", "e")
	all := ask(t, romeo, "", "")
	all.want(t, true, "a", "b", "c", "d", "e")
	page := ask(t, romeo, "", set(`<max>2</max>`))
	page.want(t, false, "a", "b")
	page = ask(t, romeo, "", set(`<max>2</max><after>`+page.last()+`</after>`))
	page.want(t, false, "c", "d")
	page = ask(t, romeo, "", set(`<max>2</max><after>`+page.last()+`</after>`))
	page.want(t, true, "e")
	page = ask(t, romeo, "", set(`<max>2</max><before/>`))
	page.want(t, false, "d", "e")
	page = ask(t, romeo, "", set(`<max>3</max><before>`+page.first()+`</before>`)+`<flip-page/>`)
	page.want(t, true, "c", "b", "a")
	if page.first() != all.ids[0] || page.last() != all.ids[2] {
		t.Error("flipping has changed the page")
	}
	count := ask(t, romeo, "", set(`<max>0</max>`))
	count.want(t, false)
	if n := count.fin.Child("", "set").ChildText("", "count"); n != "5" {
		t.Errorf("%s messages, want 5", n)
	}
}

func TestRetraction(t *testing.T) {
	s, m := start(t, archive.Options{})
	romeo := online(s, orchard)
	send(romeo, "juliet@example.com", "wrong-recipient-1", "other")
	romeo.Send(`<message type='chat' to='juliet@example.com' id='retract-message-1'><retract id='wrong-recipient-1' xmlns='urn:xmpp:message-retract:1'/></message>`)
	for m.Stats.Tombstones.Load() < 2 {
		settle(t, s)
	}
	juliet := s.Connect(chamber)
	juliet.Send(`<iq type='set' id='j1'><query xmlns='urn:xmpp:mam:2'>` + set(`<max>1</max>`) + `</query></iq>`)
	juliet.Expect(forwarded("juliet@example.com", chamber, `<message from='romeo@example.net/orchard' to='juliet@example.com' type='chat' id='wrong-recipient-1'>`+
		`<retracted xmlns='urn:xmpp:message-retract:1' id='retract-message-1' stamp='*'/></message>`))
	juliet.Take()
	ask(t, juliet, "", "").want(t, true, "wrong-recipient-1", "other", "retract-message-1")
}

func TestSearch(t *testing.T) {
	s, _ := start(t, archive.Options{FullText: true})
	romeo := online(s, orchard)
	say := func(id, text string) {
		romeo.Send(`<message to='juliet@example.com' type='chat' id='` + id + `'><body>` + text + `</body></message>`)
	}
	say("1", "But, soft! what light through yonder window breaks?")
	say("2", "It is the east, and Juliet is the sun.")
	say("3", "Arise, fair sun, and kill the envious moon")
	for i := range 500 {
		say(fmt.Sprintf("x%d", i), fmt.Sprintf("filler %d", i))
	}
	full := func(q string) string { return field("{urn:xmpp:fulltext:0}fulltext", q) }
	ask(t, romeo, full("sun"), "").want(t, true, "2", "3")
	ask(t, romeo, full("SUN moon"), "").want(t, true, "3")
	ask(t, romeo, full(`"the sun"`), "").want(t, true, "2")
	ask(t, romeo, full(`win`), "").want(t, true, "1")
	ask(t, romeo, full(`nothing`), "").want(t, true)
	say("4", "sun again")
	ask(t, romeo, full("sun"), set(`<max>2</max><before/>`)).want(t, false, "3", "4")
	ask(t, romeo, full("filler 499"), "").want(t, true, "x499")
}
