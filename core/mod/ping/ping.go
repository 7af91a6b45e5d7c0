// Package ping implements XEP-0199 (XMPP Ping): the server and a user's own
// account answer. Pings to clients are sent by the session itself.
//
//spec:xep-0199 2.0.1 complete | XMPP Ping | ping, with pings of silent clients in core/c2s
package ping

import (
	"context"

	"trivium/core/module"
	"trivium/core/stanza"
)

// NS is the namespace of XEP-0199.
const NS = "urn:xmpp:ping"

// Module is the feature.
type Module struct{}

// New returns the feature.
func New() *Module { return &Module{} }

// Register implements module.Module.
func (*Module) Register(h *module.Host) error {
	h.Feature(module.Server|module.Account, NS)
	h.IQ(module.Server|module.Own, stanza.Get, NS, "ping", pong)
	return nil
}

func pong(context.Context, *module.Request) (stanza.Payload, error) { return nil, nil }
