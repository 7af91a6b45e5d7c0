package sasl

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	xdg "github.com/xdg-go/scram"

	"trivium/core/jid"
)

// accounts is a Backend of passwords.
type accounts struct {
	passwords map[string]string
	salt      []byte // nil for a fresh one, the same for every account
	keysErr   error
	plainErr  error
	denied    map[string]error
	keyed     []Hash // hashes with keys; nil for all
}

var _ Authorizer = (*accounts)(nil)

const testIterations = 4096

func (a *accounts) Keys(_ context.Context, username string, h Hash) (Keys, bool, error) {
	if a.keysErr != nil {
		return Keys{}, false, a.keysErr
	}
	password, ok := a.passwords[username]
	for _, k := range a.keyed {
		ok = ok && k == h
	}
	if !ok {
		return InventKeys([]byte("a secret of the test"), h, username, testIterations), false, nil
	}
	salt := a.salt
	if salt == nil {
		salt = []byte("salt of the test")
	}
	return DeriveKeys(h, password, salt, testIterations), true, nil
}

func (a *accounts) CheckPlain(_ context.Context, username, password string) (bool, error) {
	want, ok := a.passwords[username]
	return ok && want == password, a.plainErr
}

func (a *accounts) Authorize(_ context.Context, username string) error { return a.denied[username] }

// channel is a Binding with data of the test.
type channel map[string][]byte

func (c channel) ChannelBinding(typ string) ([]byte, error) {
	if data, ok := c[typ]; ok {
		return data, nil
	}
	return nil, errors.New("none")
}

var bothTypes = channel{
	TLSExporter:       []byte("exported keying material, 32 oct"),
	TLSServerEndPoint: []byte("hash of a certificate"),
}

func start(t testing.TB, o *Offer, mechanism string) Exchange {
	t.Helper()
	x, err := o.Start(mechanism)
	if err != nil {
		t.Fatalf("Start(%s): %v", mechanism, err)
	}
	return x
}

func b64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors are the examples of RFC 5802 §5 and RFC 7677 §3.
var vectors = []struct {
	name, mechanism          string
	salt                     string
	clientNonce, serverNonce string
	proof, signature         string
}{
	{
		"RFC 5802 §5", "SCRAM-SHA-1", "QSXCR+Q6sek8bf92",
		"fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j",
		"v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
	},
	{
		"RFC 7677 §3", "SCRAM-SHA-256", "W22ZaJ0SNY7soEsUEjb6gQ==",
		"rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
		"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
	},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"user": "pencil"}, salt: b64(t, v.salt)},
				Options{Nonce: func() string { return v.serverNonce }, NoDowngradeProtection: true})
			x := start(t, s.Offer(false, nil), v.mechanism)
			nonce := v.clientNonce + v.serverNonce
			got, done, err := x.Step(t.Context(), []byte("n,,n=user,r="+v.clientNonce))
			if want := "r=" + nonce + ",s=" + v.salt + ",i=4096"; string(got) != want || done || err != nil {
				t.Fatalf("server-first %q, %v, %v, want %q", got, done, err, want)
			}
			if x.Username() != "" {
				t.Errorf("a name before success: %q", x.Username())
			}
			got, done, err = x.Step(t.Context(), []byte("c=biws,r="+nonce+",p="+v.proof))
			if want := "v=" + v.signature; string(got) != want || !done || err != nil {
				t.Fatalf("server-final %q, %v, %v, want %q", got, done, err, want)
			}
			if x.Username() != "user" {
				t.Errorf("name %q", x.Username())
			}
		})
	}
}

var generators = map[Hash]xdg.HashGeneratorFcn{SHA1: xdg.SHA1, SHA256: xdg.SHA256, SHA512: xdg.SHA512}

// converse runs a client we did not write against an exchange.
func converse(ctx context.Context, c *xdg.ClientConversation, x Exchange) error {
	var challenge []byte
	for {
		response, err := c.Step(string(challenge))
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		if c.Done() {
			return nil
		}
		var done bool
		if challenge, done, err = x.Step(ctx, []byte(response)); err != nil {
			return err
		}
		if done {
			if _, err := c.Step(string(challenge)); err != nil || !c.Valid() {
				return fmt.Errorf("client did not believe the server: %v", err)
			}
			return nil
		}
	}
}

