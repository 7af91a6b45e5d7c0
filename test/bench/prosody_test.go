package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Prosody has a REST interface where a directory holds the module.
func TestProsodyREST(t *testing.T) {
	p := &prosody{config: prosodyConfig, dir: t.TempDir(), http: "127.0.0.1:1"}
	if p.rest("a", "b", "c") != nil || strings.Contains(p.configured(setup{}), `"rest"`) {
		t.Error("REST without the module")
	}
	community := t.TempDir()
	if p.findREST(community) == nil {
		t.Error("a directory without mod_rest was taken")
	}
	p.community = ""
	if err := os.Mkdir(filepath.Join(community, "mod_rest"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(community, "mod_rest", "mod_rest.lua"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.findREST(community); err != nil {
		t.Fatal(err)
	}
	text := p.configured(setup{archive: true})
	for _, want := range []string{`"rest"; "mam";`, "plugin_paths", "default_archive_policy"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	_, token, _ := strings.Cut(string(p.rest("a", "b@localhost", "c")), "Authorization: Bearer ")
	token, _, _ = strings.Cut(token, "\r\n")
	inside, err := base64.StdEncoding.DecodeString(token)
	if err != nil || string(inside) != "1;"+userName(restFrom)+"@"+domain+";"+prosodyTokenID {
		t.Errorf("token %q, %v", inside, err)
	}
	if err := p.writeToken(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(p.dir, "data", domain, "auth_tokens", userName(restFrom)+".dat"))
	if err != nil || !strings.Contains(string(kept), prosodyTokenID) {
		t.Errorf("%v, %s", err, kept)
	}
}
