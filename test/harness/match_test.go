package harness

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	const error1 = "<error type='cancel'><gone xmlns='" + NSStanzas + "'/></error>"
	for _, tt := range []struct {
		name, want, got string
		ok              bool
	}{
		{"same", "<a b='1' c='2'/>", `<a c="2" b="1"></a>`, true},
		{"value", "<a b='1'/>", "<a b='2'/>", false},
		{"attribute missing", "<a b='1'/>", "<a/>", false},
		{"attribute besides", "<a/>", "<a b='1'/>", false},
		{"any value", "<a b='*'/>", "<a b='x'/>", true},
		{"any value is not none", "<a b='*'/>", "<a/>", false},
		{"prefix", "<a xmlns='u'/>", "<x:a xmlns:x='u'/>", true},
		{"namespace", "<a xmlns='u'/>", "<a/>", false},
		{"prefix of an attribute", "<a xmlns:x='u' x:b='1'/>", "<a xmlns:y='u' y:b='1'/>", true},
		{"namespace of an attribute", "<a b='1'/>", "<a xmlns:y='u' y:b='1'/>", false},
		{"namespace in a value", "<a xmlns:x='u' x:b='1'/>", "<a xmlns:y='v' y:b='1'/>", false},
		{"text", "<a>x</a>", "<a>y</a>", false},
		{"any text", "<a>*</a>", "<a>y</a>", true},
		{"white space is text", "<a> </a>", "<a/>", false},
		{"white space between elements", "<a>\n <b/>\n</a>", "<a><b/></a>", true},
		{"text beside elements", "<a><b/></a>", "<a>x<b/></a>", false},
		{"order", "<a><b/><c/></a>", "<a><c/><b/></a>", false},
		{"any order", "<a _children='any-order'><b/><c/></a>", "<a><c/><b/></a>", true},
		{"any order is all", "<a _children='any-order'><b/></a>", "<a><c/><b/></a>", false},
		{"some", "<a _children='some'><b/></a>", "<a><c/><b/></a>", true},
		{"some are there", "<a _children='some'><b/><b/></a>", "<a><c/><b/></a>", false},
		{"none like this", "<a _children='some'><b/><c _not=''/></a>", "<a><b/><d/></a>", true},
		{"one like this", "<a _children='some'><b/><c _not=''/></a>", "<a><b/><c/></a>", false},
		{"child missing", "<a><b/></a>", "<a/>", false},
		{"child besides", "<a/>", "<a><b/></a>", false},
		{"some attributes", "<a _attributes='some' b='1'/>", "<a b='1' c='2'/>", true},
		{"some attributes are there", "<a _attributes='some' b='1'/>", "<a c='2'/>", false},
		{"no such mode of attributes", "<a _attributes='any'/>", "<a/>", false},
		{"any name", "<a><_ xmlns='u'/></a>", "<a><b xmlns='u'/></a>", true},
		{"any name in its namespace", "<a><_ xmlns='u'/></a>", "<a><b xmlns='v'/></a>", false},
		{"any name is not none", "<a><_ xmlns='u'/></a>", "<a/>", false},
		{"no such mode", "<a _children='none'/>", "<a/>", false},
		{"text of an error", "<a>" + error1 + "</a>", "<a>" + strings.Replace(error1, "</error>", "<text xmlns='"+NSStanzas+"'>Why</text></error>", 1) + "</a>", true},
		{"by of an error", "<a>" + error1 + "</a>", "<a>" + strings.Replace(error1, "<error", "<error by='b'", 1) + "</a>", true},
		{"condition of an error", "<a>" + error1 + "</a>", "<a>" + strings.Replace(error1, "gone", "conflict", 1) + "</a>", false},
		{"more in an error", "<a>" + error1 + "</a>", "<a>" + strings.Replace(error1, "</error>", "<b xmlns='u'/></error>", 1) + "</a>", false},
		{"same name, same value", "<a b='{x}' c='{x}'/>", "<a b='1' c='1'/>", true},
		{"same name, another value", "<a b='{x}' c='{x}'/>", "<a b='1' c='2'/>", false},
		{"captured before", "<a b='{known}'/>", "<a b='value'/>", true},
		{"not what was captured before", "<a b='{known}'/>", "<a b='other'/>", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := Parse(tt.want, NSClient)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(tt.got, NSClient)
			if err != nil {
				t.Fatal(err)
			}
			if d := (Vars{"known": "value"}).Match(want, got); (d == "") != tt.ok {
				t.Errorf("%q", d)
			}
			if strings.Contains(tt.got, "xmlns:y") {
				return // written for people, with the namespace in braces
			}
			again, err := Parse(got.String(), NSClient)
			if err != nil {
				t.Fatalf("%v in %s", err, got)
			}
			if d := (Vars{}).Match(got, again); d != "" {
				t.Errorf("written as %s: %s", got, d)
			}
		})
	}
}

func TestParseScript(t *testing.T) {
	for _, tt := range []struct{ text, err string }{
		{"romeo connects romeo@example.org/orchard\nromeo quiet\n", ""},
		{"# nothing\n", "no steps"},
		{"romeo dances", `no step "dances"`},
		{"romeo connects", "as whom"},
		{"romeo connects a@@b", "jid"},
		{"romeo > hello", "what?"},
		{"romeo < <message>", "x:1"},
		{"romeo < <a/><b/>", "more than one"},
		{"server of all work", "no setting"},
		{"  goes on", "nothing goes on"},
	} {
		s, err := ParseScript("x", tt.text)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.err)
		}
		if err == nil && (len(s.steps) != 2 || len(s.Options.Accounts) != 1 || s.Options.Hosts[0] != "example.org") {
			t.Errorf("%q: %+v", tt.text, s)
		}
	}
}

// TestWrongScripts plays conversations that do not happen: each step can fail.
func TestWrongScripts(t *testing.T) {
	const both = "romeo connects romeo@example.org/orchard\njuliet connects juliet@example.org/balcony\n"
	for _, tt := range []struct{ text, err string }{
		{"romeo > <message to='juliet@example.org/balcony'><body>a</body></message>\njuliet quiet", "did not expect"},
		{"romeo > <message to='juliet@example.org/balcony'><body>a</body></message>", "at the end"},
		{"romeo > <message to='juliet@example.org/balcony'><body>a</body></message>\njuliet < <message from='*' to='*'><body>b</body></message>", "holds"},
		{"romeo > <message to='juliet@example.org/balcony'><body>a</body></message>\njuliet <~ <message from='*' to='*'><body>b</body></message>", "not expected"},
		{"romeo > <message to='juliet@example.org/balcony'><body>a</body></message>\njuliet disconnects", "did not expect"},
		{"romeo > <unknown/>\nromeo ends not-authorized", "not-authorized"},
		{"romeo > <unknown/>\nromeo ends", "did not expect"},
		{"romeo features <a/>", "is not"},
		{"romeo connects romeo@example.org/garden", "connected already"},
		{"nurse quiet", "no such client"},
	} {
		s, err := ParseScript("x", both+tt.text)
		if err != nil {
			t.Fatal(err)
		}
		for _, framing := range Framings {
			t.Run(framing, func(t *testing.T) {
				if err := s.play(t, framing); err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%q: %v", tt.text, err)
				}
			})
		}
	}
}
