package bearer

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivium/core/auth/endpoint"
	"trivium/core/sasl"
)

// issuer serves a JWK Set, and does as it is told.
type issuer struct {
	*httptest.Server
	requests atomic.Int32
	mu       sync.Mutex
	respond  http.HandlerFunc
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.requests.Add(1)
		i.mu.Lock()
		respond := i.respond
		i.mu.Unlock()
		respond(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) will(respond http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.respond = respond
}

// publish serves keys under their names.
func (i *issuer) publish(t testing.TB, keys map[string]pair) {
	document := set(t, keys)
	i.will(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // or a break of the next exchange would have it sent twice
		_, _ = w.Write(document)
	})
}

// set writes a JWK Set by RFC 7518 §6.
func set(t testing.TB, keys map[string]pair) []byte {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	var list []map[string]any
	for kid, p := range keys {
		k := map[string]any{"kid": kid, "use": "sig"}
		switch public := p.public.(type) {
		case *rsa.PublicKey:
			k["kty"], k["n"], k["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
		case *ecdsa.PublicKey:
			point, err := public.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			size := len(point) / 2
			k["kty"], k["crv"] = "EC", public.Params().Name
			k["x"], k["y"] = b64(point[1:1+size]), b64(point[1+size:])
		case ed25519.PublicKey:
			k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(public)
		case []byte:
			k["kty"], k["k"] = "oct", b64(public)
		}
		list = append(list, k)
	}
	document, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// time that a test moves.
type clockwork struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clockwork) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clockwork) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// remote is a verifier with an issuer, whose tokens last for ever.
type remote struct {
	*issuer
	*clockwork
	t        *testing.T
	set      *KeySet
	verifier *Verifier
}

func newRemote(t *testing.T, o KeySetOptions) *remote {
	t.Helper()
	r := &remote{issuer: newIssuer(t), clockwork: &clockwork{now: now}, t: t}
	o.Now = r.Now
	var err error
	if r.set, err = NewKeySet(r.URL, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.set.Close)
	r.verifier = newVerifier(t, r.set, Options{Issuer: "idp", Audience: []string{"xmpp"}})
	return r
}

