package main

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, tt := range []struct {
		in          string
		pid, parent int
		ok          bool
	}{
		{"12 (beam.smp) S 7 12 12 0", 12, 7, true},
		{"9 (a) b (c)) R 3 9", 9, 3, true}, // proc(5): the name may hold parentheses
		{"9 (cut", 0, 0, false},
		{"", 0, 0, false},
	} {
		pid, parent, ok := parseStat([]byte(tt.in))
		if pid != tt.pid || parent != tt.parent || ok != tt.ok {
			t.Errorf("parseStat(%q) = %d, %d, %v", tt.in, pid, parent, ok)
		}
	}
}

func TestParsePSS(t *testing.T) {
	n, err := parsePSS([]byte("00400000-7ffc00000000 ---p 00000000 00:00 0 [rollup]\nRss:  884 kB\nPss:                 385 kB\nPss_Dirty: 1 kB\n"))
	if n != 385<<10 || err != nil {
		t.Errorf("got %d, %v; want %d", n, err, 385<<10)
	}
	if _, err := parsePSS([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("no Pss line: want an error")
	}
}

// A busy loop of our own must show on our process clock, and a child among the pids.
func TestMeterOfThisProcess(t *testing.T) {
	m := meter{root: os.Getpid()}
	before, err := m.cpu()
	if err != nil {
		t.Fatal(err)
	}
	var spent time.Duration
	for x := 0; spent < time.Millisecond; x++ {
		now, err := m.cpu()
		if err != nil {
			t.Fatal(err)
		}
		spent = now - before
	}
	if n, err := m.pss(); err != nil || n < 1<<20 {
		t.Errorf("pss: %d, %v; a Go process takes more than a megabyte", n, err)
	}
	child := exec.Command("cat")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pids, err := m.pids()
	if err != nil || !slices.Contains(pids, child.Process.Pid) {
		t.Errorf("pids %v, %v: the child %d is missing", pids, err, child.Process.Pid)
	}
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}
