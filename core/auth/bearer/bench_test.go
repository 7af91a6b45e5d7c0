package bearer

import "testing"

// BenchmarkCheckToken is the CPU of one login by token, by algorithm.
func BenchmarkCheckToken(b *testing.B) {
	for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			p := pairs()[alg]
			v := newVerifier(b, keysOf(b, p), Options{})
			s := token(b, p, nil, nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.CheckToken(b.Context(), "", s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
