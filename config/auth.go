package config

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

func defaultAuth() Auth {
	return Auth{
		Internal:  true,
		Provision: true,
		JWT:       JWT{Algorithms: []string{}, Audience: []string{}, Claim: "sub", Leeway: 30 * time.Second},
		HTTP: Callout{
			Timeout: 5 * time.Second, Concurrency: 16, Passwords: true, RememberExists: time.Minute,
		},
	}
}

// Enabled reports whether there are keys to check tokens with.
func (j *JWT) Enabled() bool { return j.SecretFile != "" || j.KeysFile != "" || j.JWKSURL != "" }

func defaultRESTJWT() RESTJWT {
	return RESTJWT{Algorithms: []string{}, Audience: []string{}, Leeway: 30 * time.Second}
}

// Enabled reports whether there are keys to check tokens with.
func (j *RESTJWT) Enabled() bool { return j.SecretFile != "" || j.KeysFile != "" || j.JWKSURL != "" }

// Enabled reports whether there is somebody to ask.
func (c *Callout) Enabled() bool { return c.URL != "" }

// Tokens reports whether bearer tokens admit to the host.
func (a *Auth) Tokens() bool { return a.JWT.Enabled() || a.HTTP.Enabled() && a.HTTP.Tokens }

// Passwords reports whether passwords are checked by somebody else than us.
func (a *Auth) Passwords() bool {
	return a.JWT.Enabled() && a.JWT.AsPassword || a.HTTP.Enabled() && a.HTTP.Passwords
}

// validateAuth checks the sources of one host's accounts, and that one of them can
// be used.
func (d *decoder) validateAuth(c *Config, i int) {
	host := &c.Hosts[i]
	at := fmt.Sprintf("hosts[%d]", i)
	key, a := at+".auth", &host.Auth
	before := len(d.problems)
	d.validateJWT(c, key+".jwt", &a.JWT)
	d.validateCallout(c, key+".http", a)
	if host.Registration && !a.Internal {
		d.report(at+".registration", "who registers sets a password of ours, and with auth.internal: false those admit nobody; write registration: false, or auth.internal: true")
	}
	plain := slices.Contains(c.SASL.Mechanisms, "PLAIN")
	switch {
	case len(d.problems) > before || host.Anonymous:
	case !a.Internal && !a.Tokens() && !a.Passwords():
		d.report(key, "nobody can log in at %s: there are no internal accounts, and neither jwt nor http admits anybody; write internal: true, keys for jwt, or a url for http", host.Domain)
	case a.Internal && len(c.SASL.Mechanisms) > 0 || a.Tokens() || a.Passwords() && plain:
	case a.Internal:
		d.report("sasl.mechanisms", "is empty: nobody can log in at %s; name at least SCRAM-SHA-256", host.Domain)
	default:
		d.report("sasl.mechanisms", "lacks PLAIN: nobody can log in at %s, where passwords are checked elsewhere; add PLAIN", host.Domain)
	}
	if plain || len(d.problems) > before {
		return
	}
	if a.JWT.Enabled() && a.JWT.AsPassword {
		d.report(key+".jwt.as_password", "tokens in place of passwords are sent by PLAIN, which sasl.mechanisms lacks; add it there, or write as_password: false")
	}
	if a.HTTP.Enabled() && a.HTTP.Passwords {
		d.report(key+".http.passwords", "passwords that are checked elsewhere are sent by PLAIN, which sasl.mechanisms lacks; add it there, or write passwords: false")
	}
}

func (d *decoder) validateJWT(c *Config, key string, j *JWT) {
	if !j.Enabled() {
		if !alike(*j, defaultAuth().JWT) {
			d.report(key, "there are no keys to check tokens with; write secret_file, keys_file or jwks_url")
		}
		return
	}
	if !d.validateKeys(c, key, j.keys()) {
		return
	}
	if j.Claim == "" {
		d.report(key+".claim", "is empty; write the name of a claim, such as sub")
	}
	if strings.ContainsAny(j.Scope, " \t") {
		d.report(key+".scope", "%q is more than one word; write the one that a token needs", j.Scope)
	}
	if u, err := url.Parse(j.OpenIDConfiguration); err != nil || j.OpenIDConfiguration != "" && (u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		d.report(key+".openid_configuration", "%q is not a web address; write one as https://id.example.org/.well-known/openid-configuration", j.OpenIDConfiguration)
	}
}

// issuerKeys are the settings that say whose signatures are taken.
type issuerKeys struct {
	secretFile, keysFile, jwksURL string
	algorithms                    []string
	issuer                        string
	audience                      []string
}

func (j *JWT) keys() issuerKeys {
	return issuerKeys{j.SecretFile, j.KeysFile, j.JWKSURL, j.Algorithms, j.Issuer, j.Audience}
}

func (j *RESTJWT) keys() issuerKeys {
	return issuerKeys{j.SecretFile, j.KeysFile, j.JWKSURL, j.Algorithms, j.Issuer, j.Audience}
}

