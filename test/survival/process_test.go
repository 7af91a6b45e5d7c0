package survival

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"trivium/test/harness"
)

// domain is the one virtual host.
const domain = "example.org"

// binary is the program under test; TestMain builds it.
var binary string

// build makes the program in a folder, or takes the one that
// TRIVIUM_SURVIVAL_BINARY names.
func build(dir string) error {
	if binary = os.Getenv("TRIVIUM_SURVIVAL_BINARY"); binary != "" {
		return nil
	}
	binary = filepath.Join(dir, "trivium")
	cmd := exec.Command("go", "build", "-o", binary, "trivium/cmd/trivium")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// server is one data directory and the process that works on it, if any.
type server struct {
	dir    string
	tokens map[string]string // API token of each account that has one
	addr   harness.Server    // where the process listens
	cmd    *exec.Cmd
	log    *tail
	gone   chan struct{} // closed when the process has ended
	status error         // how, once gone
}

const serverConfig = `data_dir: %s
hosts: [{domain: %s}]
listeners:
  - {kind: xmpp-starttls, address: "127.0.0.1:0", require_tls: false}
  - {kind: http, address: "localhost:0", endpoints: [websocket, bosh, rest]}
sasl: {iterations: 4096}
limits: {rate_bytes: 0, failed_logins_per_address: 0, offline_messages: 100000, outbox_size: %s}
shutdown: {grace: 2s}
`

// newServer makes accounts and API tokens in a new data directory.
func newServer(t *testing.T, outbox string, accounts, withToken []string) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), tokens: map[string]string{}}
	config := fmt.Sprintf(serverConfig, filepath.Join(s.dir, "data"), domain, outbox)
	if err := os.WriteFile(s.config(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		s.admin(t, "user", "add", a+"@"+domain, "--password", harness.Password)
	}
	for _, a := range withToken {
		s.tokens[a] = strings.TrimSpace(s.admin(t, "token", "add", a+"@"+domain))
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
			<-s.gone
		}
	})
	return s
}

func (s *server) config() string { return filepath.Join(s.dir, "trivium.yaml") }

// admin runs a subcommand and returns what it prints.
func (s *server) admin(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(binary, append([]string{"--config", s.config()}, args...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("%v: %v: %s", args, err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// start runs the server until it is ready.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(binary, "--config", s.config(), "serve")
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.log, s.gone = &tail{}, make(chan struct{})
	ready := make(chan harness.Server, 1)
	go func() {
		defer close(s.gone)
		s.read(pipe, ready)
		s.status = s.cmd.Wait()
	}()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	select {
	case s.addr = <-ready:
	case <-s.gone:
		t.Fatalf("the server ended while starting: %v\n%s", s.status, s.log)
	case <-timeout.C:
		t.Fatalf("the server was never ready\n%s", s.log)
	}
}

// read follows the log, which tells the addresses and when all is ready.
func (s *server) read(log io.Reader, ready chan<- harness.Server) {
	var at harness.Server
	for lines := bufio.NewScanner(log); lines.Scan(); {
		line := lines.Text()
		s.log.add(line)
		_, address, _ := strings.Cut(line, "address=")
		switch {
		case strings.Contains(line, "msg=listening kind=xmpp-starttls"):
			at.TCP = address
		case strings.Contains(line, "msg=listening kind=http"):
			at.HTTP = "http://" + address
		case strings.Contains(line, "msg=ready"):
			ready <- at
		}
	}
}

// kill is SIGKILL: the process does nothing any more.
func (s *server) kill() { _ = s.cmd.Process.Kill() }

// stop is SIGTERM: an orderly end.
func (s *server) stop() { _ = s.cmd.Process.Signal(syscall.SIGTERM) }

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines [][]byte
}

func (l *tail) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, []byte(line)); len(l.lines) > 60 {
		l.lines = l.lines[1:]
	}
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, []byte("\n")))
}
