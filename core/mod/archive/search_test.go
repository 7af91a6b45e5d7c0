package archive_test

import (
	"fmt"
	"strings"
	"testing"

	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
	"trivium/core/stanza"
)

// text is the field that asks for words.
func text(words string) string {
	v := stanza.TextEl(stanza.NSClient, "value", words).String()
	return strings.Replace(field("{urn:xmpp:fulltext:0}fulltext", ""), "<value></value>", v, 1)
}

// XEP-0431: "the intent is that a reasonable full-text search is performed".
func TestWords(t *testing.T) {
	s, _ := start(t, archive.Options{FullText: true})
	juliet := s.Connect(chamber)
	say := func(id, bodies string) {
		juliet.Send(`<message to='` + orchard + `' type='chat' id='` + id + `'>` + bodies + `</message>`)
	}
	say("1", `<body>But, soft! what light through yonder window breaks?</body>`)
	say("2", `<body>It is the east, and Juliet is the sun.</body>`)
	say("3", `<body>Arise, fair sun, and kill the envious moon</body>`)
	say("4", `<body>Où est la fenêtre &amp; le soleil?</body>`)
	say("5", `<body xml:lang='en'>window</body><body xml:lang='zh'>窗户和太阳</body>`)
	say("6", `<subject>sun</subject><store xmlns='urn:xmpp:hints'/>`) // no body
	say("7", `<body>write to sun@example.org or 555-1234</body>`)
	for _, tt := range []struct{ words, want string }{
		{"sun", "2 3 7"},
		{"SUN", "2 3 7"},
		{"su", "2 3 7"}, // a beginning
		{"un", ""},
		{"sun moon", "3"},
		{"moon sun", "3"},
		{`"fair sun"`, "3"},
		{`"sun fair"`, ""},
		{`"fair su"`, ""}, // whole words
		{"window", "1 5"},
		{"fenetre", "4"}, // accents
		{"FENÊTRE", "4"},
		{"ou est", "4"},
		{"太阳", "5"},
		{"阳太", ""},
		{"sun@example.org", "7"},
		{"555-1234", "7"},
		{"555-12", "7"},
		{"?!", ""},
		{"AND", "2 3"}, // no operators
		{"NOT sun", ""},
		{"sun* OR", "7"},
		{"body:sun", ""},
		{`"`, ""},
		{`moon the "sun`, "3"}, // an open quote is closed at the end
		{"1xsun", ""},          // nor the account's own prefix
	} {
		a := ask(t, juliet, text(tt.words), "")
		if a.err != "" || strings.Join(a.names, " ") != tt.want || !a.complete {
			t.Errorf("%q: got %q (%s), want %q", tt.words, a.names, a.err, tt.want)
		}
	}
	ask(t, juliet, field("{urn:xmpp:fulltext:0}fulltext", ""), set(`<max>1</max>`)).want(t, false, "1") // empty: no search
}

// Accounts that have not searched have nothing indexed, and nobody finds what is
// another's.
func TestSearchIsOfOneAccount(t *testing.T) {
	s, _ := start(t, archive.Options{FullText: true})
	indexed := func() (n int) {
		_, _, n = rows(t, s)
		return n
	}
	var clients []*modtest.Client
	for i := range 12 { // numbers that begin with each other
		c := s.Connect(fmt.Sprintf("user%d@example.com/x", i))
		send(c, orchard, fmt.Sprintf("word%d", i), "common")
		clients = append(clients, c)
	}
	if indexed() != 0 {
		t.Error("words are indexed before anybody searches")
	}
	for i, c := range clients {
		ask(t, c, text("common"), "").want(t, true, "common")
		ask(t, c, text("word"), "").want(t, true, fmt.Sprintf("word%d", i))
		if got, want := indexed(), 2*(i+1); got != want {
			t.Errorf("%d messages are indexed, want %d", got, want)
		}
	}
}

// Any text can be looked for, and its own words find a message.
func FuzzSearch(f *testing.F) {
	for _, x := range []string{"But, soft!", `"`, "a\"b*", "NEAR(a b)", "我们", "x' OR 1", "e\u0301\u0300", "^a", "-a", "{a}", "İ ſ ǅ ß", "ᚠ 𐌰"} {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, words string) {
		const name = "itself"
		s, _ := start(t, archive.Options{FullText: true})
		juliet := s.Connect(chamber)
		words = strings.ToValidUTF8(words, "")
		st := stanza.New(stanza.Message, "chat", juliet.JID, juliet.JID, name, stanza.TextEl(stanza.NSClient, "body", words))
		juliet.SendStanza(st, nil)
		juliet.Take()
		a := ask(t, juliet, text(words), set(`<before/>`))
		if a.err != "" && a.err != "policy-violation" {
			t.Fatalf("%q: %s", words, a.err)
		}
		if a.err == "" && strings.ContainsAny(strings.ToLower(words), "abcdefghijklmnopqrstuvwxyz") && (len(a.names) == 0 || a.names[len(a.names)-1] != name) {
			t.Errorf("%q does not find itself", words)
		}
	})
}
