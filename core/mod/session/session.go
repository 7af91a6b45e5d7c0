// Package session accepts the session request that RFC 3921 §3 wanted after
// binding and RFC 6121 §1.4 dropped. It is offered as optional, does nothing, and
// old clients insist on it.
//
//spec:rfc-3921 complete | XMPP: Instant Messaging and Presence (2004) | §3: the session request is accepted and never needed
package session

import (
	"context"

	"trivium/core/module"
	"trivium/core/stanza"
)

// NS is the namespace of RFC 3921 §3.
const NS = "urn:ietf:params:xml:ns:xmpp-session"

// Module is the feature.
type Module struct{}

// New returns the feature.
func New() *Module { return &Module{} }

// Register implements module.Module.
func (*Module) Register(h *module.Host) error {
	h.StreamFeature(func(st module.Stage, _ string) stanza.Payload {
		if st != module.AfterLogin {
			return nil
		}
		return stanza.El(NS, "session", stanza.El(NS, "optional"))
	})
	h.IQ(module.Server|module.Own, stanza.Set, NS, "session", func(context.Context, *module.Request) (stanza.Payload, error) {
		return nil, nil
	})
	return nil
}
