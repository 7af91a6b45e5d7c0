// Package stanzaid keeps others from giving messages an id in the name of an
// account or of the server: a <stanza-id/> that claims to be by either is taken
// out on the way in (XEP-0359 §3). Ids of its own the server does not give yet.
//
//spec:xep-0359 0.7.0 partial | Unique and Stable Stanza IDs | forged ids are removed; none are assigned without an archive
package stanzaid

import (
	"context"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// NS is the namespace of XEP-0359.
const NS = "urn:xmpp:sid:0"

// Module is the feature.
type Module struct{}

// New returns the feature.
func New() *Module { return &Module{} }

// Register implements module.Module.
func (*Module) Register(h *module.Host) error {
	h.Inbound(module.Rewrite, stanza.Message, strip)
	return nil
}

func strip(_ context.Context, p *module.Packet) error {
	if !p.Stanza.Has(NS, "stanza-id") {
		return nil
	}
	account := p.Stanza.To.Bare()
	p.Stanza = p.Stanza.Without(func(c stanza.Child) bool {
		if !c.Is(NS, "stanza-id") {
			return false
		}
		by, err := jid.Parse(c.Element().Attr("by"))
		return err != nil || by == account || by == account.Host()
	})
	return nil
}
