// Package version implements XEP-0092 (Software Version).
//
//spec:xep-0092 1.1 complete | Software Version | software version of the server
package version

import (
	"context"

	"trivium/core/module"
	"trivium/core/stanza"
)

// NS is the namespace of XEP-0092.
const NS = "jabber:iq:version"

// Module is the feature.
type Module struct{ answer *stanza.Element }

// New returns the feature. os may be empty: the operating system is not told
// (XEP-0092 §4).
func New(name, version, os string) *Module {
	q := stanza.El(NS, "query", stanza.TextEl(NS, "name", name), stanza.TextEl(NS, "version", version))
	if os != "" {
		q.Add(stanza.TextEl(NS, "os", os))
	}
	return &Module{q}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	h.Feature(module.Server, NS)
	h.IQ(module.Server, stanza.Get, NS, "query", func(context.Context, *module.Request) (stanza.Payload, error) {
		return m.answer, nil
	})
	return nil
}
