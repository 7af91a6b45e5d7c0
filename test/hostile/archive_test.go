package hostile

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/mod"
	"trivium/core/mod/archive"
	"trivium/core/mod/commands"
	"trivium/test/harness"
)

const (
	nsMAM = "urn:xmpp:mam:2"
	nsID  = "urn:xmpp:sid:0"
)

func archiving(t *testing.T) *harness.Server {
	t.Helper()
	return start(t, harness.Options{Modules: mod.Options{Archive: archive.Options{Default: archive.Always, FullText: true}}})
}

// search is a query of the archive with a form.
func search(fields, page string) string {
	form := ""
	if fields != "" {
		form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + nsMAM + "</value></field>" + fields + "</x>"
	}
	return "<iq type='set' id='q'><query xmlns='" + nsMAM + "' queryid='&apos;&gt;&lt;evil/&gt;'>" + form + page + "</query></iq>"
}

func field(name string, values ...string) string {
	return "<field var='" + name + "'><value>" + strings.Join(values, "</value><value>") + "</value></field>"
}

func page(inner string) string {
	return "<set xmlns='http://jabber.org/protocol/rsm'>" + inner + "</set>"
}

// condition is that of an error, "" for a result.
func condition(n *harness.Node) string {
	e := n.Child(harness.NSClient, "error")
	if e == nil {
		return ""
	}
	for _, c := range e.Children {
		if c.Name.Space == harness.NSStanzas && c.Name.Local != "text" {
			return c.Name.Local
		}
	}
	return "nothing"
}

