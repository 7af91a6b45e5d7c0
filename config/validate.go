package config

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"trivium/core/jid"
)

// secrets replaces file references by what the files hold.
func (d *decoder) secrets(c *Config) {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		for j, secret := range w.Secrets {
			key := fmt.Sprintf("webhooks[%d].secrets[%d]", i, j)
			text := secret.Reveal()
			if path, ok := strings.CutPrefix(text, "file:"); ok {
				data, err := os.ReadFile(c.Path(path))
				if err != nil {
					d.report(key, "%v; write the path of a readable file after file:", err)
					continue
				}
				text = strings.TrimSpace(string(data))
			}
			if !signingKey(text) {
				d.report(key, "not a signing key; write whsec_ and 24 to 64 random octets in base64, as `openssl rand -base64 32` prints them, or whsk_ and an ed25519 key pair in base64")
				continue
			}
			w.Secrets[j] = Secret(text)
		}
	}
}

// signingKey tells whether text is a key of Standard Webhooks: whsec_ and base64 of 24
// to 64 octets, or whsk_ and base64 of an ed25519 private key with its public half, or
// of the seed alone.
func signingKey(text string) bool {
	if pair, ok := strings.CutPrefix(text, "whsk_"); ok {
		raw, err := base64.StdEncoding.DecodeString(pair)
		return err == nil && (len(raw) == ed25519.SeedSize ||
			len(raw) == ed25519.PrivateKeySize && bytes.Equal(ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]), raw))
	}
	secret, ok := strings.CutPrefix(text, "whsec_")
	raw, err := base64.StdEncoding.DecodeString(secret)
	return ok && err == nil && len(raw) >= 24 && len(raw) <= 64
}

// validate checks what no single value shows. Ranges are checked in setScalar.
func (d *decoder) validate(c *Config) {
	hosts := d.validateHosts(c)
	d.validateListeners(c)
	d.validateGateways(c, hosts)
	d.validateWebhooks(c, hosts)
	d.validateUpload(c, hosts)
	for i, account := range c.Admin.Accounts {
		key := fmt.Sprintf("admin.accounts[%d]", i)
		local, domain, isUser := strings.Cut(account, "@")
		name, ok := domainName(domain)
		switch {
		case !isUser || local == "" || !ok || strings.Contains(domain, "/"):
			d.report(key, "%q is not the address of an account; write user@domain", account)
		case hosts[name] == "":
			d.report(key, "%s is not a virtual host of this server; write an account at one", domain)
		}
	}
	if e := c.Tracing.Endpoint; e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			d.report("tracing.endpoint", "%q is not the address of a collector; write its base address, as in http://localhost:4318", e)
		}
	}
	if c.DataDir == "" {
		d.report("data_dir", "is empty; write the path of a folder")
	}
	if c.Store.Path == "" {
		d.report("store.path", "is empty; write the path of a file")
	}
	// sun_path holds 108 octets with the final NUL; relative paths count as joined.
	if path := c.Path(c.Admin.Socket); path == "" || len(path) > 107 {
		d.report("admin.socket", "%q has %d octets; write a path of 1 to 107, the most that a unix socket may have", path, len(path))
	}
	if c.Limits.StanzaSizeBeforeAuth > c.Limits.StanzaSize {
		d.report("limits.stanza_size_before_auth", "%v is more than limits.stanza_size; write at most %v", c.Limits.StanzaSizeBeforeAuth, c.Limits.StanzaSize)
	}
	if c.Limits.OutboxSize < c.Limits.StanzaSize {
		d.report("limits.outbox_size", "%v cannot hold one stanza; write at least limits.stanza_size, %v", c.Limits.OutboxSize, c.Limits.StanzaSize)
	}
	if c.Limits.RateBytes > 0 && c.Limits.BurstBytes < c.Limits.StanzaSize {
		d.report("limits.burst_bytes", "%v would never let the largest stanza pass; write at least limits.stanza_size, %v", c.Limits.BurstBytes, c.Limits.StanzaSize)
	}
	if c.Limits.HandshakeTimeout > c.Limits.LoginTimeout {
		d.report("limits.handshake_timeout", "is longer than limits.login_timeout, of which it is a part; write at most %s", formatDuration(c.Limits.LoginTimeout))
	}
	d.validateOrigins("websocket.origins", c.WebSocket.Origins)
	d.validateOrigins("bosh.origins", c.BOSH.Origins)
	d.validateOrigins("rest.origins", c.REST.Origins)
	d.validateRESTJWT(c, "rest.jwt", &c.REST.JWT)
	d.unique("sasl.mechanisms", c.SASL.Mechanisms)
	for i := range c.Hosts {
		d.validateAuth(c, i)
	}
}

