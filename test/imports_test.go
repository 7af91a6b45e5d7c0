package test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modulePath is the prefix of every import path of this project.
const modulePath = "trivium"

// A rule limits what the packages below from may import of this project (or,
// with denyStd, of the standard library). Patterns are package paths without
// the module path; "core/..." matches core and everything below it.
type rule struct {
	from    string
	except  []string // packages below from that the rule leaves alone
	deny    []string // project packages that may not be imported
	allow   []string // exceptions to deny
	only    []string // if set, the only project packages that may be imported
	denyStd []string // standard library packages that may not be imported
	why     string   // what the reader of the failure should know
}

// rules is section 1 of docs/architecture.md, as data. A package may always
// import its own subtree, see feature.
var rules = []rule{
	{
		from: "core/...", deny: []string{"httpapi/...", "websocket/...", "bosh/...", "bridges/...", "config/...", "cmd/..."},
		why: "the core does not know who carries its bytes or how it was configured",
	},
	{
		from: "...", except: []string{"cmd/..."}, deny: []string{"cmd/..."},
		why: "cmd wires the others together; nothing depends on it",
	},
	{
		from: "core/jid", only: []string{},
		why: "an address is a value that knows nothing else of the project",
	},
	{
		from: "core/wire", only: []string{},
		why: "the scanner has no XMPP meaning",
	},
	{
		from: "core/sasl", denyStd: []string{"net", "net/...", "os", "database/sql"},
		why: "a SASL mechanism does no I/O; the session feeds it",
	},
	{
		from: "core/stanza", only: []string{"core/wire", "core/jid"},
		why: "stanzas are built from the wire and from addresses only",
	},
	{
		from: "core/store/...", deny: []string{"core", "core/c2s/...", "core/s2s/...", "core/component/...", "core/cluster/...", "core/router/...", "core/module/...", "core/mod/..."},
		why: "the store knows tables, not features; a module owns its tables",
	},
	{
		from: "core/module", deny: []string{"core", "core/mod/...", "core/c2s/...", "core/s2s/...", "core/component/...", "core/cluster/..."},
		why: "the module host is what features register with; it does not know them, nor the kinds of peer",
	},
	{
		from: "core/router", deny: []string{"core", "core/mod/...", "core/c2s/...", "core/s2s/...", "core/component/...", "core/cluster/..."},
		why: "the router declares what it needs of a cluster and of sessions; they depend on it",
	},
	{
		from: "core/mod/...", except: []string{"core/mod"},
		only: []string{"core/module", "core/stanza", "core/stream", "core/jid", "core/store", "core/xdata", "core/rsm"},
		why:  "a feature is one package plus one line in core/mod/standard.go: it registers with the module host and reaches nothing else, above all no other feature (core/stream is there for the stream errors that end a session)",
	},
	{
		from: "core/c2s/...", deny: []string{"core", "core/s2s/...", "core/component/...", "core/cluster/...", "core/mod/..."},
		why: "the kinds of peer do not know each other, nor the features",
	},
	{
		from: "core/s2s/...", deny: []string{"core", "core/c2s/...", "core/component/...", "core/cluster/...", "core/mod/..."},
		why: "the kinds of peer do not know each other, nor the features",
	},
	{
		from: "core/component/...", deny: []string{"core", "core/c2s/...", "core/s2s/...", "core/cluster/...", "core/mod/..."},
		why: "the kinds of peer do not know each other, nor the features",
	},
	{
		from: "core/cluster/...", deny: []string{"core", "core/c2s/...", "core/s2s/...", "core/component/...", "core/mod/..."},
		why: "a cluster implements the router's contracts and nothing else",
	},
	{
		from: "websocket/...", deny: []string{"bosh/...", "httpapi/...", "bridges/...", "config/...", "core", "core/c2s/...", "core/s2s/...", "core/component/...", "core/router/...", "core/module/...", "core/mod/...", "core/store/..."},
		why: "a framing supplies stream.Conn and knows nothing of what is said over it",
	},
	{
		from: "bosh/...", deny: []string{"websocket/...", "httpapi/...", "bridges/...", "config/...", "core", "core/c2s/...", "core/s2s/...", "core/component/...", "core/router/...", "core/module/...", "core/mod/...", "core/store/..."},
		why: "a framing supplies stream.Conn and knows nothing of what is said over it",
	},
	{
		from: "httpapi/...", deny: []string{"websocket/...", "bosh/...", "bridges/...", "config/..."}, allow: []string{"bridges/kit", "bridges/cpim/..."},
		why: "the REST road is a road of its own; options are passed in. It speaks CPIM, and is the network behind gateway domains",
	},
	{
		from: "bridges/...", deny: []string{"websocket/...", "bosh/...", "httpapi/...", "config/..."},
		why: "a bridge is a domain handler and gets no back door",
	},
	{
		from: "bridges/...", deny: []string{"bridges/..."}, allow: []string{"bridges/kit", "bridges/cpim/..."},
		why: "bridges share behaviour through bridges/kit and the codec bridges/cpim, not through each other",
	},
	{
		from: "config/...", only: []string{"core/jid"},
		why: "config composes values; cmd maps them to the options of the packages they tune",
	},
}

// sideways lists the imports that the plan allows against a rule.
var sideways = map[[2]string]string{
	{"core/mod/pep", "core/mod/pubsub"}:    "PEP is a profile of publish-subscribe (XEP-0163)",
	{"core/mod/register", "core/auth"}:     "accounts are what XEP-0077 registers, changes and removes",
	{"core/mod/register", "core/sasl"}:     "whether a password can be prepared is said by the profile of SASL (RFC 7613)",
	{"core/mod/clients", "core/auth"}:      "the clients of an account and their tokens are kept with its credentials",
	{"config/internal/annotate", "config"}: "the example is made from the schema and the defaults",
}

