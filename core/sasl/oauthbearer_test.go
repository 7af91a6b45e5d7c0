package sasl

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"trivium/core/jid"
)

// rfcToken is the token of RFC 7628 §4.1.
const rfcToken = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="

// bearers admits the bearers of some tokens.
type bearers struct {
	accounts
	tokens  map[string]string // token -> localpart
	refusal TokenRefusal
	err     error
	asked   string // the last username asked for
}

func (b *bearers) CheckToken(_ context.Context, username, token string) (string, error) {
	b.asked = username
	if b.err != nil {
		return "", b.err
	}
	if local, ok := b.tokens[token]; ok {
		return local, nil
	}
	return "", &b.refusal
}

func newBearers() *bearers {
	return &bearers{
		tokens: map[string]string{rfcToken: "user", "other": "other"},
		refusal: TokenRefusal{
			Scope: "example_scope", Configuration: "https://example.com/.well-known/openid-configuration",
		},
	}
}

func startBearer(b *bearers) *oauthBearer {
	return &oauthBearer{server: New(jid.Must("example.com"), b, Options{}), tokens: b}
}

// OAUTHBEARER is offered where tokens can be checked and nobody listens, before
// PLAIN, and goes to the backend that can check them, though another is around it.
func TestBearerOffer(t *testing.T) {
	b := newBearers()
	for name, tt := range map[string]struct {
		backend Backend
		secure  bool
		opts    Options
		want    string
	}{
		"protected":     {b, true, Options{Hashes: []Hash{SHA256}}, "SCRAM-SHA-256 OAUTHBEARER PLAIN"},
		"tokens alone":  {b, true, Options{Hashes: []Hash{}, NoPlain: true}, "OAUTHBEARER"},
		"in the clear":  {b, false, Options{Hashes: []Hash{SHA256}}, "SCRAM-SHA-256"},
		"no tokens":     {&b.accounts, true, Options{Hashes: []Hash{}}, "PLAIN"},
		"wrapped":       {&gated{b, nil, nil}, true, Options{Hashes: []Hash{}}, "OAUTHBEARER PLAIN"},
		"wrapped twice": {&gated{&gated{b, nil, nil}, nil, nil}, true, Options{Hashes: []Hash{}}, "OAUTHBEARER PLAIN"},
	} {
		t.Run(name, func(t *testing.T) {
			o := New(jid.Must("example.com"), tt.backend, tt.opts).Offer(tt.secure, nil)
			if got := strings.Join(o.Mechanisms(), " "); got != tt.want {
				t.Fatalf("offers %q, want %q", got, tt.want)
			}
			x, err := o.Start("OAUTHBEARER")
			if !strings.Contains(tt.want, "OAUTHBEARER") {
				expect(t, err, InvalidMechanism)
				return
			}
			expect(t, err, "")
			if _, done, err := x.Step(t.Context(), b64(t, rfcResponse)); !done || err != nil || x.Username() != "user" {
				t.Errorf("%v, %v: logged in %q", done, err, x.Username())
			}
		})
	}
}

// gated is a backend with a gate before it.
type gated struct {
	Backend
	err   error
	asked []string
}

func (g *gated) Unwrap() Backend { return g.Backend }

func (g *gated) Admit(_ context.Context, username string) error {
	g.asked = append(g.asked, username)
	return g.err
}

// The gate is asked before the token is looked at, also by those who name nobody.
func TestBearerGate(t *testing.T) {
	for message, want := range map[string]string{
		"n,a=user@example.com,\x01auth=Bearer " + rfcToken + "\x01\x01": "user",
		"n,,\x01auth=Bearer " + rfcToken + "\x01\x01":                   "",
	} {
		for _, refusal := range []error{nil, &Failure{Condition: TemporaryAuthFailure}} {
			b := newBearers()
			b.asked = "nobody yet"
			g := &gated{b, refusal, nil}
			x := start(t, New(jid.Must("example.com"), g, Options{}).Offer(true, nil), "OAUTHBEARER")
			_, done, err := x.Step(t.Context(), []byte(message))
			if len(g.asked) != 1 || g.asked[0] != want {
				t.Errorf("the gate was asked for %q, want %q", g.asked, want)
			}
			if refusal == nil && (!done || err != nil) || refusal != nil && b.asked != "nobody yet" {
				t.Errorf("gate %v: %v, %v, the backend was asked for %q", refusal, done, err, b.asked)
			}
			if refusal != nil {
				expect(t, err, TemporaryAuthFailure)
			}
		}
	}
}

