package bearer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"trivium/core/jid"
	"trivium/core/sasl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var host = jid.Must("example.org")

// now is when the tests take place.
var now = time.Unix(1_800_000_000, 0)

func clock() time.Time { return now }

// pair is a key to sign and a key to verify.
type pair struct {
	private any
	public  any
	method  jwt.SigningMethod
}

// pairs makes one pair of each kind, once: RSA takes its time.
var pairs = sync.OnceValue(func() map[string]pair {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	secret := []byte(strings.Repeat("0123456789abcdef", 4))
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	all := map[string]pair{
		"HS256": {secret, secret, jwt.SigningMethodHS256}, "HS512": {secret, secret, jwt.SigningMethodHS512},
		"RS256": {r, &r.PublicKey, jwt.SigningMethodRS256}, "PS256": {r, &r.PublicKey, jwt.SigningMethodPS256},
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
		all[alg] = pair{k, &k.PublicKey, jwt.GetSigningMethod(alg)}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	all["EdDSA"] = pair{private, public, jwt.SigningMethodEdDSA}
	return all
})

// pemOf writes public keys as a PEM file.
func pemOf(t testing.TB, keys ...any) []byte {
	t.Helper()
	var file []byte
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return file
}

// keysOf makes the Keys with the public part of a pair.
func keysOf(t testing.TB, p pair) Keys {
	t.Helper()
	var keys Keys
	var err error
	if secret, ok := p.public.([]byte); ok {
		keys, err = Secret(secret)
	} else {
		keys, err = PublicKeys(pemOf(t, p.public))
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newVerifier(t testing.TB, keys Keys, o Options) *Verifier {
	t.Helper()
	if o.Now == nil {
		o.Now = clock
	}
	v, err := New(host, keys, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// token signs claims on top of those of a valid token of juliet's; nil removes one.
func token(t testing.TB, p pair, claims, header map[string]any) string {
	t.Helper()
	all := jwt.MapClaims{"sub": "juliet", "exp": now.Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	tok := jwt.NewWithClaims(p.method, all)
	maps.Copy(tok.Header, header)
	s, err := tok.SignedString(p.private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused fails the test unless err is a refusal with that status.
func refused(t testing.TB, local string, err error, status string) {
	t.Helper()
	var r *sasl.TokenRefusal
	if local != "" || !errors.As(err, &r) || r.Status != status {
		t.Errorf("%q, %v, want a refusal with %s", local, err, status)
	}
}

// The tokens of RFC 7515 appendix A.1, A.2 and A.3, with their keys. Their only
// name is the issuer's.
func TestExamples(t *testing.T) {
	const payload = ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
	secret, err := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
	if err != nil {
		t.Fatal(err)
	}
	hmac, err := Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	fromSet := func(set string) Keys {
		keys, err := parseSet([]byte(set))
		if err != nil || len(keys) != 1 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		return static{keys[0].public}
	}
	for _, tt := range []struct {
		name, token string
		keys        Keys
	}{
		{"A.1", "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" + payload + "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", hmac},
		{
			"A.2",
			"eyJhbGciOiJSUzI1NiJ9" + payload + "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7" +
				"AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K" +
				"0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB" +
				"p0igcN_IoypGlUPQGe77Rw",
			fromSet(`{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT` +
				`-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xs` +
				`mtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}`),
		},
		{
			"A.3",
			"eyJhbGciOiJFUzI1NiJ9" + payload + "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
			fromSet(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
				"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := time.Unix(1300819379, 0)
			v := newVerifier(t, tt.keys, Options{Claim: "iss", Leeway: -1, Now: func() time.Time { return at }})
			if local, err := v.CheckToken(t.Context(), "", tt.token); local != "joe" || err != nil {
				t.Errorf("%q, %v", local, err)
			}
			if ok, err := v.CheckPassword(t.Context(), "joe", tt.token); !ok || err != nil {
				t.Errorf("as a password: %v, %v", ok, err)
			}
			if ok, err := v.CheckPassword(t.Context(), "romeo", tt.token); ok || err != nil {
				t.Errorf("as another's password: %v, %v", ok, err)
			}
			at = time.Unix(1300819380, 0) // RFC 7519 §4.1.4: on or after
			local, err := v.CheckToken(t.Context(), "", tt.token)
			refused(t, local, err, sasl.InvalidToken)
			at = time.Unix(1300819379, 0)
			local, err = v.CheckToken(t.Context(), "", strings.Replace(tt.token, ".", ".e30", 1))
			refused(t, local, err, sasl.InvalidToken)
		})
	}
}

// Every algorithm works with its own key, and with no other.
func TestAlgorithms(t *testing.T) {
	for signed, with := range pairs() {
		s := token(t, with, nil, nil)
		for name, p := range pairs() {
			v := newVerifier(t, keysOf(t, p), Options{})
			local, err := v.CheckToken(t.Context(), "", s)
			if signed == name || p.public == nil || sameKey(p, with) {
				if local != "juliet" || err != nil {
					t.Errorf("%s by the key of %s: %q, %v", signed, name, local, err)
				}
				continue
			}
			refused(t, local, err, sasl.InvalidToken)
		}
	}
}

func sameKey(a, b pair) bool {
	if x, ok := a.public.([]byte); ok {
		y, ok := b.public.([]byte)
		return ok && string(x) == string(y)
	}
	x, ok := a.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && x.Equal(b.public)
}

// RFC 8725 §2.1, §3.1: what the header says does not choose how a key is used.
func TestAlgorithmConfusion(t *testing.T) {
	r := pairs()["RS256"]
	file := pemOf(t, r.public)
	keys, err := PublicKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, keys, Options{})
	der, _ := x509.MarshalPKIXPublicKey(r.public)
	for _, secret := range [][]byte{file, der, []byte(strings.TrimSpace(string(file))), x509.MarshalPKCS1PublicKey(r.public.(*rsa.PublicKey)), {}} {
		for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			local, err := v.CheckToken(t.Context(), "", token(t, pair{private: secret, method: m}, nil, nil))
			refused(t, local, err, sasl.InvalidToken)
		}
	}
	none := token(t, pair{private: jwt.UnsafeAllowNoneSignatureType, method: jwt.SigningMethodNone}, nil, nil)
	for _, spelt := range []string{"none", "None", "NONE", "nOnE", ""} {
		header, _ := json.Marshal(map[string]string{"alg": spelt, "typ": "JWT"})
		_, rest, _ := strings.Cut(none, ".")
		for _, s := range []string{none, base64.RawURLEncoding.EncodeToString(header) + "." + rest} {
			for _, k := range []Keys{keys, keysOf(t, pairs()["HS256"])} {
				local, err := newVerifier(t, k, Options{}).CheckToken(t.Context(), "", s)
				refused(t, local, err, sasl.InvalidToken)
			}
		}
	}
	// Only what is allowed, though the key would do.
	only := newVerifier(t, keys, Options{Algorithms: []string{"PS256"}})
	local, err := only.CheckToken(t.Context(), "", token(t, r, nil, nil))
	refused(t, local, err, sasl.InvalidToken)
	if local, err := only.CheckToken(t.Context(), "", token(t, pairs()["PS256"], nil, nil)); local != "juliet" || err != nil {
		t.Errorf("%q, %v", local, err)
	}
	// A key that the token brings along is not ours.
	header := map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}, "jku": "https://evil.example/keys", "x5u": "https://evil.example"}
	mine := pairs()["ES256"]
	local, err = v.CheckToken(t.Context(), "", token(t, mine, nil, header))
	refused(t, local, err, sasl.InvalidToken)
}

func TestClaims(t *testing.T) {
	p := pairs()["HS256"]
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, tt := range []struct {
		name   string
		o      Options
		claims map[string]any
		header map[string]any
		want   string // "" if it is refused
	}{
		{"valid", Options{}, nil, nil, "juliet"},
		{"expired", Options{}, map[string]any{"exp": at(-time.Hour)}, nil, ""},
		{"expired within the leeway", Options{}, map[string]any{"exp": at(-29 * time.Second)}, nil, "juliet"},
		{"expired beyond the leeway", Options{}, map[string]any{"exp": at(-30 * time.Second)}, nil, ""},
		{"expires now, no leeway", Options{Leeway: -1}, map[string]any{"exp": at(0)}, nil, ""},
		{"no expiry", Options{}, map[string]any{"exp": nil}, nil, ""},
		{"expiry that is none", Options{}, map[string]any{"exp": "soon"}, nil, ""},
		{"not yet valid", Options{}, map[string]any{"nbf": at(time.Minute)}, nil, ""},
		{"valid within the leeway", Options{}, map[string]any{"nbf": at(29 * time.Second)}, nil, "juliet"},
		{"issuer", Options{Issuer: "https://idp"}, map[string]any{"iss": "https://idp"}, nil, "juliet"},
		{"another issuer", Options{Issuer: "https://idp"}, map[string]any{"iss": "https://idp/"}, nil, ""},
		{"no issuer", Options{Issuer: "https://idp"}, nil, nil, ""},
		{"issuers", Options{Issuer: "https://idp"}, map[string]any{"iss": []string{"https://idp"}}, nil, ""},
		{"audience", Options{Audience: []string{"a", "xmpp"}}, map[string]any{"aud": "xmpp"}, nil, "juliet"},
		{"one of the audiences", Options{Audience: []string{"xmpp"}}, map[string]any{"aud": []string{"a", "xmpp"}}, nil, "juliet"},
		{"another audience", Options{Audience: []string{"xmpp"}}, map[string]any{"aud": []string{"a", "xmp"}}, nil, ""},
		{"no audience", Options{Audience: []string{"xmpp"}}, nil, nil, ""},
		{"the host is not the audience", Options{Audience: []string{"xmpp"}}, map[string]any{"aud": "example.org"}, nil, ""},
		{"audience by default", Options{}, map[string]any{"aud": "example.org"}, nil, "juliet"},
		{"another audience by default", Options{}, map[string]any{"aud": []string{"shop"}}, nil, ""},
		{"audience that is none", Options{}, map[string]any{"aud": 7}, nil, ""},
		{"type", Options{Type: "at+jwt"}, nil, map[string]any{"typ": "at+JWT"}, "juliet"},
		{"long type", Options{Type: "at+jwt"}, nil, map[string]any{"typ": "application/at+jwt"}, "juliet"},
		{"another type", Options{Type: "at+jwt"}, nil, nil, ""},
		{"critical header", Options{}, nil, map[string]any{"crit": []string{"exp"}, "exp": 1}, ""},
		{"scope", Options{Scope: "xmpp"}, map[string]any{"scope": "a xmpp b"}, nil, "juliet"},
		{"no subject", Options{}, map[string]any{"sub": nil}, nil, ""},
		{"empty subject", Options{}, map[string]any{"sub": ""}, nil, ""},
		{"subject that is none", Options{}, map[string]any{"sub": 7}, nil, ""},
		{"subject of another case", Options{}, map[string]any{"sub": "Juliet"}, nil, ""},
		{"subject of another width", Options{}, map[string]any{"sub": "\uff4auliet"}, nil, ""},
		{"subject that is no localpart", Options{}, map[string]any{"sub": "a:b"}, nil, ""},
		{"subject with a space", Options{}, map[string]any{"sub": "a b"}, nil, ""},
		{"address as a subject", Options{}, map[string]any{"sub": "juliet@example.org"}, nil, "juliet"},
		{"address elsewhere", Options{}, map[string]any{"sub": "juliet@example.com"}, nil, ""},
		{"address below", Options{}, map[string]any{"sub": "juliet@a.example.org"}, nil, ""},
		{"address with a resource", Options{}, map[string]any{"sub": "juliet@example.org/a"}, nil, ""},
		{"address twice", Options{}, map[string]any{"sub": "juliet@example.org@example.com"}, nil, ""},
		{"address without a name", Options{}, map[string]any{"sub": "@example.org"}, nil, ""},
		{"name", Options{Claim: "preferred_username"}, map[string]any{"preferred_username": "Romeo"}, nil, "romeo"},
		{"no name", Options{Claim: "preferred_username"}, nil, nil, ""},
		{"email", Options{Claim: "email"}, map[string]any{"email": "Romeo@Example.ORG"}, nil, "romeo"},
		{"verified email", Options{Claim: "email"}, map[string]any{"email": "romeo@example.org", "email_verified": true}, nil, "romeo"},
		{"email that is not verified", Options{Claim: "email"}, map[string]any{"email": "romeo@example.org", "email_verified": false}, nil, ""},
		{"email that may be verified", Options{Claim: "email"}, map[string]any{"email": "romeo@example.org", "email_verified": 1}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVerifier(t, keysOf(t, p), tt.o)
			s := token(t, p, tt.claims, tt.header)
			local, err := v.CheckToken(t.Context(), "", s)
			if tt.want == "" {
				refused(t, local, err, sasl.InvalidToken)
				if err != nil && strings.Contains(err.Error(), s[:20]) {
					t.Errorf("%v tells the token", err)
				}
			} else if local != tt.want || err != nil {
				t.Errorf("%q, %v, want %q", local, err, tt.want)
			}
			ok, err := v.CheckPassword(t.Context(), "juliet", s)
			if ok != (tt.want == "juliet") || err != nil {
				t.Errorf("as juliet's password: %v, %v", ok, err)
			}
		})
	}
}

// What clients are told is RFC 7628 §3.2.2's.
func TestRefusal(t *testing.T) {
	p := pairs()["HS256"]
	v := newVerifier(t, keysOf(t, p), Options{Scope: "xmpp", Configuration: "https://idp/.well-known/openid-configuration"})
	for s, status := range map[string]string{
		"":                    sasl.InvalidToken,
		"opaque":              sasl.InvalidToken,
		"a.b.c":               sasl.InvalidToken,
		"a.b.c.d.e":           sasl.InvalidToken, // JWE (RFC 7516 §3.1)
		token(t, p, nil, nil): sasl.InsufficientScope,
		token(t, p, map[string]any{"scope": "xmp xmppp"}, nil):              sasl.InsufficientScope,
		token(t, p, map[string]any{"scope": "xmpp", "exp": 1}, nil):         sasl.InvalidToken,
		token(t, p, nil, nil)[:20] + strings.Repeat("a", maxToken) + ".b.c": sasl.InvalidToken,
	} {
		local, err := v.CheckToken(t.Context(), "", s)
		refused(t, local, err, status)
		var r *sasl.TokenRefusal
		if errors.As(err, &r) && (r.Scope != "xmpp" || r.Configuration != "https://idp/.well-known/openid-configuration") {
			t.Errorf("%+v", r)
		}
	}
}

func TestKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pemOf(t, pairs()["ES256"].public)
	private, err := x509.MarshalPKCS8PrivateKey(pairs()["ES256"].private)
	if err != nil {
		t.Fatal(err)
	}
	var many []any
	for range maxPEMKeys + 1 {
		many = append(many, pairs()["ES256"].public)
	}
	for name, file := range map[string][]byte{
		"empty":       nil,
		"no PEM":      []byte("key"),
		"small RSA":   pemOf(t, &small.PublicKey),
		"P-224":       pemOf(t, &p224.PublicKey),
		"private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"broken":      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"more after":  append(good[:len(good):len(good)], "more"...),
		"one unfit":   append(good[:len(good):len(good)], pemOf(t, &small.PublicKey)...),
		"too many":    pemOf(t, many...),
	} {
		if k, err := PublicKeys(file); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	for name, secret := range map[string]string{
		"empty": "", "short": strings.Repeat("a", 31), "short but for space": strings.Repeat("a", 31) + "\n\n", "PEM": string(good),
	} {
		if k, err := Secret([]byte(secret)); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	// Any of several keys will do, and the end of a file's line does not matter.
	several, err := PublicKeys(pemOf(t, pairs()["ES256"].public, pairs()["RS256"].public, pairs()["ES384"].public))
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, several, Options{})
	for _, alg := range []string{"ES256", "ES384", "RS256"} {
		if local, err := v.CheckToken(t.Context(), "", token(t, pairs()[alg], nil, map[string]any{"kid": "any"})); local != "juliet" || err != nil {
			t.Errorf("%s: %q, %v", alg, local, err)
		}
	}
	secret, err := Secret(append(pairs()["HS256"].public.([]byte), '\r', '\n'))
	if err != nil {
		t.Fatal(err)
	}
	if local, err := newVerifier(t, secret, Options{}).CheckToken(t.Context(), "", token(t, pairs()["HS256"], nil, nil)); local != "juliet" || err != nil {
		t.Errorf("%q, %v", local, err)
	}
}

func TestNew(t *testing.T) {
	set, err := NewKeySet("https://idp.example/keys", KeySetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	short, err := Secret([]byte(strings.Repeat("a", 32)))
	if err != nil {
		t.Fatal(err)
	}
	es := keysOf(t, pairs()["ES256"])
	for _, tt := range []struct {
		name string
		keys Keys
		o    Options
		want error
	}{
		{"static", es, Options{}, nil},
		{"algorithm", es, Options{Algorithms: []string{"ES256"}}, nil},
		{"algorithm of another key", es, Options{Algorithms: []string{"ES256", "RS256"}}, ErrAlgorithm},
		{"secret for a public key", es, Options{Algorithms: []string{"HS256"}}, ErrAlgorithm},
		{"none", es, Options{Algorithms: []string{"none"}}, ErrAlgorithm},
		{"secret too short", short, Options{Algorithms: []string{"HS512"}}, ErrAlgorithm},
		{"secret", short, Options{Algorithms: []string{"HS256"}}, nil},
		{"set", set, Options{Issuer: "a", Audience: []string{"b"}}, nil},
		{"set without an issuer", set, Options{Audience: []string{"b"}}, ErrAudience},
		{"set without an audience", set, Options{Issuer: "a"}, ErrAudience},
		{"set with HMAC", set, Options{Issuer: "a", Audience: []string{"b"}, Algorithms: []string{"HS256"}}, ErrAlgorithm},
		{"set with RSA", set, Options{Issuer: "a", Audience: []string{"b"}, Algorithms: []string{"RS256"}}, nil},
	} {
		if _, err := New(host, tt.keys, tt.o); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// FuzzToken: nothing panics, and no token admits but one that was signed, whatever
// is done to it; a password check agrees with the token check.
func FuzzToken(f *testing.F) {
	p := pairs()["HS256"]
	valid := token(f, p, nil, nil)
	f.Add(valid)
	f.Add(token(f, pairs()["ES256"], nil, nil))
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJqdWxpZXQifQ.")
	f.Add("..")
	v := newVerifier(f, keysOf(f, p), Options{})
	f.Fuzz(func(t *testing.T, s string) {
		local, err := v.CheckToken(context.Background(), "", s)
		if (err == nil) != (s == valid) || (err == nil) != (local == "juliet") {
			t.Fatalf("%q: %q, %v", s, local, err)
		}
		if ok, _ := v.CheckPassword(context.Background(), "juliet", s); ok != (err == nil) {
			t.Fatalf("%q as a password: %v", s, ok)
		}
	})
}

// FuzzSet: nothing panics, and every key of a set that is read is fit for some
// algorithm and never for HMAC.
func FuzzSet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},7,null,{}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		keys, err := parseSet(document)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			n := 0
			for _, alg := range Algorithms() {
				if fits(k.public, alg) {
					n++
					if alg[0] == 'H' {
						t.Fatalf("%T for %s", k.public, alg)
					}
				}
			}
			if n == 0 {
				t.Fatalf("%T is for nothing", k.public)
			}
		}
	})
}
