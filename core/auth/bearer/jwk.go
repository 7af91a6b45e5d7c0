package bearer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxKeys bounds a JWK Set.
const maxKeys = 64

// namedKey is a key of a JWK Set.
type namedKey struct {
	id     string // kid, may be ""
	alg    string // the only one it is for; "" for any that fits
	public any
}

func (k *namedKey) fits(alg string) bool {
	return (k.alg == "" || k.alg == alg) && fits(k.public, alg)
}

// jwk is a key as RFC 7517 §4, RFC 7518 §6 and RFC 8037 §2 write it.
type jwk struct {
	Type       string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	ID         string   `json:"kid"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	Curve      string   `json:"crv"`
	X          string   `json:"x"`
	Y          string   `json:"y"`
}

var errJWK = errors.New("malformed key")

// parseSet reads a JWK Set (RFC 7517 §5). Keys that we cannot use, or that are for
// something else, are passed over as the RFC asks; symmetric ones too, since what
// anybody can fetch is no secret. The error tells of a set that is none, or has
// nothing of use.
func parseSet(document []byte) ([]namedKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, fmt.Errorf("bearer: JWK Set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("bearer: JWK Set: more than %d keys", maxKeys)
	}
	var keys []namedKey
	for _, raw := range set.Keys {
		var k jwk
		if json.Unmarshal(raw, &k) != nil {
			continue
		}
		// RFC 7517 §4.2, §4.3.
		if k.Use != "" && k.Use != "sig" || k.Operations != nil && !slices.Contains(k.Operations, "verify") {
			continue
		}
		public, err := k.public()
		if err != nil || sound(public) != nil {
			continue
		}
		keys = append(keys, namedKey{id: k.ID, alg: k.Algorithm, public: public})
	}
	if len(keys) == 0 {
		return nil, errors.New("bearer: JWK Set: no usable key")
	}
	return keys, nil
}

func (k *jwk) public() (any, error) {
	switch k.Type {
	case "RSA": // RFC 7518 §6.3.1
		n, err := number(k.N, maxRSABits/8)
		if err != nil {
			return nil, err
		}
		e, err := number(k.E, 4)
		if err != nil {
			return nil, err
		}
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() > 1<<31-1 {
			return nil, errJWK
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case "EC": // RFC 7518 §6.2.1
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Curve]
		if curve == nil {
			return nil, errJWK
		}
		size := (curve.Params().BitSize + 7) / 8
		x, errX := number(k.X, size)
		y, errY := number(k.Y, size)
		if errX != nil || errY != nil || len(x) != size || len(y) != size { // §6.2.1.2: the full size
			return nil, errJWK
		}
		return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y)) // on the curve, or an error
	case "OKP": // RFC 8037 §2
		x, err := number(k.X, ed25519.PublicKeySize)
		if err != nil || k.Curve != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errJWK
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errJWK
}

// number decodes base64url of 1 to limit octets (RFC 7515 §2).
func number(s string, limit int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > limit {
		return nil, errJWK
	}
	return b, nil
}