// The messages of RFC 7628 §4.1, §4.3 and §4.4, decoded from the RFC's base64.
const (
	rfcResponse = "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQz" +
		"AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
	rfcResponseSMTP = "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3" +
		"AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
	rfcQuery = "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9AQE="
	rfcError = "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3Bl" +
		"bmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczovL2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
	rfcDummy = "AQ=="
)

// RFC 7628 §4.1: a token that admits its bearer.
func TestBearerExample(t *testing.T) {
	for _, initial := range []bool{true, false} {
		for _, response := range []string{rfcResponse, rfcResponseSMTP} {
			b := newBearers()
			x := startBearer(b)
			if !initial {
				challenge, done, err := x.Step(t.Context(), nil)
				if challenge == nil || len(challenge) != 0 || done || err != nil {
					t.Fatalf("to no initial response: %q, %v, %v", challenge, done, err)
				}
			}
			challenge, done, err := x.Step(t.Context(), b64(t, response))
			if challenge != nil || !done || err != nil || x.Username() != "user" || b.asked != "user" {
				t.Errorf("%q, %v, %v: logged in %q, asked for %q", challenge, done, err, x.Username(), b.asked)
			}
			_, _, err = x.Step(t.Context(), b64(t, response))
			expect(t, err, MalformedRequest)
		}
	}
}

// RFC 7628 §4.3, the query for what token is needed, and §4.4, a wrong token:
// the error, then the client's kvsep, then the failure.
func TestBearerRefusalExample(t *testing.T) {
	for _, response := range []string{rfcQuery, rfcResponseSMTP} {
		for _, answer := range []string{string(b64(t, rfcDummy)), "", "anything", string(b64(t, rfcResponse))} {
			b := newBearers()
			delete(b.tokens, rfcToken)
			x := startBearer(b)
			challenge, done, err := x.Step(t.Context(), b64(t, response))
			if got := string(challenge); got != string(b64(t, rfcError)) || done || err != nil {
				t.Fatalf("%q, %v, %v", got, done, err)
			}
			b.tokens[rfcToken] = "user" // too late
			_, done, err = x.Step(t.Context(), []byte(answer))
			expect(t, err, NotAuthorized)
			if done || x.Username() != "" {
				t.Errorf("admitted %q after a refusal", x.Username())
			}
			_, _, err = x.Step(t.Context(), b64(t, rfcResponse))
			expect(t, err, MalformedRequest)
		}
	}
}

func TestBearerRefusals(t *testing.T) {
	cause := errors.New("expired")
	for _, tt := range []struct {
		refusal TokenRefusal
		want    string
	}{
		{TokenRefusal{}, `{"status":"invalid_token"}`},
		{TokenRefusal{Status: InsufficientScope, Scope: "xmpp"}, `{"status":"insufficient_scope","scope":"xmpp"}`},
		{TokenRefusal{Status: InvalidRequest, Cause: cause}, `{"status":"invalid_request"}`},
	} {
		b := newBearers()
		b.refusal = tt.refusal
		x := startBearer(b)
		challenge, _, err := x.Step(t.Context(), []byte("n,,\x01auth=Bearer unknown\x01\x01"))
		if string(challenge) != tt.want || err != nil {
			t.Errorf("%q, %v, want %q", challenge, err, tt.want)
		}
		_, _, err = x.Step(t.Context(), []byte(kvsep))
		expect(t, err, NotAuthorized)
		if tt.refusal.Cause != nil && !errors.Is(err, cause) {
			t.Errorf("%v does not tell the cause", err)
		}
	}
}

