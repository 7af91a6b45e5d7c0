package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"trivium/config"
	"trivium/core"
	"trivium/core/jid"
)

// clock is the time of a test, which goes on when it is told to.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// running is a server for example.org that clients reach by Direct TLS.
type running struct {
	*engine
	t    *testing.T
	addr string
	tls  *tls.Config
	clk  *clock
}

// run serves a configuration, with hosts[0].auth as given, until the test is over.
func run(t *testing.T, auth string, files map[string]string) *running {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse(config.Default(), "test.yaml", []byte("data_dir: "+dir+`
hosts:
  - domain: example.org
    auth: `+auth+`
sasl: {iterations: 4096}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, clk: &clock{t: time.Now()}}
	ctx, cancel := context.WithCancel(context.Background())
	if r.engine, err = newEngineAt(ctx, cfg, slog.New(slog.DiscardHandler), r.clk.now); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(r.certs.CAPath())
	if err != nil {
		t.Fatal(err)
	}
	r.addr, r.tls = ln.Addr().String(), &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.org"}
	r.tls.RootCAs.AppendCertsFromPEM(pem)
	var wg sync.WaitGroup
	wg.Go(func() { r.core.Run(ctx, time.Second) })
	wg.Go(func() { _ = r.core.ServeTCP(ctx, ln, core.Mode{Direct: r.certs.HostConfig("example.org")}) })
	t.Cleanup(func() { cancel(); wg.Wait(); r.close() })
	return r
}

// accounts are the localparts of those that are there.
func (r *running) accounts() string {
	r.t.Helper()
	list, err := r.users.Accounts(r.t.Context(), "example.org", "", 0)
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, a := range list {
		names = append(names, a.JID.Local())
	}
	return strings.Join(names, " ")
}

// client is one that reads and writes text.
type client struct {
	t        *testing.T
	c        net.Conn
	r        *bufio.Reader
	features string
}

func (r *running) dial() *client {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.addr, r.tls)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	p := &client{t: r.t, c: c, r: bufio.NewReader(c)}
	p.open()
	return p
}

func (p *client) send(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.c, format, args...); err != nil {
		p.t.Fatal(err)
	}
}

// until reads up to and with the first of the ends.
func (p *client) until(ends ...string) string {
	p.t.Helper()
	var b strings.Builder
	for {
		c, err := p.r.ReadByte()
		if err != nil {
			p.t.Fatalf("waiting for %q: %v after %q", ends, err, b.String())
		}
		b.WriteByte(c)
		for _, end := range ends {
			if strings.HasSuffix(b.String(), end) {
				return b.String()
			}
		}
	}
}

func (p *client) open() {
	p.t.Helper()
	p.send(`<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'>`)
	p.features = p.until("</stream:features>")
}

const nsSASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"

// authenticate makes one attempt (RFC 6120 §6). It returns "success", or the
// condition, and what a challenge said. A challenge is answered as RFC 7628 §3.2.3
// asks.
func (p *client) authenticate(mechanism, initial string) (outcome, challenge string) {
	p.t.Helper()
	p.send("<auth "+nsSASL+" mechanism='%s'>%s</auth>", mechanism, base64.StdEncoding.EncodeToString([]byte(initial)))
	for {
		got := p.until("<success "+nsSASL+"/>", "</challenge>", "</failure>")
		switch {
		case strings.HasSuffix(got, "</challenge>"):
			got = strings.TrimSuffix(got, "</challenge>")
			b, err := base64.StdEncoding.DecodeString(got[strings.LastIndexByte(got, '>')+1:])
			if err != nil {
				p.t.Fatal(err)
			}
			challenge = string(b)
			p.send("<response " + nsSASL + ">AQ==</response>")
		case strings.HasSuffix(got, "</failure>"):
			_, rest, _ := strings.Cut(got, "<failure "+nsSASL+"><")
			condition, _, _ := strings.Cut(rest, "/>")
			return condition, challenge
		default:
			return "success", challenge
		}
	}
}

// begin binds a resource after a login, and is available.
func (p *client) begin(resource string) {
	p.t.Helper()
	p.open()
	p.send(`<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>`, resource)
	p.until("</iq>")
	p.send("<presence/>")
	p.until("/>", "</presence>")
}

// in logs in, or the test fails.
func (r *running) in(mechanism, initial, resource string) *client {
	r.t.Helper()
	p := r.dial()
	if got, challenge := p.authenticate(mechanism, initial); got != "success" {
		r.t.Fatalf("%s: %s %s", mechanism, got, challenge)
	}
	p.begin(resource)
	return p
}

func plainOf(local, password string) string { return "\x00" + local + "\x00" + password }

func bearerOf(token string) string { return "n,,\x01auth=Bearer " + token + "\x01\x01" }

// issuer signs tokens, and serves its keys as a JWK Set (RFC 7517 §5).
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	key     *ecdsa.PrivateKey
	id      int
	fetches int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.rotate(t)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetches++
		coordinate := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, 32))) }
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{
			"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": fmt.Sprint(i.id), "x": coordinate(i.key.X), "y": coordinate(i.key.Y),
		}}})
	}))
	t.Cleanup(i.Close)
	return i
}