func TestScramClient(t *testing.T) {
	users := map[string]string{"juliet": "r0m30myr0m30", "h\u00e9l\u00e8ne": "p\u00e2ris", "a=b,c": "x"}
	s := New(jid.Must("example.org"), &accounts{passwords: users}, Options{})
	for _, h := range []Hash{SHA1, SHA256, SHA512} {
		for _, tt := range []struct {
			name, user, password, authzid string
			typ                           string // channel binding of the client
			advertise                     bool   // flag y
			secure                        bool
			username                      string
			condition                     Condition
		}{
			{name: "plain channel", user: "juliet", password: "r0m30myr0m30", username: "juliet"},
			{name: "protected channel", user: "juliet", password: "r0m30myr0m30", secure: true, username: "juliet"},
			{name: "exporter", user: "juliet", password: "r0m30myr0m30", secure: true, typ: TLSExporter, username: "juliet"},
			{name: "end point", user: "juliet", password: "r0m30myr0m30", secure: true, typ: TLSServerEndPoint, username: "juliet"},
			{name: "y where nothing was offered", user: "juliet", password: "r0m30myr0m30", advertise: true, username: "juliet"},
			{name: "y where -PLUS was offered", user: "juliet", password: "r0m30myr0m30", advertise: true, secure: true, condition: NotAuthorized},
			{name: "upper case", user: "JULIET", password: "r0m30myr0m30", username: "juliet"},
			{name: "non-ASCII", user: "h\u00e9l\u00e8ne", password: "p\u00e2ris", username: "h\u00e9l\u00e8ne"},
			{name: "escaped characters", user: "a=b,c", password: "x", username: "a=b,c"},
			{name: "own authzid", user: "juliet", password: "r0m30myr0m30", authzid: "Juliet@Example.org", username: "juliet"},
			{name: "own authzid, bound", user: "juliet", password: "r0m30myr0m30", authzid: "juliet@example.org", secure: true, typ: TLSExporter, username: "juliet"},
			{name: "another's authzid", user: "juliet", password: "r0m30myr0m30", authzid: "romeo@example.org", condition: InvalidAuthzid},
			{name: "authzid elsewhere", user: "juliet", password: "r0m30myr0m30", authzid: "juliet@example.com", condition: InvalidAuthzid},
			{name: "full authzid", user: "juliet", password: "r0m30myr0m30", authzid: "juliet@example.org/x", condition: InvalidAuthzid},
			{name: "authzid without domain", user: "juliet", password: "r0m30myr0m30", authzid: "juliet", condition: InvalidAuthzid},
			{name: "malformed authzid", user: "juliet", password: "r0m30myr0m30", authzid: "@", condition: InvalidAuthzid},
			{name: "wrong password", user: "juliet", password: "wrong", condition: NotAuthorized},
			{name: "unknown", user: "nurse", password: "r0m30myr0m30", condition: NotAuthorized},
			{name: "whole address as name", user: "juliet@example.org", password: "r0m30myr0m30", condition: NotAuthorized},
			{name: "unbound secret", user: "juliet", password: "r0m30myr0m30", secure: true, typ: "tls-unique", condition: NotAuthorized},
		} {
			t.Run(h.String()+"/"+tt.name, func(t *testing.T) {
				var binding Binding
				if tt.secure {
					binding = bothTypes
				}
				client, err := generators[h].NewClientUnprepped(tt.user, tt.password, tt.authzid)
				if err != nil {
					t.Fatal(err)
				}
				name, conversation := scramName(h, tt.typ != ""), client.NewConversation()
				switch {
				case tt.typ != "":
					data := bothTypes[tt.typ]
					if data == nil {
						data = []byte("data")
					}
					conversation = client.NewConversationWithChannelBinding(xdg.ChannelBinding{Type: xdg.ChannelBindingType(tt.typ), Data: data})
				case tt.advertise:
					conversation = client.NewConversationAdvertisingChannelBinding()
				}
				x := start(t, s.Offer(tt.secure, binding), name)
				err = converse(t.Context(), conversation, x)
				expect(t, err, tt.condition)
				if x.Username() != tt.username {
					t.Errorf("name %q, want %q", x.Username(), tt.username)
				}
				if conversation.Valid() != (tt.condition == "") {
					t.Errorf("the client's verdict on the server: %v", conversation.Valid())
				}
			})
		}
	}
}

// expect checks that err is a Failure with the condition, or nil for "".
func expect(t testing.TB, err error, want Condition) {
	t.Helper()
	var f *Failure
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v, want success", err)
	case want != "" && !errors.As(err, &f):
		t.Errorf("got %v, want %s", err, want)
	case want != "" && f.Condition != want:
		t.Errorf("got %v, want %s", err, want)
	}
}

