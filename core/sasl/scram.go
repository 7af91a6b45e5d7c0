package sasl

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const plusSuffix = "-PLUS"

func scramName(h Hash, plus bool) string {
	if plus {
		return "SCRAM-" + h.String() + plusSuffix
	}
	return "SCRAM-" + h.String()
}

// freshNonce returns 24 characters with 144 random bits.
func freshNonce() string {
	var b [18]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// scram is an exchange of RFC 5802 §5.
type scram struct {
	offer *Offer
	hash  Hash
	bound bool // the -PLUS variant

	// next takes the next message; nil when the attempt is over.
	next func(context.Context, []byte) ([]byte, bool, error)

	started  bool
	username string // prepared
	keys     Keys
	known    bool   // keys are those of an account
	cbind    string // what c= has to be, encoded
	nonce    string // the client's and ours
	auth     []byte // AuthMessage as far as it is known
	done     bool
}

func (x *scram) Step(ctx context.Context, response []byte) ([]byte, bool, error) {
	switch {
	case !x.started && response == nil:
		x.started, x.next = true, x.first
		return []byte{}, false, nil // RFC 4422 §5: the client speaks first
	case !x.started:
		x.started, x.next = true, x.first
	case x.next == nil:
		return nil, false, &Failure{Condition: MalformedRequest, Cause: errOver}
	}
	step := x.next
	x.next = nil
	return step(ctx, response)
}

func (x *scram) Username() string {
	if !x.done {
		return ""
	}
	return x.username
}

// first answers the client-first-message with the server-first-message.
func (x *scram) first(ctx context.Context, message []byte) ([]byte, bool, error) {
	m, err := parseClientFirst(message)
	if err != nil {
		return nil, false, err
	}
	data, err := x.bind(m)
	if err != nil {
		return nil, false, err
	}
	if x.username, err = x.offer.server.account(m.username, m.authzid); err != nil {
		return nil, false, err
	}
	if err = x.offer.server.admit(ctx, x.username); err != nil {
		return nil, false, err
	}
	x.keys, x.known, err = x.offer.server.backend.Keys(ctx, x.username, x.hash)
	if err == nil {
		err = x.keys.check(x.hash)
	}
	if err != nil {
		return nil, false, failure(err)
	}

	// RFC 5802 §5.1, c: the gs2-header as it was sent, then the channel's data.
	x.cbind = base64.StdEncoding.EncodeToString(append([]byte(m.gs2), data...))
	x.nonce = m.nonce + x.offer.server.opts.Nonce()

	x.auth = append(x.auth, m.bare...)
	x.auth = append(x.auth, ',')
	start := len(x.auth)
	x.auth = append(x.auth, "r="...)
	x.auth = append(x.auth, x.nonce...)
	x.auth = append(x.auth, ",s="...)
	x.auth = base64.StdEncoding.AppendEncode(x.auth, x.keys.Salt)
	x.auth = append(x.auth, ",i="...)
	x.auth = strconv.AppendInt(x.auth, int64(x.keys.Iterations), 10)
	if !x.offer.server.opts.NoDowngradeProtection {
		x.auth = append(x.auth, ",h="...)
		x.auth = base64.StdEncoding.AppendEncode(x.auth, x.offer.hashes[x.hash])
	}
	x.next = x.final
	return bytes.Clone(x.auth[start:]), false, nil
}

// bind decides by the gs2-cbind-flag whether the exchange may go on, and returns
// the data to bind it to (RFC 5802 §6).
func (x *scram) bind(m clientFirst) ([]byte, error) {
	switch {
	case m.flag == 'p' && !x.bound:
		return nil, fail(MalformedRequest, "p= for a mechanism without channel binding")
	case m.flag != 'p' && x.bound:
		return nil, fail(MalformedRequest, "no p= for a mechanism with channel binding")
	case m.flag == 'y' && x.offer.plus():
		// The client believes that we cannot bind: somebody edited our offer.
		return nil, fail(NotAuthorized, "channel binding was offered and not seen: downgrade")
	case m.flag != 'p':
		return nil, nil
	}
	if !slices.Contains(x.offer.types, m.cbName) {
		return nil, fail(NotAuthorized, "channel binding type was not offered")
	}
	data, err := x.offer.binding.ChannelBinding(m.cbName)
	if err != nil {
		return nil, &Failure{Condition: TemporaryAuthFailure, Cause: err}
	}
	return data, nil
}

// final answers the client-final-message with the server-final-message.
func (x *scram) final(ctx context.Context, message []byte) ([]byte, bool, error) {
	m, err := parseClientFinal(message)
	if err != nil {
		return nil, false, err
	}
	// RFC 5802 §5.1, r: the whole nonce, ours and the client's own part.
	if subtle.ConstantTimeCompare([]byte(m.nonce), []byte(x.nonce)) != 1 {
		return nil, false, fail(NotAuthorized, "nonce differs")
	}
	// RFC 5802 §6: always, whatever the flag was.
	if subtle.ConstantTimeCompare([]byte(m.cbind), []byte(x.cbind)) != 1 {
		return nil, false, fail(NotAuthorized, "channel binding differs")
	}
	x.auth = append(x.auth, ',')
	x.auth = append(x.auth, m.withoutProof...)

	// RFC 5802 §3: the proof is ClientKey XOR HMAC(StoredKey, AuthMessage).
	// Everything is computed before anything is decided, so that an unknown
	// account takes the time of a known one.
	clientKey := x.hash.hmac(x.keys.StoredKey, x.auth)
	sized := subtle.ConstantTimeEq(int32(len(m.proof)), int32(len(clientKey)))
	if sized == 1 {
		subtle.XORBytes(clientKey, clientKey, m.proof)
	}
	proved := subtle.ConstantTimeCompare(x.hash.sum(clientKey), x.keys.StoredKey)
	signature := x.hash.hmac(x.keys.ServerKey, x.auth)
	if sized&proved != 1 || !x.known {
		return nil, false, fail(NotAuthorized, "proof is wrong, or the account is unknown")
	}
	if err := authorize(ctx, x.offer.server.backend, x.username); err != nil {
		return nil, false, err
	}
	x.done = true
	return base64.StdEncoding.AppendEncode([]byte("v="), signature), true, nil
}

// authorize asks a Backend that is an Authorizer.
func authorize(ctx context.Context, b Backend, username string) error {
	if a, ok := As[Authorizer](b); ok {
		if err := a.Authorize(ctx, username); err != nil {
			return failure(err)
		}
	}
	return nil
}

// maxMessage bounds a message of SCRAM or PLAIN in octets: two names and a
// password, all of them escaped, fit.
const maxMessage = 16 << 10

// clientFirst is a client-first-message (RFC 5802 §7).
type clientFirst struct {
	gs2      string // gs2-header, as sent
	flag     byte   // 'n', 'y' or 'p'
	cbName   string // for 'p'
	authzid  string // decoded, "" if there is none
	bare     string // client-first-message-bare, as sent
	username string // decoded
	nonce    string
}

func syntaxError() error { return fail(MalformedRequest, "SCRAM message has a syntax error") }

func parseClientFirst(message []byte) (m clientFirst, err error) {
	s, ok := text(message)
	if !ok {
		return m, syntaxError()
	}
	flag, rest, ok1 := strings.Cut(s, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 || flag == "" {
		return m, syntaxError()
	}
	m.flag, m.gs2, m.bare = flag[0], s[:len(s)-len(bare)], bare
	switch {
	case flag == "n" || flag == "y":
	case strings.HasPrefix(flag, "p=") && isCBName(flag[2:]):
		m.cbName = flag[2:]
	default:
		return m, syntaxError()
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if m.authzid, ok = saslname(name, ok); !ok {
			return m, syntaxError()
		}
	}
	username, rest, ok := strings.Cut(bare, ",")
	if strings.HasPrefix(username, "m=") {
		return m, mandatoryError()
	}
	name, isName := strings.CutPrefix(username, "n=")
	if m.username, isName = saslname(name, isName); !ok || !isName {
		return m, syntaxError()
	}
	nonce, extensions, more := strings.Cut(rest, ",")
	if m.nonce, ok = strings.CutPrefix(nonce, "r="); !ok || !isNonce(m.nonce) {
		return m, syntaxError()
	}
	if more {
		return m, checkExtensions(extensions)
	}
	return m, nil
}

// clientFinal is a client-final-message (RFC 5802 §7).
type clientFinal struct {
	cbind        string // base64, as sent
	nonce        string
	withoutProof string // client-final-message-without-proof, as sent
	proof        []byte
}

func parseClientFinal(message []byte) (m clientFinal, err error) {
	s, ok := text(message)
	if !ok {
		return m, syntaxError()
	}
	// The proof comes last, and no value has a comma.
	i := strings.LastIndexByte(s, ',')
	if i < 0 || !strings.HasPrefix(s[i+1:], "p=") {
		return m, syntaxError()
	}
	m.withoutProof = s[:i]
	if m.proof, err = base64.StdEncoding.Strict().DecodeString(s[i+3:]); err != nil || strings.ContainsAny(s[i:], "\r\n") {
		return m, syntaxError()
	}
	cbind, rest, ok := strings.Cut(m.withoutProof, ",")
	if strings.HasPrefix(cbind, "m=") {
		return m, mandatoryError()
	}
	if m.cbind, _ = strings.CutPrefix(cbind, "c="); !ok || m.cbind == cbind {
		return m, syntaxError()
	}
	nonce, extensions, more := strings.Cut(rest, ",")
	if m.nonce, ok = strings.CutPrefix(nonce, "r="); !ok {
		return m, syntaxError()
	}
	if more {
		return m, checkExtensions(extensions)
	}
	return m, nil
}

// RFC 5802 §5.1, m: not understood, so authentication fails.
func mandatoryError() error {
	return fail(MalformedRequest, "SCRAM message has a mandatory extension")
}

// checkExtensions passes over optional extensions, which are attr-val pairs that
// mean nothing to us.
func checkExtensions(s string) error {
	for pair := range strings.SplitSeq(s, ",") {
		if len(pair) < 3 || pair[1] != '=' || !isAlpha(pair[0]) {
			return syntaxError()
		}
		if pair[0] == 'm' {
			return mandatoryError()
		}
	}
	return nil
}

// saslname decodes a name, "=2C" for a comma and "=3D" for an equals sign.
func saslname(s string, ok bool) (string, bool) {
	if !ok || s == "" {
		return "", false
	}
	if !strings.Contains(s, "=") {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '=':
			b.WriteByte(s[i])
			continue
		case strings.HasPrefix(s[i:], "=2C"):
			b.WriteByte(',')
		case strings.HasPrefix(s[i:], "=3D"):
			b.WriteByte('=')
		default:
			return "", false // RFC 5802 §5.1, n
		}
		i += 2
	}
	return b.String(), true
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isCBName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlpha(c) && !(c >= '0' && c <= '9') && c != '.' && c != '-' {
			return false
		}
	}
	return s != ""
}

func isNonce(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// text returns a SCRAM message as a string, if it is UTF-8 without NUL and not too
// long.
func text(message []byte) (string, bool) {
	s := string(message)
	return s, len(s) <= maxMessage && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}
