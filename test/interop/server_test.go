package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a running server and the files it was started with.
type server struct {
	desc         description
	domain       string
	dir          string // configuration, data, certificates; removed with the test run
	http         string // host:port of the listener for WebSocket, BOSH and REST
	https        string // the same over TLS
	certificates certificates
	origin       string   // a second web origin that the server admits
	lacks        []string // "client/step" that a stand-in is known to fail; empty for Trivium
	stop         func() error
}

// newServer chooses addresses and writes certificates; nothing runs yet.
func newServer(name, dir string) (*server, error) {
	const domain = "localhost.example"
	s := &server{domain: domain, dir: dir, stop: func() error { return nil }}
	var ports [6]string
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	var err error
	if s.certificates, err = writeCertificates(dir, domain); err != nil {
		return nil, err
	}
	artifacts, err := filepath.Abs(filepath.Join("..", "artifacts"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return nil, err
	}
	s.http, s.https, s.origin = ports[2], ports[4], "http://"+ports[5]
	s.desc = description{
		Name:      name,
		Domain:    domain,
		TCP:       ports[0],
		DirectTLS: ports[1],
		WebSocket: "ws://" + s.http + "/xmpp-websocket",
		BOSH:      "http://" + s.http + "/http-bind",
		WSS:       "wss://" + s.https + "/xmpp-websocket",
		BOSHS:     "https://" + s.https + "/http-bind",
		REST:      "http://" + s.http + "/api/v1",
		Sender:    newAccount(domain, "rest", "sender").JID,
		CA:        s.certificates.CA,
		OtherCA:   s.certificates.OtherCA,
		Origin:    "http://" + ports[3],
		Artifacts: artifacts,
	}
	return s, nil
}

// stopTimeout is how long a server may take to end after SIGTERM with no
// client connected.
const stopTimeout = 20 * time.Second

// run starts the server's process, waits until ready returns, and sets stop.
// The process's output goes to the artefacts.
func (s *server) run(cmd *exec.Cmd, ready func(context.Context) error) error {
	out, err := os.Create(filepath.Join(s.desc.Artifacts, "interop-"+s.desc.Name+"-server.log"))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		out.Close()
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 30*time.Second, errors.New("not ready after 30 s"))
	defer cancel()
	ctx, ended := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		ended(fmt.Errorf("%s ended by itself (%v), see %s", s.desc.Name, err, out.Name()))
		done <- err
	}()
	s.stop = func() error {
		defer out.Close()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err // it has ended before: that is a crash
		}
		select {
		case err := <-done:
			return err
		case <-time.After(stopTimeout):
			return errors.Join(errors.New("it does not stop"), cmd.Process.Kill(), <-done)
		}
	}
	if err := ready(ctx); err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

// startTrivium builds the binary, configures it as an operator would, and
// creates accounts and a token through its command line.
func startTrivium(ctx context.Context, dir string, clients []string) (*server, error) {
	s, err := newServer("trivium", dir)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "trivium")
	if err := command(ctx, "go", "build", "-o", binary, "../../cmd/trivium"); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "trivium.yaml")
	if err := os.WriteFile(config, []byte(triviumConfig(s)), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", config)
	if err := s.run(cmd, s.waitReady); err != nil {
		return nil, err
	}
	for _, a := range allAccounts(s.domain, clients) {
		if err := command(ctx, binary, "user", "add", a.JID, "--password", a.Password, "--config", config); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	for _, t := range []struct {
		token *string
		scope []string
	}{{&s.desc.Token, []string{s.desc.Sender}}, {&s.desc.Admin, []string{"--admin", "*", "--name", "operator"}}} {
		if *t.token, err = newToken(ctx, binary, config, t.scope...); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

// newToken makes a token through the command line and returns its secret.
func newToken(ctx context.Context, binary, config string, scope ...string) (string, error) {
	out, err := exec.CommandContext(ctx, binary, append([]string{"token", "add", "--config", config}, scope...)...).Output()
	if err != nil {
		return "", fmt.Errorf("trivium token add: %w", err)
	}
	fields := strings.Fields(string(out)) // the secret is the last word printed
	if len(fields) == 0 {
		return "", errors.New("trivium token add printed no token")
	}
	return fields[len(fields)-1], nil
}

func triviumConfig(s *server) string {
	return fmt.Sprintf(`
data_dir: %[1]q
hosts:
  - {domain: %[2]q, certificate: %[3]q, key: %[4]q, registration: true}
listeners:
  - {kind: xmpp-starttls, address: %[5]q}
  - {kind: xmpp-tls, address: %[6]q}
  - {kind: http, address: %[7]q}
  - {kind: https, address: %[9]q}
websocket: {origins: [%[8]q, %[10]q]}
bosh: {origins: [%[8]q, %[10]q]}
upload: {public_url: %[11]q} # the domain has no DNS
gateway_grace: 1s # people come and go in front of gateways that leave
log: {level: debug}
limits: {failed_logins_per_address: 1000} # every client tries wrong passwords from here
`, filepath.Join(s.dir, "data"), s.domain, s.certificates.Chain, s.certificates.Key,
		s.desc.TCP, s.desc.DirectTLS, s.http, s.desc.Origin, s.https, s.origin, "https://"+s.https)
}

// waitReady polls /readyz until the server says that it serves.
func (s *server) waitReady(ctx context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		rq, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+"/readyz", nil)
		if err != nil {
			return err
		}
		if rsp, err := client.Do(rq); err == nil {
			rsp.Body.Close()
			if rsp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for /readyz: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// command runs a program to its end; its output is in the error.
func command(ctx context.Context, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, &out)
	}
	return nil
}
