package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyFiles makes a folder with files of keys, and returns the line that makes it
// data_dir.
func keyFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"jwt.key":     strings.Repeat("x", 32) + "\n",
		"short.key":   strings.Repeat("x", 31) + "\n\n\n",
		"two.key":     strings.Repeat("x", 16) + "\n" + strings.Repeat("y", 16) + "\n",
		"public.pem":  "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
		"private.pem": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "data_dir: " + dir + "\n"
}

func TestAuth(t *testing.T) {
	dir := keyFiles(t)
	for _, tt := range []struct {
		name, auth string
		want       func(*Auth)
	}{
		{"nothing", "{}", func(*Auth) {}},
		{"a shared secret", "{jwt: {secret_file: jwt.key, algorithms: [HS256], as_password: true}}", func(a *Auth) {
			a.JWT.SecretFile, a.JWT.Algorithms, a.JWT.AsPassword = "jwt.key", []string{"HS256"}, true
		}},
		{"public keys alone", "{internal: false, jwt: {keys_file: public.pem, claim: email, leeway: 0s}}", func(a *Auth) {
			a.Internal, a.JWT.KeysFile, a.JWT.Claim, a.JWT.Leeway = false, "public.pem", "email", 0
		}},
		{"a key set", "{internal: false, jwt: {jwks_url: 'https://id.example/keys', issuer: 'https://id.example', audience: [chat], scope: xmpp}}", func(a *Auth) {
			a.Internal, a.JWT.JWKSURL, a.JWT.Issuer, a.JWT.Audience, a.JWT.Scope = false, "https://id.example/keys", "https://id.example", []string{"chat"}, "xmpp"
		}},
		{"a call-out", "{internal: false, provision: false, http: {url: 'http://[::1]:9/', secret_file: jwt.key, tokens: true, directory: true, remember_exists: 0s}}", func(a *Auth) {
			a.Internal, a.Provision = false, false
			a.HTTP.URL, a.HTTP.SecretFile, a.HTTP.Tokens, a.HTTP.Directory, a.HTTP.RememberExists = "http://[::1]:9/", "jwt.key", true, true, 0
		}},
		{"tokens by one, passwords by another", "{jwt: {keys_file: public.pem}, http: {url: 'https://auth.example/', remember_passwords: 5m}}", func(a *Auth) {
			a.JWT.KeysFile, a.HTTP.URL, a.HTTP.RememberPasswords = "public.pem", "https://auth.example/", 5*time.Minute
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(dir + "hosts: [{domain: a.example, auth: " + tt.auth + "}]\n")
			if err != nil {
				t.Fatal(err)
			}
			want := defaultAuth()
			tt.want(&want)
			if diff := cmp.Diff(want, got.Hosts[0].Auth); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Where a host's settings of auth are wrong, that is said at their place.
func TestAuthProblems(t *testing.T) {
	dir := keyFiles(t)
	const jwks = "jwks_url: 'https://id.example/', issuer: a, audience: [b]"
	const web = "url: 'https://auth.example/'"
	for _, tt := range []struct {
		auth string // of the host
		more string // of the file
		at   string // column, of the line with the host
		key  string
		want string
	}{
		{"{internal: false}", "", "29", "auth", "nobody can log in at a.example"},
		{"{internal: false, http: {" + web + ", passwords: false, directory: true}}", "", "29", "auth", "nobody can log in"},
		{"{internal: false, jwt: {" + jwks + "}}, registration: true", "", "", "registration", "admit nobody"},
		{"{jwt: {secret_file: jwt.key, keys_file: public.pem}}", "", "36", "auth.jwt", "keys_file and secret_file"},
		{"{jwt: {secret_file: jwt.key, keys_file: public.pem, " + jwks + "}}", "", "", "auth.jwt", "jwks_url and keys_file and secret_file"},
		{"{jwt: {as_password: true}}", "", "36", "auth.jwt", "no keys"},
		{"{jwt: {audience: [a]}}", "", "", "auth.jwt", "no keys"},
		{"{jwt: {secret_file: none.key}}", "", "55", "auth.jwt.secret_file", "readable file"},
		{"{jwt: {secret_file: short.key}}", "", "", "auth.jwt.secret_file", "openssl rand"},
		{"{jwt: {keys_file: none.pem}}", "", "", "auth.jwt.keys_file", "readable file"},
		{"{jwt: {keys_file: jwt.key}}", "", "", "auth.jwt.keys_file", "not PEM"},
		{"{jwt: {keys_file: private.pem}}", "", "", "auth.jwt.keys_file", "private key"},
		{"{jwt: {jwks_url: 'http://id.example/', issuer: a, audience: [b]}}", "", "", "auth.jwt.jwks_url", "https"},
		{"{jwt: {jwks_url: 'https://u:p@id.example/', issuer: a, audience: [b]}}", "", "", "auth.jwt.jwks_url", "without a user"},
		{"{jwt: {jwks_url: 'https://id.example/', audience: [b]}}", "", "", "auth.jwt.jwks_url", "issuer and audience"},
		{"{jwt: {jwks_url: 'https://id.example/', issuer: a}}", "", "", "auth.jwt.jwks_url", "issuer and audience"},
		{"{jwt: {" + jwks + ", algorithms: [RS256, HS256]}}", "", "", "auth.jwt.algorithms[1]", "shared secret"},
		{"{jwt: {secret_file: jwt.key, algorithms: [ES256]}}", "", "", "auth.jwt.algorithms[0]", "public keys"},
		{"{jwt: {" + jwks + ", algorithms: [none]}}", "", "", "auth.jwt.algorithms[0]", "write one of HS256"},
		{"{jwt: {" + jwks + ", algorithms: [RS256, RS256]}}", "", "", "auth.jwt.algorithms[1]", "twice"},
		{"{jwt: {" + jwks + ", claim: ''}}", "", "", "auth.jwt.claim", "such as sub"},
		{"{jwt: {" + jwks + ", scope: 'a b'}}", "", "", "auth.jwt.scope", "one word"},
		{"{jwt: {" + jwks + ", leeway: 1h}}", "", "", "auth.jwt.leeway", "0s to 10m"},
		{"{jwt: {" + jwks + ", openid_configuration: id.example}}", "", "", "auth.jwt.openid_configuration", "web address"},
		{"{http: {passwords: false}}", "", "36", "auth.http", "nobody to ask"},
		{"{http: {url: 'http://auth.example/'}}", "", "", "auth.http.url", "https"},
		{"{http: {url: 'auth.example'}}", "", "", "auth.http.url", "https"},
		{"{http: {" + web + ", secret_file: none.key}}", "", "", "auth.http.secret_file", "readable file"},
		{"{http: {" + web + ", secret_file: two.key}}", "", "", "auth.http.secret_file", "one word"},
		{"{http: {" + web + ", passwords: false}}", "", "", "auth.http", "nothing would ever be asked"},
		{"{http: {" + web + ", tokens: true}, jwt: {" + jwks + "}}", "", "", "auth.http.tokens", "checked by jwt"},
		{"{http: {" + web + ", timeout: 0s}}", "", "", "auth.http.timeout", "100ms to 1m"},
		{"{http: {" + web + "}}", "sasl: {mechanisms: [SCRAM-SHA-256]}\n", "", "auth.http.passwords", "add it there"},
		{"{jwt: {" + jwks + ", as_password: true}}", "sasl: {mechanisms: [SCRAM-SHA-256]}\n", "", "auth.jwt.as_password", "add it there"},
		{"{internal: false, http: {" + web + "}}", "sasl: {mechanisms: [SCRAM-SHA-256]}\n", "", "sasl.mechanisms", "lacks PLAIN"},
		{"{}", "sasl: {mechanisms: []}\n", "", "sasl.mechanisms", "nobody can log in"},
		{"{htpp: {}}", "", "", "auth.htpp", "did you mean http?"},
	} {
		t.Run(tt.auth, func(t *testing.T) {
			_, err := parse(dir + "hosts: [{domain: a.example, auth: " + tt.auth + "}]\n" + tt.more)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("error %v, want Problems", err)
			}
			key := tt.key
			if !strings.HasPrefix(key, "sasl") {
				key = "hosts[0]." + key
			}
			i := slices.IndexFunc(problems, func(p *Problem) bool { return p.Key == key && strings.Contains(p.Message, tt.want) })
			if i < 0 {
				t.Fatalf("problems:\n%v\nwant one of key %q with %q", err, key, tt.want)
			}
			if p := problems[i]; p.File != "trivium.yaml" || p.Line < 2 || tt.at != "" && fmt.Sprint(p.Column) != tt.at {
				t.Errorf("at %s:%d:%d, want column %s of line 2", p.File, p.Line, p.Column, tt.at)
			}
		})
	}
}

// Tokens alone let people in, without any of the mechanisms of passwords.
func TestAuthWithoutPasswords(t *testing.T) {
	dir := keyFiles(t)
	for _, more := range []string{"", "sasl: {mechanisms: []}\n", "sasl: {mechanisms: [SCRAM-SHA-1]}\n"} {
		if _, err := parse(dir + "hosts: [{domain: a.example, auth: {internal: false, jwt: {keys_file: public.pem}}}]\n" + more); err != nil {
			t.Errorf("%s%v", more, err)
		}
	}
}

func TestRESTJWT(t *testing.T) {
	dir := keyFiles(t)
	const hosts = "hosts: [{domain: a.example}]\n"
	got, err := parse(dir + hosts + "rest: {jwt: {jwks_url: 'https://id.example/keys', issuer: 'https://id.example', audience: [chat], any_type: true, leeway: 0s}}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := RESTJWT{JWKSURL: "https://id.example/keys", Algorithms: []string{}, Issuer: "https://id.example", Audience: []string{"chat"}, AnyType: true}
	if diff := cmp.Diff(want, got.REST.JWT); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct{ jwt, key, want string }{
		{"{issuer: a}", "rest.jwt", "no keys"},
		{"{keys_file: public.pem, issuer: a}", "rest.jwt", "issuer and audience"},
		{"{keys_file: public.pem, audience: [a]}", "rest.jwt", "issuer and audience"},
		{"{jwks_url: 'https://id.example/', audience: [a]}", "rest.jwt.jwks_url", "issuer and audience"},
		{"{keys_file: public.pem, secret_file: jwt.key, issuer: a, audience: [b]}", "rest.jwt", "keys_file and secret_file"},
		{"{secret_file: short.key, issuer: a, audience: [b]}", "rest.jwt.secret_file", "openssl rand"},
		{"{keys_file: private.pem, issuer: a, audience: [b]}", "rest.jwt.keys_file", "private key"},
		{"{keys_file: public.pem, issuer: a, audience: [b], algorithms: [HS256]}", "rest.jwt.algorithms[0]", "shared secret"},
		{"{keys_file: public.pem, issuer: a, audience: [b], leeway: 1h}", "rest.jwt.leeway", "0s to 10m"},
		{"{keys_file: public.pem, issuer: a, audience: [b], claim: sub}", "rest.jwt.claim", "no such key"},
	} {
		_, err := parse(dir + hosts + "rest: {jwt: " + tt.jwt + "}\n")
		var problems Problems
		if !errors.As(err, &problems) || !slices.ContainsFunc(problems, func(p *Problem) bool { return p.Key == tt.key && strings.Contains(p.Message, tt.want) }) {
			t.Errorf("%s: %v, want %s: %s", tt.jwt, err, tt.key, tt.want)
		}
	}
}
