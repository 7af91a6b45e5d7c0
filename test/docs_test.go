package test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsLink follows every relative link in the Markdown files, to the
// file and to the heading.
func TestDocumentsLink(t *testing.T) {
	const root = ".."
	files := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); p != root && (strings.HasPrefix(n, ".") || n == "node_modules" || n == "testdata" || n == "artifacts" || n == "data") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".md" {
			return nil
		}
		files++
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, target := range links(string(text)) {
			if why := follow(root, p, target); why != "" {
				t.Errorf("%s: %s: %s", p, target, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 3 {
		t.Fatalf("found %d documents: the test looks in the wrong place", files)
	}
}

func TestDocumentLinks(t *testing.T) {
	dir := t.TempDir()
	text := "# A title, with `code`\n\n[a](#a-title-with-code) [b](#none) [c](b.md) [d](missing.md)\n" +
		"[e](https://example.org/x) `[f](f.md)`\n\n```\n[g](g.md)\n```\n\n    [h](h.md)\n"
	for name, content := range map[string]string{"a.md": text, "b.md": "# B\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var broken []string
	for _, l := range links(text) {
		if follow(dir, filepath.Join(dir, "a.md"), l) != "" {
			broken = append(broken, l)
		}
	}
	if got, want := strings.Join(broken, " "), "#none missing.md"; got != want {
		t.Errorf("broken links: %s, want %s", got, want)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code    = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`|^    .*?$")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?)\s*$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// links returns the targets of the links in a Markdown text, code left out.
func links(text string) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		out = append(out, m[1])
	}
	return out
}

// follow tells what is wrong with a link in the file from; "" if nothing is, or
// if it leads to the web.
func follow(root, from, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	to := from
	if u.Path != "" {
		to = filepath.Join(filepath.Dir(from), filepath.FromSlash(u.Path))
	}
	if rel, err := filepath.Rel(root, to); err != nil || strings.HasPrefix(rel, "..") {
		return "leads out of the repository"
	}
	if _, err := os.Stat(to); err != nil {
		return "there is no such file"
	}
	if u.Fragment == "" || filepath.Ext(to) != ".md" {
		return ""
	}
	text, err := os.ReadFile(to)
	if err != nil {
		return err.Error()
	}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
		if anchor(m[1]) == u.Fragment {
			return ""
		}
	}
	return "there is no such heading"
}

// anchor is the name that a heading can be linked by.
func anchor(heading string) string {
	return strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
