package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"strings"
	"sync"
)

// The prefixes of keys in text: Standard Webhooks, "Signature scheme".
const (
	secretPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// Schemes of keys.
const (
	HMAC    = "hmac-sha256"
	Ed25519 = "ed25519"
)

// Key is what may be known of a signing key.
type Key struct {
	// Scheme is HMAC or Ed25519.
	Scheme string `json:"scheme" enum:"hmac-sha256,ed25519" doc:"How it signs: hmac-sha256 makes v1 signatures, ed25519 makes v1a."`
	// ID stands for the key in Put, so that a key can stay without being known.
	ID string `json:"id" doc:"Stands for the key when the webhook is replaced: a digest of a secret, or the public key, which v1a signatures are verified with."`
}

// signer is a Key at work. Its methods may be called from any goroutine.
type signer struct {
	Key
	text    string // the key itself
	private ed25519.PrivateKey
	secret  sync.Pool // of hash.Hash
}

var errKey = errors.New("is not a signing key: whsec_ and base64 of 24 to 64 octets, or whsk_ and base64 of an ed25519 key pair")

// parseKey reads whsec_ and base64 of 24 to 64 octets, or whsk_ and base64 of an
// ed25519 private key with its public half, or of the seed alone.
func parseKey(text string) (*signer, error) {
	if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) < 24 || len(raw) > 64 {
			return nil, errKey
		}
		digest := sha256.Sum256([]byte(text))
		s := &signer{Key: Key{HMAC, "sha256:" + hex.EncodeToString(digest[:16])}, text: text}
		s.secret.New = func() any { return hmac.New(sha256.New, raw) }
		return s, nil
	}
	encoded, ok := strings.CutPrefix(text, privatePrefix)
	if !ok {
		return nil, errKey
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errKey
	}
	var private ed25519.PrivateKey
	switch len(raw) {
	case ed25519.SeedSize:
		private = ed25519.NewKeyFromSeed(raw)
	case ed25519.PrivateKeySize:
		// RFC 8032 §5.1.5: the public key follows from the seed; another one would
		// make signatures that give the private key away.
		if private = ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]); string(private) != string(raw) {
			return nil, errKey
		}
	default:
		return nil, errKey
	}
	public := base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	return &signer{Key: Key{Ed25519, publicPrefix + public}, text: text, private: private}, nil
}

// NewKey makes a signing key of a scheme.
func NewKey(scheme string) (string, error) {
	switch scheme {
	case HMAC:
		raw := make([]byte, 32)
		rand.Read(raw) // never fails
		return secretPrefix + base64.StdEncoding.EncodeToString(raw), nil
	case Ed25519:
		_, private, err := ed25519.GenerateKey(nil)
		return privatePrefix + base64.StdEncoding.EncodeToString(private), err
	}
	return "", errors.New("webhook: there is no such scheme of signatures")
}

// appendSignature appends the signature of one post: the id, the timestamp in
// seconds and the body, with full stops between.
func (s *signer) appendSignature(dst []byte, id, timestamp string, body []byte) []byte {
	if s.private != nil {
		signed := make([]byte, 0, len(id)+len(timestamp)+len(body)+2)
		signed = append(append(signed, id...), '.')
		signed = append(append(signed, timestamp...), '.')
		signed = append(signed, body...)
		return base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(s.private, signed))
	}
	h := s.secret.Get().(hash.Hash)
	defer s.secret.Put(h)
	h.Reset()
	var head [96]byte
	start := append(append(head[:0], id...), '.')
	start = append(append(start, timestamp...), '.')
	h.Write(start)
	h.Write(body)
	var sum [sha256.Size]byte
	return base64.StdEncoding.AppendEncode(append(dst, "v1,"...), h.Sum(sum[:0]))
}

// sign returns the webhook-signature header: one signature by each key, with spaces
// between.
func sign(keys []*signer, id, timestamp string, body []byte) string {
	out := make([]byte, 0, 96*len(keys))
	for i, k := range keys {
		if i > 0 {
			out = append(out, ' ')
		}
		out = k.appendSignature(out, id, timestamp, body)
	}
	return string(out)
}
