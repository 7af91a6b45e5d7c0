package sasl

import (
	"context"
	"testing"

	"trivium/core/jid"
)

// BenchmarkScram is the server's work for one login, client and backend excluded:
// both messages are prepared, the nonce is fixed.
func BenchmarkScram(b *testing.B) {
	const bare = "n=user,r=abcdefghijklmnopqrstuvwx"
	for _, h := range []Hash{SHA1, SHA256, SHA512} {
		b.Run(h.String(), func(b *testing.B) {
			backend := keysBackend{DeriveKeys(h, "pencil", []byte("salt of the test"), testIterations)}
			o := New(jid.Must("example.org"), backend, Options{Nonce: func() string { return "ABCDEFGHIJKLMNOPQRSTUVWX" }}).Offer(false, nil)
			first := []byte("n,," + bare)
			x, _ := o.Start(scramName(h, false))
			challenge, _, err := x.Step(context.Background(), first)
			if err != nil {
				b.Fatal(err)
			}
			final := proof(h, "pencil", bare, challenge, "c=biws,r=abcdefghijklmnopqrstuvwxABCDEFGHIJKLMNOPQRSTUVWX")
			b.ReportAllocs()
			for b.Loop() {
				x, err := o.Start(scramName(h, false))
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := x.Step(context.Background(), first); err != nil {
					b.Fatal(err)
				}
				if _, done, err := x.Step(context.Background(), final); !done || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeriveKeys is what a login by PLAIN costs, and what SCRAM does not.
func BenchmarkDeriveKeys(b *testing.B) {
	for _, h := range []Hash{SHA1, SHA256, SHA512} {
		b.Run(h.String(), func(b *testing.B) {
			for b.Loop() {
				DeriveKeys(h, "pencil", []byte("salt of the test"), testIterations)
			}
		})
	}
}
