package gateways

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	host     = "localhost.example"
	messages = 60
	// patience is for one step; the machine may be busy, and a webhook that was down
	// is tried again after some seconds.
	patience = 90 * time.Second
)

// example is one of the gateways.
type example struct {
	name   string
	domain string
	argv   func(bin string) []string
	format string // of its webhook; empty: it has none
}

var examples = []example{
	{"textfile", "text." + host, func(string) []string { return []string{"python3", source("textfile/gateway.py")} }, "json"},
	{"sse", "sse." + host, func(string) []string { return []string{"node", source("sse/gateway.mjs")} }, ""},
	{"cpimfiles", "cpim." + host, func(bin string) []string { return []string{filepath.Join(bin, "cpimfiles")} }, "cpim"},
}

func source(name string) string {
	path, err := filepath.Abs(name)
	if err != nil {
		panic(err)
	}
	return path
}

// python has slixmpp; test/interop/setup.sh makes it.
var python = filepath.Join("..", "..", ".cache", "interop-venv", "bin", "python")

func TestGateways(t *testing.T) {
	if os.Getenv("TRIVIUM_INTEROP") == "off" {
		t.Skip("turned off by TRIVIUM_INTEROP=off")
	}
	for _, tool := range []string{"node", "python3", python} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; run test/interop/setup.sh, or set TRIVIUM_INTEROP=off", err)
		}
	}
	s := start(t)
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			s.chat(t, e)
		})
	}
}

// chat lets a user talk to a contact behind the gateway. The gateway is killed twice
// in the middle and once more at the end, when whatever is repeated would come.
func (s *server) chat(t *testing.T, e example) {
	gateway := s.declare(t, e)
	gateway.start(t)
	juliet := s.user(t, "juliet-"+e.name, "friend@"+e.domain)
	juliet.may(t, messages)
	for _, at := range []int{messages / 3, 2 * messages / 3} {
		juliet.expect(t, at)
		gateway.kill(t)
		gateway.start(t)
	}
	juliet.expect(t, messages)
	gateway.kill(t)
	gateway.start(t)
	juliet.may(t, messages+1)
	juliet.expect(t, messages+1)
	gateway.kill(t)
	juliet.end(t)
}

// server is a running server and a token that may administer it.
type server struct {
	dir, binary, config string
	tcp, http           string
	token               string
}

func start(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{dir: dir, binary: filepath.Join(dir, "trivium"), config: filepath.Join(dir, "trivium.yaml"), tcp: freePort(t), http: freePort(t)}
	run(t, "go", "build", "-o", dir, "../../cmd/trivium", "./cpimfiles")
	write(t, s.config, fmt.Sprintf(`
data_dir: %q
hosts:
  - {domain: %q}
listeners:
  - {kind: xmpp-starttls, address: %q}
  - {kind: http, address: %q}
`, filepath.Join(dir, "data"), host, s.tcp, s.http))
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.binary, "serve", "--config", s.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		defer log.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the server ended with %v", err)
			}
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Error("the server does not stop")
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the server's log:\n%s", text)
		}
	})
	until(t, "the server is ready", func() bool {
		rs, err := http.Get("http://" + s.http + "/readyz")
		if err != nil {
			return false
		}
		rs.Body.Close()
		return rs.StatusCode == http.StatusOK
	})
	out := run(t, s.binary, "token", "add", "--config", s.config, "--admin", "*", "--name", "operator")
	fields := strings.Fields(out)
	s.token = fields[len(fields)-1] // the last word printed
	return s
}

// api makes a request of the operator and returns the answer's members.
func (s *server) api(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	rq, err := http.NewRequest(method, "http://"+s.http+"/api/v1"+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+s.token)
	rq.Header.Set("Content-Type", "application/json")
	rs, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	all, err := io.ReadAll(rs.Body)
	if err != nil || rs.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s %v", method, path, rs.Status, all, err)
	}
	got := map[string]any{}
	if err := json.Unmarshal(all, &got); err != nil {
		t.Fatalf("%s %s: %s: %v", method, path, all, err)
	}
	return got
}

// process is a gateway's program. Its directory outlives it.
type process struct {
	argv []string
	dir  string
	env  []string
	cmd  *exec.Cmd
	log  *os.File
}

