package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want entry
		err  string // part of the message; empty if it parses
	}{
		{in: "xep-0280 1.0.1 complete | Message Carbons", want: entry{series: "xep", number: "0280", version: "1.0.1", status: "complete", title: "Message Carbons"}},
		{in: "rfc-6121 partial | IM | only §2", want: entry{series: "rfc", number: "6121", status: "partial", title: "IM", note: "only §2"}},
		{in: "rfc-7622 complete", want: entry{series: "rfc", number: "7622", status: "complete"}},
		{in: "xep-0030 - complete", want: entry{series: "xep", number: "0030", status: "complete"}},
		{in: "xep-0388 1.0.0 partial | SASL2 | a | b", want: entry{series: "xep", number: "0388", version: "1.0.0", status: "partial", title: "SASL2", note: "a | b"}},
		{in: "", err: "empty"},
		{in: "rfc6120 complete | Core", err: "form rfc-6120"},
		{in: "xep-0280 complete | Message Carbons", err: "version"},
		{in: "rfc-6120 done | Core", err: "complete or partial"},
		{in: "rfc-6120 | Core", err: "complete or partial"},
		{in: "rfc-6120 partial | Core", err: "note"},
	} {
		got, err := parse(tt.in)
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("parse(%q): %v", tt.in, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("parse(%q): error %v, want one about %q", tt.in, err, tt.err)
		case tt.err == "" && got != tt.want:
			t.Errorf("parse(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

// tree writes Go files below a temporary root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTable(t *testing.T) {
	root := tree(t, map[string]string{
		"docs/specs.md":        "",
		"core/jid/jid.go":      "// Package jid is addresses.\n//\n//spec:rfc-7622 complete | Address Format\n//spec:xep-0106 1.1 complete | JID Escaping\npackage jid\n",
		"core/a/a.go":          "// Package a does half.\n//\n//spec:rfc-6121 partial | Instant Messaging | roster\npackage a\n",
		"core/b/b.go":          "// Package b does the other half.\n//\n//spec:rfc-6121 partial | | presence\npackage b\n",
		"core/b/b_test.go":     "// Package b in a test.\n//\n//spec:rfc-9999 complete | Ignored\npackage b\n",
		"core/b/testdata/x.go": "//spec:rfc-9998 complete | Ignored\npackage x\n",
	})
	if err := run(root, true); err == nil || !strings.Contains(err.Error(), "go run ./test/specs") {
		t.Errorf("check of a stale file: %v, want advice to run the generator", err)
	}
	if err := run(root, false); err != nil {
		t.Fatal(err)
	}
	if err := run(root, true); err != nil {
		t.Errorf("check of a fresh file: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/specs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(string(text), "## RFCs\n\n")
	const want = "" +
		"| RFC | Title | Where | How complete |\n" +
		"|---|---|---|---|\n" +
		"| [6121](https://www.rfc-editor.org/rfc/rfc6121) | Instant Messaging | [`core/a`](../core/a), [`core/b`](../core/b) | partial: `core/a`: roster; `core/b`: presence |\n" +
		"| [7622](https://www.rfc-editor.org/rfc/rfc7622) | Address Format | [`core/jid`](../core/jid) | complete |\n" +
		"\n## XEPs\n\n" +
		"| XEP | Title | Version | Where | How complete |\n" +
		"|---|---|---|---|---|\n" +
		"| [0106](https://xmpp.org/extensions/xep-0106.html) | JID Escaping | 1.1 | [`core/jid`](../core/jid) | complete |\n"
	if got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
}

func TestDisagreement(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"rfc-6120 complete | Core", "rfc-6120 complete | Kernel", `title "Kernel"`},
		{"xep-0030 2.5.0 complete | Disco", "xep-0030 2.4 complete |", `version "2.4"`},
		{"rfc-6120 complete", "rfc-6120 complete", "title of rfc-6120"},
		{"xep-0030 - complete | Disco", "xep-0030 - complete", "version of xep-0030"},
	} {
		root := tree(t, map[string]string{
			"a/a.go": "// Package a.\n//\n//spec:" + tt.a + "\npackage a\n",
			"b/b.go": "// Package b.\n//\n//spec:" + tt.b + "\npackage b\n",
		})
		if err := run(root, false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q with %q: %v, want an error with %q", tt.a, tt.b, err, tt.want)
		}
	}
}