// outcome of a login with a token that the key of that kind signs under a name.
func (r *remote) outcome(alg string, header map[string]any) string {
	r.t.Helper()
	s := token(r.t, pairs()[alg], map[string]any{"iss": "idp", "aud": "xmpp"}, header)
	local, err := r.verifier.CheckToken(r.t.Context(), "", s)
	var refusal *sasl.TokenRefusal
	switch {
	case err == nil && local == "juliet":
		return "admitted"
	case errors.As(err, &refusal):
		return "refused"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return fmt.Sprint(local, err)
}

func (r *remote) want(alg, kid, want string, requests int32) {
	r.t.Helper()
	header := map[string]any{"kid": kid}
	if kid == "" {
		header = nil
	}
	if got := r.outcome(alg, header); got != want {
		r.t.Errorf("%s with key %q: %s, want %s", alg, kid, got, want)
	}
	r.settle()
	if n := r.requests.Load(); n != requests {
		r.t.Errorf("%s with key %q: %d requests in all, want %d", alg, kid, n, requests)
	}
}

// settle waits for the fetch on its way.
func (r *remote) settle() {
	r.set.mu.Lock()
	flight := r.set.flight
	r.set.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

// Keys are fetched once, a new one when a token names it, and one that the issuer
// withdraws is gone after a refresh.
func TestRotation(t *testing.T) {
	r := newRemote(t, KeySetOptions{})
	r.publish(t, map[string]pair{"1": pairs()["RS256"], "2": pairs()["ES256"]})
	r.want("RS256", "1", "admitted", 1)
	r.want("PS256", "1", "admitted", 1)
	r.want("ES256", "2", "admitted", 1)
	r.want("RS256", "2", "refused", 1) // another's key: nothing to fetch for so soon
	r.want("ES384", "3", "refused", 1) // nor for a key that is not there
	r.publish(t, map[string]pair{"2": pairs()["ES256"], "3": pairs()["ES384"]})
	r.want("ES384", "3", "refused", 1) // the last fetch is too recent
	r.advance(10 * time.Second)
	r.want("ES384", "3", "admitted", 2)
	r.want("RS256", "1", "refused", 2) // withdrawn
	r.publish(t, map[string]pair{"3": pairs()["ES384"], "4": pairs()["EdDSA"]})
	r.advance(15*time.Minute - time.Second)
	r.want("ES256", "2", "admitted", 2) // not old enough to be fetched again
	r.advance(time.Second)
	r.want("ES256", "2", "admitted", 3) // the last time, while they are fetched
	r.want("ES256", "2", "refused", 3)
	r.want("EdDSA", "4", "admitted", 3)
}

// RFC 8725 §3.1 for keys by HTTP: the key that the token names has to be of the
// token's kind, an "alg" of its own counts, and so do its uses.
func TestSetKeys(t *testing.T) {
	r := newRemote(t, KeySetOptions{MinInterval: time.Hour})
	var list struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(set(t, map[string]pair{"r": pairs()["RS256"]}), &list); err != nil {
		t.Fatal(err)
	}
	derived := func(kid string, more map[string]any) map[string]any {
		k := map[string]any{}
		for name, v := range list.Keys[0] {
			k[name] = v
		}
		for name, v := range more {
			if k[name] = v; v == nil {
				delete(k, name)
			}
		}
		k["kid"] = kid
		return k
	}
	list.Keys = append(list.Keys,
		derived("only-ps", map[string]any{"alg": "PS256"}),
		derived("encrypts", map[string]any{"use": "enc"}),
		derived("signs", map[string]any{"use": nil, "key_ops": []string{"sign"}}),
		derived("verifies", map[string]any{"use": nil, "key_ops": []string{"verify"}}),
		derived("exponent", map[string]any{"e": "Ag"}),
		derived("huge", map[string]any{"n": strings.Repeat("_", 2000)}),
		derived("small", map[string]any{"n": strings.Repeat("_", 170)}),
		derived("kind", map[string]any{"kty": "DSA"}),
		map[string]any{"kid": "h", "kty": "oct", "k": base64.RawURLEncoding.EncodeToString(pairs()["HS256"].public.([]byte))},
		map[string]any{"kid": "off", "kty": "EC", "crv": "P-256", "x": strings.Repeat("A", 43), "y": strings.Repeat("A", 43)},
	)
	document, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	r.will(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(document) })
	for _, tt := range []struct{ alg, kid, want string }{
		{"RS256", "r", "admitted"},
		{"PS256", "r", "admitted"},
		{"RS256", "only-ps", "refused"},
		{"PS256", "only-ps", "admitted"},
		{"RS256", "encrypts", "refused"},
		{"RS256", "signs", "refused"},
		{"RS256", "verifies", "admitted"},
		{"RS256", "exponent", "refused"},
		{"RS256", "huge", "refused"},
		{"RS256", "small", "refused"},
		{"RS256", "kind", "refused"},
		{"HS256", "h", "refused"},
		{"ES256", "off", "refused"},
		{"RS256", "", "refused"}, // several keys would do
	} {
		r.want(tt.alg, tt.kid, tt.want, 1)
	}
}

// OpenID Connect Core 1.0 §10.1: without a name, if only one key will do.
func TestTokenWithoutKeyID(t *testing.T) {
	r := newRemote(t, KeySetOptions{MinInterval: time.Hour})
	r.publish(t, map[string]pair{"a": pairs()["RS256"], "b": pairs()["ES256"], "c": pairs()["ES384"]})
	r.want("RS256", "", "admitted", 1)
	r.want("ES256", "", "admitted", 1)
	if got := r.outcome("ES256", map[string]any{"kid": 7}); got != "admitted" {
		t.Errorf("a kid that is no text: %s", got) // as if there were none
	}
}

// A flood of tokens with invented keys makes one fetch in MinInterval, whoever
// waits for it, and does not keep those out who have a good one.
func TestKeySpray(t *testing.T) {
	r := newRemote(t, KeySetOptions{})
	r.publish(t, map[string]pair{"1": pairs()["ES256"]})
	for round := range int32(3) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if got := r.outcome("ES256", map[string]any{"kid": fmt.Sprint("invented", round, i)}); got != "refused" {
					t.Errorf("an invented key: %s", got)
				}
				if got := r.outcome("ES256", map[string]any{"kid": "1"}); got != "admitted" {
					t.Errorf("a good key: %s", got)
				}
			})
		}
		wg.Wait()
		r.settle()
		if n := r.requests.Load(); n != round+1 {
			t.Fatalf("%d requests, want %d", n, round+1)
		}
		r.advance(10 * time.Second)
	}
}