// rotate withdraws the key for another one.
func (i *issuer) rotate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = key
	i.id++
}

func (i *issuer) token(t *testing.T, subject, audience string, expires time.Time) string {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	j := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "https://id.example.org", "aud": audience, "sub": subject, "exp": expires.Unix()})
	j.Header["kid"] = fmt.Sprint(i.id)
	s, err := j.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// From a JSON Web Token to a session: by OAUTHBEARER and in place of a password,
// with an account made at the first login, while the issuer changes its keys.
func TestLoginByJWT(t *testing.T) {
	id := newIssuer(t)
	r := run(t, `
      internal: false
      jwt: {jwks_url: "`+id.URL+`", issuer: "https://id.example.org", audience: [chat], as_password: true, openid_configuration: "https://id.example.org/config"}`, nil)
	soon := r.clk.now().Add(time.Hour)
	first := id.token(t, "juliet", "chat", soon)

	p := r.dial()
	if !strings.Contains(p.features, "<mechanism>OAUTHBEARER</mechanism>") || !strings.Contains(p.features, "<mechanism>PLAIN</mechanism>") || strings.Contains(p.features, "SCRAM") {
		t.Errorf("offered: %s", p.features)
	}
	for _, tt := range []struct{ name, mechanism, initial, want, challenge string }{
		{"none, RFC 7628 §4.3", "OAUTHBEARER", "n,,\x01auth=\x01\x01", "not-authorized", `{"status":"invalid_token","openid-configuration":"https://id.example.org/config"}`},
		{"for somebody else", "OAUTHBEARER", bearerOf(id.token(t, "juliet", "mail", soon)), "not-authorized", `"invalid_token"`},
		{"expired", "OAUTHBEARER", bearerOf(id.token(t, "juliet", "chat", r.clk.now().Add(-time.Minute))), "not-authorized", `"invalid_token"`},
		{"another's", "PLAIN", plainOf("romeo", first), "not-authorized", ""},
	} {
		got, challenge := r.dial().authenticate(tt.mechanism, tt.initial)
		if got != tt.want || !strings.Contains(challenge, tt.challenge) {
			t.Errorf("%s: %s %s", tt.name, got, challenge)
		}
	}
	if got := r.accounts(); got != "" {
		t.Errorf("accounts of those who were refused: %s", got)
	}

	juliet := r.in("OAUTHBEARER", bearerOf(first), "balcony")
	romeo := r.in("PLAIN", plainOf("romeo", id.token(t, "romeo", "chat", soon)), "orchard")
	if got := r.accounts(); got != "juliet romeo" {
		t.Errorf("accounts: %s", got)
	}
	romeo.send(`<message to='juliet@example.org' type='chat' id='m1'><body>Art thou not Romeo?</body></message>`)
	if got := juliet.until("</message>"); !strings.Contains(got, "from='romeo@example.org/orchard'") || !strings.Contains(got, "Art thou not Romeo?") {
		t.Errorf("juliet gets %s", got)
	}
	// XEP-0077 §3.3: no password of ours would admit her.
	juliet.send(`<iq type='set' id='c' to='example.org'><query xmlns='jabber:iq:register'><username>juliet</username><password>R0m30</password></query></iq>`)
	if got := juliet.until("</iq>"); !strings.Contains(got, "<not-allowed") {
		t.Errorf("change of password: %s", got)
	}
	juliet.send("</stream:stream>")
	juliet.until("</stream:stream>")
	romeo.send(`<message to='juliet@example.org' type='chat' id='m2'><body>Neither, fair saint</body></message><iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>`)
	if got := romeo.until("id='p'"); strings.Contains(got, "error") {
		t.Errorf("to juliet, who is away: %s", got)
	}

	id.rotate(t)
	r.clk.advance(time.Minute)
	juliet = r.in("OAUTHBEARER", bearerOf(id.token(t, "juliet", "chat", soon)), "balcony")
	if got := juliet.until("</message>"); !strings.Contains(got, "Neither, fair saint") {
		t.Errorf("after the change of keys juliet gets %s", got)
	}
	if got, _ := r.dial().authenticate("OAUTHBEARER", bearerOf(first)); got != "not-authorized" {
		t.Errorf("by the key that was withdrawn: %s", got)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.fetches != 2 {
		t.Errorf("the keys were fetched %d times, want once for each", id.fetches)
	}
}

// authority is the operator's endpoint: it knows nurse, with the password tybalt,
// and capulet, who is disabled.
type authority struct {
	*httptest.Server
	mu    sync.Mutex
	down  bool
	asked []string // kinds and usernames
	bare  int      // questions without the secret
}

const calloutSecret = "0123456789abcdef0123456789abcdef"

func newAuthority(t *testing.T) *authority {
	a := &authority{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
		var q struct{ Kind, Host, Username, Password string }
		err := json.NewDecoder(rq.Body).Decode(&q)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = append(a.asked, q.Kind+" "+q.Username)
		if rq.Header.Get("Authorization") != "Bearer "+calloutSecret {
			a.bare++
		}
		switch {
		case err != nil || a.down || q.Host != "example.org":
			w.WriteHeader(http.StatusInternalServerError)
		case q.Username == "capulet":
			w.WriteHeader(http.StatusForbidden)
		case q.Username == "nurse" && (q.Kind == "exists" || q.Kind == "password" && q.Password == "tybalt"):
			_, _ = io.WriteString(w, `{"ok":true}`)
		default:
			_, _ = io.WriteString(w, `{"ok":false}`)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *authority) fail(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// An endpoint of the operator's says whose password is right and which accounts
// there are, beside accounts of our own, also while it is down.
func TestLoginByCallout(t *testing.T) {
	a := newAuthority(t)
	r := run(t, `{http: {url: "`+a.URL+`", secret_file: http.key, directory: true}}`, map[string]string{"http.key": calloutSecret + "\n"})
	if err := r.users.CreateAccount(t.Context(), jid.Must("romeo@example.org"), "jul13t"); err != nil {
		t.Fatal(err)
	}
	romeo := r.in("PLAIN", plainOf("romeo", "jul13t"), "orchard")
	answer := func(to string) string {
		t.Helper()
		romeo.send(`<message to='%s@example.org' type='chat' id='m'><body>Where is my lady?</body></message><iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>`, to)
		return romeo.until("id='p'")
	}
	// RFC 6121 §8.5.1
	if got := answer("nobody"); !strings.Contains(got, "<service-unavailable") {
		t.Errorf("to nobody: %s", got)
	}
	if got := answer("nurse"); strings.Contains(got, "<message") {
		t.Errorf("to nurse, who has never been here: %s", got)
	}
	for _, tt := range []struct{ local, password, want string }{
		{"nurse", "wrong", "not-authorized"},
		{"capulet", "tybalt", "account-disabled"},
		{"nobody", "tybalt", "not-authorized"},
		{"romeo", "tybalt", "not-authorized"},
	} {
		if got, _ := r.dial().authenticate("PLAIN", plainOf(tt.local, tt.password)); got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.local, tt.password, got, tt.want)
		}
	}
	if got := r.accounts(); got != "romeo" {
		t.Errorf("accounts before the first login: %s", got)
	}
	nurse := r.in("PLAIN", plainOf("nurse", "tybalt"), "market")
	if got := nurse.until("</message>"); !strings.Contains(got, "Where is my lady?") {
		t.Errorf("nurse gets %s", got)
	}
	if got := r.accounts(); got != "nurse romeo" {
		t.Errorf("accounts: %s", got)
	}

	a.fail(true)
	if got, _ := r.dial().authenticate("PLAIN", plainOf("nurse", "tybalt")); got != "temporary-auth-failure" {
		t.Errorf("while nobody answers: %s", got)
	}
	r.in("PLAIN", plainOf("romeo", "jul13t"), "cell") // our own
	if got := answer("benvolio"); !strings.Contains(got, "type='wait'") || !strings.Contains(got, "<resource-constraint") {
		t.Errorf("to benvolio, of whom nobody can tell: %s", got)
	}
	if got := answer("nobody"); !strings.Contains(got, "<service-unavailable") {
		t.Errorf("to nobody, as is remembered: %s", got)
	}
	a.fail(false)
	r.clk.advance(time.Minute)
	if got := answer("benvolio"); !strings.Contains(got, "<service-unavailable") {
		t.Errorf("to benvolio, who is nobody: %s", got)
	}
	r.in("PLAIN", plainOf("nurse", "tybalt"), "street")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bare != 0 {
		t.Errorf("%d questions came without the secret", a.bare)
	}
	if asked := strings.Join(a.asked, ","); strings.Contains(asked, "exists romeo") {
		t.Errorf("asked about an account that is here: %s", asked)
	}
}
