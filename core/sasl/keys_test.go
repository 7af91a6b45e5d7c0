package sasl

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	xdg "github.com/xdg-go/scram"
)

// clientKey is RFC 5802 §3's, for tests that play the client.
func clientKey(h Hash, password string, salt []byte) []byte {
	salted, err := pbkdf2.Key(h.new, password, salt, testIterations, h.Size())
	if err != nil {
		panic(err)
	}
	return h.hmac(salted, []byte("Client Key"))
}

func TestDeriveKeys(t *testing.T) {
	for h, generator := range generators {
		salt := NewSalt()
		keys := DeriveKeys(h, "pencil", salt, 4096)
		client, err := generator.NewClientUnprepped("user", "pencil", "")
		if err != nil {
			t.Fatal(err)
		}
		want, err := client.GetStoredCredentialsWithError(xdg.KeyFactors{Salt: string(salt), Iters: 4096})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(keys.StoredKey, want.StoredKey) || !bytes.Equal(keys.ServerKey, want.ServerKey) {
			t.Errorf("%s: keys differ from another implementation's", h)
		}
		if err := keys.check(h); err != nil {
			t.Error(err)
		}
		if !keys.Verify(h, "pencil") || keys.Verify(h, "Pencil") {
			t.Errorf("%s: Verify", h)
		}
	}
}

func TestInventKeys(t *testing.T) {
	secret := []byte("0123456789abcdef")
	for h := range generators {
		k := InventKeys(secret, h, "nurse", 4096)
		if err := k.check(h); err != nil {
			t.Error(err)
		}
		if len(k.Salt) != SaltSize {
			t.Errorf("%s: salt of %d octets", h, len(k.Salt))
		}
		if again := InventKeys(secret, h, "nurse", 4096); !bytes.Equal(k.Salt, again.Salt) || !k.equal(again) {
			t.Errorf("%s: not stable", h)
		}
		for what, other := range map[string]Keys{
			"name":   InventKeys(secret, h, "nursf", 4096),
			"secret": InventKeys([]byte("0123456789abcdeF"), h, "nurse", 4096),
			"hash":   InventKeys(secret, h%SHA512+1, "nurse", 4096),
		} {
			if bytes.Equal(k.Salt, other.Salt) {
				t.Errorf("%s: another %s has the same salt", h, what)
			}
		}
	}
}

func TestPreparePassword(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"r0m30myr0m30", "r0m30myr0m30", true},
		// RFC 8265 §4.3, Tables 3 and 4.
		{"correct horse battery staple", "correct horse battery staple", true},
		{"Correct Horse Battery Staple", "Correct Horse Battery Staple", true},
		{"\u03c0\u00df\u00e5", "\u03c0\u00df\u00e5", true},
		{"Jack of \u2666s", "Jack of \u2666s", true},
		{"foo\u1680bar", "foo bar", true},
		{"", "", false},
		{"my cat is a \u0009by", "", false},
		{"a\x00b", "", false},
		{"a\xff", "", false},
		{"e\u0301", "\u00e9", true},
		{strings.Repeat("a", 255), strings.Repeat("a", 255), true}, // RFC 4616 §2
		{strings.Repeat("a", MaxPassword), strings.Repeat("a", MaxPassword), true},
		{strings.Repeat("a", MaxPassword+1), "", false},
		{strings.Repeat("a", 1<<20), "", false},
	} {
		got, err := PreparePassword(tt.in)
		if got != tt.want || (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrPassword) {
			t.Errorf("PreparePassword(%.40q) = %.40q, %v, want %.40q", tt.in, got, err, tt.want)
		}
	}
}

func TestDeriver(t *testing.T) {
	d := NewDeriver(DeriverOptions{Workers: 2})
	salt := NewSalt()
	want := DeriveKeys(SHA256, "pencil", salt, 100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ok, err := d.Verify(context.Background(), SHA256, want, "pencil")
			if !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
			ok, err = d.Verify(context.Background(), SHA256, want, "pen")
			if ok || err != nil {
				t.Errorf("wrong password: %v, %v", ok, err)
			}
		})
	}
	wg.Wait()
}

// One worker is taken; one may wait, a third is turned away at once, and who
// waits can give up.
func TestDeriverIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDeriver(DeriverOptions{Workers: 1, Queue: 1})
		d.turns <- struct{}{} // a derivation under way
		d.waiting.Add(1)
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := d.Derive(ctx, SHA1, "x", []byte("salt"), 1)
			waited <- err
		}()
		synctest.Wait()
		_, err := d.Derive(t.Context(), SHA1, "x", []byte("salt"), 1)
		expect(t, err, TemporaryAuthFailure)
		if !errors.Is(err, errBusy) {
			t.Errorf("turned away with %v", err)
		}
		cancel()
		err = <-waited
		expect(t, err, TemporaryAuthFailure)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
		<-d.turns
		d.waiting.Add(-1)
		if _, err := d.Derive(t.Context(), SHA1, "x", []byte("salt"), 1); err != nil {
			t.Errorf("after all have left: %v", err)
		}
	})
}
