package sasl

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	xdg "github.com/xdg-go/scram"

	"trivium/core/jid"
)

func TestOffer(t *testing.T) {
	exporter := channel{TLSExporter: []byte("x")}
	empty := channel{TLSExporter: nil}
	for _, tt := range []struct {
		name    string
		opts    Options
		secure  bool
		binding Binding
		want    string
		types   string
	}{
		{"in the clear", Options{}, false, nil, "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1", ""},
		{"in the clear, whatever the binding says", Options{}, false, bothTypes, "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1", ""},
		{"protected, not bound", Options{}, true, nil, "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", ""},
		{"protected, nothing to bind", Options{}, true, empty, "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", ""},
		{
			"bound",
			Options{},
			true, bothTypes,
			"SCRAM-SHA-512-PLUS SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN",
			"tls-exporter tls-server-end-point",
		},
		{"one hash", Options{Hashes: []Hash{SHA256}}, true, exporter, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", "tls-exporter"},
		{"own order", Options{Hashes: []Hash{SHA1, SHA256}, NoPlain: true}, true, nil, "SCRAM-SHA-1 SCRAM-SHA-256", ""},
		{"no SCRAM", Options{Hashes: []Hash{}}, true, bothTypes, "PLAIN", ""},
		{"anonymous only", Options{Hashes: []Hash{}, NoPlain: true, Anonymous: true}, false, nil, "ANONYMOUS", ""},
		{"all", Options{Anonymous: true, Hashes: []Hash{SHA256}}, true, exporter, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN ANONYMOUS", "tls-exporter"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := New(jid.Must("example.org"), &accounts{}, tt.opts).Offer(tt.secure, tt.binding)
			if got := strings.Join(o.Mechanisms(), " "); got != tt.want {
				t.Errorf("offers %q, want %q", got, tt.want)
			}
			if got := strings.Join(o.BindingTypes(), " "); got != tt.types {
				t.Errorf("binds %q, want %q", got, tt.types)
			}
			for _, m := range []string{
				"SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1",
				"PLAIN", "ANONYMOUS", "", "plain", "DIGEST-MD5", "EXTERNAL", "SCRAM-SHA-1-PLUS-PLUS",
			} {
				x, err := o.Start(m)
				switch {
				case slices.Contains(o.Mechanisms(), m):
					expect(t, err, "")
				case m == "PLAIN" && !tt.secure && !tt.opts.NoPlain:
					expect(t, err, EncryptionRequired)
				default:
					expect(t, err, InvalidMechanism)
				}
				if (x == nil) != (err != nil) {
					t.Errorf("Start(%q) = %v, %v", m, x, err)
				}
			}
		})
	}
}

// The example of XEP-0474 §5.3, and that the client's proof covers the hash.
func TestDowngradeProtection(t *testing.T) {
	backend := &accounts{passwords: map[string]string{"user": "pencil"}}
	s := New(jid.Must("example.org"), backend, Options{Hashes: []Hash{SHA1}, NoPlain: true})
	x := start(t, s.Offer(true, bothTypes), "SCRAM-SHA-1-PLUS")
	got, _, err := x.Step(t.Context(), []byte("p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6"))
	if err != nil || !strings.HasSuffix(string(got), ",i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08=") {
		t.Errorf("%q, %v", got, err)
	}
	// Without channel binding there is no second list.
	sum := sha1.Sum([]byte("SCRAM-SHA-1"))
	x = start(t, s.Offer(true, nil), "SCRAM-SHA-1")
	got, _, err = x.Step(t.Context(), []byte("n,,n=user,r=abc"))
	if err != nil || !strings.HasSuffix(string(got), ",h="+base64.StdEncoding.EncodeToString(sum[:])) {
		t.Errorf("%q, %v", got, err)
	}
	client, _ := xdg.SHA1.NewClientUnprepped("user", "pencil", "")
	expect(t, converse(t.Context(), client.NewConversation(), start(t, s.Offer(true, bothTypes), "SCRAM-SHA-1")), "")
	// Somebody who edits the hash on its way breaks the proof.
	x = start(t, s.Offer(true, nil), "SCRAM-SHA-1")
	got, _, err = x.Step(t.Context(), []byte("n,,n=user,r=abc"))
	if err != nil {
		t.Fatal(err)
	}
	edited := bytes.Replace(got, []byte(",h="), []byte(",h=A"), 1)
	nonce, _, _ := strings.Cut(string(got), ",")
	_, _, err = x.Step(t.Context(), proof(SHA1, "pencil", "n=user,r=abc", edited, "c=biws,"+nonce))
	expect(t, err, NotAuthorized)
}

func TestNewPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"user for a host": func() { New(jid.Must("a@b"), &accounts{}, Options{}) },
		"no host":         func() { New(jid.JID{}, &accounts{}, Options{}) },
		"no such hash":    func() { New(jid.Must("b"), &accounts{}, Options{Hashes: []Hash{0}}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: did not panic", name)
				}
			}()
			f()
		}()
	}
}