// Another channel's data must not do, even with the right password.
func TestScramOtherChannel(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"juliet": "x"}}, Options{})
	client, _ := xdg.SHA256.NewClientUnprepped("juliet", "x", "")
	for typ := range bothTypes {
		x := start(t, s.Offer(true, bothTypes), "SCRAM-SHA-256-PLUS")
		c := client.NewConversationWithChannelBinding(xdg.ChannelBinding{Type: xdg.ChannelBindingType(typ), Data: []byte("of the man in the middle")})
		expect(t, converse(t.Context(), c, x), NotAuthorized)
	}
	// The type says one thing, the data another.
	x := start(t, s.Offer(true, bothTypes), "SCRAM-SHA-256-PLUS")
	c := client.NewConversationWithChannelBinding(xdg.ChannelBinding{Type: xdg.ChannelBindingType(TLSExporter), Data: bothTypes[TLSServerEndPoint]})
	expect(t, converse(t.Context(), c, x), NotAuthorized)
	// The channel lost its binding between offer and use.
	lost := channel{TLSExporter: []byte("data")}
	o := s.Offer(true, lost)
	delete(lost, TLSExporter)
	x = start(t, o, "SCRAM-SHA-256-PLUS")
	_, _, err := x.Step(t.Context(), []byte("p=tls-exporter,,n=juliet,r=abc"))
	expect(t, err, TemporaryAuthFailure)
}

// Client-first-messages that are refused as they are.
func TestScramFirstRefused(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"user": "pencil"}}, Options{})
	for _, tt := range []struct {
		name, message string
		condition     Condition
	}{
		{"empty", "", MalformedRequest},
		{"no header", "n=user,r=abc", MalformedRequest},
		{"header only", "n,,", MalformedRequest},
		{"header cut", "n,", MalformedRequest},
		{"no flag", ",,n=user,r=abc", MalformedRequest},
		{"unknown flag", "x,,n=user,r=abc", MalformedRequest},
		{"long flag", "nn,,n=user,r=abc", MalformedRequest},
		{"upper case flag", "N,,n=user,r=abc", MalformedRequest},
		{"nonstandard flag of GS2", "F,n,,n=user,r=abc", MalformedRequest},
		{"p without a type", "p=,,n=user,r=abc", MalformedRequest},
		{"p without equals", "p,,n=user,r=abc", MalformedRequest},
		{"p with a bad type", "p=tls_x,,n=user,r=abc", MalformedRequest},
		{"p without -PLUS", "p=tls-exporter,,n=user,r=abc", MalformedRequest},
		{"empty authzid", "n,a=,n=user,r=abc", MalformedRequest},
		{"authzid without name", "n,user@example.org,n=user,r=abc", MalformedRequest},
		{"authzid badly escaped", "n,a=us=er@example.org,n=user,r=abc", MalformedRequest},
		{"no name", "n,,r=abc", MalformedRequest},
		{"empty name", "n,,n=,r=abc", MalformedRequest},
		{"equals sign bare", "n,,n=us=er,r=abc", MalformedRequest},
		{"equals sign last", "n,,n=user=,r=abc", MalformedRequest},
		{"escape in lower case", "n,,n=us=2cer,r=abc", MalformedRequest},
		{"other escape", "n,,n=us=41er,r=abc", MalformedRequest},
		{"no nonce", "n,,n=user", MalformedRequest},
		{"empty nonce", "n,,n=user,r=", MalformedRequest},
		{"space in the nonce", "n,,n=user,r=a c", MalformedRequest},
		{"non-ASCII nonce", "n,,n=user,r=a\u00e9c", MalformedRequest},
		{"DEL in the nonce", "n,,n=user,r=a\x7fc", MalformedRequest},
		{"wrong order", "n,,r=abc,n=user", MalformedRequest},
		{"mandatory extension", "n,,m=x,n=user,r=abc", MalformedRequest},
		{"mandatory extension later", "n,,n=user,r=abc,m=x", MalformedRequest},
		{"malformed extension", "n,,n=user,r=abc,x", MalformedRequest},
		{"empty extension", "n,,n=user,r=abc,", MalformedRequest},
		{"extension without value", "n,,n=user,r=abc,x=", MalformedRequest},
		{"extension with a digit", "n,,n=user,r=abc,1=x", MalformedRequest},
		{"NUL", "n,,n=us\x00er,r=abc", MalformedRequest},
		{"not UTF-8", "n,,n=us\xffer,r=abc", MalformedRequest},
		{"too long", "n,,n=user,r=" + strings.Repeat("a", maxMessage), MalformedRequest},
		{"name that no account has", "n,,n=us er,r=abc", NotAuthorized},
		{"name of symbols", "n,,n=\u265a,r=abc", NotAuthorized},
		{"name too long", "n,,n=" + strings.Repeat("a", 1024) + ",r=abc", NotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := start(t, s.Offer(false, nil), "SCRAM-SHA-256")
			got, done, err := x.Step(t.Context(), []byte(tt.message))
			expect(t, err, tt.condition)
			if got != nil || done {
				t.Errorf("got %q, %v with %v", got, done, err)
			}
			// What failed is over.
			_, done, err = x.Step(t.Context(), []byte("n,,n=user,r=abc"))
			expect(t, err, MalformedRequest)
			if done || x.Username() != "" {
				t.Error("success after failure")
			}
		})
	}
	for _, message := range []string{"n,,n=user,r=abc", "y,,n=user,r=abc"} {
		x := start(t, s.Offer(true, bothTypes), "SCRAM-SHA-256-PLUS")
		_, _, err := x.Step(t.Context(), []byte(message))
		expect(t, err, MalformedRequest)
	}
	// Optional extensions are passed over (RFC 5802 §5.1).
	x := start(t, s.Offer(false, nil), "SCRAM-SHA-256")
	if _, _, err := x.Step(t.Context(), []byte("n,,n=user,r=abc,x=1,t==,Z=\u00e9")); err != nil {
		t.Errorf("optional extensions: %v", err)
	}
}

