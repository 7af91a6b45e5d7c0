package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startProsody runs Debian's Prosody as the server under test. It proves the
// scripts: what passes here and fails with Trivium is Trivium's fault.
func startProsody(ctx context.Context, dir string, clients []string) (*server, error) {
	if _, err := exec.LookPath("prosody"); err != nil {
		return nil, fmt.Errorf("the stand-in needs Debian's prosody: %w", err)
	}
	s, err := newServer("prosody", dir)
	if err != nil {
		return nil, err
	}
	for _, a := range allAccounts(s.domain, clients) {
		// Prosody reads a plain password once and replaces it by SCRAM keys.
		file := filepath.Join(dir, "data", luaFileName(s.domain), "accounts", luaFileName(a.Local)+".dat")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, fmt.Appendf(nil, "return { password = %q };\n", a.Password), 0o600); err != nil {
			return nil, err
		}
	}
	plugins, err := filepath.Abs("standin")
	if err != nil {
		return nil, err
	}
	s.desc.Token = "stand-in-token"
	s.lacks = []string{
		"slixmpp/login.scram-sha-256", // it stores keys for one hash only
		"slixmpp/login.scram-sha-512",
		// Its mod_smacks gives a session the new connection, and goes on reading the
		// old framing there: a WebSocket's frames are not well-formed XML.
		"survivor-slixmpp/framing-switched",
		"survivor-aioxmpp/framing-switched",
		"survivor-profanity/framing-switched",
		"survivor-xmppjs/framing-switched",
		"survivor-stanzajs/framing-switched",
		"survivor-xmppjs/fast.login", // it has no SASL2
		// Its archive tells times in seconds, and Converse.js sorts by them.
		"survivor-converse/page.lost-again",
		"survivor-converse/page.history-from-archive",
	}
	config := filepath.Join(dir, "prosody.cfg.lua")
	if err := os.WriteFile(config, []byte(prosodyConfig(s, plugins)), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "prosody", "-F", "--config", config)
	return s, s.run(cmd, s.waitListening)
}

func prosodyConfig(s *server, plugins string) string {
	return fmt.Sprintf(`
run_as_root = true
daemonize = false
pidfile = %[1]q
data_path = %[2]q
plugin_paths = { %[3]q }
log = { debug = "*console" }
modules_enabled = {
	"disco", "roster", "saslauth", "tls", "blocklist", "carbons", "mam", "pep", "private", "smacks", "vcard", "ping",
	"version", "time", "lastactivity", "uptime", "offline", "bosh", "websocket", "register", "limits", "csi_simple",
	"user_account_management", "interop_messages"
}
modules_disabled = { "s2s" }
authentication = "internal_hashed"
storage = "internal"
allow_registration = true
registration_throttle_max = 100
c2s_require_encryption = true
consider_websocket_secure = true
consider_bosh_secure = true
interfaces = { "127.0.0.1" }
c2s_ports = { %[4]s }
c2s_direct_tls_ports = { %[5]s }
http_ports = { %[6]s }
http_interfaces = { "127.0.0.1" }
https_ports = { %[12]s }
https_interfaces = { "127.0.0.1" }
https_ssl = { certificate = %[10]q, key = %[11]q }
http_default_host = %[7]q
http_cors_override = { bosh = { enabled = true }, websocket = { enabled = true } }
http_paths = { bosh = "/http-bind", websocket = "/xmpp-websocket" }
interop_token = %[8]q
interop_sender = %[9]q
ssl = { certificate = %[10]q, key = %[11]q }
c2s_direct_tls_ssl = { certificate = %[10]q, key = %[11]q }
VirtualHost %[7]q
Component "upload.%[7]s" "http_file_share"
	http_host = %[7]q
	http_external_url = "https://%[13]s/"
`,
		filepath.Join(s.dir, "prosody.pid"), filepath.Join(s.dir, "data"), plugins,
		port(s.desc.TCP), port(s.desc.DirectTLS), port(s.http), s.domain,
		s.desc.Token, s.desc.Sender, s.certificates.Chain, s.certificates.Key, port(s.https), s.https)
}

// luaFileName encodes a name the way Prosody's util.datamanager names files:
// every octet that is no letter or digit is written as %xx.
func luaFileName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// waitListening returns when every listener of the server takes connections.
func (s *server) waitListening(ctx context.Context) error {
	for _, addr := range []string{s.desc.TCP, s.desc.DirectTLS, s.http, s.https} {
		for {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s does not listen on %s: %w", s.desc.Name, addr, context.Cause(ctx))
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}
