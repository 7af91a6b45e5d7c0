package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/xdg-go/scram"
)

// prosody runs Debian's package: no limits module, internal storage, hashed
// SCRAM-SHA-256 passwords, the modules that match what Trivium has. No package of
// Debian's has its REST module: that comes from a directory of community modules,
// when there is one.
type prosody struct {
	dir       string
	config    string // with {modules} and {options} of the setup
	community string // directory with mod_rest, "" if there is none
	http      string // host:port
	account   *account
}

func (*prosody) name() string { return "prosody" }

func (*prosody) version(ctx context.Context) (string, error) { return debianVersion(ctx, "prosody") }

const prosodyConfig = `data_path = "{dir}/data"
pidfile = "{dir}/prosody.pid"
daemonize = false
log = { error = "*stderr" }
modules_enabled = {
	"roster"; "saslauth"; "tls"; "disco"; "carbons"; "private"; "blocklist"; "vcard_legacy"; "vcard4";
	"version"; "uptime"; "time"; "ping"; "lastactivity"; "offline"; "bosh"; "websocket";{modules}
}
modules_disabled = { "s2s" }
authentication = "internal_hashed"
password_hash = "SHA-256"
default_iteration_count = 4096
default_storage = "internal"
c2s_require_encryption = false
c2s_interfaces = { "127.0.0.1" }
c2s_ports = { {tcp} }
c2s_direct_tls_interfaces = { "127.0.0.1" }
c2s_direct_tls_ports = { {direct} }
http_interfaces = { "127.0.0.1" }
http_ports = { {http} }
https_ports = {}
http_default_host = "localhost"
consider_bosh_secure = true
consider_websocket_secure = true
ssl = { certificate = "{dir}/cert.pem"; key = "{dir}/key.pem"; protocol = "tlsv1_2+" }
{options}VirtualHost "localhost"
`

// prosodyArchive keeps archives in files, as Prosody does by default, without the
// quota of 10,000 messages and the expiry of a week.
const prosodyArchive = `default_archive_policy = true
archive_expires_after = "never"
storage_archive_item_limit = 10000000
`

// prosodySQL puts them into SQLite instead.
const (
	storeSQLite = "sqlite"
	prosodySQL  = `storage = { archive = "sql"; }
sql = { driver = "SQLite3"; database = "archive.db"; }
`
)

func (p *prosody) configured(su setup) string {
	modules, options := "", ""
	if p.community != "" {
		modules += ` "rest";`
		options += fmt.Sprintf("plugin_paths = { %q }\n", p.community)
	}
	if su.sm {
		modules += ` "smacks";`
	}
	if su.archive {
		modules += ` "mam";`
		options += prosodyArchive
		if su.store == storeSQLite {
			options += prosodySQL
		}
	}
	return strings.NewReplacer("{modules}", modules, "{options}", options).Replace(p.config)
}

func (p *prosody) prepare(ctx context.Context, b *bench, dir string, accounts []string) (endpoint, error) {
	if err := install(ctx, b, "prosody", "prosody", "lua-event", "lua-dbi-sqlite3"); err != nil {
		return endpoint{}, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return endpoint{}, err
	}
	p.dir, p.account = dir, systemAccount("prosody")
	if err := p.findREST(b.prosodyModules); err != nil {
		return endpoint{}, err
	}
	p.config = strings.NewReplacer("{dir}", dir, "{tcp}", fmt.Sprint(ports[0]), "{direct}", fmt.Sprint(ports[1]),
		"{http}", fmt.Sprint(ports[2])).Replace(prosodyConfig)
	if err := b.cert.write(dir); err != nil {
		return endpoint{}, err
	}
	if err := p.writeAccounts(accounts); err != nil {
		return endpoint{}, err
	}
	if err := p.writeToken(); err != nil {
		return endpoint{}, err
	}
	p.http = local(ports[2])
	ep := endpoint{
		tcp: local(ports[0]), direct: local(ports[1]), http: p.http,
		ws: "/xmpp-websocket", bosh: "/http-bind",
	}
	return ep, p.account.own(dir)
}

// findREST takes mod_rest from a directory of community modules; "" is none.
func (p *prosody) findREST(community string) (err error) {
	if community == "" {
		return nil
	}
	if p.community, err = filepath.Abs(community); err == nil {
		_, err = os.Stat(filepath.Join(p.community, "mod_rest", "mod_rest.lua"))
	}
	return err
}

// The token that mod_rest is used with, as Prosody's mod_tokenauth keeps tokens.
const prosodyTokenID = "bench-token"

func prosodyToken() string {
	return base64.StdEncoding.EncodeToString([]byte("1;" + userName(restFrom) + "@" + domain + ";" + prosodyTokenID))
}

func (p *prosody) writeToken() error {
	user := userName(restFrom)
	text := fmt.Sprintf("return {\n\t[%q] = {\n\t\t[\"owner\"] = %[2]q;\n\t\t[\"jid\"] = %[2]q;\n\t\t[\"created\"] = 0;\n"+
		"\t\t[\"session\"] = { [\"username\"] = %[3]q; [\"host\"] = %[4]q; };\n\t};\n};\n", prosodyTokenID, user+"@"+domain, user, domain)
	dir := filepath.Join(p.dir, "data", domain, "auth_tokens")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, user+".dat"), []byte(text), 0o600)
}

// writeAccounts writes the files of Prosody's internal storage: one process per
// account through prosodyctl would take minutes. All share a salt, and so a key.
func (p *prosody) writeAccounts(accounts []string) error {
	client, err := scram.SHA256.NewClient("any", password, "")
	if err != nil {
		return err
	}
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "bench-salt", Iters: 4096})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("return {\n\t[\"salt\"] = \"bench-salt\";\n\t[\"iteration_count\"] = 4096;\n"+
		"\t[\"stored_key\"] = %q;\n\t[\"server_key\"] = %q;\n};\n",
		hex.EncodeToString(keys.StoredKey), hex.EncodeToString(keys.ServerKey))
	dir := filepath.Join(p.dir, "data", domain, "accounts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range accounts {
		if err := os.WriteFile(filepath.Join(dir, name+".dat"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *prosody) command(su setup) (*exec.Cmd, error) {
	path := filepath.Join(p.dir, "prosody.cfg.lua")
	if err := p.account.write(path, p.configured(su)); err != nil {
		return nil, err
	}
	cmd := exec.Command("prosody", "--config", path, "-F")
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LANG=C.UTF-8"}
	return p.account.run(cmd), nil
}

func (*prosody) created(context.Context) error { return nil }

// rest uses a bearer token, which costs no derivation of a key as a password does.
func (p *prosody) rest(_, to, body string) []byte {
	if p.community == "" {
		return nil
	}
	return jsonPost(p.http, "/rest", "Authorization: Bearer "+prosodyToken()+"\r\n",
		fmt.Sprintf(`{"kind":"message","type":"chat","to":%q,"body":%q}`, to, body))
}