func TestPlain(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{
		"juliet": "r0m30myr0m30", "h\u00e9l\u00e8ne": "p\u00e2ris \u265a",
	}}, Options{})
	for _, tt := range []struct {
		name, message, username string
		condition               Condition
	}{
		{"right", "\x00juliet\x00r0m30myr0m30", "juliet", ""}, // RFC 6120 §9.1.2's
		{"upper case", "\x00Juliet\x00r0m30myr0m30", "juliet", ""},
		{"own authzid", "juliet@example.org\x00juliet\x00r0m30myr0m30", "juliet", ""},
		{"own authzid, not prepared", "JULIET@EXAMPLE.ORG.\x00juliet\x00r0m30myr0m30", "juliet", ""},
		{"decomposed", "\x00he\u0301le\u0300ne\x00pa\u0302ris\u3000\u265a", "h\u00e9l\u00e8ne", ""},
		{"wrong password", "\x00juliet\x00wrong", "", NotAuthorized},
		{"password in another case", "\x00juliet\x00R0m30myr0m30", "", NotAuthorized},
		{"unknown", "\x00nurse\x00r0m30myr0m30", "", NotAuthorized},
		{"whole address as name", "\x00juliet@example.org\x00r0m30myr0m30", "", NotAuthorized},
		{"password that no account has", "\x00juliet\x00\x07", "", NotAuthorized},
		{"another's authzid", "romeo@example.org\x00juliet\x00r0m30myr0m30", "", InvalidAuthzid},
		{"authzid elsewhere", "juliet@example.com\x00juliet\x00r0m30myr0m30", "", InvalidAuthzid},
		{"authzid is the host", "example.org\x00juliet\x00r0m30myr0m30", "", InvalidAuthzid},
		{"authzid is a name", "juliet\x00juliet\x00r0m30myr0m30", "", InvalidAuthzid},
		{"full authzid", "juliet@example.org/a\x00juliet\x00r0m30myr0m30", "", InvalidAuthzid},
		{"empty", "", "", MalformedRequest},
		{"one field", "juliet", "", MalformedRequest},
		{"two fields", "juliet\x00r0m30myr0m30", "", MalformedRequest},
		{"four fields", "\x00juliet\x00r0m30myr0m30\x00", "", MalformedRequest},
		{"NUL in the password", "\x00juliet\x00r0m30\x00myr0m30", "", MalformedRequest},
		{"no name", "\x00\x00r0m30myr0m30", "", MalformedRequest},
		{"no password", "\x00juliet\x00", "", MalformedRequest},
		{"not UTF-8", "\x00juliet\x00r0m30myr0m30\xff", "", MalformedRequest},
		{"too long", "\x00juliet\x00" + strings.Repeat("a", maxMessage), "", MalformedRequest},
		{"password too long", "\x00juliet\x00" + strings.Repeat("a", MaxPassword+1), "", NotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := start(t, s.Offer(true, nil), "PLAIN")
			got, done, err := x.Step(t.Context(), []byte(tt.message))
			expect(t, err, tt.condition)
			if got != nil || done != (tt.condition == "") || x.Username() != tt.username {
				t.Errorf("got %q, %v, name %q", got, done, x.Username())
			}
			if _, done, err := x.Step(t.Context(), []byte("\x00juliet\x00r0m30myr0m30")); done || err == nil {
				t.Error("a step after the end")
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{}, Options{Anonymous: true})
	for _, tt := range []struct {
		name      string
		message   []byte
		condition Condition
	}{
		{"no trace", []byte{}, ""},
		{"a trace", []byte("sirhc"), ""}, // RFC 4505 §4
		{"255 characters", []byte(strings.Repeat("\u00e9", 255)), ""},
		{"256 characters", []byte(strings.Repeat("a", 256)), MalformedRequest},
		{"not UTF-8", []byte("\xff"), MalformedRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := start(t, s.Offer(false, nil), "ANONYMOUS")
			got, done, err := x.Step(t.Context(), tt.message)
			expect(t, err, tt.condition)
			if got != nil || done != (tt.condition == "") || x.Username() != "" {
				t.Errorf("got %q, %v, name %q", got, done, x.Username())
			}
			if _, done, err := x.Step(t.Context(), []byte{}); done || err == nil {
				t.Error("a step after the end")
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []byte
		ok   bool
	}{
		{"", nil, true},
		{"=", []byte{}, true},
		{"AGp1bGlldAByMG0zMG15cjBtMzA=", []byte("\x00juliet\x00r0m30myr0m30"), true}, // RFC 6120 §6.4.2
		{"AGp1bGlldAByMG0zMG15cjBtMzA", nil, false},
		{"=AAA", nil, false}, // RFC 6120 §13.9.1
		{"BBBB=CCC", nil, false},
		{"AAAA\n", nil, false},
		{"AA AA", nil, false},
		{"AB==", nil, false}, // padding bits
		{"==", nil, false},
		{"--__", nil, false},
	} {
		got, err := Decode(tt.in)
		if !bytes.Equal(got, tt.want) || (got == nil) != (tt.want == nil) || (err == nil) != tt.ok {
			t.Errorf("Decode(%q) = %q, %v", tt.in, got, err)
		}
		if err != nil {
			expect(t, err, IncorrectEncoding)
		}
	}
}

func TestFailureTellsItsCause(t *testing.T) {
	err := failure(context.DeadlineExceeded)
	if err.Condition != TemporaryAuthFailure || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if got := (&Failure{Condition: Aborted}).Error(); got != "sasl: aborted" {
		t.Errorf("%q", got)
	}
}