func TestBearerMessages(t *testing.T) {
	const auth = "\x01auth=Bearer " + rfcToken + "\x01\x01"
	for _, tt := range []struct {
		name, message string
		want          Condition
		asked         string
	}{
		{"no authzid", "n,," + auth, "", ""},
		{"binding that we do not support", "y,," + auth, "", ""},
		{"binding", "p=tls-exporter,," + auth, MalformedRequest, ""},
		{"no flag", ",," + auth, MalformedRequest, ""},
		{"authzid", "n,a=user@example.com," + auth, "", "user"},
		{"authzid to prepare", "n,a=User@EXAMPLE.com," + auth, "", "user"},
		{"authzid of another", "n,a=other@example.com," + auth, InvalidAuthzid, "other"},
		{"authzid elsewhere", "n,a=user@example.org," + auth, InvalidAuthzid, ""},
		{"authzid with a resource", "n,a=user@example.com/a," + auth, InvalidAuthzid, ""},
		{"authzid without a localpart", "n,a=example.com," + auth, InvalidAuthzid, ""},
		{"authzid that is no address", "n,a=@," + auth, InvalidAuthzid, ""},
		{"authzid, escaped", "n,a=us=3Der@example.com," + auth, InvalidAuthzid, "us=er"},
		{"authzid, wrongly escaped", "n,a=us=er@example.com," + auth, MalformedRequest, ""},
		{"empty authzid", "n,a=," + auth, MalformedRequest, ""},
		{"authzid with a comma", "n,a=us,er@example.com," + auth, MalformedRequest, ""},
		{"something else than an authzid", "n,b=user@example.com," + auth, MalformedRequest, ""},
		{"header without an end", "n," + auth, MalformedRequest, ""},
		{"only a separator", kvsep, MalformedRequest, ""}, // RFC 7628 §3.2.3: for errors
		{"empty", "", MalformedRequest, ""},
		{"no pair", "n,,\x01\x01", MalformedRequest, ""},
		{"no end of pairs", "n,,\x01auth=Bearer " + rfcToken + "\x01", MalformedRequest, ""},
		{"no end of a pair", "n,,\x01auth=Bearer " + rfcToken, MalformedRequest, ""},
		{"something after the end", "n,," + auth + "\x01", MalformedRequest, ""},
		{"a pair after the end", "n,," + auth + "host=a\x01\x01", MalformedRequest, ""},
		{"two auths", "n,,\x01auth=Bearer " + rfcToken + auth, MalformedRequest, ""},
		{"pairs that we do not know", "n,,\x01mthd=GET\x01qs=a=b\x01path=/\r\n\t " + auth, "", ""},
		{"a pair without a value", "n,,\x01host" + auth, MalformedRequest, ""},
		{"a pair without a key", "n,,\x01=host" + auth, MalformedRequest, ""},
		{"a key that is none", "n,,\x01ho5t=a" + auth, MalformedRequest, ""},
		{"a value that is none", "n,,\x01host=\x02" + auth, MalformedRequest, ""},
		{"a value beyond ASCII", "n,,\x01host=\u00e9" + auth, MalformedRequest, ""},
		{"a NUL", "n,,\x01host=\x00" + auth, MalformedRequest, ""},
		{"not UTF-8", "n,,\x01host=\xff" + auth, MalformedRequest, ""},
		{"scheme in capitals", "n,,\x01auth=BEARER " + rfcToken + "\x01\x01", "", ""}, // RFC 7628 §4
		{"scheme with spaces", "n,,\x01auth=bearer   " + rfcToken + "\x01\x01", "", ""},
		{"another scheme", "n,,\x01auth=Basic " + rfcToken + "\x01\x01", MalformedRequest, ""},
		{"no token", "n,,\x01auth=Bearer \x01\x01", MalformedRequest, ""},
		{"no scheme", "n,,\x01auth=" + rfcToken + "\x01\x01", MalformedRequest, ""},
		{"padding alone", "n,,\x01auth=Bearer ==\x01\x01", MalformedRequest, ""},
		{"a token with padding inside", "n,,\x01auth=Bearer a=b\x01\x01", MalformedRequest, ""},
		{"a token with a space", "n,,\x01auth=Bearer a b\x01\x01", MalformedRequest, ""},
		{"too long", "n,,\x01auth=Bearer " + strings.Repeat("a", maxMessage) + "\x01\x01", MalformedRequest, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBearers()
			x := startBearer(b)
			challenge, done, err := x.Step(t.Context(), []byte(tt.message))
			expect(t, err, tt.want)
			if done != (tt.want == "") || challenge != nil {
				t.Errorf("%q, %v", challenge, done)
			}
			if b.asked != tt.asked {
				t.Errorf("asked for %q, want %q", b.asked, tt.asked)
			}
			if want := map[bool]string{true: "user"}[done]; x.Username() != want {
				t.Errorf("logged in %q, want %q", x.Username(), want)
			}
		})
	}
}