// XEP-0313 §4.1, §5.2, XEP-0059 §2.6, XEP-0431 §2: queries of every kind are answered,
// and the ids of others are as good as none.
func TestAbusedQueries(t *testing.T) {
	s := archiving(t)
	romeo, evil := login(t, s, "tcp", "romeo", "x"), login(t, s, "websocket", "mallory", "x")
	must(t, romeo.Send("<message to='juliet@example.org' type='chat'><body>secret</body></message>"))
	must(t, evil.Send("<message to='juliet@example.org' type='chat'><body>evil plan NEAR AND OR</body></message>"))
	alive(t, romeo)
	last := func(c *harness.Client) string {
		t.Helper()
		n := request(t, c, "<iq type='get' id='m'><metadata xmlns='"+nsMAM+"'/></iq>")
		return n.Child(nsMAM, "metadata").Child(nsMAM, "end").Attr("id")
	}
	theirs, mine := last(romeo), last(evil)
	many := make([]string, 240)
	for i := range many {
		many[i] = mine
	}
	const fulltext = "{urn:xmpp:fulltext:0}fulltext"
	for _, tt := range []struct {
		name, in, want string
		results        int
	}{
		{"plain", search("", ""), "", 1},
		{"of another", search(field("after-id", theirs), ""), "item-not-found", 0},
		{"before that of another", search(field("before-id", theirs), ""), "item-not-found", 0},
		{"the id of another", search(field("ids", theirs), ""), "item-not-found", 0},
		{"beside one's own", search(field("ids", mine, theirs), ""), "item-not-found", 0},
		{"page behind that of another", search("", page("<after>"+theirs+"</after>")), "item-not-found", 0},
		{"page in front of that of another", search("", page("<before>"+theirs+"</before>")), "item-not-found", 0},
		{"unknown", search("", page("<after>1</after>")), "item-not-found", 0},
		{"one id 240 times", search(field("ids", many...), ""), "", 1},
		{"ids without end", search(field("ids", strings.Split(strings.Repeat(mine+" ", 600), " ")...), ""), "policy-violation", 0},
		{"id that is none", search(field("ids", "' OR 1=1 --"), ""), "item-not-found", 0},
		{"negative id", search(field("ids", "-1"), ""), "item-not-found", 0},
		{"id with a sign", search(field("ids", "+"+mine), ""), "item-not-found", 0},
		{"id with zeros", search(field("ids", "0"+mine), ""), "item-not-found", 0},
		{"large id", search(field("ids", strings.Repeat("9", 400)), ""), "item-not-found", 0},
		{"large page", search("", page("<max>2147483647</max>")), "", 1},
		{"larger page, no xs:int", search("", page("<max>2147483648</max>")), "bad-request", 0},
		{"negative page", search("", page("<max>-1</max>")), "bad-request", 0},
		{"empty page", search("", page("<max>0</max>")), "", 0},
		{"by index", search("", page("<index>1000000</index>")), "feature-not-implemented", 0},
		{"both ways", search("", page("<after>"+mine+"</after><before>"+mine+"</before>")), "bad-request", 0},
		{"another form", strings.Replace(search(field("with", "x"), ""), nsMAM+"</value>", "urn:x</value>", 1), "bad-request", 0},
		{"unknown field", search(field("{urn:x}y", "1"), ""), "feature-not-implemented", 0},
		{"with nobody", search(field("with", "@"), ""), "not-acceptable", 0},
		{"with a pattern", search(field("with", "%@example.org"), ""), "", 0},
		{"with a quote", search(field("with", "juliet@example.org/'\"&lt;"), ""), "", 0},
		{"long ago", search(field("start", "0000-01-01T00:00:00Z"), ""), "", 1},
		{"long hence", search(field("end", "9999-12-31T23:59:59Z"), ""), "", 1},
		{"no time", search(field("start", "yesterday"), ""), "bad-request", 0},
		{"words", search(field(fulltext, "plan"), ""), "", 1},
		{"words of others", search(field(fulltext, "secret"), ""), "", 0},
		{"operators", search(field(fulltext, "evil NEAR plan"), ""), "", 1},
		{"or", search(field(fulltext, "secret OR nothing"), ""), "", 0},
		{"not", search(field(fulltext, "NOT evil"), ""), "", 0},
		{"an open quote", search(field(fulltext, `"evil`), ""), "", 1},
		{"quotes", search(field(fulltext, `"" """ ' * ^ : - + ( ) {body} x* body:evil`), ""), "", 0},
		{"a column", search(field(fulltext, "body:evil"), ""), "", 0},
		{"another account's words", search(field(fulltext, "1xsecret"), ""), "", 0},
		{"everything", search(field(fulltext, "*"), ""), "", 0},
		{"a prefix of the account", search(field(fulltext, "1x"), ""), "", 0},
		{"words without end", search(field(fulltext, strings.Repeat("a ", 5000)), ""), "policy-violation", 0},
		{"a long word", search(field(fulltext, strings.Repeat("a", 50_000)), ""), "", 0},
		{"a long phrase", search(field(fulltext, `"`+strings.Repeat("a ", 5000)+`"`), ""), "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			evil.Drain()
			n := request(t, evil, tt.in)
			if got := condition(n); got != tt.want {
				t.Errorf("want %q, got %s", tt.want, n)
			}
			results := 0
			for _, m := range evil.Drain() {
				r := m.Child(nsMAM, "result")
				if r == nil {
					continue
				}
				results++
				if q := r.Attr("queryid"); q != "'><evil/>" {
					t.Errorf("queryid is %q", q)
				}
				if strings.Contains(m.String(), "secret") {
					t.Errorf("got another's message: %s", m)
				}
			}
			if results != tt.results {
				t.Errorf("%d results, want %d", results, tt.results)
			}
		})
	}
	alive(t, evil)
}

