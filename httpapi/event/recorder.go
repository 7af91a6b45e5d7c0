package event

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// Recorder puts the messages that watched accounts get into the log, beside
// delivering them. It is a module, and has to come before those that store
// messages for accounts that are offline.
type Recorder struct {
	events Appender
	log    *slog.Logger // set by Register

	watched  atomic.Pointer[watched] // nil: nobody
	dropped  atomic.Int64
	recorded atomic.Int64
	warned   atomic.Int64 // Unix nanoseconds

	mu     sync.Mutex
	owners map[string][]jid.Pattern
}

// watched is whom somebody watches. It is replaced whole, never edited.
type watched struct {
	hosts    map[string]bool
	accounts map[jid.JID]bool
	others   map[string][]jid.Pattern // stars and full addresses, by domain
}

// NewRecorder returns a recorder that watches nobody yet.
func NewRecorder(events Appender) *Recorder {
	return &Recorder{events: events, log: slog.New(slog.DiscardHandler), owners: map[string][]jid.Pattern{}}
}

// Watch replaces what an owner watches: local accounts, virtual hosts, or the
// accounts of a host that fit a pattern. An empty list ends it. It may be called
// at any time from any goroutine, and counts from the next message on. Messages
// that several owners watch are recorded once.
func (r *Recorder) Watch(owner string, list []jid.Pattern) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(list) == 0 {
		delete(r.owners, owner)
	} else {
		r.owners[owner] = slices.Clone(list)
	}
	if len(r.owners) == 0 {
		r.watched.Store(nil)
		return
	}
	w := &watched{hosts: map[string]bool{}, accounts: map[jid.JID]bool{}, others: map[string][]jid.Pattern{}}
	for _, list := range r.owners {
		for _, p := range list {
			switch j, ok := p.JID(); {
			case p.IsZero():
			case ok && j.IsHost():
				w.hosts[j.Domain()] = true
			case ok && j.IsBare():
				w.accounts[j] = true
			default:
				w.others[p.Domain()] = append(w.others[p.Domain()], p)
			}
		}
	}
	r.watched.Store(w)
}

func (w *watched) match(to jid.JID) bool {
	return w.hosts[to.Domain()] || w.accounts[to.Bare()] ||
		slices.ContainsFunc(w.others[to.Domain()], func(p jid.Pattern) bool { return p.Match(to) })
}

// Register implements module.Module.
func (r *Recorder) Register(h *module.Host) error {
	r.log = h.Log
	h.Inbound(module.Observe, stanza.Message, r.record)
	h.NoSession(func(ctx context.Context, p *module.Packet) error {
		if p.Received == nil { // left over from a lost session: seen when it was delivered
			return nil
		}
		return r.record(ctx, p)
	})
	h.Figure(
		module.Figure{
			Name: "trivium.events.recorded", Unit: "{message}", Read: r.recorded.Load,
			Text: "Messages of watched accounts that were put into the event log.",
		},
		module.Figure{
			Name: "trivium.events.dropped", Unit: "{message}", Read: r.Dropped,
			Text: "Messages of watched accounts that found no place in the event log.",
		},
	)
	return nil
}

// Dropped returns how many messages could not be queued for the log.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// record is a module.Step.
func (r *Recorder) record(ctx context.Context, p *module.Packet) error {
	w := r.watched.Load()
	if w == nil {
		return nil
	}
	st := p.Stanza
	if st.Type == stanza.TypeError || !w.match(st.To) {
		return nil // errors are about something that a client of the account has sent
	}
	// The message itself has been delivered: its sender may be told that not all is
	// well, but not that it did not arrive.
	if err := r.events.Append(Of(Message, st.To.Domain(), st).In(ctx), p.Receipt); err != nil {
		r.drop(err)
	} else {
		r.recorded.Add(1)
	}
	return nil
}

// drop counts, and says so every ten seconds at most.
func (r *Recorder) drop(err error) {
	n := r.dropped.Add(1)
	now, before := time.Now().UnixNano(), r.warned.Load()
	if now-before >= int64(10*time.Second) && r.warned.CompareAndSwap(before, now) {
		r.log.Warn("copies of messages were not put into the event log", "dropped", n, "err", err)
	}
}
