package sasl

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"trivium/core/jid"
)

// Options tune a Server.
type Options struct {
	// Hashes are those that accounts have keys for, preferred first. Nil means
	// SHA-512, SHA-256, SHA-1; empty means no SCRAM.
	Hashes []Hash
	// NoPlain withholds PLAIN, which is otherwise offered on protected channels.
	NoPlain bool
	// Anonymous offers ANONYMOUS.
	Anonymous bool
	// NoDowngradeProtection keeps SCRAM from telling the client what was offered
	// (XEP-0474 §5.1), under the protection of the password. That asks that the stream
	// announces Mechanisms and BindingTypes of its Offer, all of them and nothing
	// else.
	NoDowngradeProtection bool
	// Nonce makes the server's part of a SCRAM nonce: printable ASCII without
	// commas, never twice the same. Nil means 144 random bits. It is for tests.
	Nonce func() string
}

// Server authenticates the users of one host. It is constant after New, and for
// concurrent use.
type Server struct {
	host    string
	backend Backend
	hashes  []Hash
	opts    Options

	shapes [2 << len(bindingTypes)]*shape

	gate   Gate         // nil: none
	bearer TokenBackend // nil: none
	hashed HashedTokens // nil: none
}

// New makes the Server of a host, which is a domain alone. It panics if an option
// is out of range.
func New(host jid.JID, backend Backend, opts Options) *Server {
	if !host.IsHost() {
		panic("sasl: " + host.String() + " is no host")
	}
	s := &Server{host: host.Domain(), backend: backend, hashes: opts.Hashes, opts: opts}
	if s.hashes == nil {
		s.hashes = []Hash{SHA512, SHA256, SHA1}
	}
	for _, h := range s.hashes {
		if !h.Valid() {
			panic("sasl: no such hash: " + h.String())
		}
	}
	if opts.Nonce == nil {
		s.opts.Nonce = freshNonce
	}
	s.gate, _ = As[Gate](backend)
	s.bearer, _ = As[TokenBackend](backend)
	s.hashed, _ = As[HashedTokens](backend)
	for i := range s.shapes {
		s.shapes[i] = s.shape(i)
	}
	return s
}

// Offer is what one stream is offered. It is constant, and for concurrent use.
type Offer struct {
	*shape
	binding Binding
}

// shape is what Offers have in common whose channels can do the same.
type shape struct {
	server     *Server
	secure     bool
	types      []string // what the channel can be bound to
	mechanisms []string
	tokens     []string
	hashes     [SHA512 + 1][]byte // by hash, of XEP-0474 §5.1

	once   sync.Once
	notice string
}

// bindingTypes are in the order of their bits in the index of a shape; bit 0 is
// secure.
var bindingTypes = [...]string{TLSExporter, TLSServerEndPoint}

// shape makes the shape with an index.
func (s *Server) shape(index int) *shape {
	o := &shape{server: s, secure: index&1 != 0}
	for i, typ := range bindingTypes {
		if index&(2<<i) != 0 {
			o.types = append(o.types, typ)
		}
	}
	// RFC 6120 §6.4.1: preferred first. Every mechanism that binds the channel is
	// better than any that does not.
	if len(o.types) > 0 {
		for _, h := range s.hashes {
			o.mechanisms = append(o.mechanisms, scramName(h, true))
		}
	}
	for _, h := range s.hashes {
		o.mechanisms = append(o.mechanisms, scramName(h, false))
	}
	if o.secure && s.bearer != nil { // RFC 7628 §4: TLS is required
		o.mechanisms = append(o.mechanisms, oauthBearerName)
	}
	// RFC 6120 §13.8.3: PLAIN on protected channels only.
	if o.secure && !s.opts.NoPlain {
		o.mechanisms = append(o.mechanisms, plainName)
	}
	if s.opts.Anonymous {
		o.mechanisms = append(o.mechanisms, anonymousName)
	}
	o.tokens = o.tokenMechanisms()
	for _, h := range s.hashes {
		o.hashes[h] = o.hash(h)
	}
	return o
}

