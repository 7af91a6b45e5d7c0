package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// missedGoals explains each goal that was missed: what a person noted, and where
// the profile says that time or memory went.
func missedGoals(w *bytes.Buffer, r *records, src sources) error {
	done := map[string]bool{}
	for _, f := range figures() {
		v := r.verdict(f)
		if !v.toExplain() || done[f.scenario] {
			continue
		}
		if len(done) == 0 {
			w.WriteString("\n## Goals missed\n")
		}
		done[f.scenario] = true
		fmt.Fprintf(w, "\n### %s: %s\n", f.title, strings.ReplaceAll(verdictText(f, v), "**", ""))
		notes, err := readIfThere(src.notes, f.scenario+".md")
		if err != nil {
			return err
		}
		if notes = bytes.TrimSpace(notes); len(notes) > 0 {
			fmt.Fprintf(w, "\n%s\n", notes)
		}
		heap := slices.ContainsFunc(scenarios(), func(s scenario) bool { return s.name == f.scenario && s.heap })
		top, err := profileTop(src.profiles, f.scenario, heap)
		if err != nil {
			return err
		}
		if top != "" {
			fmt.Fprintf(w, "\n```\n%s\n```\n", top)
		}
		if len(notes) == 0 && top == "" {
			w.WriteString("\nNot explained yet: run with `-profile admin`.\n")
		}
	}
	return nil
}

// readIfThere returns nil when the directory is not given or has no such file.
func readIfThere(dir, name string) ([]byte, error) {
	if dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// profileTop returns the heaviest functions of a scenario's profile, "" when
// there is none. Profiles of a Go program carry their symbols with them.
func profileTop(dir, scenario string, heap bool) (string, error) {
	path := filepath.Join(dir, scenario+".pprof")
	if _, err := os.Stat(path); dir == "" || errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	args := []string{"tool", "pprof", "-top", "-nodecount=20"}
	if heap {
		args = append(args, "-sample_index=inuse_space")
	}
	out, err := exec.Command("go", append(args, path)...).Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof %s: %w", path, err)
	}
	var kept []string
	for line := range strings.Lines(string(out)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "File", "Build ID", "Time":
		default:
			kept = append(kept, strings.TrimRight(line, " \n"))
		}
	}
	return strings.Join(kept, "\n"), nil
}
