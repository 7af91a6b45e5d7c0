// Package router knows who is here and brings stanzas to them: the session
// table, the domain handlers, the delivery rules of RFC 6121 §8 and the Outbox
// of each session.
//
// Lookups take no lock. A stanza is delivered on the goroutine that routes it
// and nothing on that way waits for a peer: it is appended to outboxes that the
// origin's Turn flushes.
//
//spec:rfc-6120 partial | XMPP: Core | §8.1, §10: addressing and routing
//spec:rfc-6121 complete | XMPP: Instant Messaging and Presence | §8: delivery rules, Table 1
package router

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// Packet is one stanza on its way. A Packet and its Turn belong to the goroutine
// that routes; the stanza is shared and never changed, only replaced.
type Packet struct {
	Stanza  *stanza.Stanza
	Session *Session // the local session that sent it; nil otherwise
	Turn    *Turn
	Receipt *Receipt // may be nil

	// On the way out: what the sender's other sessions see of the message, with the
	// id that it has in the sender's archive. Nil: the stanza itself.
	Sent *stanza.Stanza

	// On the way in, to a local account:
	Received *stanza.Stanza // as it came, before the steps of the Rewrite phase
	Account  *Account       // the recipient, nil while it has no session
	Targets  []*Session     // where it was delivered; set before the steps of the Observe phase
	// ArchiveID is the message's id in the recipient's archive; 0: it has none.
	ArchiveID int64
	// Parked is where the message lies while a session was to get it that is lost now;
	// nil: nowhere.
	Parked Parked
}

// Parked is a message in the store that is on its way to a session at the same
// time. One of the two is called, once, from any goroutine; neither waits.
type Parked interface {
	Drop()   // the session has the message: it need not be kept
	Return() // the session is lost: the message waits for any session of the account
}

// Forget drops what the packet refers to and keeps its memory for the next one.
func (p *Packet) Forget() {
	targets := p.Targets
	clear(targets)
	*p = Packet{Targets: targets[:0]}
}

// Handler takes the stanzas for a domain. It is the third contract of the
// house: virtual hosts, components, gateways and bridges are all Handlers.
// Handle runs on the sender's goroutine and must not wait for peers. A returned
// *stanza.Error goes back to the sender.
type Handler interface {
	Handle(ctx context.Context, p *Packet) error
}

// Hooks are what the module host does with stanzas for local accounts.
type Hooks struct {
	// Exists tells whether an account is there.
	Exists func(ctx context.Context, account jid.JID) (bool, error)
	// Before runs the phases Guard and Rewrite, After the phase Observe.
	Before func(ctx context.Context, p *Packet) error
	After  func(ctx context.Context, p *Packet) error
	// Request answers an iq get or set to a local domain or account.
	Request func(ctx context.Context, p *Packet) error
	// Refuse returns what a stranger gets for such a request to an account, so that
	// an account that is not there answers the same.
	Refuse func(st *stanza.Stanza) error
	// NoSession takes a message that no session of the account may get
	// (RFC 6121 §8.5.2.2.1: store it, or refuse with an error).
	NoSession func(ctx context.Context, p *Packet) error
	// Refused tells of a message that was refused after Before.
	Refused func(ctx context.Context, p *Packet)
	// Park keeps a message to account, which a session has not confirmed yet, where it
	// survives this process. safe is called once it does, with nil, or when it could
	// not be kept; not after Drop. Park returns nil when the message is not to be kept.
	// It does not wait. A nil Park keeps nothing.
	Park func(account jid.JID, st *stanza.Stanza, safe func(error)) Parked
}

// ErrHandled is returned by a step that has dealt with the stanza: it goes no
// further and nobody is told.
var ErrHandled = errors.New("router: stanza handled")

// Router is safe for concurrent use. Hooks and domains are set before traffic.
type Router struct {
	hooks    Hooks
	log      *slog.Logger
	now      func() time.Time
	watcher  watcher
	accounts *xsync.Map[jid.JID, *Account]
	sessions atomic.Int64
	flags    atomic.Uint32
	slots    atomic.Int32

	questions *xsync.Map[question, chan *stanza.Stanza] // of Ask
	asking    atomic.Int32                              // how many there are

	mu      sync.Mutex // writers of domains
	domains atomic.Pointer[map[string]Handler]
	remote  Handler

	Routed atomic.Int64 // stanzas routed, for metrics
}

// Options of New.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time
	Remote Handler // takes stanzas for domains that are not ours; nil: remote-server-not-found
}

// New returns a Router without domains.
func New(o Options) *Router {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Router{
		log: o.Logger, now: o.Now, remote: o.Remote, accounts: xsync.NewMap[jid.JID, *Account](),
		questions: xsync.NewMap[question, chan *stanza.Stanza](),
	}
	r.domains.Store(&map[string]Handler{})
	return r
}

// SetHooks names what the modules do. It is called once, before traffic.
func (r *Router) SetHooks(h Hooks) { r.hooks = h }