// Archives, preferences and clients are their owner's: anybody else is answered as if
// there were no such account.
func TestArchivesOfOthers(t *testing.T) {
	s := archiving(t)
	juliet, evil := login(t, s, "tcp", "juliet", "here"), login(t, s, "bosh", "mallory", "x")
	available(t, juliet)
	for _, rq := range []struct{ typ, payload string }{
		{"set", "<query xmlns='" + nsMAM + "'/>"},
		{"get", "<query xmlns='" + nsMAM + "'/>"},
		{"get", "<metadata xmlns='" + nsMAM + "'/>"},
		{"get", "<prefs xmlns='" + nsMAM + "'/>"},
		{"set", "<prefs xmlns='" + nsMAM + "' default='never'><always/><never/></prefs>"},
		{"get", "<list xmlns='urn:xmpp:cam:0'/>"},
		{"set", "<revoke xmlns='urn:xmpp:cam:0' id='x'/>"},
		{"set", "<enable xmlns='urn:xmpp:carbons:2'/>"},
		{"set", "<command xmlns='http://jabber.org/protocol/commands' node='x'/>"},
	} {
		ask := func(to string) string {
			n := request(t, evil, "<iq type='"+rq.typ+"' id='x' to='"+to+"'>"+rq.payload+"</iq>")
			if n.Attr("type") != "error" {
				t.Errorf("%s to %s: %s", rq.payload, to, n)
			}
			return strings.ReplaceAll(n.String(), to, "")
		}
		if there, not := ask("juliet@example.org"), ask("nobody@example.org"); there != not {
			t.Errorf("%s tells them apart:\n%s\n%s", rq.payload, there, not)
		}
	}
	alive(t, juliet)
}

