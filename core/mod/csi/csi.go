// Package csi implements XEP-0352 (Client State Indication): a client says when
// its user does not look at it, and is then sent at once only what matters.
//
// What matters is decided by Module.Classify. The rest is kept by the session's outbox,
// in order, and goes in front of the next stanza that matters: nothing is thrown
// away but presence and chat states that a later one makes obsolete.
//
//spec:xep-0352 1.0.0 complete | Client State Indication | client states; also inside Bind 2
package csi

import (
	"context"

	"trivium/core/module"
	"trivium/core/stanza"
)

// NS is the namespace of XEP-0352.
const NS = "urn:xmpp:csi:0"

// Options of New.
type Options struct {
	// Urgent names namespaces of payloads that matter, though Classify would have
	// them wait: "http://jabber.org/protocol/chatstates" for one.
	Urgent []string
}

// Module is the feature.
type Module struct{ rules rules }

// New returns the feature.
func New(o Options) *Module { return &Module{newRules(o.Urgent)} }

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	h.StreamFeature(func(st module.Stage, _ string) stanza.Payload {
		if st != module.AfterLogin {
			return nil // XEP-0352 §4.1: after the client has authenticated
		}
		return stanza.El(NS, "csi")
	})
	h.Nonza(NS, "active", m.handle)
	h.Nonza(NS, "inactive", m.handle)
	h.Inline(NS, NS, func(ctx context.Context, s *module.Session, t *module.Turn, el *stanza.Element) (stanza.Payload, error) {
		return nil, m.handle(ctx, s, t, el)
	})
	return nil
}

// handle takes <active/> and <inactive/>, to which there is no reply (XEP-0352
// §4.2). Nobody else learns of the state (§6).
func (m *Module) handle(_ context.Context, s *module.Session, _ *module.Turn, el *stanza.Element) error {
	switch el.Local {
	case "active":
		s.Quiet(nil)
	case "inactive":
		account := s.JID.Bare()
		s.Quiet(func(st *stanza.Stanza) module.Urgency { return m.Classify(account, st) })
	}
	return nil
}
