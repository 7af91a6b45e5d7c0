package sasl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"trivium/core/jid"
)

// tokenKeeper is a Backend of one client, "device" of the account user.
type tokenKeeper struct {
	accounts
	tokens []HashedToken
	used   []TokenUse
	refuse error
}

func (k *tokenKeeper) HashedTokens(_ context.Context, username, client string) ([]HashedToken, error) {
	if username != "user" || client != "device" {
		return nil, nil
	}
	return k.tokens, nil
}

func (k *tokenKeeper) UseToken(_ context.Context, _, _ string, _ HashedToken, use TokenUse) error {
	k.used = append(k.used, use)
	return k.refuse
}

// plainHMAC is RFC 2104 §2 by hand.
func plainHMAC(key []byte, parts ...string) []byte {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	pad := func(with byte) []byte {
		p := bytes.Repeat([]byte{with}, sha256.BlockSize)
		for i, c := range key {
			p[i] ^= c
		}
		return p
	}
	inner := sha256.Sum256(append(pad(0x36), strings.Join(parts, "")...))
	outer := sha256.Sum256(append(pad(0x5c), inner[:]...))
	return outer[:]
}

func TestHashedToken(t *testing.T) {
	const current, fresh, late = "WXZzciBwYmFmdmZnZiBqdmd1IGp2eXFhcmZm", "R3VyIHpiZmcgbnl2aXIgdmYgZ3VyIGp2eXFyZmcu", "a token that has expired"
	backend := func() *tokenKeeper {
		return &tokenKeeper{tokens: []HashedToken{
			{Secret: []byte(fresh), Mechanism: htExporter},
			{Secret: []byte(current), Mechanism: htNone},
			{Secret: []byte(late), Mechanism: htNone, Expired: true},
		}}
	}
	exporter, _ := bothTypes.ChannelBinding(TLSExporter)
	proof := func(user, token, data string) string {
		return user + "\x00" + string(plainHMAC([]byte(token), "Initiator", data))
	}
	for _, tt := range []struct {
		name, mechanism, client, message string
		want                             Condition
		answer                           []byte
	}{
		{"without binding", htNone, "device", proof("user", current, ""), "", plainHMAC([]byte(current), "Responder")},
		{"bound", htExporter, "device", proof("user", fresh, string(exporter)), "", plainHMAC([]byte(fresh), "Responder", string(exporter))},
		{"name not prepared", htNone, "device", proof("USER", current, ""), "", plainHMAC([]byte(current), "Responder")},
		{"other mechanism", htNone, "device", proof("user", fresh, ""), NotAuthorized, nil}, // XEP-0484 §3.4
		{"other binding", htEndPoint, "device", proof("user", fresh, string(exporter)), NotAuthorized, nil},
		{"not bound", htExporter, "device", proof("user", fresh, ""), NotAuthorized, nil},
		{"expired", htNone, "device", proof("user", late, ""), CredentialsExpired, nil}, // XEP-0484 §4.2
		{"wrong token", htNone, "device", proof("user", "wrong", ""), NotAuthorized, nil},
		{"no token", htNone, "device", proof("user", strings.Repeat("\x00", 43), ""), NotAuthorized, nil},
		{"other client", htNone, "tablet", proof("user", current, ""), NotAuthorized, nil},
		{"other account", htNone, "device", proof("nobody", current, ""), NotAuthorized, nil},
		{"no name", htNone, "device", proof("", current, ""), MalformedRequest, nil},
		{"no name at all", htNone, "device", "user", MalformedRequest, nil},
		{"cut", htNone, "device", proof("user", current, "")[:20], MalformedRequest, nil},
		{"too much", htNone, "device", proof("user", current, "") + "x", MalformedRequest, nil},
		{"not UTF-8", htNone, "device", proof("\xff", current, ""), MalformedRequest, nil},
		{"no address", htNone, "device", proof("us er", current, ""), NotAuthorized, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := backend()
			o := New(jid.Must("example.org"), b, Options{}).Offer(true, bothTypes)
			x, err := o.StartToken(tt.mechanism, tt.client, TokenUse{Count: 7, Invalidate: true})
			if err != nil {
				t.Fatal(err)
			}
			got, done, err := x.Step(t.Context(), []byte(tt.message))
			expect(t, err, tt.want)
			if done != (tt.want == "") || !bytes.Equal(got, tt.answer) {
				t.Errorf("%x, %v, want %x", got, done, tt.answer)
			}
			if done && (x.Username() != "user" || len(b.used) != 1 || b.used[0] != TokenUse{7, true}) {
				t.Errorf("%q used %v", x.Username(), b.used)
			}
			if !done && (x.Username() != "" || len(b.used) != 0) {
				t.Errorf("%q used %v", x.Username(), b.used)
			}
			_, _, err = x.Step(t.Context(), []byte(tt.message))
			expect(t, err, MalformedRequest)
		})
	}
	t.Run("no message", func(t *testing.T) {
		x, _ := New(jid.Must("example.org"), backend(), Options{}).Offer(true, nil).StartToken(htNone, "device", TokenUse{})
		_, _, err := x.Step(t.Context(), nil)
		expect(t, err, MalformedRequest)
	})
	t.Run("refused", func(t *testing.T) {
		b := backend()
		b.refuse = errors.New("replayed")
		x, _ := New(jid.Must("example.org"), b, Options{}).Offer(true, nil).StartToken(htNone, "device", TokenUse{})
		_, done, err := x.Step(t.Context(), []byte(proof("user", current, "")))
		expect(t, err, TemporaryAuthFailure)
		if done || x.Username() != "" {
			t.Errorf("%v, %q", done, x.Username())
		}
	})
}

