package main

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const directive = "//spec:"

// An entry is one //spec: line of one package.
type entry struct {
	series  string // "rfc" or "xep"
	number  string // four digits
	version string // of a XEP; empty if another package tells
	status  string // "complete" or "partial"
	title   string // empty if another package tells
	note    string
	pkg     string // folder, relative to the root
	at      string // file:line
}

// collect reads the package comments of all Go files below root.
func collect(root string) ([]entry, error) {
	var entries []entry
	var problems []error
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			skip := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules"
			if path != root && skip {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
				return fs.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if file.Doc == nil {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, c := range file.Doc.List {
			text, ok := strings.CutPrefix(c.Text, directive)
			if !ok {
				continue
			}
			pos := fset.Position(c.Pos())
			e, err := parse(text)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s:%d: %w", pos.Filename, pos.Line, err))
				continue
			}
			e.pkg, e.at = filepath.ToSlash(dir), fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
			entries = append(entries, e)
		}
		return nil
	})
	return entries, errors.Join(append(problems, err)...)
}

var (
	idPattern      = regexp.MustCompile(`^(rfc|xep)-([0-9]{4,5})$`)
	versionPattern = regexp.MustCompile(`^(-|[0-9]+(\.[0-9]+)*(rc[0-9]+)?)$`)
)

// parse reads what follows "//spec:" in one line.
func parse(text string) (entry, error) {
	parts := strings.SplitN(text, "|", 3)
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	words := strings.Fields(parts[0])
	if len(words) == 0 {
		return entry{}, errors.New("empty //spec: line")
	}
	id := idPattern.FindStringSubmatch(words[0])
	if id == nil {
		return entry{}, fmt.Errorf("%q is not of the form rfc-6120 or xep-0030", words[0])
	}
	e := entry{series: id[1], number: id[2]}
	words = words[1:]
	if e.series == "xep" {
		if len(words) == 0 || !versionPattern.MatchString(words[0]) {
			return entry{}, fmt.Errorf("xep-%s: the version that was read must follow the number (\"-\" if another package names it)", e.number)
		}
		if words[0] != "-" {
			e.version = words[0]
		}
		words = words[1:]
	}
	if len(words) != 1 || !slices.Contains([]string{"complete", "partial"}, words[0]) {
		return entry{}, fmt.Errorf("%s-%s: say complete or partial before the first bar, not %q", e.series, e.number, strings.Join(words, " "))
	}
	e.status = words[0]
	if len(parts) > 1 {
		e.title = parts[1]
	}
	if len(parts) > 2 {
		e.note = parts[2]
	}
	if e.status == "partial" && e.note == "" {
		return entry{}, fmt.Errorf("%s-%s: a partial implementation needs a note after a second bar: what is there, or what is missing", e.series, e.number)
	}
	return e, nil
}
