package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

func parse(text string, environ ...string) (*Config, error) {
	return Parse(Default(), "trivium.yaml", []byte(text), environ)
}

func TestExampleIsTheDefault(t *testing.T) {
	got, err := parse(Example())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("example.yaml and Default differ:\n%s", diff)
	}
	for _, name := range VariableNames() {
		// Every key stands in the example: in the last part of its path at least.
		key := strings.ToLower(name[strings.LastIndex(name, "_")+1:])
		if !strings.Contains(Example(), key+":") {
			t.Errorf("example.yaml lacks the key of %s", name)
		}
	}
}

// The samples in comments load as well once they are no comments.
func TestExampleSamplesLoad(t *testing.T) {
	sample := func(list string) *Config {
		before, after, ok := strings.Cut(Example(), list+": []\n")
		if !ok {
			t.Fatalf("no sample in %s", list)
		}
		var text strings.Builder
		text.WriteString(before + list + ":\n")
		for line := range strings.Lines(after) {
			if line == "\n" {
				break
			}
			text.WriteString(strings.TrimPrefix(line, "# "))
		}
		got, err := parse(text.String())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := sample("webhooks"); len(got.Webhooks) != 1 || got.Webhooks[0].Timeout != 10*time.Second {
		t.Errorf("webhooks = %+v", got.Webhooks)
	}
	if got := sample("gateways"); len(got.Gateways) != 1 || len(got.Gateways[0].Registration.Fields) != 1 || got.Gateways[0].Capabilities.MaxLength != 1600 {
		t.Errorf("gateways = %+v", got.Gateways)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	for name, c := range map[string]*Config{"default": Default(), "development": Development()} {
		got, err := Parse(c, "", nil, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("%s: an empty file changed it:\n%s", name, diff)
		}
	}
	for i, l := range Development().Listeners {
		if !isLocal(l.Address) {
			t.Errorf("development listener %d is open to others: %s", i, l.Address)
		}
	}
}

func TestParse(t *testing.T) {
	got, err := parse(`
hosts:
  - domain: example.org
    registration: true
  - {domain: münchen.example, certificate: m.pem, anonymous: true}
listeners:
  - kind: http
    address: "[::1]:8080"
  - kind: xmpp-starttls
    address: unix:/run/trivium/c2s.sock
    require_tls: false
limits: {stanza_size: 1MiB, ping_interval: 0s, rate_bytes: 0}
log:
  level: debug
bosh:
webhooks:
  - name: bot
    url: http://127.0.0.1:9/hook
    secrets: ["` + secret + `"]
    watch: [example.org, juliet@münchen.example]
    domains: [bot.example.org]
    allow_private: true
    types: [message, iq]
    jids: ["+49*@bot.example.org"]
    format: cpim
    sync: true
    concurrency: 4
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Hosts = []Host{
		{Domain: "example.org", Registration: true, Auth: defaultAuth()},
		{Domain: "münchen.example", Certificate: "m.pem", Anonymous: true, Auth: defaultAuth()},
	}
	want.Listeners = []Listener{
		{Kind: HTTP, Address: "[::1]:8080", RequireTLS: true, Endpoints: []string{"websocket", "bosh", "rest", "upload", "host-meta", "health", "metrics"}},
		{Kind: XMPPStartTLS, Address: "unix:/run/trivium/c2s.sock"},
	}
	want.Limits.StanzaSize, want.Limits.PingInterval, want.Limits.RateBytes = 1<<20, 0, 0
	want.Log.Level = "debug"
	want.Webhooks = []Webhook{{
		Name: "bot", URL: "http://127.0.0.1:9/hook", Secrets: []Secret{secret},
		Watch: []string{"example.org", "juliet@münchen.example"}, Domains: []string{"bot.example.org"},
		AllowPrivate: true, Timeout: 10 * time.Second, GiveUpAfter: 72 * time.Hour,
		Types: []string{"message", "iq"}, JIDs: []string{"+49*@bot.example.org"}, Rooms: []string{}, Format: "cpim", Sync: true, Concurrency: 4,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each problem is said at its place, with what would be right.
func TestProblems(t *testing.T) {
	hook := "webhooks: [{name: a, url: 'https://h.example/', secrets: [" + secret + "], domains: [d.example]}"
	for _, tt := range []struct {
		name, in string
		at       string // line:column
		key      string
		want     string // part of the message
	}{
		{"unknown key", "limits:\n  stanza_sizes: 1\n", "2:3", "limits.stanza_sizes", "did you mean stanza_size?"},
		{"hyphen for underscore", "data-dir: x\n", "1:1", "data-dir", "did you mean data_dir?"},
		{"swapped letters", "lgo: {}\n", "1:1", "lgo", "did you mean log?"},
		{"nothing near", "frobnicate: 1\n", "1:1", "frobnicate", "the keys here are hosts, data_dir"},
		{"unknown in list", "listeners:\n  - kind: http\n    adress: ':1'\n", "3:5", "listeners[0].adress", "address?"},
		{"not a size", "limits:\n  stanza_size: big\n", "2:16", "limits.stanza_size", "write a size such as"},
		{"size out of range", "limits:\n  stanza_size: 1KiB\n", "2:16", "limits.stanza_size", "10000 to 16MiB"},
		{"not a duration", "limits: {ping_interval: 30}\n", "1:25", "limits.ping_interval", "30s"},
		{"zero where it means nothing", "limits: {login_timeout: 0s}\n", "1:25", "limits.login_timeout", "1s to 10m"},
		{"negative", "limits: {depth: -1}\n", "1:17", "limits.depth", "8 to 1000"},
		{"yes is no bool", "hosts:\n  - domain: a.example\n    registration: yes\n", "3:19", "hosts[0].registration", "true or false"},
		{"bool for a word", "log: {format: true}\n", "1:15", "log.format", "text, json"},
		{"unknown word", "log:\n  level: warning\n", "2:10", "log.level", "did you mean warn?"},
		{"unknown list word", "sasl: {mechanisms: [PLAIN, SCRAM-SHA1]}\n", "1:28", "sasl.mechanisms[1]", "SCRAM-SHA-1?"},
		{"empty value", "data_dir:\n", "1:1", "data_dir", "nothing stands here"},
		{"empty list", "listeners:\n", "1:1", "listeners", "[] for none"},
		{"scalar for a section", "limits: 3\n", "1:9", "limits", "write keys: stanza_size"},
		{"section for a scalar", "data_dir: {a: 1}\n", "1:11", "data_dir", "keys stand here"},
		{"scalar for a list", "hosts: example.org\n", "1:8", "hosts", "write a list"},
		{"alias", "data_dir: &x a\n", "1:11", "data_dir", "anchors"},
		{"two documents", "data_dir: a\n---\ndata_dir: b\n", "3:9", "", "second document"},
		{"not YAML", "hosts: [\n", "1:8", "", "not YAML"},
		{"no hosts", "hosts: []\n", "1:1", "hosts", "domain: example.org"},
		{"host is no domain", "hosts: [{domain: 'a b'}]\n", "1:18", "hosts[0].domain", "such as example.org"},
		{"host twice", "hosts: [{domain: a.example}, {domain: A.example.}]\n", "1:39", "hosts[1].domain", "already hosts[0]"},
		{"key alone", "hosts: [{domain: a.example, key: k}]\n", "1:34", "hosts[0].key", "certificate"},
		{"kind missing", "listeners: [{address: ':1'}]\n", "", "listeners[0]", "kind is missing"},
		{"bad port", "listeners: [{kind: http, address: ':70000'}]\n", "1:35", "listeners[0].address", "HOST:PORT"},
		{"address twice", "listeners: [{kind: http, address: ':1'}, {kind: https, address: ':1'}]\n", "1:65", "listeners[1].address", "already the address"},
		{"upload host", "hosts: [{domain: a.example}, {domain: upload.a.example}]\n", "", "hosts[1].domain", "service for uploads"},
		{"upload domain", "hosts: [{domain: a.example}]\nwebhooks: [{name: a, url: 'http://a.example/', secrets: [whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA], domains: [upload.A.example]}]\n", "", "webhooks[0].domains[0]", "service for uploads"},
		{"upload quota", "upload: {max_size: 2MiB, quota: 1MiB}\n", "", "upload.quota", "at least upload.max_size"},
		{"upload address", "upload: {public_url: 'https://files.example.org/x'}\n", "", "upload.public_url", "https://files.example.org"},
		{"endpoints of xmpp", "listeners: [{kind: xmpp-tls, address: ':1', endpoints: [rest]}]\n", "", "listeners[0].endpoints", "http or https"},
		{"demo in production", "listeners: [{kind: http, address: ':1', endpoints: [demo]}]\n", "1:53", "listeners[0].endpoints[0]", "development mode"},
		{"public_url with path", "listeners: [{kind: http, address: ':1', public_url: 'https://a/b'}]\n", "1:53", "listeners[0].public_url", "scheme and host"},
		{"limits against each other", "limits: {outbox_size: 64KiB}\n", "1:23", "limits.outbox_size", "at least limits.stanza_size"},
		{"origin with path", "websocket: {origins: ['https://a.example/x']}\n", "1:23", "websocket.origins[0]", "without a path"},
		{"gateway host", "hosts: [{domain: a.example}]\ngateways: [{domain: A.example}]\n", "", "gateways[0].domain", "virtual host"},
		{"gateway twice", "gateways: [{domain: a.example}, {domain: A.example}]\n", "", "gateways[1].domain", "gateways[0]"},
		{"gateway without domain", "gateways: [{type: sms}]\n", "", "gateways[0]", "domain is missing"},
		{"gateway users", "gateways: [{domain: a.example, users: ['*']}]\n", "", "gateways[0].users[0]", "covers no addresses"},
		{"gateway list", "gateways: [{domain: a.example, registration: {fields: [{name: a, kind: list}]}}]\n", "", "gateways[0].registration.fields[0]", "options"},
		{"gateway field twice", "gateways: [{domain: a.example, registration: {fields: [{name: a}, {name: a}]}}]\n", "", "gateways[0].registration.fields[1].name", "another field"},
		{"gateway registered", "gateways: [{domain: a.example, registered_only: true}]\n", "", "gateways[0].registered_only", "nobody could register"},
		{"collector", "tracing: {endpoint: 'ftp://a'}\n", "", "tracing.endpoint", "http://localhost:4318"},
		{"webhook scheme", strings.Replace(hook, "https:", "ftp:", 1) + "]\n", "", "webhooks[0].url", "http or https"},
		{"weak secret", strings.Replace(hook, secret, "whsec_c2hvcnQ=", 1) + "]\n", "", "webhooks[0].secrets[0]", "openssl rand"},
		{"halves of two key pairs", strings.Replace(hook, secret, "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlaaaaaaaaaaAJ6p9lMicMFs6Kvg==", 1) + "]\n", "", "webhooks[0].secrets[0]", "ed25519"},
		{"room without a name", strings.TrimSuffix(hook, "}") + ", rooms: [rooms.example]}]\n", "", "webhooks[0].rooms[0]", "room@domain"},
		{"pattern of nothing", strings.TrimSuffix(hook, "}") + ", jids: ['a@b c']}]\n", "", "webhooks[0].jids[0]", "pattern"},
		{"type of event", strings.TrimSuffix(hook, "}") + ", types: [messages]}]\n", "", "webhooks[0].types[0]", "message"},
		{"secret file missing", strings.Replace(hook, secret, "'file:/nonexistent/key'", 1) + "]\n", "", "webhooks[0].secrets[0]", "readable file"},
		{"nothing to post", strings.Replace(hook, "domains: [d.example]", "domains: []", 1) + "]\n", "", "webhooks[0]", "neither watch nor domains"},
		{"gateway is a host", strings.Replace(hook, "d.example", "localhost", 1) + "]\n", "", "webhooks[0].domains[0]", "virtual host"},
		{"watch elsewhere", strings.Replace(hook, "domains: [d.example]", "watch: [a@d.example]", 1) + "]\n", "", "webhooks[0].watch[0]", "not a virtual host"},
		{"name twice", hook + ", {name: a, url: 'https://h.example/', secrets: [" + secret + "], domains: [e.example]}]\n", "", "webhooks[1].name", "already the name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.in)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("error %v, want Problems", err)
			}
			i := slices.IndexFunc(problems, func(p *Problem) bool { return p.Key == tt.key && strings.Contains(p.Message, tt.want) })
			if i < 0 {
				t.Fatalf("problems:\n%v\nwant one of key %q with %q", err, tt.key, tt.want)
			}
			p := problems[i]
			if at := fmt.Sprintf("%d:%d", p.Line, p.Column); tt.at != "" && at != tt.at {
				t.Errorf("at %s, want %s\n%v", at, tt.at, err)
			}
			if p.Line > 0 && !strings.Contains(p.Excerpt, ">") {
				t.Errorf("no excerpt: %q", p.Excerpt)
			}
			if p.File != "trivium.yaml" {
				t.Errorf("file %q", p.File)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := parse("limits:\n  depth: x\n  stanza_size: y\nlog: {levle: info}\n")
	want := `trivium.yaml:2:10: limits.depth: "x" is wrong; write a whole number, 8 to 1000
     1 | limits:
>    2 |   depth: x
       |          ^
     3 |   stanza_size: y
trivium.yaml:3:16: limits.stanza_size: "y" is wrong; write a size such as 10000, 256KiB or 4MiB, 10000 to 16MiB
     2 |   depth: x
>    3 |   stanza_size: y
       |                ^
     4 | log: {levle: info}
trivium.yaml:4:7: log.levle: no such key; did you mean level?
     3 |   stanza_size: y
>    4 | log: {levle: info}
       |       ^`
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	var p *Problem
	if !errors.As(err, &p) || p.Line != 2 {
		t.Errorf("errors.As finds %v", p)
	}
}

func TestEnvironment(t *testing.T) {
	got, err := parse("log: {level: warn}\nlimits: {depth: 9}\n",
		"PATH=/bin", "TRIVIUM_CONFIG=/etc/trivium.yaml", "TRIVIUM_SERVICE_HOST=10.0.0.1", "TRIVIUM_PORT_5222_TCP=tcp://10.0.0.1:5222",
		"TRIVIUM_PORT=tcp://10.0.0.1:5222", "TRIVIUM_PASSWORD=secret", "TRIVIUM_INTEROP=1", "TRIVIUM_STORE_TEST_PATH=/tmp/x",
		"TRIVIUM_LOG_LEVEL=debug",
		"TRIVIUM_LIMITS_STANZA_SIZE=512KiB",
		"TRIVIUM_HOSTS_0_DOMAIN=example.org",
		"TRIVIUM_HOSTS_1_DOMAIN=example.net", "TRIVIUM_HOSTS_1_ANONYMOUS=true",
		"TRIVIUM_HOSTS_1_AUTH_HTTP_URL=https://auth.example/", "TRIVIUM_HOSTS_1_AUTH_HTTP_TIMEOUT=1s",
		"TRIVIUM_SASL_MECHANISMS=SCRAM-SHA-256, PLAIN",
		"TRIVIUM_WEBSOCKET_PING_INTERVAL=1m")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Log.Level = "debug"
	want.Limits.Depth, want.Limits.StanzaSize = 9, 512<<10
	want.Hosts = []Host{{Domain: "example.org", Auth: defaultAuth()}, {Domain: "example.net", Anonymous: true, Auth: defaultAuth()}}
	want.Hosts[1].Auth.HTTP.URL, want.Hosts[1].Auth.HTTP.Timeout = "https://auth.example/", time.Second
	want.SASL.Mechanisms = []string{"SCRAM-SHA-256", "PLAIN"}
	want.WebSocket.PingInterval = time.Minute
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentProblems(t *testing.T) {
	for _, tt := range []struct{ variable, want string }{
		{"TRIVIUM_LIMITS_STANZASIZE=1MiB", "environment: TRIVIUM_LIMITS_STANZASIZE: names no key; did you mean TRIVIUM_LIMITS_STANZA_SIZE?"},
		{"TRIVIUM_LIMITS_DEPTH=x", `environment: TRIVIUM_LIMITS_DEPTH: "x" is wrong; write a whole number, 8 to 1000`},
		{"TRIVIUM_HOSTS_7_DOMAIN=a.example", "environment: TRIVIUM_HOSTS_7_DOMAIN: names no key"},
		{"TRIVIUM_HOSTS_1_NONSENSE=a", "environment: TRIVIUM_HOSTS_1_NONSENSE: names no key"},
		{"TRIVIUM_HOSTS_0_DOMAIN=a b", `environment: TRIVIUM_HOSTS_0_DOMAIN: "a b" is not a domain; write a name such as example.org`},
		{"TRIVIUM_LIMTS_DEPTH=9", "environment: TRIVIUM_LIMTS_DEPTH: names no key; did you mean TRIVIUM_LIMITS_DEPTH?"},
		{"TRIVIUM_STORE_ENGINE=x", "environment: TRIVIUM_STORE_ENGINE: names no key"},
		{"TRIVIUM_HOSTS=a", "environment: TRIVIUM_HOSTS: names no key"},
	} {
		_, err := parse("", tt.variable)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.variable, err, tt.want)
		}
	}
}

// No variable may mean two keys, and each must reach its own.
func TestVariableNames(t *testing.T) {
	names := VariableNames()
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			t.Errorf("%s means two keys", name)
		}
		rest := strings.TrimPrefix(name, prefix)
		if reserved(rest) {
			t.Errorf("%s is taken by others", name)
		}
		c := Default()
		c.Webhooks = []Webhook{{}}
		_, f, key, ok := find(reflect.ValueOf(c).Elem(), rest, "")
		want := strings.ToUpper(strings.NewReplacer("[0]", "_0", ".", "_").Replace(key))
		if !ok || want != rest || !strings.HasSuffix(key, f.Tag.Get("yaml")) {
			t.Errorf("%s reaches %q", name, key)
		}
	}
	if len(names) < 50 {
		t.Errorf("only %d variables: the walk missed some", len(names))
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hook.key"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := parse("data_dir: " + dir + "\nwebhooks: [{name: a, url: 'https://h.example/', secrets: ['file:hook.key'], domains: [d.example]}]\n")
	if err != nil {
		t.Fatal(err)
	}
	s := got.Webhooks[0].Secrets[0]
	if s.Reveal() != secret {
		t.Errorf("secret %q", s.Reveal())
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "hook", got.Webhooks[0])
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, got.Webhooks, got.Webhooks, s, s), log.String()} {
		if strings.Contains(text, secret[6:]) {
			t.Errorf("the secret leaks: %s", text)
		}
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trivium.yaml")
	if _, err := Load(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte("data_dir: /srv\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := Development()
	c, err := LoadOver(base, file)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Development || c.DataDir != "/srv" || base.DataDir == "/srv" {
		t.Errorf("LoadOver: development %v, data_dir %q; base's %q", c.Development, c.DataDir, base.DataDir)
	}
	for in, want := range map[string]string{"": "", "a.db": "/srv/a.db", "/x/a.db": "/x/a.db"} {
		if got := c.Path(in); got != want {
			t.Errorf("Path(%q) = %q, want %q", in, got, want)
		}
	}
	c.Hosts[0].Certificate = "/nonexistent/cert.pem"
	if err := c.CheckFiles(); err == nil || !strings.Contains(err.Error(), "hosts[0].certificate") {
		t.Errorf("CheckFiles: %v", err)
	}
}

func TestDiff(t *testing.T) {
	a, b := Default(), Default()
	if live, restart := Diff(a, b); live != nil || restart != nil {
		t.Errorf("equal: %q, %q", live, restart)
	}
	b.Log.Level, b.Log.Format = "debug", "json"
	b.Hosts[0].Certificate = "new.pem"
	b.Limits.Depth = 100
	b.Webhooks = []Webhook{{Name: "a"}}
	b.WebSocket.Origins = []string{"*"}
	b.Listeners[0].Address = ":1"
	b.Listeners[1].RequireTLS = false
	live, restart := Diff(a, b)
	if want := []string{"hosts[0].certificate", "log.level", "limits.depth", "websocket.origins"}; !slices.Equal(live, want) {
		t.Errorf("live %q, want %q", live, want)
	}
	if want := []string{"log.format", "listeners[0].address", "listeners[1].require_tls", "webhooks"}; !slices.Equal(restart, want) {
		t.Errorf("restart %q, want %q", restart, want)
	}
	if live, restart := Diff(Live(a, b), b); len(live) > 0 || len(restart) != 4 {
		t.Errorf("after Live: live %q, restart %q", live, restart)
	}
}

func TestWarnings(t *testing.T) {
	if got := Development().Warnings(); len(got) != 0 {
		t.Errorf("development: %q", got)
	}
	c := Default()
	c.Hosts[0].Certificate = "x.pem"
	if got := c.Warnings(); len(got) != 0 {
		t.Errorf("default with a certificate: %q", got)
	}
	c.Listeners[0].RequireTLS = false
	c.Listeners[2].Address = ":5280"
	if got := c.Warnings(); len(got) != 2 || !strings.Contains(got[0], "require_tls") || !strings.Contains(got[1], "behind_tls") {
		t.Errorf("open: %q", got)
	}
}

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Size
		out  string
	}{
		{"0", 0, "0"},
		{"10000", 10000, "10000"},
		{"256KiB", 256 << 10, "256KiB"},
		{"1024 KiB", 1 << 20, "1MiB"},
		{"2GiB", 2 << 30, "2GiB"},
		{"10kB", 10000, "10000"},
		{"5B", 5, "5"},
	} {
		got, err := ParseSize(tt.in)
		if err != nil || got != tt.want || got.String() != tt.out {
			t.Errorf("ParseSize(%q) = %d (%v), %v; want %d (%s)", tt.in, got, got, err, tt.want, tt.out)
		}
	}
	for _, in := range []string{"", "KiB", "-1", "1.5MiB", "9223372036854775807KiB", "1TiB", "0x10"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", in, got)
		}
	}
}

// Whatever the file holds, Parse neither panics nor returns both or neither of a
// configuration and problems, and what it accepts it accepts again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(Example()))
	f.Add([]byte("hosts: [{domain: a}, {domain: b}]\nlimits: {stanza_size: 1MiB}\n"))
	f.Add([]byte("a: &x [*x]\n<<: *x\n? {b: c}\n: d\n"))
	f.Add([]byte("data_dir: |\n  text\n---\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(Default(), "fuzz", data, nil)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v with error %v", c, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error that says nothing")
			}
			return
		}
		again, err := Parse(c, "again", nil, nil)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("accepted once, then: %v", err)
		}
	})
}