func TestTokenMechanisms(t *testing.T) {
	for _, tt := range []struct {
		name    string
		backend Backend
		secure  bool
		binding Binding
		want    string
	}{
		{"bound", &tokenKeeper{}, true, bothTypes, "HT-SHA-256-EXPR HT-SHA-256-ENDP HT-SHA-256-NONE"},
		{"one type", &tokenKeeper{}, true, channel{TLSServerEndPoint: []byte("x")}, "HT-SHA-256-ENDP HT-SHA-256-NONE"},
		{"not bound", &tokenKeeper{}, true, nil, "HT-SHA-256-NONE"},
		{"in the clear", &tokenKeeper{}, false, bothTypes, ""}, // XEP-0484 §6
		{"no tokens", &accounts{}, true, bothTypes, ""},
		{"wrapped", wrapper{&tokenKeeper{}}, true, nil, "HT-SHA-256-NONE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := New(jid.Must("example.org"), tt.backend, Options{}).Offer(tt.secure, tt.binding)
			if got := strings.Join(o.TokenMechanisms(), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, m := range []string{htExporter, htEndPoint, htNone, "HT-SHA-256-UNIQ", "PLAIN", ""} {
				want := Condition("")
				if m == "" || !strings.Contains(" "+tt.want+" ", " "+m+" ") {
					want = InvalidMechanism
				}
				_, err := o.StartToken(m, "device", TokenUse{})
				expect(t, err, want)
				if strings.HasPrefix(m, "HT-") {
					_, err = o.Start(m) // not by RFC 6120
					expect(t, err, InvalidMechanism)
				}
			}
		})
	}
}

// wrapper is a Backend around another that adds nothing.
type wrapper struct{ Backend }

func (w wrapper) Unwrap() Backend { return w.Backend }

// gate admits nobody.
type gate struct {
	wrapper
	asked []string
}

func (g *gate) Admit(_ context.Context, username string) error {
	g.asked = append(g.asked, username)
	return &Failure{Condition: TemporaryAuthFailure}
}

// The gate is asked before the account is looked at, by every mechanism.
func TestGate(t *testing.T) {
	g := &gate{wrapper: wrapper{&tokenKeeper{accounts: accounts{passwords: map[string]string{"user": "pencil"}}}}}
	o := New(jid.Must("example.org"), wrapper{g}, Options{}).Offer(true, nil)
	for mechanism, message := range map[string]string{
		"SCRAM-SHA-256": "n,,n=user,r=abc", "PLAIN": "\x00user\x00pencil", htNone: "user\x00" + strings.Repeat("x", 32),
	} {
		g.asked = nil
		x, err := o.Start(mechanism)
		if mechanism == htNone {
			x, err = o.StartToken(mechanism, "device", TokenUse{})
		}
		expect(t, err, "")
		_, _, err = x.Step(t.Context(), []byte(message))
		expect(t, err, TemporaryAuthFailure)
		if len(g.asked) != 1 || g.asked[0] != "user" {
			t.Errorf("%s: asked for %q", mechanism, g.asked)
		}
	}
}

// FuzzHashedToken holds that only the one right message gets in.
func FuzzHashedToken(f *testing.F) {
	right := append([]byte("user\x00"), plainHMAC([]byte("token"), "Initiator")...)
	f.Add(right)
	f.Add([]byte("user\x00"))
	f.Add([]byte("\x00\x00"))
	f.Add([]byte{})
	b := &tokenKeeper{tokens: []HashedToken{{Secret: []byte("token"), Mechanism: htNone}}}
	o := New(jid.Must("example.org"), b, Options{}).Offer(true, nil)
	f.Fuzz(func(t *testing.T, message []byte) {
		x, err := o.StartToken(htNone, "device", TokenUse{})
		if err != nil {
			t.Fatal(err)
		}
		out, done, err := x.Step(t.Context(), message)
		_, mac, _ := bytes.Cut(message, []byte{0})
		if done && !bytes.Equal(mac, right[5:]) || done != (err == nil) || done != (x.Username() == "user") || done != (out != nil) {
			t.Fatalf("%q: %q, %v, %v", message, out, done, err)
		}
		if err != nil {
			expect(t, err, err.(*Failure).Condition)
		}
	})
}
