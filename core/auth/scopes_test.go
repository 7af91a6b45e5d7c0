package auth_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"trivium/core/auth"
	"trivium/core/jid"
)

func TestParseScopes(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"  ", ""},
		{"send:Juliet@Example.org", "send:juliet@example.org"}, // RFC 7622 §3.3
		{"admin:EXAMPLE.org. read:sms.example.org\tsend:+49*@sms.example.org", "send:+49*@sms.example.org read:sms.example.org admin:example.org"},
		{"send:a@b.example/two%20words", "send:a@b.example/two%20words"},
		{"send:a@b.example/%22%5C%25", "send:a@b.example/%22%5C%25"}, // RFC 6749 §3.3
		{"send:%6Auliet@example.org", "send:juliet@example.org"},
		{"read:jürgen@example.org", "read:jürgen@example.org"},
		{"read:a.example read:A.example admin:* admin:*", "read:a.example admin:*"},
	} {
		s, err := auth.ParseScopes(tt.in)
		if err != nil || s.String() != tt.want {
			t.Errorf("%q: %q, %v, want %q", tt.in, s.String(), err, tt.want)
		}
	}
	for _, in := range []string{
		"send", "send:", "sendjuliet@example.org", "write:example.org", "SEND:example.org", "send:@example.org", "send:*.example.org",
		"admin:", "admin:juliet@example.org", "admin:example.org/x", "read:100%@example.org", "read:a@b@c.example",
		strings.TrimSuffix(strings.Repeat("x ", 3), " "),
	} {
		if s, err := auth.ParseScopes(in); !errors.Is(err, auth.ErrScopes) || s.String() != "" {
			t.Errorf("%q: %q, %v", in, s.String(), err)
		}
	}
	var many strings.Builder
	for i := range 257 {
		fmt.Fprintf(&many, "send:u%d@example.org ", i)
	}
	if _, err := auth.ParseScopes(many.String()); !errors.Is(err, auth.ErrScopes) {
		t.Errorf("257 scopes: %v", err)
	}
	if s := auth.ScopesAmong(many.String()); len(s.SendAs) != 256 {
		t.Errorf("%d of 257 scopes", len(s.SendAs))
	}
	if s := auth.ScopesAmong("openid send: admin:x@y read:example.org profile"); s.String() != "read:example.org" {
		t.Errorf("among others: %s", s.String())
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		has, other string
		want       bool
	}{
		{"", "", true},
		{"send:example.org", "", true},
		{"", "send:example.org", false},
		{"send:example.org", "send:juliet@example.org send:+49*@example.org", true},
		{"send:example.org", "read:juliet@example.org", false},
		{"read:example.org", "send:juliet@example.org", false},
		{"send:example.org read:example.org", "send:juliet@example.org read:romeo@example.org/x", true},
		{"send:juliet@example.org", "send:example.org", false},
		{"send:juliet@example.org", "send:juliet@example.org/balcony", true},
		{"send:juliet@example.org/balcony", "send:juliet@example.org", false},
		{"send:+49*@sms.example.org", "send:+49151*@sms.example.org", false}, // it may say no
		{"send:+49*@sms.example.org", "send:+49151@sms.example.org", true},
		{"admin:example.org", "admin:example.org", true},
		{"admin:example.org", "admin:example.com", false},
		{"admin:example.org", "admin:*", false},
		{"admin:*", "admin:example.org admin:*", true},
		{"admin:*", "send:example.org", false},
	} {
		has, err := auth.ParseScopes(tt.has)
		other, err2 := auth.ParseScopes(tt.other)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		token := auth.Token{Scopes: has}
		if got := token.Covers(other); got != tt.want {
			t.Errorf("%q covers %q: %v", tt.has, tt.other, got)
		}
	}
}

func TestMayAdmin(t *testing.T) {
	for _, tt := range []struct {
		scopes, host string
		want         bool
	}{
		{"admin:example.org", "example.org", true},
		{"admin:example.org", "sub.example.org", false},
		{"admin:example.org", auth.AnyHost, false},
		{"admin:*", "example.org", true},
		{"admin:*", auth.AnyHost, true},
		{"admin:*", "", false},
		{"send:example.org read:example.org", "example.org", false},
	} {
		s, err := auth.ParseScopes(tt.scopes)
		if err != nil {
			t.Fatal(err)
		}
		token := auth.Token{Scopes: s}
		if got := token.MayAdmin(tt.host); got != tt.want {
			t.Errorf("%s may administer %q: %v", tt.scopes, tt.host, got)
		}
	}
}

// What is read is written so that the same is read, and it allows nothing that was
// not in the text.
func FuzzParseScopes(f *testing.F) {
	for _, s := range []string{
		"send:a@b.example read:c.example admin:*", "send:+4*@x", "send:a@b/two%20words", "admin:EXAMPLE.org", "read:%", "send:a@b/\u00a0x", "x:y", "read:[::1]", "send:ü*%25@x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := auth.ParseScopes(text)
		if err != nil {
			if !errors.Is(err, auth.ErrScopes) || !reflect.DeepEqual(s, auth.Scopes{}) {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		again, err := auth.ParseScopes(s.String())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%q became %q, which is %+v, %v", text, s.String(), again, err)
		}
		if !s.Covers(&again) || !again.Covers(&s) {
			t.Fatalf("%q does not cover itself", s.String())
		}
		among := auth.ScopesAmong(text)
		if !reflect.DeepEqual(among, s) {
			t.Fatalf("among: %+v, all: %+v", among, s)
		}
		if len(strings.Fields(s.String())) > len(strings.Fields(text)) {
			t.Fatalf("%q has more scopes than %q", s.String(), text)
		}
		for _, p := range s.SendAs {
			if j, ok := p.JID(); ok && !s.MaySend(j) {
				t.Fatalf("%q may not send as %s", s.String(), j)
			}
			if s.MaySend(jid.JID{}) {
				t.Fatal("anybody is nobody")
			}
		}
	})
}
