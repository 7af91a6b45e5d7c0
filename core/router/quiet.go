package router

import (
	"slices"

	"trivium/core/stanza"
)

// Urgency says how soon a session that is not being looked at wants a stanza.
type Urgency uint8

// The urgencies.
const (
	Now    Urgency = iota // at once, and behind everything that was held back
	Later                 // with the next stanza that is sent
	Latest                // like Later, and only the last of its kind of stanza from a full JID
)

// hold is what waits for something urgent, for a session that nobody looks at. It
// is guarded by its Outbox.
type hold struct {
	classify func(*stanza.Stanza) Urgency
	kept     []queued
	bytes    int
}

// Bounds of what is held back.
const (
	holdMax   = 256
	holdBytes = 128 << 10
)

// back holds a stanza back, or reports false.
func (h *hold) back(q queued) bool {
	u := h.classify(q.st)
	if u == Now || len(h.kept) >= holdMax || h.bytes+q.st.Size() > holdBytes {
		return false
	}
	if u == Latest {
		h.kept = slices.DeleteFunc(h.kept, func(k queued) bool {
			if k.st.Kind != q.st.Kind || k.st.From != q.st.From || h.classify(k.st) != Latest {
				return false
			}
			h.bytes -= k.st.Size()
			k.t.arrived() // nobody wants it any more, wherever it lies
			return true
		})
	}
	h.kept = append(h.kept, q)
	h.bytes += q.st.Size()
	return true
}

// unhold sends what was held back. o.mu is held.
func (o *Outbox) unhold() {
	if o.hold == nil {
		return
	}
	for _, q := range o.hold.kept {
		o.put(q)
	}
	o.hold.kept, o.hold.bytes = nil, 0
}

// Quiet holds back what classify does not call urgent, until something urgent
// comes or Quiet(nil) ends it (XEP-0352 §5). classify is called under a lock: it
// must not use the session.
func (s *Session) Quiet(classify func(*stanza.Stanza) Urgency) {
	o := &s.out
	o.mu.Lock()
	if o.dead || o.away {
		o.mu.Unlock()
		return
	}
	o.unhold()
	o.hold = nil
	if classify != nil {
		o.hold = &hold{classify: classify}
	}
	mine := o.buf != nil && o.claim()
	o.mu.Unlock()
	if mine {
		o.flush()
	}
}