// TestImportsPointInward proves the import directions of docs/architecture.md,
// section 1, on the source files of every package. Test files may import more.
func TestImportsPointInward(t *testing.T) {
	pkgs, err := projectImports("..")
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) == 0 {
		t.Fatal("found no packages: the test looks in the wrong place")
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

// TestImportRulesBite shows that each kind of rule refuses what it should and
// nothing else.
func TestImportRulesBite(t *testing.T) {
	for _, tt := range []struct {
		from, imp string
		want      bool // refused
	}{
		{"core/router", "trivium/websocket", true},
		{"core", "trivium/config", true},
		{"core/mod/carbons", "trivium/core/module", false},
		{"core/mod/carbons", "trivium/core/mod/carbons/rules", false},
		{"core/mod/carbons", "trivium/core/mod/roster", true},
		{"core/mod/carbons", "trivium/core/router", true},
		{"core/mod/pep", "trivium/core/mod/pubsub", false},
		{"core/mod/pubsub", "trivium/core/mod/pep", true},
		{"core/mod", "trivium/core/mod/carbons", false}, // standard.go lists them
		{"core/c2s", "trivium/core/s2s", true},
		{"core/cluster/redis", "trivium/core/c2s", true},
		{"core/cluster/redis", "trivium/core/router", false},
		{"core/jid", "trivium/core/wire", true},
		{"core/jid", "golang.org/x/text/secure/precis", false},
		{"core/sasl", "net/http", true},
		{"core/sasl", "crypto/hmac", false},
		{"bosh", "trivium/websocket", true},
		{"bosh", "trivium/core/stream", false},
		{"bridges/irc", "trivium/bridges/kit", false},
		{"bridges/irc", "trivium/bridges/sip", true},
		{"bridges/kit", "trivium/bridges/irc", true},
		{"bridges/irc", "trivium/bridges/irc/wire", false},
		{"bridges/irc/wire", "trivium/bridges/sip/wire", true},
		{"core/mod/muc/admin", "trivium/core/mod/muc", false},
		{"config", "trivium/core/c2s", true},
		{"httpapi", "trivium/cmd/trivium", true},
		{"cmd/trivium", "trivium/httpapi", false},
		{"httpapi/webhook", "trivium/httpapi", false},
		{"core/mod/modtest", "trivium/core/router", false},
		{"core/mod/roster", "trivium/core/mod/modtest", true},
		{"core/store", "trivium/core/store/storetest", true},
		{"test/bench", "trivium/core/mod/modtest", false},
	} {
		got := violations(map[string][]importSite{tt.from: {{tt.imp, "x.go:1"}}})
		if (len(got) > 0) != tt.want {
			t.Errorf("%s importing %s: refused = %v, want %v %q", tt.from, tt.imp, len(got) > 0, tt.want, got)
		}
	}
}

// An importSite is one import declaration.
type importSite struct {
	path string // as written
	at   string // file:line
}

// violations returns one readable sentence for each import that breaks a rule.
func violations(pkgs map[string][]importSite) []string {
	var out []string
	for from, sites := range pkgs {
		for _, site := range sites {
			if pkg, ours := projectPath(site.path); ours && forTests(pkg) && !forTests(from) {
				out = append(out, fmt.Sprintf("%s: %s imports %s: only tests may import a package that serves tests", site.at, from, site.path))
				continue
			}
			for _, r := range rules {
				if r.refuses(from, site.path) {
					out = append(out, fmt.Sprintf("%s: %s imports %s: %s", site.at, from, site.path, r.why))
					break
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// refuses reports whether the rule forbids package from to import imp.
func (r rule) refuses(from, imp string) bool {
	if !match(r.from, from) || matchAny(r.except, from) || forTests(from) {
		return false
	}
	pkg, ours := projectPath(imp)
	if !ours {
		return matchAny(r.denyStd, imp)
	}
	if _, ok := sideways[[2]string{from, pkg}]; ok {
		return false
	}
	if match(feature(from)+"/...", pkg) || matchAny(r.allow, pkg) {
		return false
	}
	return matchAny(r.deny, pkg) || (r.only != nil && !matchAny(r.only, pkg))
}

// feature returns the root of the subtree that pkg belongs to and may import
// freely: the whole of one feature or one bridge, otherwise pkg itself.
func feature(pkg string) string {
	parts := strings.Split(pkg, "/")
	switch {
	case match("core/mod/...", pkg) && len(parts) > 3:
		return path.Join(parts[:3]...)
	case match("bridges/...", pkg) && len(parts) > 2:
		return path.Join(parts[:2]...)
	}
	return pkg
}

// forTests reports whether a package only serves tests, like core/store/storetest
// and all of test: it may import what it drives, and nothing else may import it.
func forTests(pkg string) bool {
	return match("test/...", pkg) || strings.HasSuffix(pkg, "test")
}

func projectPath(imp string) (string, bool) {
	if imp == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imp, modulePath+"/")
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, pkg) })
}

func match(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pkg == pattern
}

// projectImports parses the import declarations of all non-test Go files below
// root. Keys are package paths without the module path.
func projectImports(root string) (map[string][]importSite, error) {
	pkgs := make(map[string][]importSite)
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && p != root {
				return fs.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if pkgs[pkg] == nil {
			pkgs[pkg] = []importSite{}
		}
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			pos := fset.Position(spec.Pos())
			pkgs[pkg] = append(pkgs[pkg], importSite{imp, fmt.Sprintf("%s:%d", pos.Filename, pos.Line)})
		}
		return nil
	})
	return pkgs, err
}
