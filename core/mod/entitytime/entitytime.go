// Package entitytime implements XEP-0202 (Entity Time).
//
//spec:xep-0202 2.0 complete | Entity Time | time of the server, always in UTC
package entitytime

import (
	"context"

	"trivium/core/module"
	"trivium/core/stanza"
)

// NS is the namespace of XEP-0202.
const NS = "urn:xmpp:time"

// Module is the feature.
type Module struct{}

// New returns the feature.
func New() *Module { return &Module{} }

// Register implements module.Module.
func (*Module) Register(h *module.Host) error {
	h.Feature(module.Server, NS)
	h.IQ(module.Server, stanza.Get, NS, "time", func(context.Context, *module.Request) (stanza.Payload, error) {
		return stanza.El(NS, "time",
			stanza.TextEl(NS, "tzo", "+00:00"),
			stanza.TextEl(NS, "utc", h.Now().UTC().Format("2006-01-02T15:04:05Z")), // XEP-0082 §3.2
		), nil
	})
	return nil
}
