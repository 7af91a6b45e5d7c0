package bearer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// ErrKeys: the keys are unfit, or there are none.
var ErrKeys = errors.New("bearer: unfit keys")

const (
	maxRSABits = 8192 // RFC 7518 §3.3 has no upper limit, but the work has the third power
	maxPEMKeys = 16
)

// fits reports whether public is for alg, by kind and size.
func fits(public any, alg string) bool {
	switch k := public.(type) {
	case []byte:
		// RFC 7518 §3.2: no shorter than the hash.
		least := map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[alg]
		return least > 0 && len(k) >= least
	case *rsa.PublicKey:
		switch alg {
		case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
			return k.Size() >= 2048/8 // RFC 7518 §3.3, §3.5
		}
	case *ecdsa.PublicKey:
		// RFC 7518 §3.4: each with its curve.
		switch alg {
		case "ES256":
			return k.Curve == elliptic.P256()
		case "ES384":
			return k.Curve == elliptic.P384()
		case "ES512":
			return k.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == "EdDSA" && len(k) == ed25519.PublicKeySize // RFC 8037 §3.1
	}
	return false
}

// sound reports whether public is fit for any algorithm.
func sound(public any) error {
	if k, ok := public.(*rsa.PublicKey); ok && (k.N.BitLen() > maxRSABits || k.E < 3 || k.E&1 == 0) {
		return fmt.Errorf("%w: RSA of more than %d bits, or with a bad exponent", ErrKeys, maxRSABits)
	}
	for _, alg := range Algorithms() {
		if fits(public, alg) {
			return nil
		}
	}
	return fmt.Errorf("%w: %T is too small, or of another kind", ErrKeys, public)
}

// static keys do not change, and have no names.
type static []jwt.VerificationKey

func (s static) find(_ context.Context, alg, _ string) ([]jwt.VerificationKey, error) {
	var keys []jwt.VerificationKey
	for _, k := range s {
		if fits(k, alg) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (s static) suits(alg string) bool {
	keys, _ := s.find(context.Background(), alg, "")
	return len(keys) > 0
}

func (s static) remote() bool { return false }

// Secret returns an HMAC key, shared with the issuer: who has it can log in as
// anybody. White space around it, such as the final line end of a file, is no part
// of it. It has at least 32 octets, 64 for HS512, or the error is ErrKeys.
func Secret(secret []byte) (Keys, error) {
	secret = bytes.Clone(bytes.TrimSpace(secret))
	// Somebody who took the issuer's public key for a secret would have anybody
	// sign: it is public.
	if block, _ := pem.Decode(secret); block != nil {
		return nil, fmt.Errorf("%w: a PEM file is no secret", ErrKeys)
	}
	if err := sound(secret); err != nil {
		return nil, fmt.Errorf("%w: the secret has %d octets, and needs 32", ErrKeys, len(secret))
	}
	return static{secret}, nil
}

// PublicKeys returns the keys of a PEM file: any number of public keys and
// certificates for RSA, ECDSA or Ed25519, of which one has to fit a token. The
// names and lifetimes of certificates do not matter. The error is ErrKeys.
func PublicKeys(file []byte) (Keys, error) {
	var keys static
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			break
		}
		public, err := parsePublic(block)
		if err == nil {
			err = sound(public)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %s: %w", ErrKeys, block.Type, err)
		case len(keys) == maxPEMKeys:
			return nil, fmt.Errorf("%w: more than %d", ErrKeys, maxPEMKeys)
		}
		keys = append(keys, public)
	}
	if len(keys) == 0 || len(bytes.TrimSpace(file)) > 0 {
		return nil, fmt.Errorf("%w: not PEM", ErrKeys)
	}
	return keys, nil
}

func parsePublic(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	return nil, errors.New("no public key")
}
