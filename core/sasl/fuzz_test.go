package sasl

import (
	"context"
	"testing"
	"unicode/utf8"

	"trivium/core/jid"
)

// FuzzSteps sends two messages to every mechanism, as a peer that does not know
// the password. Nothing panics, every error is a *Failure, an attempt that failed
// stays failed, and there is no success but for ANONYMOUS.
func FuzzSteps(f *testing.F) {
	for _, s := range [][2]string{
		{"n,,n=user,r=abc", "c=biws,r=abcxyz,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="},
		{"y,a=user@example.org,n=user,r=abc", "c=eSws,r=abcxyz,x=1,p=AAAA"},
		{"p=tls-exporter,,n=us=2Cer,r=abc,x=1", "c=cD10bHMtZXhwb3J0ZXIsLA==,r=abcxyz,p="},
		{"p=tls-server-end-point,,m=1,n=user,r=abc", "m=1,c=biws,r=abcxyz,p="},
		{"\x00user\x00wrong", ""},
		{"user@example.org\x00user\x00", "\x00user\x00wrong"},
		{"", "=,=,=,p="},
		{"n,,n=nobody,r=abc", ",,,p="},
	} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	s := New(jid.Must("example.org"), newFuzzBackend(), Options{Anonymous: true, Nonce: func() string { return "xyz" }})
	offers := []*Offer{s.Offer(false, nil), s.Offer(true, bothTypes)}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, o := range offers {
			for _, m := range o.Mechanisms() {
				x, err := o.Start(m)
				if err != nil {
					t.Fatal(err)
				}
				failed := false
				for _, message := range [][]byte{first, second, first} {
					challenge, done, err := x.Step(t.Context(), message)
					if err != nil {
						expect(t, err, err.(*Failure).Condition)
						if challenge != nil || done {
							t.Fatalf("%s: %q, %v with %v", m, challenge, done, err)
						}
						failed = true
						continue
					}
					if failed {
						t.Fatalf("%s: went on after a failure", m)
					}
					if !utf8.Valid(challenge) {
						t.Fatalf("%s: challenge %q", m, challenge)
					}
					if done && m != anonymousName || x.Username() != "" {
						t.Fatalf("%s: success of %q without a password: %q, %q", m, x.Username(), first, second)
					}
				}
			}
		}
	})
}

// fuzzBackend has one account, with keys derived once.
type fuzzBackend struct {
	keys map[Hash]Keys
	accounts
}

func newFuzzBackend() *fuzzBackend {
	b := &fuzzBackend{keys: map[Hash]Keys{}}
	b.passwords = map[string]string{"user": "a password that no fuzzer finds"}
	for h := SHA1; h <= SHA512; h++ {
		b.keys[h] = DeriveKeys(h, b.passwords["user"], []byte("salt of the test"), testIterations)
	}
	return b
}

func (b *fuzzBackend) Keys(ctx context.Context, username string, h Hash) (Keys, bool, error) {
	if username == "user" {
		return b.keys[h], true, nil
	}
	return InventKeys([]byte("a secret of the test"), h, username, testIterations), false, nil
}
