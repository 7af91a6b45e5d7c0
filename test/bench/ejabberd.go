package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ejabberd runs Debian's package: no shapers, Mnesia, SCRAM-SHA-256, the modules
// that match what Trivium has. It is started as its own Erlang node without
// distribution, with the emulator flags of ejabberdctl.
type ejabberd struct {
	dir      string
	config   string // without what a setup adds at its end
	account  *account
	accounts []string
	ep       endpoint
	noSQL    error // why its SQLite driver is not there
}

func (*ejabberd) name() string { return "ejabberd" }

func (*ejabberd) version(ctx context.Context) (string, error) { return debianVersion(ctx, "ejabberd") }

const ejabberdConfig = `hosts: [localhost]
loglevel: error
certfiles: ["{dir}/both.pem"]
c2s_protocol_options: [no_sslv3, no_tlsv1, no_tlsv1_1, cipher_server_preference, no_compression]
listen:
  - {port: {tcp}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, max_stanza_size: 262144, access: all, backlog: 1000}
  - {port: {direct}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, max_stanza_size: 262144, access: all, backlog: 1000}
  - port: {http}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {/ws: ejabberd_http_ws, /bosh: mod_bosh, /api: mod_http_api}
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
api_permissions:
  loopback:
    who: {ip: 127.0.0.0/8}
    what: "*"
acl: {}
shaper: {}
shaper_rules:
  max_user_sessions: 10
  max_user_offline_messages: infinity
modules:
  mod_adhoc: {}
  mod_admin_extra: {}
  mod_blocking: {}
  mod_bosh: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_http_api: {}
  mod_last: {}
  mod_offline: {access_max_user_messages: max_user_offline_messages}
  mod_ping: {}
  mod_private: {}
  mod_privacy: {}
  mod_roster: {versioning: true}
  mod_vcard: {search: false}
  mod_version: {}
`

// The archive's databases: SQLite, which Debian packages as a driver of its own,
// and Mnesia, the default.
const storeMnesia = "mnesia"

func (e *ejabberd) modules(su setup) (string, error) {
	var text strings.Builder
	if su.sm {
		text.WriteString("  mod_stream_mgmt: {}\n")
	}
	switch {
	case su.archive && su.store == storeMnesia:
		text.WriteString("  mod_mam: {default: always, db_type: mnesia}\n")
	case su.archive && e.noSQL != nil:
		return "", fmt.Errorf("%w: SQLite: %w", errUnsupported, e.noSQL)
	case su.archive:
		fmt.Fprintf(&text, "  mod_mam: {default: always, db_type: sql}\nsql_type: sqlite\nsql_database: %q\n", filepath.Join(e.dir, "archive.db"))
	}
	return text.String(), nil
}

func (e *ejabberd) prepare(ctx context.Context, b *bench, dir string, accounts []string) (endpoint, error) {
	if err := install(ctx, b, "ejabberdctl", "ejabberd"); err != nil {
		return endpoint{}, err
	}
	e.noSQL = installLibrary(ctx, b, "erlang-p1-sqlite3")
	ports, err := freePorts(3)
	if err != nil {
		return endpoint{}, err
	}
	e.dir, e.accounts, e.account = dir, accounts, systemAccount("ejabberd")
	e.config = strings.NewReplacer("{dir}", dir, "{tcp}", fmt.Sprint(ports[0]), "{direct}", fmt.Sprint(ports[1]),
		"{http}", fmt.Sprint(ports[2])).Replace(ejabberdConfig)
	// What Debian's /etc/ejabberd/inetrc does: names are resolved from files.
	if err := os.WriteFile(filepath.Join(dir, "inetrc"), []byte("{lookup,[file,native]}.\n"), 0o600); err != nil {
		return endpoint{}, err
	}
	if err := b.cert.write(dir); err != nil {
		return endpoint{}, err
	}
	e.ep = endpoint{tcp: local(ports[0]), direct: local(ports[1]), http: local(ports[2]), ws: "/ws", bosh: "/bosh"}
	return e.ep, e.account.own(dir)
}

func (e *ejabberd) command(su setup) (*exec.Cmd, error) {
	modules, err := e.modules(su)
	if err != nil {
		return nil, err
	}
	if err := e.account.write(filepath.Join(e.dir, "ejabberd.yml"), e.config+modules); err != nil {
		return nil, err
	}
	cmd := exec.Command("erl", "+K", "true", "+P", "250000", "-noinput",
		"-mnesia", "dir", `"`+filepath.Join(e.dir, "mnesia")+`"`, "-s", "ejabberd")
	cmd.Dir = e.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + e.dir, "LANG=C.UTF-8",
		"ERL_LIBS=/usr/lib/x86_64-linux-gnu", "ERL_MAX_PORTS=32000", "ERL_MAX_ETS_TABLES=1400",
		"ERL_INETRC=" + filepath.Join(e.dir, "inetrc"), "ERL_CRASH_DUMP=" + filepath.Join(e.dir, "crash.dump"),
		"EJABBERD_CONFIG_PATH=" + filepath.Join(e.dir, "ejabberd.yml"), "EJABBERD_LOG_PATH=" + filepath.Join(e.dir, "ejabberd.log"),
	}
	return e.account.run(cmd), nil
}

// created registers the accounts over the HTTP API.
func (e *ejabberd) created(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	return each(len(e.accounts), func(i int) error {
		body := fmt.Sprintf(`{"user":%q,"host":%q,"password":%q}`, e.accounts[i], domain, password)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.ep.http+"/api/register", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("register %s: %s: %s", e.accounts[i], resp.Status, text)
		}
		return err
	})
}

// rest uses the permission by address: requests carry no credentials, which is
// ejabberd's cheapest way. Its bearer tokens need a package Debian only suggests.
func (e *ejabberd) rest(from, to, body string) []byte {
	return jsonPost(e.ep.http, "/api/send_message", "",
		fmt.Sprintf(`{"type":"chat","from":%q,"to":%q,"subject":"","body":%q}`, from+"@"+domain, to, body))
}

// jsonPost builds an HTTP/1.1 request; header holds extra lines, each with CRLF.
func jsonPost(host, path, header, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		path, host, header, len(body), body)
}
