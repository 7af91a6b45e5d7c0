// Command specs writes docs/specs.md: every RFC and XEP that the server
// implements, its version, where, and how completely.
//
// The facts stand in the package comments, one line for each specification, in
// the form of a Go directive (gofmt keeps them at the end of the comment and
// go doc hides them):
//
//	//spec:xep-0280 1.0.1 complete | Message Carbons
//	//spec:rfc-6121 partial | XMPP: Instant Messaging and Presence | roster (§2); the rest is elsewhere
//
// The words before the first bar are the number, for a XEP the version that was
// read, and complete or partial. Then comes the title, then a note, which a
// partial implementation must have: it says what is there or what is missing.
// Several packages may implement parts of one specification; the title and the
// version need to stand in one of them ("-" and an empty title elsewhere), and
// may not disagree.
//
// Usage, from the top of the repository:
//
//	go run ./test/specs            # write docs/specs.md
//	go run ./test/specs -check     # fail if docs/specs.md is not up to date
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run . -root ../..

func main() {
	check := flag.Bool("check", false, "compare with the file instead of writing it")
	root := flag.String("root", ".", "top of the repository")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "specs:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	entries, err := collect(root)
	if err != nil {
		return err
	}
	specs, err := merge(entries)
	if err != nil {
		return err
	}
	want := render(specs)
	file := filepath.Join(root, "docs", "specs.md")
	if !check {
		return os.WriteFile(file, want, 0o644)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return fmt.Errorf("%s is not up to date: run `go run ./test/specs`", file)
	}
	return nil
}
