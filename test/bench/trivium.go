package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"trivium/core/admin"
)

// trivium runs the server of this repository from its built binary.
type trivium struct {
	binary   string
	dir      string
	config   string // path
	text     string // its content, without what a setup adds
	accounts []string
	ep       endpoint
	token    string
	hook     string // where webhooks are posted to
}

func (*trivium) name() string { return "trivium" }

func (t *trivium) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, t.binary, "version").Output()
	return strings.TrimSpace(string(out)), err
}

// triviumConfig lifts the limits of rate and number, as the peers have none, and
// takes the iteration count of their SCRAM; all else is the default.
const triviumConfig = `data_dir: {dir}/data
hosts:
  - {domain: localhost, certificate: {dir}/cert.pem, key: {dir}/key.pem}
log: {level: warn}
listeners:
  - {kind: xmpp-starttls, address: "{tcp}", require_tls: false}
  - {kind: xmpp-tls, address: "{direct}"}
  - {kind: http, address: "{http}", endpoints: [websocket, bosh, rest, health, metrics]{proxied}}
limits: {connections_per_address: 0, unauthenticated_per_address: 0, rate_bytes: 0, rate_stanzas: 0}
sasl: {iterations: 4096}
`

// hookSecret signs the posts: "a key for posts over loopback".
const hookSecret = "whsec_YSBrZXkgZm9yIHBvc3RzIG92ZXIgbG9vcGJhY2s="

// configured returns the configuration of a setup.
// Stream management is always there, and clients that do not ask for it do not pay
// for it.
func (t *trivium) configured(su setup) string {
	proxied := ""
	if su.proxied {
		proxied = ", behind_tls: true"
	}
	text := strings.ReplaceAll(t.text, "{proxied}", proxied)
	if !su.archive { // the peers have none then
		text += "archive: {default: never}\n"
	}
	if su.gateway {
		types := ""
		if su.pulled { // the domain's messages are in the event log, and go nowhere
			types = "registration"
		}
		text += fmt.Sprintf("webhooks:\n  - {name: bench, url: %q, domains: [%s], types: [%s], allow_private: true, secrets: [%s]}\n",
			t.hook, gatewayDomain, types, hookSecret)
	}
	if su.unpromised {
		text += "stream_management: {promise: false}\n"
	}
	return text
}

func (t *trivium) prepare(_ context.Context, b *bench, dir string, accounts []string) (endpoint, error) {
	path, err := filepath.Abs(b.triviumBinary)
	if err != nil {
		return endpoint{}, err
	}
	if _, err := os.Stat(path); err != nil {
		return endpoint{}, fmt.Errorf("%w: build it with go build -o bin/trivium ./cmd/trivium", err)
	}
	ports, err := freePorts(3)
	if err != nil {
		return endpoint{}, err
	}
	t.binary, t.dir, t.accounts, t.hook = path, dir, accounts, b.receiver.url()
	t.config = filepath.Join(dir, "trivium.yaml")
	t.ep = endpoint{
		tcp: local(ports[0]), direct: local(ports[1]), http: local(ports[2]),
		ws: "/xmpp-websocket", bosh: "/http-bind",
	}
	t.text = strings.NewReplacer("{dir}", dir, "{tcp}", t.ep.tcp, "{direct}", t.ep.direct,
		"{http}", t.ep.http).Replace(triviumConfig)
	return t.ep, b.cert.write(dir)
}

func (t *trivium) command(su setup) (*exec.Cmd, error) {
	if err := os.WriteFile(t.config, []byte(t.configured(su)), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(t.binary, "--config", t.config, "serve")
	cmd.Dir = t.dir
	return cmd, nil
}

// adminSocket is where Trivium listens for its admin subcommands and the profiler.
func adminSocket(dir string) string { return filepath.Join(dir, "data", "admin.sock") }

// created makes the accounts over the admin socket, and a token that sends as
// one of them.
func (t *trivium) created(ctx context.Context) error {
	err := each(len(t.accounts), func(i int) error {
		_, err := admin.Call(ctx, adminSocket(t.dir), "user add", admin.Args{"jid": t.accounts[i] + "@" + domain, "password": password})
		return err
	})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, t.binary, "--config", t.config, "token", "add", userName(restFrom)+"@"+domain)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("token add: %w: %s", err, exit.Stderr)
	}
	t.token = strings.TrimSpace(string(out))
	return err
}

func (t *trivium) rest(_, to, body string) []byte {
	return jsonPost(t.ep.http, "/api/v1/messages", "Authorization: Bearer "+t.token+"\r\n",
		fmt.Sprintf(`{"to":%q,"type":"chat","body":%q}`, to, body))
}
