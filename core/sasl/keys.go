package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"strconv"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

// Hash is a hash function that SCRAM is defined with. The zero Hash is none. The
// numbers are stable and may be stored.
type Hash uint8

// The hash functions of RFC 5802 and RFC 7677, and SHA-512, which no RFC defines
// but clients use in the same way.
const (
	SHA1 Hash = iota + 1
	SHA256
	SHA512
)

// Valid reports whether h is one of the constants.
func (h Hash) Valid() bool { return h >= SHA1 && h <= SHA512 }

// String returns the name, as in "SHA-256".
func (h Hash) String() string {
	switch h {
	case SHA1:
		return "SHA-1"
	case SHA256:
		return "SHA-256"
	case SHA512:
		return "SHA-512"
	}
	return "Hash(" + strconv.Itoa(int(h)) + ")"
}

// Size returns the octets of a digest.
func (h Hash) Size() int {
	switch h {
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA512:
		return sha512.Size
	}
	panic("sasl: no such hash: " + h.String())
}

func (h Hash) new() hash.Hash {
	switch h {
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	panic("sasl: no such hash: " + h.String())
}

func (h Hash) hmac(key, text []byte) []byte {
	m := hmac.New(h.new, key)
	m.Write(text)
	return m.Sum(nil)
}

func (h Hash) sum(b []byte) []byte {
	d := h.new()
	d.Write(b)
	return d.Sum(nil)
}

// MinIterations is the fewest iterations a server should announce (RFC 5802 §5.1,
// RFC 7677 §3).
const MinIterations = 4096

// SaltSize is the octets of a salt that NewSalt makes.
const SaltSize = 16

// Keys are what is stored of a password for SCRAM with one hash (RFC 5802 §3).
// Neither the password nor the client's key can be had from them, but they do
// allow a search for the password, and to impersonate the server: keep them
// secret.
type Keys struct {
	Salt       []byte // 1 octet or more
	Iterations int    // 1 or more
	StoredKey  []byte // Hash.Size octets
	ServerKey  []byte // Hash.Size octets
}

// DeriveKeys derives the keys of a password prepared by PreparePassword. It costs
// iterations HMACs; what a peer can cause goes through a Deriver instead. It
// panics if h is none, or if salt or iterations are out of range.
func DeriveKeys(h Hash, password string, salt []byte, iterations int) Keys {
	if len(salt) == 0 || iterations < 1 {
		panic("sasl: DeriveKeys without salt or iterations")
	}
	// RFC 5802 §3: Hi() is PBKDF2 with HMAC, and an output of one digest.
	salted, err := pbkdf2.Key(h.new, password, salt, iterations, h.Size())
	if err != nil {
		panic("sasl: " + err.Error()) // only what FIPS 140 mode forbids
	}
	return h.keys(salted, salt, iterations)
}

// keys are what follows from a SaltedPassword (RFC 5802 §3).
func (h Hash) keys(salted, salt []byte, iterations int) Keys {
	clientKey := h.hmac(salted, []byte("Client Key"))
	return Keys{
		Salt:       salt,
		Iterations: iterations,
		StoredKey:  h.sum(clientKey),
		ServerKey:  h.hmac(salted, []byte("Server Key")),
	}
}

// ErrSalted is SaltedKeys's error.
var ErrSalted = errors.New("sasl: not a salted password")

// SaltedKeys are the keys of a password that the client has salted itself
// (XEP-0480 §3), for the salt and iterations that it was given. The error is
// ErrSalted.
func SaltedKeys(h Hash, salted, salt []byte, iterations int) (Keys, error) {
	if len(salted) != h.Size() {
		return Keys{}, ErrSalted
	}
	return h.keys(salted, salt, iterations), nil
}

// Verify reports whether the keys are those of password. It costs what DeriveKeys
// does.
func (k Keys) Verify(h Hash, password string) bool {
	return k.equal(DeriveKeys(h, password, k.Salt, k.Iterations))
}

func (k Keys) equal(other Keys) bool {
	return subtle.ConstantTimeCompare(k.StoredKey, other.StoredKey) == 1
}

// check finds keys that cannot be h's.
func (k Keys) check(h Hash) error {
	if len(k.Salt) == 0 || k.Iterations < 1 || len(k.StoredKey) != h.Size() || len(k.ServerKey) != h.Size() {
		return errors.New("malformed " + h.String() + " keys from the backend")
	}
	return nil
}

// InventKeys returns keys for an account that does not exist, always the same
// for the same secret, hash and name, which nobody can tell from real ones that
// have a salt of SaltSize octets. No password has them. The secret is 16 octets
// or more, random, and lasts as long as the accounts do.
func InventKeys(secret []byte, h Hash, username string, iterations int) Keys {
	octets := func(what string, n int) []byte {
		m := hmac.New(sha512.New, secret)
		m.Write([]byte{byte(h)})
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(username))))
		m.Write([]byte(username))
		m.Write([]byte(what))
		return m.Sum(nil)[:n]
	}
	return Keys{
		Salt:       octets("salt", SaltSize),
		Iterations: iterations,
		StoredKey:  octets("stored key", h.Size()),
		ServerKey:  octets("server key", h.Size()),
	}
}

// MaxPassword is the most octets of a password. RFC 4616 §2 asks for 255.
const MaxPassword = 1023

// ErrPassword is PreparePassword's error.
var ErrPassword = errors.New("sasl: not a password")

// PreparePassword applies the OpaqueString profile of RFC 8265 §4.2. A password is
// not empty, and has no control characters. The error is ErrPassword: it tells
// nothing about the password.
//
// RFC 5802 §5.1 has clients prepare by SASLprep instead. The two agree on ASCII
// and on nearly everything else that a keyboard types; where they do not, a
// password with compatibility characters is refused at login, not weakened.
func PreparePassword(p string) (string, error) {
	if p == "" || len(p) > 4*MaxPassword || !utf8.ValidString(p) {
		return "", ErrPassword
	}
	p, err := precis.OpaqueString.String(p)
	if err != nil || p == "" || len(p) > MaxPassword {
		return "", ErrPassword
	}
	return p, nil
}