// Those who need the keys before they were ever there share one fetch.
func TestSingleFlight(t *testing.T) {
	r := newRemote(t, KeySetOptions{})
	document := set(t, map[string]pair{"1": pairs()["ES256"]})
	release := make(chan struct{})
	r.will(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = w.Write(document)
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := r.outcome("ES256", map[string]any{"kid": "1"}); got != "admitted" {
				t.Error(got)
			}
		})
	}
	// One who does not wait that long is not the others' concern.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.verifier.CheckToken(ctx, "", token(t, pairs()["ES256"], nil, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	close(release)
	wg.Wait()
	if n := r.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// Whatever the issuer does, the keys there are stay good for MaxStale, a login
// that needs others fails as temporary, and the issuer is not asked more often.
func TestIssuerFails(t *testing.T) {
	for name, respond := range map[string]http.HandlerFunc{
		"error":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"not found": http.NotFound,
		"moved":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"aborts":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no keys":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"no use": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))
		},
		"many keys": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat("{},", 64) + `{}]}`))
		},
		"huge":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2000)) },
		"says nothing": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"trickles": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":`))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := 5 * time.Second
			if name == "says nothing" || name == "trickles" {
				timeout = 50 * time.Millisecond
			}
			r := newRemote(t, KeySetOptions{MaxBytes: 1000, Timeout: timeout, MaxStale: time.Hour})
			r.will(respond)
			r.want("ES256", "1", "unavailable", 1) // there never were any
			r.want("ES256", "1", "unavailable", 1) // and nobody is asked again so soon
			r.publish(t, map[string]pair{"1": pairs()["ES256"]})
			r.advance(10 * time.Second)
			r.want("ES256", "1", "admitted", 2)
			r.will(respond)
			r.advance(15 * time.Minute)
			r.want("ES256", "1", "admitted", 3)
			r.want("ES256", "1", "admitted", 3)
			r.want("ES384", "2", "unavailable", 3)
			r.advance(45 * time.Minute)
			r.want("ES256", "1", "unavailable", 4) // too old
			r.publish(t, map[string]pair{"1": pairs()["ES256"]})
			r.advance(10 * time.Second)
			r.want("ES256", "1", "admitted", 5)
		})
	}
}

// Close ends a fetch, and those who wait for it.
func TestClose(t *testing.T) {
	r := newRemote(t, KeySetOptions{Timeout: time.Hour})
	arrived := make(chan struct{})
	r.will(func(_ http.ResponseWriter, rq *http.Request) {
		close(arrived)
		<-rq.Context().Done()
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := r.outcome("ES256", map[string]any{"kid": "1"}); got != "unavailable" {
			t.Error(got)
		}
	})
	<-arrived
	r.set.Close()
	wg.Wait()
	if got := r.outcome("ES256", map[string]any{"kid": "1"}); got != "unavailable" {
		t.Errorf("after Close: %s", got)
	}
	if n := r.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// A clock that is set back does not stop the fetching.
func TestClockSetBack(t *testing.T) {
	r := newRemote(t, KeySetOptions{})
	r.publish(t, map[string]pair{"1": pairs()["ES256"]})
	r.want("ES256", "1", "admitted", 1)
	r.publish(t, map[string]pair{"2": pairs()["ES384"]})
	r.advance(-time.Hour)
	r.want("ES384", "2", "admitted", 2)
}

func TestKeySetURL(t *testing.T) {
	for _, address := range []string{"http://idp.example/keys", "file:///keys", ""} {
		if s, err := NewKeySet(address, KeySetOptions{}); s != nil || !errors.Is(err, endpoint.ErrURL) {
			t.Errorf("%q: %v, %v", address, s, err)
		}
	}
}