// validateKeys checks what belongs to the keys; false says that nothing else is worth
// a look.
func (d *decoder) validateKeys(c *Config, key string, j issuerKeys) bool {
	var given []string
	for name, value := range map[string]string{"secret_file": j.secretFile, "keys_file": j.keysFile, "jwks_url": j.jwksURL} {
		if value != "" {
			given = append(given, name)
		}
	}
	if slices.Sort(given); len(given) > 1 {
		d.report(key, "keys come from one place; write one of %s", strings.Join(given, " and "))
		return false
	}
	secret := j.secretFile != ""
	switch {
	case secret:
		// RFC 7518 §3.2: no shorter than the hash.
		if data, ok := d.content(c, key+".secret_file", j.secretFile); ok && len(bytes.TrimSpace(data)) < 32 {
			d.report(key+".secret_file", "the secret is shorter than 32 octets; make one with `openssl rand -base64 48`")
		}
	case j.keysFile != "":
		if data, ok := d.content(c, key+".keys_file", j.keysFile); ok {
			if block, _ := pem.Decode(data); block == nil {
				d.report(key+".keys_file", "%s is not PEM; write the path of a file with public keys or certificates", c.Path(j.keysFile))
			} else if strings.HasSuffix(block.Type, "PRIVATE KEY") {
				d.report(key+".keys_file", "%s holds a private key, which only the issuer should have; write the path of a file with public keys", c.Path(j.keysFile))
			}
		}
	default:
		d.endpoint(key+".jwks_url", j.jwksURL)
		// RFC 8725 §3.8, §3.9
		if j.issuer == "" || len(j.audience) == 0 {
			d.report(key+".jwks_url", "an issuer may serve others too, whose tokens must not admit to this host; write issuer and audience as well")
		}
	}
	for n, alg := range j.algorithms {
		if hmac := strings.HasPrefix(alg, "HS"); hmac && !secret {
			d.report(fmt.Sprintf("%s.algorithms[%d]", key, n), "%s needs a shared secret, and the keys are public; write RS256, ES256 or EdDSA, or use secret_file", alg)
		} else if !hmac && secret {
			d.report(fmt.Sprintf("%s.algorithms[%d]", key, n), "%s needs public keys, and there is a shared secret; write HS256, or use keys_file or jwks_url", alg)
		}
	}
	d.unique(key+".algorithms", j.algorithms)
	d.unique(key+".audience", j.audience)
	return true
}

// validateRESTJWT checks the access tokens that the REST interface takes.
func (d *decoder) validateRESTJWT(c *Config, key string, j *RESTJWT) {
	if !j.Enabled() {
		if !alike(*j, defaultRESTJWT()) {
			d.report(key, "there are no keys to check tokens with; write secret_file, keys_file or jwks_url")
		}
		return
	}
	// RFC 9068 §4: both have to be checked.
	if j.JWKSURL == "" && (j.Issuer == "" || len(j.Audience) == 0) {
		d.report(key, "tokens of other issuers and for others must not admit; write issuer and audience")
	}
	d.validateKeys(c, key, j.keys())
}

func (d *decoder) validateCallout(c *Config, key string, a *Auth) {
	h := &a.HTTP
	if !h.Enabled() {
		if !alike(*h, defaultAuth().HTTP) {
			d.report(key, "there is nobody to ask; write url")
		}
		return
	}
	d.endpoint(key+".url", h.URL)
	if h.SecretFile != "" {
		if data, ok := d.content(c, key+".secret_file", h.SecretFile); ok {
			// RFC 6750 §2.1: it is sent as a bearer token.
			if s := bytes.TrimSpace(data); len(s) < 16 || bytes.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
				d.report(key+".secret_file", "the secret is not one word of 16 or more ASCII characters; make one with `openssl rand -hex 32`")
			}
		}
	}
	if h.Tokens && a.JWT.Enabled() {
		d.report(key+".tokens", "tokens are checked by jwt; remove one of them")
	}
	if !h.Passwords && !h.Tokens && !h.Directory {
		d.report(key, "nothing would ever be asked; write passwords, tokens or directory: true, or remove url")
	}
}

// alike compares settings, of which an empty list may be nil.
func alike(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		f, g := x.Field(i), y.Field(i)
		if f.Kind() == reflect.Slice && f.Len() == 0 && g.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(f.Interface(), g.Interface()) {
			return false
		}
	}
	return true
}

// content reads what a key names.
func (d *decoder) content(c *Config, key, path string) ([]byte, bool) {
	data, err := os.ReadFile(c.Path(path))
	if err != nil {
		d.report(key, "%v; write the path of a readable file", err)
		return nil, false
	}
	return data, true
}

// endpoint checks the address of somebody whom logins depend on: https, or http on
// this machine.
func (d *decoder) endpoint(key, address string) {
	u, err := url.Parse(address)
	if err == nil && u.Hostname() != "" && u.User == nil && u.Fragment == "" {
		ip, err := netip.ParseAddr(u.Hostname())
		if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()) {
			return
		}
	}
	d.report(key, "%q cannot be asked; write an https address without a user, or http on 127.0.0.1", address)
}