func (d *decoder) unique(key string, words []string) {
	for i, word := range words {
		if slices.Contains(words[:i], word) {
			d.report(fmt.Sprintf("%s[%d]", key, i), "%s stands here twice; remove one", word)
		}
	}
}

// validateHosts returns the hosts, normalised, with the key that names each.
func (d *decoder) validateHosts(c *Config) map[string]string {
	seen := make(map[string]string)
	if len(c.Hosts) == 0 {
		d.report("hosts", "no virtual host; write at least one: - domain: example.org")
	}
	for i, host := range c.Hosts {
		key := fmt.Sprintf("hosts[%d]", i)
		name, ok := domainName(host.Domain)
		if !ok {
			d.report(key+".domain", "%q is not a domain; write a name such as example.org", host.Domain)
			continue
		}
		if first := seen[name]; first != "" {
			d.report(key+".domain", "%s is already %s; remove one", host.Domain, first)
		}
		seen[name] = key
		if host.Key != "" && host.Certificate == "" {
			d.report(key+".key", "a key without a certificate; write certificate: as well")
		}
	}
	return seen
}

// domainName returns the comparable form of a domain or IP literal.
func domainName(domain string) (string, bool) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(domain, "["), "]")); err == nil {
		return ip.String(), true
	}
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || name == "" || len(name) > 253 || strings.Contains(name, "..") || strings.HasPrefix(name, ".") {
		return "", false
	}
	return name, true
}

func (d *decoder) validateListeners(c *Config) {
	if len(c.Listeners) == 0 {
		d.report("listeners", "no listener: nobody could connect; write at least one")
	}
	seen := make(map[string]string)
	for i, l := range c.Listeners {
		key := fmt.Sprintf("listeners[%d]", i)
		if l.Kind == "" {
			d.report(key, "kind is missing; write kind: xmpp-starttls, xmpp-tls, http or https")
			continue
		}
		if path, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			if full := c.Path(path); full == "" || len(full) > 107 {
				d.report(key+".address", "%q has %d octets; write unix: and a path of 1 to 107", full, len(full))
			}
		} else if !validAddress(l.Address) {
			d.report(key+".address", "%q is not an address; write HOST:PORT, :PORT or unix:PATH", l.Address)
		}
		if first := seen[l.Address]; first != "" {
			d.report(key+".address", "%s is already the address of %s; write another", l.Address, first)
		}
		seen[l.Address] = key
		web := l.Kind == HTTP || l.Kind == HTTPS
		if !web && len(l.Endpoints) > 0 {
			d.report(key+".endpoints", "only listeners of kind http or https have endpoints; remove it")
		}
		if web && len(l.Endpoints) == 0 {
			d.report(key+".endpoints", "no endpoint: nothing is served; name some or leave the key out")
		}
		d.unique(key+".endpoints", l.Endpoints)
		if j := slices.Index(l.Endpoints, "demo"); j >= 0 && !c.Development {
			d.report(fmt.Sprintf("%s.endpoints[%d]", key, j), "demo is served in development mode only; remove it, or write development: true")
		}
		if l.BehindTLS && l.Kind != HTTP {
			d.report(key+".behind_tls", "only for listeners of kind http; remove it")
		}
		if !l.RequireTLS && l.Kind != XMPPStartTLS {
			d.report(key+".require_tls", "only listeners of kind xmpp-starttls can go without TLS; remove it")
		}
		if l.PublicURL == "" {
			continue
		}
		if !web || !validPublicURL(l.PublicURL) {
			d.report(key+".public_url", "%q cannot be used; write scheme and host of a web listener, as in https://chat.example.org", l.PublicURL)
		}
	}
}