// XEP-0359 §3: ids that claim to be by the account or its server are the account's or
// the server's, on every way on which a message reaches a client.
func TestForgedIDs(t *testing.T) {
	s := archiving(t)
	evil := login(t, s, "tcp", "mallory", "x")
	forged := ""
	for i, by := range []string{"juliet@example.org", "Juliet@EXAMPLE.org", "example.org", "", "@", "juliet@example.org "} {
		forged += fmt.Sprintf("<stanza-id xmlns='%s' id='forged%d' by='%s'/>", nsID, i, by)
	}
	forged += "<s:stanza-id xmlns:s='" + nsID + "' id='forged-p' by='juliet@example.org'/><stanza-id xmlns='" + nsID + "' id='forged-n'/>"
	check := func(way string, m *harness.Node) {
		t.Helper()
		ids := 0
		for _, c := range m.Children {
			if c.Is(nsID, "stanza-id") {
				ids++
				if strings.HasPrefix(c.Attr("id"), "forged") {
					t.Errorf("%s: %s", way, c)
				}
			}
		}
		if ids > 1 {
			t.Errorf("%s: %d ids in %s", way, ids, m)
		}
	}
	message := func(to, payload string) string {
		return "<message type='chat' to='" + to + "'>" + payload + forged + "</message>"
	}
	const no = "<no-store xmlns='urn:xmpp:hints'/>"
	must(t, evil.Send(message("juliet@example.org", "<body>offline</body>")))
	alive(t, evil)
	phone, desk := login(t, s, "tcp", "juliet", "phone"), login(t, s, "websocket", "juliet", "desk")
	request(t, desk, "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
	available(t, phone)
	for _, payload := range []string{"<body>live</body>", "<body>not stored</body>" + no, "<composing xmlns='http://jabber.org/protocol/chatstates'/>"} {
		must(t, evil.Send(message("juliet@example.org/phone", payload)))
	}
	alive(t, evil)
	alive(t, phone)
	alive(t, desk)
	seen := 0
	for _, m := range phone.Drain() {
		if m.Name.Local == "message" {
			seen++
			check("live", m)
		}
	}
	for _, m := range desk.Drain() {
		if r := m.Child("urn:xmpp:carbons:2", "received"); r != nil {
			seen++
			check("carbon", r.Child("urn:xmpp:forward:0", "forwarded").Child(harness.NSClient, "message"))
		}
	}
	if n := request(t, desk, search("", "")); n.Attr("type") != "result" {
		t.Fatal(n)
	}
	for _, m := range desk.Drain() {
		if r := m.Child(nsMAM, "result"); r != nil {
			seen++
			check("archive", r.Child("urn:xmpp:forward:0", "forwarded").Child(harness.NSClient, "message"))
		}
	}
	if seen != 4+3+2 {
		t.Errorf("%d messages were seen", seen)
	}
	// Results, carbons and forwarded messages by others are messages like any other.
	must(t, evil.Send("<message to='juliet@example.org/desk'><result xmlns='"+nsMAM+"' id='1'><forwarded xmlns='urn:xmpp:forward:0'/></result></message>"))
	alive(t, evil)
	alive(t, desk)
	for _, m := range desk.Drain() {
		if m.Child(nsMAM, "result") != nil && m.Attr("from") != "mallory@example.org/x" {
			t.Errorf("a forged result: %s", m)
		}
	}
}

// XEP-0441: lists are bounded, and hold addresses.
func TestAbusedPreferences(t *testing.T) {
	s := archiving(t)
	c := login(t, s, "tcp", "mallory", "x")
	prefs := func(always string) string {
		return "<iq type='set' id='p'><prefs xmlns='" + nsMAM + "' default='roster'><always>" + always + "</always><never/></prefs></iq>"
	}
	for _, tt := range []struct{ in, want string }{
		{prefs(repeat(1500, func(i int) string { return fmt.Sprintf("<jid>u%d@example.org</jid>", i) })), "policy-violation"},
		{prefs(repeat(900, func(i int) string { return "<jid>" + strings.Repeat("x", 200) + fmt.Sprint(i) + "@example.org</jid>" })), ""},
		{prefs("<jid>@</jid>"), "jid-malformed"},
		{prefs("<jid/>"), "jid-malformed"},
		{prefs("<jid>a@b&#10;c@d</jid>"), "jid-malformed"},
		{strings.Replace(prefs(""), "'roster'", "'sometimes'", 1), "bad-request"},
		{strings.Replace(prefs(""), " default='roster'", "", 1), "bad-request"},
		{prefs(""), ""},
	} {
		if n := request(t, c, tt.in); condition(n) != tt.want {
			t.Errorf("%.120s: want %q, got %.300s", tt.in, tt.want, n)
		}
	}
}

// XEP-0050: an execution is that of the session that began it.
func TestCommandsOfOthers(t *testing.T) {
	s := start(t, harness.Options{Modules: mod.Options{Commands: commands.Options{
		Commands: func(user jid.JID, _ bool) []commands.Command {
			return []commands.Command{{Node: "say", Name: "Say", Args: []commands.Arg{{Name: "what", Required: true}}, Run: run}}
		},
	}}})
	command := func(id, attrs, payload string) string {
		return "<iq type='set' id='" + id + "' to='example.org'><command xmlns='http://jabber.org/protocol/commands' node='say'" + attrs + ">" + payload + "</command></iq>"
	}
	form := "<x xmlns='jabber:x:data' type='submit'><field var='what'><value>hello</value></field></x>"
	juliet, phone, evil := login(t, s, "tcp", "juliet", "here"), login(t, s, "tcp", "juliet", "phone"), login(t, s, "bosh", "mallory", "x")
	begun := request(t, juliet, command("1", " action='execute'", ""))
	id := begun.Child("http://jabber.org/protocol/commands", "command").Attr("sessionid")
	if id == "" {
		t.Fatal(begun)
	}
	for _, c := range []*harness.Client{evil, phone} {
		for _, action := range []string{"complete", "cancel", "prev", "next", "execute"} {
			if n := request(t, c, command("2", " sessionid='"+id+"' action='"+action+"'", form)); condition(n) != "bad-request" {
				t.Errorf("%s of another's: %s", action, n)
			}
		}
	}
	// Whoever begins without end loses his own.
	for i := range 50 {
		if n := request(t, evil, command(fmt.Sprint("f", i), "", "")); n.Attr("type") != "result" {
			t.Fatal(n)
		}
	}
	if n := request(t, juliet, command("3", " sessionid='"+id+"' action='complete'", form)); n.Attr("type") != "result" {
		t.Errorf("the execution is gone: %s", n)
	}
	if n := request(t, juliet, command("4", " sessionid='"+id+"' action='complete'", form)); condition(n) == "" {
		t.Errorf("completed twice: %s", n)
	}
}

func run(_ context.Context, args map[string]string) (any, error) { return args["what"], nil }