// proof makes a client-final-message with the right proof over whatever it says.
func proof(h Hash, password, bare string, serverFirst []byte, withoutProof string) []byte {
	fields := strings.Split(string(serverFirst), ",")
	salt, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[1], "s="))
	client, _ := generators[h].NewClientUnprepped("user", password, "")
	stored, err := client.GetStoredCredentialsWithError(xdg.KeyFactors{Salt: string(salt), Iters: testIterations})
	if err != nil {
		panic(err)
	}
	auth := []byte(bare + "," + string(serverFirst) + "," + withoutProof)
	signature := h.hmac(stored.StoredKey, auth)
	// The client's key, from the password, by way of its own definition.
	key := clientKey(h, password, salt)
	for i := range key {
		key[i] ^= signature[i]
	}
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(key))
}

// Client-final-messages whose proof is right for what they say.
func TestScramFinal(t *testing.T) {
	const bare = "n=user,r=abc"
	s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"user": "pencil"}},
		Options{Nonce: func() string { return "xyz" }})
	for _, tt := range []struct {
		name, withoutProof string
		condition          Condition
	}{
		{"right", "c=biws,r=abcxyz", ""},
		{"optional extension", "c=biws,r=abcxyz,x=1", ""},
		{"extension named p", "c=biws,r=abcxyz,p=1", ""},
		{"the client's nonce alone", "c=biws,r=abc", NotAuthorized},
		{"nonce too long", "c=biws,r=abcxyzz", NotAuthorized},
		{"nonce changed", "c=biws,r=abcxyZ", NotAuthorized},
		{"our nonce alone", "c=biws,r=xyz", NotAuthorized},
		{"no nonce", "c=biws,r=", NotAuthorized},
		{"another header", "c=eSws,r=abcxyz", NotAuthorized},                              // y,,
		{"header with authzid", "c=bixhPXVzZXJAZXhhbXBsZS5vcmcs,r=abcxyz", NotAuthorized}, // n,a=user@example.org,
		{"data where none belongs", "c=biwsZGF0YQ==,r=abcxyz", NotAuthorized},
		{"no header", "c=,r=abcxyz", NotAuthorized},
		{"header not base64", "c=n,,r=abcxyz", MalformedRequest},
		{"header loosely encoded", "c=biwt,r=abcxyz", NotAuthorized},
		{"mandatory extension", "m=x,c=biws,r=abcxyz", MalformedRequest},
		{"mandatory extension later", "c=biws,r=abcxyz,m=x", MalformedRequest},
		{"no channel binding", "r=abcxyz", MalformedRequest},
		{"wrong order", "r=abcxyz,c=biws", MalformedRequest},
		{"malformed extension", "c=biws,r=abcxyz,x", MalformedRequest},
		{"NUL", "c=biws,r=abcxyz,x=\x00", MalformedRequest},
		{"not UTF-8", "c=biws,r=abcxyz,x=\xff", MalformedRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := start(t, s.Offer(false, nil), "SCRAM-SHA-1")
			first, _, err := x.Step(t.Context(), []byte("n,,"+bare))
			if err != nil {
				t.Fatal(err)
			}
			got, done, err := x.Step(t.Context(), proof(SHA1, "pencil", bare, first, tt.withoutProof))
			expect(t, err, tt.condition)
			if done != (tt.condition == "") || (x.Username() == "user") != done || bytes.HasPrefix(got, []byte("v=")) != done {
				t.Errorf("got %q, %v, name %q", got, done, x.Username())
			}
			if _, done, err := x.Step(t.Context(), []byte{}); done || err == nil {
				t.Error("a step after the end")
			}
		})
	}
	for _, tt := range []struct {
		name, message string
		condition     Condition
	}{
		{"empty", "", MalformedRequest},
		{"no proof", "c=biws,r=abcxyz", MalformedRequest},
		{"proof not last", "c=biws,r=abcxyz,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=,x=1", MalformedRequest},
		{"proof not base64", "c=biws,r=abcxyz,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts", MalformedRequest},
		{"proof with a line end", "c=biws,r=abcxyz,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=\n", MalformedRequest},
		{"proof with loose bits", "c=biws,r=abcxyz,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Tt=", MalformedRequest},
		{"proof empty", "c=biws,r=abcxyz,p=", NotAuthorized},
		{"proof short", "c=biws,r=abcxyz,p=v0X8", NotAuthorized},
		{"proof long", "c=biws,r=abcxyz,p=" + base64.StdEncoding.EncodeToString(make([]byte, 40)), NotAuthorized},
		{"proof of zeros", "c=biws,r=abcxyz,p=" + base64.StdEncoding.EncodeToString(make([]byte, 20)), NotAuthorized},
		{"the first message again", "n,,n=user,r=abc", MalformedRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := start(t, s.Offer(false, nil), "SCRAM-SHA-1")
			if _, _, err := x.Step(t.Context(), []byte("n,,"+bare)); err != nil {
				t.Fatal(err)
			}
			_, done, err := x.Step(t.Context(), []byte(tt.message))
			expect(t, err, tt.condition)
			if done || x.Username() != "" {
				t.Error("success")
			}
		})
	}
}

