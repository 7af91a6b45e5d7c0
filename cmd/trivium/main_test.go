package main

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trivium": main})
}

// TestScripts runs the program as an operator would; each script is a file in
// testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeports": freePorts, "waitfor": waitFor, "signal": signalTo,
		},
	})
}

// freePorts sets each variable named to a TCP port of loopback that is free.
func freePorts(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer ln.Close()
		ts.Setenv(name, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
}

// waitFor waits until a file holds a text.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	file, text := ts.MkAbs(args[0]), args[1]
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if strings.Contains(string(data), text) {
			return
		}
	}
	data, _ := os.ReadFile(file)
	ts.Fatalf("%s never held %q:\n%s", args[0], text, data)
}

// signalTo sends a signal to the server that wrote its process id to a file.
func signalTo(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	p, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(p.Signal(signals[args[0]]))
}

var signals = map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}
