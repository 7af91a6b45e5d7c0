package delivery

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/bloom"
	"trivium/httpapi/event"
	"trivium/httpapi/keyindex"
	"trivium/httpapi/message"
)

// Options of New. Zero values are defaults.
type Options struct {
	// Events is told when a message is delivered, displayed or has failed: events of
	// type event.Delivery with a Status. Nil: nobody.
	Events event.Appender
	// Memory is how many messages are in memory: 16384.
	Memory int
	// Keep is how long those in the database stay: 7 days.
	Keep   time.Duration
	Logger *slog.Logger
	Now    func() time.Time
}

// upTo is how many messages a marker that says "up to here" is applied to, at
// most, the latest before it.
const upTo = 500

// Tracker follows messages. It is a module; its methods may be called from any
// goroutine. A nil Tracker follows nothing.
type Tracker struct {
	db      *store.DB
	opts    Options
	seed    maphash.Seed
	tracked atomic.Int64    // how many there are, in memory or in the database, about
	index   *keyindex.Index // id -> seq

	mu     sync.Mutex
	ring   []*Message
	latest uint64            // sequence number of the latest; the first is 1
	byID   map[uint64]uint64 // hash of an id -> sequence number of its latest message
	last   int64             // seq of the latest row
}

//go:embed migrations/*.sql
var migrations embed.FS

// New returns a Tracker whose table lies in db.
func New(ctx context.Context, db *store.DB, o Options) (*Tracker, error) {
	if o.Memory <= 0 {
		o.Memory = 16384
	}
	if o.Keep <= 0 {
		o.Keep = 7 * 24 * time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "delivery", files); err != nil {
		return nil, err
	}
	t := &Tracker{db: db, opts: o, seed: maphash.MakeSeed(), ring: make([]*Message, o.Memory), byID: map[uint64]uint64{}}
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t, t.Trim(ctx)
}

// Register implements module.Module. Messages are seen before they are delivered:
// most accounts that programs speak for have no session, and then nothing comes
// after.
func (t *Tracker) Register(h *module.Host) error {
	h.Inbound(module.Rewrite, stanza.Message, func(_ context.Context, p *module.Packet) error {
		if t.tracked.Load() > 0 {
			t.Observe(p.Stanza)
		}
		return nil
	})
	return nil
}

// Message is one that is followed. A nil Message is not.
type Message struct {
	tracker *Tracker
	// Constant.
	text          string // account, sender, recipient and id, one after another
	account, from int    // where the first two end
	to            int    // where the recipient ends
	hash          uint64 // of the id
	seq           uint64
	keep          Keep

	// Guarded by tracker.mu.
	older    uint64 // sequence number of the message with the same hash before this one
	hasRow   bool   // changes go to the database too
	progress progress
}

func (m *Message) ids() (account, from, to, id string) {
	return m.text[:m.account], m.text[m.account:m.from], m.text[m.from:m.to], m.text[m.to:]
}

// Keep says how long a message is known.
type Keep uint8

// The ways to keep messages.
const (
	// Latest: while it is among the latest.
	Latest Keep = iota
	// Changed: it is stored when more is known of it than that it was accepted, which
	// the caller can tell by other means.
	Changed
	// Always: it is stored; the caller has to see to that, by Row or Save, when the
	// message is safe.
	Always
)

// Begin follows a message that is about to be sent.
func (t *Tracker) Begin(st *stanza.Stanza, keep Keep) *Message {
	if t == nil || st.Kind != stanza.Message || st.Type == stanza.TypeError || st.ID == "" {
		return nil
	}
	account, from, to := st.From.Bare().String(), st.From.String(), st.To.String()
	var b strings.Builder // a copy: the stanza may share a large request's memory
	b.Grow(len(account) + len(from) + len(to) + len(st.ID))
	b.WriteString(account)
	b.WriteString(from)
	b.WriteString(to)
	b.WriteString(st.ID)
	m := &Message{
		tracker: t, text: b.String(), account: len(account), from: len(account) + len(from), to: len(account) + len(from) + len(to),
		hash: maphash.String(t.seed, st.ID), keep: keep,
	}
	m.progress.created = t.opts.Now().UnixMicro()
	t.mu.Lock()
	t.latest++
	m.seq = t.latest
	slot := &t.ring[m.seq%uint64(len(t.ring))]
	if old := *slot; old != nil {
		if t.byID[old.hash] == old.seq {
			delete(t.byID, old.hash)
		}
	} else {
		t.tracked.Add(1)
	}
	*slot = m
	m.older = t.byID[m.hash]
	t.byID[m.hash] = m.seq
	t.mu.Unlock()
	return m
}

// at returns the message with a sequence number, if it is still in memory.
func (t *Tracker) at(seq uint64) *Message {
	if m := t.ring[seq%uint64(len(t.ring))]; seq != 0 && m != nil && m.seq == seq {
		return m
	}
	return nil
}

// mostAlike is how many messages with one id in memory are looked at.
const mostAlike = 64

