package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// client is one script, the program that runs it and the steps it promises.
type client struct {
	name    string
	argv    []string // argv[0] is looked up in PATH unless it has a slash
	env     []string // beside the test's own environment; the last of a name counts
	timeout time.Duration
	steps   []string // every one must be reported ok
}

// step is one line of a script's standard output.
type step struct {
	Name   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// check runs the client against the server and turns its steps into subtests.
//
// A script exits 1 when a step failed. That alone is no news here, and with a
// stand-in some steps are known to fail; any other end is an error of its own.
func (c client) check(t *testing.T, s *server) {
	steps, err := c.run(t, s.desc.forClient(c.name))
	reported := make(map[string]bool, len(steps))
	failed := false
	for _, got := range steps {
		reported[got.Name] = true
		failed = failed || !got.OK
		t.Run(got.Name, func(t *testing.T) {
			t.Log(got.Detail)
			if !got.OK && slices.Contains(s.lacks, c.name+"/"+got.Name) {
				t.Skipf("%s is known to fail this", s.desc.Name)
			}
			if !got.OK {
				t.Fail()
			}
		})
		if !slices.Contains(c.steps, got.Name) {
			t.Errorf("step %q is not in the client's list", got.Name)
		}
	}
	for _, name := range c.steps {
		if !reported[name] {
			t.Errorf("step %q was not reported", name)
		}
	}
	var exit *exec.ExitError
	if failed && errors.As(err, &exit) && exit.ExitCode() == 1 {
		t.Logf("the wire log is in %s", c.logFile(s.desc))
		return
	}
	if err != nil {
		t.Error(err)
	}
}

// run runs the script to its end and returns the steps it printed. Standard
// error, where the scripts write the wire log, is kept in the artefacts.
func (c client) run(t *testing.T, d description) ([]step, error) {
	t.Helper()
	log, err := os.Create(c.logFile(d))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()

	ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Env = append(scriptEnvironment(t, d), c.env...)
	cmd.Stdout, cmd.Stderr = &out, log
	// The script and what it starts (Chromium, tmux) share a process group, so
	// that nothing outlives a script that hangs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	runErr := cmd.Run()
	if ctx.Err() != nil {
		runErr = fmt.Errorf("not finished after %v", c.timeout)
	}
	if runErr != nil {
		runErr = fmt.Errorf("%s: %w; log: %s\n%s", c.name, runErr, log.Name(), tail(log.Name(), 25))
	}

	var steps []step
	for sc := bufio.NewScanner(&out); sc.Scan(); {
		var s step
		if err := json.Unmarshal(sc.Bytes(), &s); err != nil || s.Name == "" {
			t.Errorf("the script printed something that is no step: %q", sc.Text())
			continue
		}
		steps = append(steps, s)
	}
	return steps, runErr
}

// scriptEnvironment is the environment of every script.
func scriptEnvironment(t *testing.T, d description) []string {
	return append(os.Environ(),
		"INTEROP_SERVER="+d.JSON(t),
		"NODE_EXTRA_CA_CERTS="+d.CA, // Node's own trust store, verification stays on
		"PYTHONDONTWRITEBYTECODE=1",
		"no_proxy=*", "NO_PROXY=*",
	)
}

func (c client) logFile(d description) string {
	return filepath.Join(d.Artifacts, "interop-"+d.Name+"-"+c.name+".log")
}

// tail returns the last lines of a file, for the test's output.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