// validateUpload looks at the addresses of the service, upload.<host>.
func (d *decoder) validateUpload(c *Config, hosts map[string]string) {
	if !c.Upload.Enabled {
		return
	}
	for i, host := range c.Hosts {
		name, _ := domainName(host.Domain)
		if of, ok := strings.CutPrefix(name, "upload."); ok && hosts[of] != "" {
			d.report(fmt.Sprintf("hosts[%d].domain", i), "%s is the address of the service for uploads of %s; write another domain, or upload: {enabled: false}", name, hosts[of])
		}
	}
	for i, w := range c.Webhooks {
		for j, domain := range w.Domains {
			if name, _ := domainName(domain); strings.HasPrefix(name, "upload.") && hosts[strings.TrimPrefix(name, "upload.")] != "" {
				d.report(fmt.Sprintf("webhooks[%d].domains[%d]", i, j), "%s is the address of the service for uploads; write another domain, or upload: {enabled: false}", domain)
			}
		}
	}
	if c.Upload.Quota > 0 && c.Upload.Quota < c.Upload.MaxSize {
		d.report("upload.quota", "%v would never let the largest file pass; write at least upload.max_size, %v", c.Upload.Quota, c.Upload.MaxSize)
	}
	if c.Upload.PublicURL != "" && !validPublicURL(c.Upload.PublicURL) {
		d.report("upload.public_url", "%q cannot be used; write scheme and host, as in https://files.example.org", c.Upload.PublicURL)
	}
}

// validPublicURL accepts scheme and host of a web address.
func validPublicURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == "" &&
		u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// validAddress accepts HOST:PORT with a host that is empty, a name or an IP
// address, and a port from 0 (any free one) to 65535.
func validAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return false
	}
	if host == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	_, ok := domainName(host)
	return ok
}

func (d *decoder) validateOrigins(key string, origins []string) {
	for i, origin := range origins {
		if origin == "*" {
			continue
		}
		// RFC 6454 §7: scheme, host, perhaps a port, and nothing else.
		u, err := url.Parse(strings.Replace(origin, "://*.", "://", 1))
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Host, "*") {
			d.report(fmt.Sprintf("%s[%d]", key, i), "%q is not an origin; write \"*\", https://chat.example.org or https://*.example.org, without a path", origin)
		}
	}
}

func (d *decoder) validateGateways(c *Config, hosts map[string]string) {
	seen := make(map[string]string)
	for i, g := range c.Gateways {
		key := fmt.Sprintf("gateways[%d]", i)
		name, ok := domainName(g.Domain)
		switch {
		case g.Domain == "":
			d.report(key, "domain is missing; write domain: and a name such as sms.example.org")
		case !ok:
			d.report(key+".domain", "%q is not a domain; write a name such as sms.example.org", g.Domain)
		case hosts[name] != "":
			d.report(key+".domain", "%s is a virtual host (%s); write another domain", g.Domain, hosts[name])
		case seen[name] != "":
			d.report(key+".domain", "%s is already the domain of %s; write another", g.Domain, seen[name])
		}
		seen[name] = key
		for j, u := range g.Users {
			if _, err := jid.ParsePattern(u); err != nil {
				d.report(fmt.Sprintf("%s.users[%d]", key, j), "%q covers no addresses; write a domain, user@domain, or a pattern such as *@domain", u)
			}
		}
		fields := make(map[string]bool)
		for j, f := range g.Registration.Fields {
			at := fmt.Sprintf("%s.registration.fields[%d]", key, j)
			switch {
			case f.Name == "":
				d.report(at, "name is missing; write name: and one of XEP-0077, such as username")
			case fields[f.Name]:
				d.report(at+".name", "%q is the name of another field; write another", f.Name)
			case (f.Kind == "list") != (len(f.Options) > 0):
				d.report(at, "options belong to kind: list, and lists have some; write both or neither")
			}
			fields[f.Name] = true
		}
		if g.RegisteredOnly && len(fields) == 0 && g.Registration.Instructions == "" {
			d.report(key+".registered_only", "nobody could register; write registration: with instructions or fields")
		}
	}
}

