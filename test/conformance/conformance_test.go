package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	domain  = "example.org"
	gateway = "sms.example.org"
)

// venv is where setup.sh has put the tools.
var venv = filepath.Join("..", "..", ".cache", "conformance-venv", "bin")

// tool returns the path of an installed tool.
func tool(t *testing.T, name string) string {
	t.Helper()
	switch os.Getenv("TRIVIUM_CONFORMANCE") {
	case "off":
		t.Skip("turned off by TRIVIUM_CONFORMANCE=off")
	}
	path, err := filepath.Abs(filepath.Join(venv, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run test/conformance/setup.sh, or set TRIVIUM_CONFORMANCE=off (%v)", name, err)
	}
	return path
}

// artifacts returns a folder for reports.
func artifacts(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "artifacts"))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPublishedDocument(t *testing.T) {
	validator := tool(t, "openapi-spec-validator")
	out, err := exec.CommandContext(t.Context(), validator, "../../docs/openapi.json").CombinedOutput()
	if err != nil {
		t.Errorf("docs/openapi.json: %v\n%s", err, out)
	}
}

// server is a running server with something in it, so that requests find what they
// name.
type server struct {
	t     *testing.T
	url   string // of the interface
	token string
	bare  *http.Client
}

// start builds the server, starts it as an operator would, and stops it when the test
// is over.
func start(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	binary, config := filepath.Join(dir, "trivium"), filepath.Join(dir, "trivium.yaml")
	run := func(name string, args ...string) string {
		t.Helper()
		var out, problems bytes.Buffer
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Stdout, cmd.Stderr = &out, &problems
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, &out, &problems)
		}
		return out.String()
	}
	run("go", "build", "-o", binary, "../../cmd/trivium")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	if err := os.WriteFile(config, fmt.Appendf(nil, `
data_dir: %q
hosts: [{domain: %s}]
listeners: [{kind: http, address: %q, endpoints: [rest, health, upload]}]
upload: {public_url: %q}
rest: {rate: 0}
`, filepath.Join(dir, "data"), domain, address, "http://"+address), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(artifacts(t), "conformance-server.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", config)
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
				t.Errorf("the server ended with %v, see %s", err, log.Name())
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("the server does not stop, see %s", log.Name())
		}
	})
	s := &server{t: t, url: "http://" + address + "/api/v1", bare: &http.Client{Timeout: 10 * time.Second}}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("not ready after 30 s"))
	defer cancel()
	for ready := false; !ready; {
		rq, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		if rs, err := s.bare.Do(rq); err == nil {
			rs.Body.Close()
			ready = rs.StatusCode == http.StatusOK
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the server ended by itself, see %s", log.Name())
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, name := range []string{"juliet", "romeo"} {
		run(binary, "user", "add", name+"@"+domain, "--password", "secret", "--config", config)
	}
	words := strings.Fields(run(binary, "token", "add", "romeo@"+domain, "--read", domain, "--admin", "*", "--config", config))
	s.token = words[len(words)-1]
	s.furnish()
	return s
}

// furnish makes what hooks.py names.
func (s *server) furnish() {
	s.t.Helper()
	for _, rq := range []struct{ method, path, body string }{
		{http.MethodPut, "/gateways/" + gateway, `{"type":"sms","name":"Text messages"}`},
		{http.MethodPut, "/webhooks/app", `{"url":"http://127.0.0.1:9/hook","allow_private":true,"domains":["` + gateway + `"]}`},
		{http.MethodPut, "/accounts/juliet@" + domain + "/roster/romeo@" + domain, `{"name":"Romeo","groups":["Montague"]}`},
		{http.MethodPost, "/messages", `{"to":"juliet@` + domain + `","body":"hi"}`},
		{http.MethodPost, "/messages", `{"to":"+15551234@` + gateway + `","body":"hi"}`},
	} {
		r, err := http.NewRequestWithContext(s.t.Context(), rq.method, s.url+rq.path, strings.NewReader(rq.body))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.token)
		r.Header.Set("Content-Type", "application/json")
		rs, err := s.bare.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		rs.Body.Close()
		if rs.StatusCode >= 300 {
			s.t.Fatalf("%s %s: %s", rq.method, rq.path, rs.Status)
		}
	}
}

// parts share the operations out, so that each has a processor.
var parts = []string{`^/(accounts|presence|iq|subscriptions)`, `^/(messages|stanzas|uploads|events)`, `^/(webhooks|gateways|tokens|audit|stats)`}

func TestServer(t *testing.T) {
	schemathesis := tool(t, "schemathesis")
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	s := start(t)
	reports := artifacts(t)
	args := []string{"--phases", "examples,coverage", "--max-time", "50"}
	limit := 3 * time.Minute // on a machine that does other things as well
	if os.Getenv("TRIVIUM_CONFORMANCE") == "long" {
		args, limit = []string{"--phases", "examples,coverage,fuzzing,stateful", "--max-time", "600"}, 15*time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	storage := t.TempDir()
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() {
			// Python puts the folder of a script first on its path, hooks.py is found by the
			// folder of the configuration.
			cmd := exec.CommandContext(ctx, schemathesis, append([]string{
				"--config-file", "schemathesis.toml", "run", s.url + "/openapi.json", "--url", s.url, "--no-color",
				"--include-path-regex", part,
			}, args...)...)
			cmd.Env = append(os.Environ(), "TRIVIUM_TOKEN="+s.token, "PYTHONDONTWRITEBYTECODE=1", "HYPOTHESIS_STORAGE_DIRECTORY="+storage)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
			cmd.WaitDelay = 10 * time.Second
			out, err := cmd.CombinedOutput()
			name := filepath.Join(reports, fmt.Sprintf("conformance-%d.txt", i+1))
			if werr := os.WriteFile(name, out, 0o644); werr != nil {
				t.Error(werr)
			}
			if err != nil {
				t.Errorf("schemathesis on %s: %v, see %s\n%s", part, err, name, found(out))
				return
			}
			t.Logf("%s: %s", part, summary.FindString(string(out)))
		})
	}
	wg.Wait()
}

var (
	findings = regexp.MustCompile(`(?s)=+ (ERRORS|FAILURES) =+\n.*?\n=+ (WARNINGS|SUMMARY)`)
	summary  = regexp.MustCompile(`\d+ generated[^\n]*`)
)

// found returns what schemathesis has to say, in not too many words.
func found(out []byte) string {
	text := findings.FindString(string(out))
	if text == "" {
		text = string(out)
	}
	return text[:min(len(text), 20000)]
}

// Every operation of the document is in one of the parts.
func TestParts(t *testing.T) {
	raw, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	paths := regexp.MustCompile(`(?m)^    "(/[^"]*)": \{$`).FindAllSubmatch(raw, -1)
	if len(paths) < 20 {
		t.Fatalf("%d paths found", len(paths))
	}
	for _, p := range paths {
		in := 0
		for _, part := range parts {
			if regexp.MustCompile(part).Match(p[1]) {
				in++
			}
		}
		if in != 1 {
			t.Errorf("%s is in %d parts", p[1], in)
		}
	}
}
