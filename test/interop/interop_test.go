package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// python is the interpreter that setup.sh gave slixmpp and aioxmpp.
var python = filepath.Join("..", "..", ".cache", "interop-venv", "bin", "python")

// clients is every client the server is tested with.
func clients() []client {
	node := func(name, romeo, juliet string, more ...string) client {
		return client{
			name:    name,
			argv:    []string{"node", "node/main.js", romeo, juliet},
			timeout: 2 * time.Minute,
			steps:   append(more, nodeSteps...),
		}
	}
	return []client{
		{name: "slixmpp", argv: []string{python, "python/main.py"}, timeout: 2 * time.Minute, steps: slixmppSteps},
		node("xmppjs-tcp", "xmppjs:tcp", "xmppjs:tcp"),
		node("xmppjs-websocket", "xmppjs:websocket", "xmppjs:websocket"),
		node("strophe-websocket", "strophe:websocket", "strophe:websocket"),
		node("strophe-bosh", "strophe:bosh", "strophe:bosh", "bosh.short-wait"),
		// The roads meet: TCP on one side, BOSH on the other.
		node("crossroads", "xmppjs:tcp", "strophe:bosh", "bosh.short-wait"),
		// The same roads inside TLS from the first byte. The URLs name an address,
		// so the clients send no server name: the default host must answer.
		node("tls-and-boshs", "xmppjs:tls", "strophe:boshs", "bosh.short-wait"),
		node("wss", "xmppjs:wss", "strophe:wss"),
		{
			name:    "xmppjs-untrusted",
			argv:    []string{"node", "node/untrusted.js"},
			env:     []string{"NODE_EXTRA_CA_CERTS="},
			timeout: time.Minute,
			steps:   []string{"tls.untrusted-refused"},
		},
		{name: "converse", argv: []string{"node", "browser/main.js"}, timeout: 3 * time.Minute, steps: converseSteps},
		{name: "profanity", argv: []string{python, "profanity/main.py"}, timeout: 3 * time.Minute, steps: profanitySteps},
	}
}

// target is the running server that all tests of the package share.
var target *server

func TestMain(m *testing.M) {
	if os.Getenv("TRIVIUM_INTEROP") == "off" {
		fmt.Println("interop: turned off by TRIVIUM_INTEROP=off")
		return
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	if err := installed(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "interop-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	start := startTrivium
	switch name := os.Getenv("TRIVIUM_INTEROP"); name {
	case "", "trivium":
	case "prosody":
		start = startProsody
	default:
		return 0, fmt.Errorf("TRIVIUM_INTEROP=%s: want trivium, prosody or off", name)
	}
	var names []string
	for _, c := range clients() {
		names = append(names, c.name)
	}
	for _, c := range bridgeClients() {
		names = append(names, c.name)
	}
	for _, c := range survivors() {
		names = append(names, c.name)
	}
	if target, err = start(ctx, dir, names); err != nil {
		return 0, err
	}
	defer func() {
		// A server that crashed, or that does not stop when asked, fails the run.
		if stopErr := target.stop(); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("stopping %s: %w", target.desc.Name, stopErr))
		}
	}()
	return m.Run(), nil
}

// installed reports what setup.sh has not installed yet.
func installed() error {
	var missing []error
	for _, tool := range []string{"node", "chromium", "profanity", "tmux", "openssl", python} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, err)
		}
	}
	for _, module := range []string{"@xmpp/client", "stanza", "strophe.js", "converse.js", "playwright-core", "eventsource", "standardwebhooks", "openapi-fetch"} {
		if _, err := os.Stat(filepath.Join("node", "node_modules", module)); err != nil {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("clients are missing; run test/interop/setup.sh or set TRIVIUM_INTEROP=off:\n%w", errors.Join(missing...))
	}
	return nil
}

// TestClients runs every client script; its steps are the subtests.
func TestClients(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, target)
		})
	}
}