// RFC 6120 §6.5.10: nothing tells an unknown account from a wrong password.
func TestScramUnknownLooksKnown(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"juliet": "x"}, salt: NewSalt()}, Options{})
	first := func(user string) (salt, iterations string) {
		x := start(t, s.Offer(false, nil), "SCRAM-SHA-256")
		got, _, err := x.Step(t.Context(), []byte("n,,n="+user+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Split(string(got), ",")
		return fields[1], fields[2]
	}
	knownSalt, knownIterations := first("juliet")
	salt, iterations := first("nurse")
	if len(salt) != len(knownSalt) || iterations != knownIterations {
		t.Errorf("known %s,%s and unknown %s,%s", knownSalt, knownIterations, salt, iterations)
	}
	if again, _ := first("Nurse"); again != salt {
		t.Error("the invented salt changed")
	}
	if other, _ := first("tybalt"); other == salt {
		t.Error("two strangers have the same salt")
	}
	// Keys for another hash are no account.
	s = New(jid.Must("example.org"), &accounts{passwords: map[string]string{"juliet": "x"}, keyed: []Hash{SHA1}}, Options{})
	client, _ := xdg.SHA256.NewClientUnprepped("juliet", "x", "")
	expect(t, converse(t.Context(), client.NewConversation(), start(t, s.Offer(false, nil), "SCRAM-SHA-256")), NotAuthorized)
}

// A Backend's word that there is no such account stands, even against the right
// proof for the keys it gave.
func TestScramUnknownWithKeys(t *testing.T) {
	keys := DeriveKeys(SHA1, "pencil", []byte("salt of the test"), testIterations)
	client, _ := xdg.SHA1.NewClientUnprepped("user", "pencil", "")
	for _, known := range []bool{true, false} {
		b := claimBackend{keysBackend{keys}, known}
		x := start(t, New(jid.Must("example.org"), b, Options{}).Offer(false, nil), "SCRAM-SHA-1")
		want := NotAuthorized
		if known {
			want = ""
		}
		expect(t, converse(t.Context(), client.NewConversation(), x), want)
	}
}

// claimBackend says itself whether the account is known.
type claimBackend struct {
	keysBackend
	known bool
}

func (b claimBackend) Keys(context.Context, string, Hash) (Keys, bool, error) {
	return b.keys, b.known, nil
}

func TestScramNonceIsFresh(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{}, Options{})
	seen := map[string]bool{}
	for range 100 {
		x := start(t, s.Offer(false, nil), "SCRAM-SHA-256")
		got, _, err := x.Step(t.Context(), []byte("n,,n=user,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(string(got), ",")
		ours, ok := strings.CutPrefix(nonce, "r=abc")
		if !ok || len(ours) < 22 || !isNonce(ours) || seen[ours] {
			t.Fatalf("nonce %q", nonce)
		}
		seen[ours] = true
	}
}

// A client that sends no initial response is asked for it.
func TestNoInitialResponse(t *testing.T) {
	s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"user": "pencil"}}, Options{Anonymous: true})
	for mechanism, message := range map[string]string{
		"SCRAM-SHA-256": "n,,n=user,r=abc", "PLAIN": "\x00user\x00pencil", "ANONYMOUS": "",
	} {
		x := start(t, s.Offer(true, nil), mechanism)
		got, done, err := x.Step(t.Context(), nil)
		if got == nil || len(got) != 0 || done || err != nil {
			t.Errorf("%s: %q, %v, %v, want an empty challenge", mechanism, got, done, err)
		}
		if _, _, err := x.Step(t.Context(), []byte(message)); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		x = start(t, s.Offer(true, nil), mechanism)
		_, _, _ = x.Step(t.Context(), nil)
		if _, done, err := x.Step(t.Context(), nil); mechanism != "ANONYMOUS" && (done || err == nil) {
			t.Errorf("%s: silence twice: %v, %v", mechanism, done, err)
		}
	}
}

