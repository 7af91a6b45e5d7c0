package main

import (
	"errors"
	"io"
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
			"freeports": freePorts, "waitfor": waitFor, "signal": signalTo, "stream": openStream,
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

// openStream opens an XMPP stream at an address (unix:PATH or HOST:PORT), after a
// line sent first if there is one, and wants the features of a host.
func openStream(ts *testscript.TestScript, neg bool, args []string) {
	network, addr := "tcp", args[0]
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", ts.MkAbs(path)
	}
	c, err := net.Dial(network, addr)
	ts.Check(err)
	defer c.Close()
	ts.Check(c.SetDeadline(time.Now().Add(20 * time.Second)))
	first := ""
	if len(args) > 2 {
		first = args[2] + "\r\n"
	}
	_, err = io.WriteString(c, first+"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='"+args[1]+"'>"+
		"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='NONE'/></stream:stream>")
	ts.Check(err)
	all, _ := io.ReadAll(c) // a reset is an answer as well
	if got := strings.Contains(string(all), "from='"+args[1]+"'") && strings.Contains(string(all), "<invalid-mechanism/>"); got == neg {
		ts.Fatalf("got %s", all)
	}
}