func (d *decoder) validateWebhooks(c *Config, hosts map[string]string) {
	names, owned := make(map[string]string), make(map[string]string)
	for i, w := range c.Webhooks {
		key := fmt.Sprintf("webhooks[%d]", i)
		if w.Name == "" {
			d.report(key, "name is missing; write name: and a word that will stay the same")
		} else if first := names[w.Name]; first != "" {
			d.report(key+".name", "%q is already the name of %s; write another", w.Name, first)
		}
		names[w.Name] = key
		u, err := url.Parse(w.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
			d.report(key+".url", "%q cannot be posted to; write an http or https address without a user", w.URL)
		}
		if len(w.Secrets) == 0 {
			d.report(key, "secrets is missing: posts must be signed; write secrets: [\"file:webhook.key\"] or the key itself")
		}
		if len(w.Watch) == 0 && len(w.Domains) == 0 {
			d.report(key, "neither watch nor domains: nothing would ever be posted; write one of them")
		}
		for j, watched := range w.Watch {
			local, domain, isUser := strings.Cut(watched, "@")
			if !isUser {
				domain = watched
			}
			name, ok := domainName(domain)
			if !ok || (isUser && local == "") || strings.Contains(domain, "/") {
				d.report(fmt.Sprintf("%s.watch[%d]", key, j), "%q is not an address; write user@domain or domain", watched)
			} else if hosts[name] == "" {
				d.report(fmt.Sprintf("%s.watch[%d]", key, j), "%s is not a virtual host of this server; write an address at one, or use domains", domain)
			}
		}
		for j, room := range w.Rooms {
			local, domain, _ := strings.Cut(room, "@")
			if _, ok := domainName(domain); !ok || local == "" || strings.Contains(domain, "/") {
				d.report(fmt.Sprintf("%s.rooms[%d]", key, j), "%q is not the address of a room; write room@domain", room)
			}
		}
		for j, text := range w.JIDs {
			_, domain, isUser := strings.Cut(text, "@")
			if !isUser {
				domain = text
			}
			domain, _, _ = strings.Cut(domain, "/")
			if _, ok := domainName(domain); !ok {
				d.report(fmt.Sprintf("%s.jids[%d]", key, j), "%q is not an address; write user@domain, domain, or a pattern such as +49*@domain", text)
			}
		}
		for j, domain := range w.Domains {
			at := fmt.Sprintf("%s.domains[%d]", key, j)
			name, ok := domainName(domain)
			switch {
			case !ok:
				d.report(at, "%q is not a domain; write a name such as bot.example.org", domain)
			case hosts[name] != "":
				d.report(at, "%s is a virtual host (%s); write another domain, or use watch", domain, hosts[name])
			case owned[name] != "":
				d.report(at, "%s already belongs to %s; a gateway domain has one webhook", domain, owned[name])
			default:
				owned[name] = key
			}
		}
	}
}

// CheckFiles reads the certificates that the configuration names and returns
// what is wrong with them, as Problems without places. The server itself need
// not call it: it refuses to start without them.
func (c *Config) CheckFiles() error {
	var problems Problems
	for i, host := range c.Hosts {
		if host.Certificate == "" {
			continue
		}
		cert, key := c.Path(host.Certificate), c.Path(host.Key)
		if key == "" {
			key = cert
		}
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			problems = append(problems, &Problem{
				File: "configuration", Key: fmt.Sprintf("hosts[%d].certificate", i),
				Message: fmt.Sprintf("certificate %s with key %s: %v; write the paths of a PEM chain and its key", cert, key, err),
			})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// isLocal reports whether only this machine can reach a listener's address.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