func TestBackendErrors(t *testing.T) {
	ctx := context.Background()
	host := jid.Must("example.org")
	users := map[string]string{"user": "pencil", "gone": "pencil"}
	disabled := fmt.Errorf("wrapped: %w", &Failure{Condition: AccountDisabled})
	for _, tt := range []struct {
		name, user, password string
		backend              *accounts
		condition            Condition
	}{
		{"broken", "user", "pencil", &accounts{passwords: users, keysErr: errors.New("disk"), plainErr: errors.New("disk")}, TemporaryAuthFailure},
		{"its own failure", "user", "pencil", &accounts{passwords: users, keysErr: disabled, plainErr: disabled}, AccountDisabled},
		{"denied", "gone", "pencil", &accounts{passwords: users, denied: map[string]error{"gone": disabled}}, AccountDisabled},
		{"denied, not told to strangers", "gone", "wrong", &accounts{passwords: users, denied: map[string]error{"gone": disabled}}, NotAuthorized},
		{"broken at the end", "gone", "pencil", &accounts{passwords: users, denied: map[string]error{"gone": errors.New("disk")}}, TemporaryAuthFailure},
		{"another denied", "user", "pencil", &accounts{passwords: users, denied: map[string]error{"gone": disabled}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := New(host, tt.backend, Options{}).Offer(true, nil)
			client, _ := xdg.SHA1.NewClientUnprepped(tt.user, tt.password, "")
			x := start(t, o, "SCRAM-SHA-1")
			expect(t, converse(ctx, client.NewConversation(), x), tt.condition)
			y := start(t, o, "PLAIN")
			_, done, err := y.Step(ctx, []byte("\x00"+tt.user+"\x00"+tt.password))
			expect(t, err, tt.condition)
			if done != (tt.condition == "") || (x.Username() == "") == done || (y.Username() == "") == done {
				t.Errorf("done %v, names %q and %q", done, x.Username(), y.Username())
			}
		})
	}
	bad := keysBackend{Keys{Salt: []byte("x"), Iterations: 1, StoredKey: make([]byte, 20), ServerKey: make([]byte, 19)}}
	_, _, err := start(t, New(host, bad, Options{}).Offer(false, nil), "SCRAM-SHA-1").Step(ctx, []byte("n,,n=user,r=abc"))
	expect(t, err, TemporaryAuthFailure)
}

// keysBackend gives everybody the same keys.
type keysBackend struct{ keys Keys }

func (b keysBackend) Keys(context.Context, string, Hash) (Keys, bool, error) {
	return b.keys, true, nil
}
func (b keysBackend) CheckPlain(context.Context, string, string) (bool, error) { return false, nil }