// declare makes the gateway's domain, its token and its webhook.
func (s *server) declare(t *testing.T, e example) *process {
	t.Helper()
	s.api(t, http.MethodPut, "/gateways/"+e.domain, map[string]any{"type": "x-" + e.name, "name": "The network of " + e.name})
	token := s.api(t, http.MethodPost, "/tokens", map[string]any{
		"name": e.name, "scopes": []string{"send:" + e.domain, "read:" + e.domain},
	})
	p := &process{argv: e.argv(s.dir), dir: filepath.Join(s.dir, e.name+".state")}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.env = append(os.Environ(), "API=http://"+s.http+"/api/v1", "DOMAIN="+e.domain, "TOKEN="+token["secret"].(string))
	if e.format != "" {
		_, port, _ := net.SplitHostPort(freePort(t))
		hook := s.api(t, http.MethodPut, "/webhooks/"+e.name, map[string]any{
			"url": "http://127.0.0.1:" + port + "/", "domains": []string{e.domain}, "types": []string{"message"},
			"format": e.format, "allow_private": true,
		})
		p.env = append(p.env, "PORT="+port, "SECRET="+hook["secret"].(string))
	}
	var err error
	if p.log, err = os.Create(p.dir + ".log"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill(t)
		}
		p.log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(p.log.Name())
			t.Logf("the gateway's log:\n%s", text)
		}
	})
	return p
}

// start returns when the program says that it is ready.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.argv[0], p.argv[1:]...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = p.dir, p.env, p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(p.log, lines.Text())
			if lines.Text() == "ready" {
				select {
				case ready <- true:
				default:
				}
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("the gateway does not start")
	}
}

// kill gives the program no chance to tidy up.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Errorf("the gateway has ended by itself: %v", err)
	}
	_ = p.cmd.Wait() // it was killed
	p.cmd = nil
}

// user is chat.py at work.
type user struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan map[string]any
	next  int // the echo that is expected next
}

func (s *server) user(t *testing.T, name, peer string) *user {
	t.Helper()
	account := name + "@" + host
	run(t, s.binary, "user", "add", account, "--password", "secret", "--config", s.config)
	u := &user{cmd: exec.Command(python, "chat.py"), lines: make(chan map[string]any, 2*messages), next: 1}
	u.cmd.Env = append(os.Environ(), "JID="+account, "PASSWORD=secret", "PEER="+peer, "TCP="+s.tcp,
		"CA="+filepath.Join(s.dir, "data", "certs", "ca.pem"))
	var err error
	if u.in, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	u.cmd.Stderr = &complaints
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(u.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := map[string]any{}
			if json.Unmarshal(lines.Bytes(), &line) == nil {
				u.lines <- line
			}
		}
	}()
	t.Cleanup(func() {
		_ = u.cmd.Process.Kill()
		_ = u.cmd.Wait()
		if t.Failed() {
			t.Logf("the user's complaints:\n%s", complaints.String())
		}
	})
	if line := u.read(t); line["started"] != true {
		t.Fatalf("the user says %v", line)
	}
	return u
}

func (u *user) may(t *testing.T, n int) {
	t.Helper()
	if _, err := fmt.Fprintln(u.in, n); err != nil {
		t.Fatal(err)
	}
}

func (u *user) read(t *testing.T) map[string]any {
	t.Helper()
	select {
	case line, ok := <-u.lines:
		if !ok {
			t.Fatal("the user has ended")
		}
		return line
	case <-time.After(patience):
		t.Fatalf("the user waits for %d", u.next)
		return nil
	}
}

// expect reads echoes up to the n-th: each once, in order, and nothing else.
func (u *user) expect(t *testing.T, n int) {
	t.Helper()
	for u.next <= n {
		line := u.read(t)
		if line["echo"] != strconv.Itoa(u.next) {
			t.Fatalf("the user got %v, want echo %d", line, u.next)
		}
		u.next++
	}
}

// end expects nothing more.
func (u *user) end(t *testing.T) {
	t.Helper()
	u.in.Close()
	for {
		select {
		case line, ok := <-u.lines:
			if !ok {
				return
			}
			if line["disconnected"] == nil {
				t.Errorf("the user got %v behind the last echo", line)
			}
		case <-time.After(patience):
			t.Fatal("the user does not end")
		}
	}
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, complaints.String())
	}
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// until polls, as the outside world does not tell us.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(errors.New("waiting until " + what))
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
