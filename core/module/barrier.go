package module

import (
	"context"

	"trivium/core/jid"
)

// Barrier adds a reason why nothing may pass between a local account and
// another address (XEP-0191). f must be cheap: it is asked for each delivery
// that does not go through the router, such as a broadcast of presence.
func (h *Host) Barrier(f func(ctx context.Context, account, other jid.JID) bool) {
	h.barriers = append(h.barriers, f)
}

// Barred tells whether an account wants nothing to pass between it and other.
// Modules that keep stanzas and deliver them later, or deliver to sessions
// themselves, ask it; whatever the router brings has been asked about already.
func (h *Host) Barred(ctx context.Context, account, other jid.JID) bool {
	for _, f := range h.barriers {
		if f(ctx, account, other) {
			return true
		}
	}
	return false
}
