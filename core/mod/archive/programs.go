package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"trivium/core/jid"
	"trivium/core/rsm"
	"trivium/core/stanza"
)

// Query asks for one page of an account's archive: what XEP-0313 §4.1 offers to
// clients, for programs. The zero Query asks for the oldest messages.
type Query struct {
	// With lets only messages through that were exchanged with this address (§4.1.1);
	// a bare one stands for all its resources. Zero: all.
	With jid.JID
	// Start and End bound the time, both included (§4.1.2). Zero: no bound.
	Start, End time.Time
	// After and Before are ids of messages that bound the result set, themselves
	// excluded (§4.1.3). Empty: no bound.
	After, Before string
	// IDs are those of single messages (§4.1.4), at most Options.PageMax; nil: all.
	IDs []string
	// Text is searched for in bodies (XEP-0431): words, prefixes, "phrases".
	Text string
	// Page says which page of the result set (§5); Max counts up to Options.PageMax.
	Page rsm.Request
	// Flip has the page begin with its newest message (§5.4).
	Flip bool
}

// Item is one message of an archive.
type Item struct {
	ID   string // in the archive: also its <stanza-id/>
	Time time.Time
	// Stanza is the message as it was sent and received, but for what the server has
	// removed of it.
	Stanza *stanza.Stanza
	Sent   bool // by the account itself, which may have sent it to itself
}

// Result is one page of an archive.
type Result struct {
	Items []Item
	// Page holds the ids of the oldest and the newest item, and the number of all that
	// match when no items were asked for and they can be counted.
	rsm.Page
	// Complete tells that nothing follows in the direction of the query (§4.2).
	Complete bool
}

// Query reads a page of the archive of account, a bare address of this server. An
// account without an archive has an empty one. Errors are *stanza.Error when the
// query is at fault: item-not-found for ids that are not in the archive,
// feature-not-implemented for pages by index and for text when Options.FullText is
// off, policy-violation for too much at once. It may wait for the store and is safe
// for concurrent use.
func (m *Module) Query(ctx context.Context, account jid.JID, want Query) (*Result, error) {
	account = account.Bare()
	q, err := m.plan(&want, account)
	if err != nil {
		return nil, err
	}
	page, err := m.answer(ctx, account, q)
	if err != nil {
		return nil, err
	}
	out := &Result{Items: make([]Item, 0, len(page.rows)), Page: page.bounds(), Complete: !page.more}
	for i := range page.rows {
		r := &page.rows[i]
		st, err := stanza.ParseDocument(r.doc)
		if err != nil {
			return nil, fmt.Errorf("archive: message %d of %s: %v", r.id, account, err)
		}
		out.Items = append(out.Items, Item{ID: text(r.id), Time: stamp(r.id), Stanza: st, Sent: st.From.Bare() == account})
	}
	if want.Flip {
		slices.Reverse(out.Items)
	}
	return out, nil
}