// find returns the latest message with this id that fits. It needs t.mu.
func (t *Tracker) find(id string, fits func(*Message) bool) *Message {
	m := t.at(t.byID[maphash.String(t.seed, id)])
	for range mostAlike {
		if m == nil {
			break
		}
		if m.text[m.to:] == id && fits(m) {
			return m
		}
		m = t.at(m.older)
	}
	return nil
}

// Settle tells how sending has ended: nil when the message is safe, else why not. A
// message that was refused has failed; of one that could not be sent for a reason of
// ours nothing is known. It does not wait.
func (m *Message) Settle(err error) {
	if m == nil {
		return
	}
	t := m.tracker
	var refused *stanza.Error
	now := t.opts.Now().UnixMicro()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		m.progress.reach(Accepted, now, nil)
	case errors.As(err, &refused):
		m.progress.reach(Failed, now, refused)
		if m.keep == Changed {
			m.keep = Always
		}
	}
}

// Observe looks at what comes for an address of ours: whether it tells what became
// of a message. It does not wait.
func (t *Tracker) Observe(st *stanza.Stanza) {
	if t == nil || st.Kind != stanza.Message {
		return
	}
	if st.Type == stanza.TypeError {
		if st.ID != "" {
			t.note(st, st.ID, Failed)
		}
		return
	}
	if c, ok := st.Child(message.NSReceipts, "received"); ok { // XEP-0184 §5.3
		t.note(st, c.Element().Attr("id"), Delivered)
	}
	for i := range markers {
		if c, ok := st.Child(message.NSMarkers, markers[i].name); ok { // XEP-0333 §4.2
			t.note(st, c.Element().Attr("id"), markers[i].state)
		}
	}
}

// Beside displayed there have been two more.
var markers = [...]struct{ name, state string }{{"displayed", Displayed}, {"acknowledged", Displayed}, {"received", Delivered}}

// speaksFor tells whether from, who tells of a message, was its recipient: any of
// his devices, or the server, for an error.
func speaksFor(from jid.JID, to, state string) bool {
	j, err := jid.Parse(to)
	return err == nil && (from.Bare() == j.Bare() || state == Failed && from.IsHost() && from.Domain() == j.Domain())
}

// note takes over that the message with this id, of st's recipient, has reached a
// state.
func (t *Tracker) note(st *stanza.Stanza, id, state string) {
	if id == "" {
		return
	}
	account := st.To.Bare().String()
	var reason *stanza.Error
	if state == Failed {
		reason = errorOf(st)
	}
	now := t.opts.Now().UnixMicro()
	var news []Status
	rows, store := false, false
	t.mu.Lock()
	m := t.find(id, func(m *Message) bool {
		return m.text[:m.account] == account && speaksFor(st.From, m.text[m.from:m.to], state)
	})
	if m != nil {
		news, rows = t.advance(m, state, now, reason)
		store = m.keep == Changed && !m.hasRow && news != nil
		if store {
			m.keep = Always
		}
	}
	t.mu.Unlock()
	for i := range news {
		t.tell(news[i])
	}
	if store {
		m.Save(func(err error) {
			if err != nil {
				t.opts.Logger.Error("what became of a message was not stored", "err", err)
			}
		})
	}
	if rows || m == nil && t.index.MayHave(name(id)) {
		t.update(account, id, st.From, state, now, reason, m == nil)
	}
}

// advance notes the state of m and, with what says "up to here", of those before it
// in the conversation (XEP-0333 §1). It needs t.mu. rows tells whether the database
// has to follow.
func (t *Tracker) advance(m *Message, state string, now int64, reason *stanza.Error) (news []Status, rows bool) {
	change := func(m *Message) {
		if m.progress.reach(state, now, reason) {
			_, from, to, id := m.ids()
			news = append(news, m.progress.status(id, from, to))
			rows = rows || m.hasRow
		}
	}
	change(m)
	if state != Displayed || news == nil {
		return news, rows
	}
	account, _, to, _ := m.ids()
	bare := bareOf(to)
	for seq, n := m.seq-1, 0; n < upTo; seq, n = seq-1, n+1 {
		before := t.at(seq)
		if before == nil {
			break
		}
		if a, _, other, _ := before.ids(); a == account && bareOf(other) == bare && before.progress.state() != Failed {
			change(before)
		}
	}
	return news, rows
}

func bareOf(address string) string {
	bare, _, _ := strings.Cut(address, "/")
	return bare
}

// Find returns what became of the latest message with this id whose sender fits.
func (t *Tracker) Find(ctx context.Context, id string, fits func(from jid.JID) bool) (Status, bool, error) {
	if t == nil {
		return Status{}, false, nil
	}
	t.mu.Lock()
	m := t.find(id, func(m *Message) bool {
		from, err := jid.Parse(m.text[m.account:m.from])
		return err == nil && fits(from)
	})
	var s Status
	if m != nil {
		_, from, to, _ := m.ids()
		s = m.progress.status(id, from, to)
	}
	t.mu.Unlock()
	if m != nil {
		return s, true, nil
	}
	return t.load(ctx, id, fits)
}

// name is what the index knows an id by.
func name(id string) (d bloom.Digest) {
	sum := sha256.Sum256([]byte(id))
	copy(d[:], sum[:])
	return d
}