// NewFlag gives out one bit of each session's flags; at most 32, at start.
func (r *Router) NewFlag() Flag {
	n := r.flags.Add(1)
	if n > 32 {
		panic("router: more than 32 session flags")
	}
	return Flag(1) << (n - 1)
}

// Serve names the handler of a domain; nil takes the domain away.
func (r *Router) Serve(domain string, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]Handler{}
	for d, v := range *r.domains.Load() {
		next[d] = v
	}
	if h == nil {
		delete(next, domain)
	} else {
		next[domain] = h
	}
	r.domains.Store(&next)
}

// Local returns the handler of virtual hosts.
func (r *Router) Local() Handler { return local{r} }

// Serves tells whether a domain is one of ours, and Hosts whether it is a
// virtual host with accounts.
func (r *Router) Serves(domain string) bool { return (*r.domains.Load())[domain] != nil }

// Hosts tells whether a domain is a virtual host.
func (r *Router) Hosts(domain string) bool {
	_, ok := (*r.domains.Load())[domain].(local)
	return ok
}

// Sessions is how many sessions are bound.
func (r *Router) Sessions() int { return int(r.sessions.Load()) }

var packets = sync.Pool{New: func() any { return new(Packet) }}

// Send routes a stanza made by the server or a module. Errors mean the sender
// would have got an error stanza.
func (r *Router) Send(ctx context.Context, t *Turn, st *stanza.Stanza, rc *Receipt) error {
	p := packets.Get().(*Packet)
	p.Stanza, p.Turn, p.Receipt = st, t, rc
	err := r.Route(ctx, p)
	p.Forget()
	packets.Put(p)
	return err
}

// Route brings a stanza with both addresses to where 'to' says. It returns a
// *stanza.Error when the sender is to be told of a failure.
func (r *Router) Route(ctx context.Context, p *Packet) error {
	r.Routed.Add(1)
	if r.asking.Load() > 0 && r.answers(p.Stanza) {
		return nil
	}
	h := (*r.domains.Load())[p.Stanza.To.Domain()]
	if h == nil {
		h = r.remote
	}
	var err error
	if h == nil {
		err = &stanza.Error{Condition: stanza.RemoteServerNotFound} // RFC 6120 §10.4
	} else {
		err = h.Handle(ctx, p)
	}
	if err == ErrHandled {
		return nil
	}
	return err
}

// Bounce routes an error answer to st back to its sender, if it may have one.
func (r *Router) Bounce(ctx context.Context, t *Turn, st *stanza.Stanza, err error) {
	if reply := st.ErrorReply(r.stanzaError(st, err)); reply != nil && !reply.To.IsZero() {
		_ = r.Send(ctx, t, reply, nil) // an error is never answered with one
	}
}

// stanzaError returns what the sender of st is told of err.
func (r *Router) stanzaError(st *stanza.Stanza, err error) *stanza.Error {
	var e *stanza.Error
	if !errors.As(err, &e) {
		r.log.Error("routing failed", "kind", st.Kind.String(), "err", err)
		e = stanza.Internal()
	}
	return e
}

// rescue places messages that a lost session never got: they are handled as if
// the session had not been there. What other sessions were given too is rescued
// by the last of them to be lost, so that nobody gets it twice.
func (r *Router) rescue(s *Session, left []queued) {
	var t Turn
	ctx := context.Background()
	for i := range left {
		r.rescueOne(ctx, &t, s, &left[i])
	}
	t.Flush()
}

func (r *Router) rescueOne(ctx context.Context, t *Turn, s *Session, q *queued) {
	if q.st.Kind != stanza.Message {
		if q.st.Kind == stanza.IQ { // RFC 6121 §8.5.3.2.3: as if the resource were not there
			r.Bounce(ctx, t, q.st, &stanza.Error{Condition: stanza.ServiceUnavailable})
		}
		return
	}
	last, parked, rc, owed := true, Parked(nil), (*Receipt)(nil), false
	if q.t != nil {
		if last, parked, rc, owed = q.t.lost(); !last {
			return // another session may still get it
		}
	}
	var err error
	switch {
	case q.copy, q.st.Type == stanza.TypeError, q.st.Type == stanza.GroupChat, q.st.Type == stanza.Headline:
		if parked != nil {
			parked.Drop()
		}
	default:
		p := &Packet{Stanza: q.st, Turn: t, Account: r.Account(s.JID.Bare()), Parked: parked}
		if owed {
			p.Receipt = rc
		}
		if q.st.To.Bare() != s.JID.Bare() {
			p.Stanza = q.st.Readdressed(q.st.From, s.JID.Bare())
		}
		if parked == nil {
			err = r.place(ctx, p, s)
		} else {
			// It is in the store. Other sessions get it from there, at the pace at which
			// they read: all at once, and without an end, it could drown them too.
			err = r.noSession(ctx, p)
		}
		if err == ErrHandled {
			err = nil
		}
		if err != nil {
			if parked != nil {
				parked.Drop()
			}
			r.Bounce(ctx, t, q.st, err)
		}
	}
	if owed {
		rc.Release(err)
	}
}