// What the backend says is told as for the other mechanisms, and what it should
// not say admits nobody.
func TestBearerBackend(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup func(*bearers)
		token string
		want  Condition
	}{
		{"broken", func(b *bearers) { b.err = errors.New("broken") }, rfcToken, TemporaryAuthFailure},
		{"failure", func(b *bearers) { b.err = &Failure{Condition: AccountDisabled} }, rfcToken, AccountDisabled},
		{"denied", func(b *bearers) {
			b.denied = map[string]error{"user": &Failure{Condition: CredentialsExpired}}
		}, rfcToken, CredentialsExpired},
		{"name that is none", func(b *bearers) { b.tokens[rfcToken] = "a b" }, rfcToken, TemporaryAuthFailure},
		{"name that is not prepared", func(b *bearers) { b.tokens[rfcToken] = "User" }, rfcToken, TemporaryAuthFailure},
		{"no name", func(b *bearers) { b.tokens[rfcToken] = "" }, rfcToken, TemporaryAuthFailure},
		{"no token", func(b *bearers) { b.tokens[""] = "user" }, "", TemporaryAuthFailure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBearers()
			tt.setup(b)
			x := startBearer(b)
			message := "n,,\x01auth=Bearer " + tt.token + "\x01\x01"
			if tt.token == "" {
				message = "n,,\x01auth=\x01\x01"
			}
			_, done, err := x.Step(t.Context(), []byte(message))
			expect(t, err, tt.want)
			if done || x.Username() != "" {
				t.Errorf("admitted %q", x.Username())
			}
		})
	}
}

// FuzzBearer: nothing panics; every error is a *Failure; a challenge is a JSON
// object with a status; only the token of an account admits, under its name; and
// what is accepted comes out of the parser as it went in.
func FuzzBearer(f *testing.F) {
	f.Add([]byte("n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer "+rfcToken+"\x01\x01"), []byte(kvsep))
	f.Add([]byte("n,a=user@example.com,\x01host=server.example.com\x01auth=\x01\x01"), []byte{})
	f.Add([]byte("y,,\x01auth=bearer  other\x01a=\r\n\x01\x01"), []byte("x"))
	f.Add([]byte("n,a=u=2C=3D@example.com,\x01auth=Bearer a.b-c_d~e+f/g==\x01\x01"), []byte(kvsep))
	f.Add([]byte(kvsep), []byte(kvsep))
	b := newBearers()
	f.Fuzz(func(t *testing.T, first, second []byte) {
		x := startBearer(b)
		ended := false
		for i, message := range [][]byte{first, second, first} {
			challenge, done, err := x.Step(t.Context(), message)
			switch {
			case err != nil:
				expect(t, err, err.(*Failure).Condition)
				ended = true
			case ended:
				t.Fatalf("step %d went on after the end", i)
			case done:
				if m, err := parseBearer(message); err != nil || b.tokens[m.token] != x.Username() || m.token == "" {
					t.Fatalf("admitted %q by %q, %v", x.Username(), message, err)
				}
				ended = true
			case i > 0:
				t.Fatalf("step %d: a second challenge", i)
			case message != nil:
				var refusal struct{ Status string }
				if err := json.Unmarshal(challenge, &refusal); err != nil || refusal.Status != InvalidToken {
					t.Fatalf("challenge %q: %v", challenge, err)
				}
			}
		}
		m, err := parseBearer(first)
		if err != nil {
			return
		}
		auth := "auth="
		if m.token != "" {
			auth += "Bearer " + m.token
		}
		again := "n,," + kvsep + auth + kvsep + kvsep
		if m.authzid != "" {
			again = "n,a=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(m.authzid) + "," + kvsep + auth + kvsep + kvsep
		}
		if got, err := parseBearer([]byte(again)); len(again) <= maxMessage && (err != nil || got != m) || !utf8.ValidString(m.authzid) {
			t.Fatalf("%q: %+v, then %+v, %v", first, m, got, err)
		}
	})
}