// Offer decides what a stream is offered. secure says that the channel keeps
// secrets and cannot be tampered with, as TLS does; binding is its Binding, or nil
// if it has none. A channel that is not secure has none either.
//
// Make a new Offer when the channel changes: exchanges check against what was
// offered.
func (s *Server) Offer(secure bool, binding Binding) *Offer {
	if !secure {
		return &Offer{shape: s.shapes[0]}
	}
	index := 1
	if binding != nil {
		for i, typ := range bindingTypes {
			if data, err := binding.ChannelBinding(typ); err == nil && len(data) > 0 {
				index |= 2 << i
			}
		}
	}
	return &Offer{shape: s.shapes[index], binding: binding}
}

// Notice returns what render, called for the first time, has made of the lists of
// this Offer, or of another one with the same lists: each stream gets the same text.
func (o *Offer) Notice(render func() string) string {
	o.once.Do(func() { o.notice = render() })
	return o.notice
}

// Mechanisms returns the names to list in <mechanisms/>, preferred first. The
// caller does not change them.
func (o *shape) Mechanisms() []string { return o.mechanisms }

// BindingTypes returns the channel binding types to announce by XEP-0440 §2,
// preferred first; none if the channel cannot be bound. The caller does not change
// them.
func (o *shape) BindingTypes() []string {
	if len(o.server.hashes) == 0 {
		return nil
	}
	return o.types
}

// Uses reports whether SCRAM with h is offered.
func (o *shape) Uses(h Hash) bool { return slices.Contains(o.server.hashes, h) }

// plus reports whether SCRAM with channel binding was offered.
func (o *shape) plus() bool { return len(o.BindingTypes()) > 0 }

// hash is the value of the attribute h in XEP-0474 §5.1.
func (o *shape) hash(h Hash) []byte {
	sorted := func(names []string) string {
		return strings.Join(slices.Sorted(slices.Values(names)), "\x1e")
	}
	s := sorted(o.mechanisms)
	if types := o.BindingTypes(); len(types) > 0 {
		s += "\x1f" + sorted(types)
	}
	return h.sum([]byte(s))
}

// Start begins an attempt by a mechanism that was offered. The error is a *Failure:
// EncryptionRequired for PLAIN that is offered on a protected channel only,
// InvalidMechanism for everything else.
func (o *Offer) Start(mechanism string) (Exchange, error) {
	if !slices.Contains(o.mechanisms, mechanism) {
		if mechanism == plainName && !o.secure && !o.server.opts.NoPlain {
			return nil, fail(EncryptionRequired, "PLAIN in the clear") // RFC 6120 §6.5.4
		}
		return nil, fail(InvalidMechanism, "mechanism was not offered") // RFC 6120 §6.5.7
	}
	switch mechanism {
	case plainName:
		return &plain{server: o.server}, nil
	case anonymousName:
		return &anonymous{}, nil
	case oauthBearerName:
		return &oauthBearer{server: o.server, tokens: o.server.bearer}, nil
	}
	name, bound := strings.CutSuffix(mechanism, plusSuffix)
	for _, h := range o.server.hashes {
		if scramName(h, false) == name {
			return &scram{offer: o, hash: h, bound: bound}, nil
		}
	}
	panic("sasl: offered an unknown mechanism")
}

// account checks the identities of an attempt and returns the prepared localpart.
// authzid is "" if there is none (RFC 6120 §6.6). RFC 5802 and RFC 4616 prepare
// names by SASLprep; the account is a JID, so RFC 7622 §3.3 decides.
func (s *Server) account(authcid, authzid string) (string, error) {
	local, err := jid.PrepareLocal(authcid)
	if err != nil {
		// No account has such a name, which is no secret.
		return "", &Failure{Condition: NotAuthorized, Cause: err}
	}
	if authzid == "" {
		return local, nil
	}
	// RFC 6120 §6.3.8: the bare address of an account; §6.5.6: nobody may act for
	// another.
	id, err := jid.Parse(authzid)
	if err != nil {
		return "", &Failure{Condition: InvalidAuthzid, Cause: err}
	}
	if id.Local() != local || id.Domain() != s.host || !id.IsBare() {
		return "", fail(InvalidAuthzid, "authzid is another's")
	}
	return local, nil
}

// admit asks the Gate.
func (s *Server) admit(ctx context.Context, username string) error {
	if s.gate == nil {
		return nil
	}
	if err := s.gate.Admit(ctx, username); err != nil {
		return failure(err)
	}
	return nil
}

var errOver = errors.New("the attempt is over")
