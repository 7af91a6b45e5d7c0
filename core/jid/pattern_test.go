package jid

import (
	"regexp"
	"strings"
	"testing"
)

func TestPatternMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		covers  string
		not     string
	}{
		{"example.org", "example.org juliet@example.org juliet@example.org/balcony example.org/x", "sub.example.org juliet@example.net"},
		{"Juliet@Example.ORG", "juliet@example.org juliet@example.org/balcony", "example.org romeo@example.org"},
		{"juliet@example.org/balcony", "juliet@example.org/balcony", "juliet@example.org juliet@example.org/chamber"},
		{"+49*@sms.example.org", "+49@sms.example.org +49170@sms.example.org/x", "+4@sms.example.org sms.example.org +49@example.org"},
		{"*@example.org", "a@example.org a@example.org/b", "example.org a@example.net"},
		{"a*b*c@example.org", "abc@example.org a-b-b-c@example.org abcbc@example.org", "ac@example.org abcd@example.org xabc@example.org"},
		{"*a*a@example.org", "aa@example.org bab-a@example.org", "a@example.org"},
	} {
		p := MustPattern(tt.pattern)
		if again := MustPattern(p.String()); again != p {
			t.Errorf("%s: its text is read as another pattern, %s", p, again)
		}
		for a := range strings.FieldsSeq(tt.covers) {
			if !p.Match(Must(a)) {
				t.Errorf("%s does not cover %s", p, a)
			}
			if q := PatternOf(Must(a)); q.String() != "example.org" && !p.Covers(q) && p.String() != q.String() {
				t.Errorf("%s does not cover the pattern %s", p, q)
			}
		}
		for a := range strings.FieldsSeq(tt.not) {
			if p.Match(Must(a)) {
				t.Errorf("%s covers %s", p, a)
			}
		}
		if p.Match(JID{}) || (Pattern{}).Match(Must("example.org")) {
			t.Error("what is zero matches")
		}
	}
	for _, bad := range []string{"", "*", "a@*.example.org", "a*@example.org/x", "a@b@c*", "*:@example.org", "a*@"} {
		if p, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, p)
		}
	}
}

func TestPatternCovers(t *testing.T) {
	for _, tt := range []struct {
		p, q string
		want bool
	}{
		{"example.org", "*@example.org", true},
		{"*@example.org", "example.org", false},
		{"*@example.org", "a*@example.org", false}, // hard to tell in general
		{"a*@example.org", "a*@example.org", true},
		{"juliet@example.org", "juliet@example.org/balcony", true},
		{"juliet@example.org/balcony", "juliet@example.org", false},
		{"*@example.org", "juliet@example.org/balcony", true},
		{"example.org", "example.net", false},
	} {
		if got := MustPattern(tt.p).Covers(MustPattern(tt.q)); got != tt.want {
			t.Errorf("%s covers %s: %v", tt.p, tt.q, got)
		}
	}
}

// FuzzGlob: a regular expression says the same.
func FuzzGlob(f *testing.F) {
	f.Add("a*b", "axxb")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, glob, s string) {
		re, err := regexp.Compile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(glob), `\*`, `.*`) + `\z`)
		if err != nil {
			t.Skip()
		}
		if got, want := globbed(glob, s), re.MatchString(s); got != want {
			t.Errorf("%q, %q: %v", glob, s, got)
		}
	})
}
