package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// records is a run's raw result, as kept in JSON.
type records struct {
	Machine  machine           `json:"machine"`
	Options  string            `json:"options"`
	Versions map[string]string `json:"versions"`
	Runs     []record          `json:"runs"`
}

// machine is where the run took place.
type machine struct {
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Memory string    `json:"memory"`
	Kernel string    `json:"kernel"`
	System string    `json:"system"`
	Go     string    `json:"go"`
	Load   string    `json:"load"` // the load averages at the start: other work disturbs
	Start  time.Time `json:"start"`
}

func describeMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Start: time.Now().UTC().Truncate(time.Second)}
	m.CPU = fileValue("/proc/cpuinfo", "model name")
	m.Memory = fileValue("/proc/meminfo", "MemTotal")
	m.System = strings.Trim(fileValue("/etc/os-release", "PRETTY_NAME"), `"`)
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(text))[:3], " ")
	}
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		var b strings.Builder
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			b.WriteByte(byte(c))
		}
		m.Kernel = b.String()
	}
	return m
}

// fileValue returns the first value of a key in a "key: value" or "key=value" file.
func fileValue(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:="))
		}
	}
	return ""
}

// write replaces a file whole.
func (r *records) write(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// readRecords merges files: a scenario measured again replaces the earlier one,
// whole, so that ratios stay within one run.
func readRecords(paths ...string) (*records, error) {
	var merged *records
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return nil, err
		}
		r := &records{}
		if err := json.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if merged == nil {
			merged = r
			if merged.Versions == nil {
				merged.Versions = map[string]string{}
			}
			continue
		}
		again := map[string]bool{}
		for _, run := range r.Runs {
			again[run.Scenario] = true
		}
		merged.Runs = append(slices.DeleteFunc(merged.Runs, func(run record) bool { return again[run.Scenario] }), r.Runs...)
		merged.Machine = r.Machine
		merged.Options += "; then " + r.Options
		maps.Copy(merged.Versions, r.Versions)
	}
	if merged == nil {
		return nil, errors.New("no results to read")
	}
	return merged, nil
}

// spread is one figure over the rounds.
type spread struct {
	min, median, max float64
	n                int
}

// spread returns a metric of a server over the rounds; n is 0 when there is none.
func (r *records) spread(scenario, server, metric string) spread {
	var values []float64
	for _, run := range r.Runs {
		if run.Scenario != scenario || run.Server != server {
			continue
		}
		if v, ok := run.Metrics[metric]; ok {
			values = append(values, v)
		}
	}
	return spreadOf(values)
}

func spreadOf(values []float64) spread {
	n := len(values)
	if n == 0 {
		return spread{}
	}
	slices.Sort(values)
	median := values[n/2]
	if n%2 == 0 {
		median = (values[n/2-1] + values[n/2]) / 2
	}
	return spread{min: values[0], median: median, max: values[n-1], n: n}
}

// sound returns an error when a server failed in a run, or lost something: then it
// does not work, whatever its speed. Missed goals are not errors.
func (r *records) sound(server string) error {
	var errs []error
	for _, run := range r.Runs {
		switch {
		case serverOf(run.Server) != server || run.Skipped != "":
		case run.Failure != "":
			errs = append(errs, fmt.Errorf("%s, %s, round %d: %s", run.Scenario, run.Server, run.Round, run.Failure))
		case run.Sent > run.Received || run.Errors > 0:
			errs = append(errs, fmt.Errorf("%s, %s, round %d: %d of %d lost, %d errors %v", run.Scenario, run.Server, run.Round,
				run.Sent-run.Received, run.Sent, run.Errors, run.Notes))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%s does not work: %w", server, errors.Join(errs...))
	}
	return nil
}

// rows lists the rows of a scenario's table: each server followed by its variants.
func (r *records) rows(scenario string) []string {
	var rows []string
	for _, server := range []string{"trivium", "ejabberd", "prosody", "relay"} {
		var of []string
		for _, run := range r.Runs {
			if run.Scenario == scenario && serverOf(run.Server) == server && !slices.Contains(of, run.Server) {
				of = append(of, run.Server)
			}
		}
		slices.Sort(of) // the bare name comes first
		rows = append(rows, of...)
	}
	return rows
}

// serverOf returns the server of a row.
func serverOf(row string) string {
	server, _, _ := strings.Cut(row, " ")
	return server
}

// tally sums what was lost and what failed.
type tally struct {
	sent, lost, surplus, errors int64
	others                      []float64
	failures, notes             []string
	skipped                     string
}

func (r *records) tally(scenario, server string) (tally, bool) {
	var t tally
	found := false
	for _, run := range r.Runs {
		if run.Scenario != scenario || run.Server != server {
			continue
		}
		found = true
		t.sent += run.Sent
		t.lost += max(0, run.Sent-run.Received)
		t.surplus += max(0, run.Received-run.Sent)
		t.errors += run.Errors
		t.others = append(t.others, run.Others)
		for _, note := range run.Notes {
			t.notes = append(t.notes, fmt.Sprintf("round %d: %s", run.Round, note))
		}
		if run.Failure != "" {
			t.failures = append(t.failures, fmt.Sprintf("round %d: %s", run.Round, run.Failure))
		}
		if run.Skipped != "" {
			t.skipped = run.Skipped
		}
	}
	return t, found
}
