// Package module is how a feature joins the server: the second contract of the
// house. A feature is a package with a type that has one method, Register; there
// it names the iqs it answers, the steps it takes on the way of stanzas, and
// what it announces. The tables are built once, at start: dispatch is one map
// lookup and a pipeline a slice walk, without locks.
package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// The types that modules share with the router.
type (
	Packet  = router.Packet
	Parked  = router.Parked
	Session = router.Session
	Turn    = router.Turn
	Receipt = router.Receipt

	Presence = router.Presence
	Flag     = router.Flag
	Urgency  = router.Urgency
)

// The urgencies.
const (
	Now    = router.Now
	Later  = router.Later
	Latest = router.Latest
)

// Key names a value of type T that a module keeps with sessions.
type Key[T any] = router.Key[T]

// NewKey returns a new Key.
func NewKey[T any]() Key[T] { return router.NewKey[T]() }

// NewReceipt returns a Receipt that the caller holds.
func NewReceipt(done func(error)) *Receipt { return router.NewReceipt(done) }

// ErrHandled is what a step returns when it has dealt with the stanza.
var ErrHandled = router.ErrHandled

// Module is one feature.
type Module interface {
	Register(*Host) error
}

// Phase orders the steps of a pipeline. Within a phase steps run in the order of
// registration.
type Phase uint8

// The phases.
const (
	Guard   Phase = iota // may refuse; changes nothing
	Rewrite              // may replace the stanza or take it over
	Observe              // sees what is sent or has been delivered
	phases
)

// Step looks at one stanza. It may replace p.Stanza, never change it. A
// *stanza.Error refuses the stanza and goes back to its sender; ErrHandled ends
// its way in silence. ctx lives as long as the origin, not as long as the stanza.
type Step func(ctx context.Context, p *Packet) error

// Request is one iq request for the server or on behalf of an account.
type Request struct {
	Stanza  *stanza.Stanza
	Payload stanza.Child // the request's one child
	Session *Session     // the local session that asks; nil for anybody else
	Turn    *Turn
	Remote  net.Addr // who asks, before authentication; nil otherwise
}

// Element builds the tree of the request's child.
func (rq *Request) Element() *stanza.Element { return rq.Payload.Element() }

// From returns who asks.
func (rq *Request) From() jid.JID { return rq.Stanza.From }

// To returns who is asked: a domain of ours or a bare account.
func (rq *Request) To() jid.JID { return rq.Stanza.To }

// Handler answers a Request. What it returns is the answer: a result with the
// payload (nil: an empty one), or the error. It may wait for the store.
type Handler func(ctx context.Context, rq *Request) (stanza.Payload, error)

// Scope says whom a handler answers for, and whom it answers.
type Scope uint8

// Scopes form a bit set.
const (
	Server  Scope = 1 << iota // requests to a domain of ours, by anybody
	Account                   // requests to a bare account, by anybody: the handler decides
	Own                       // requests to a bare account by that account's own sessions
)

type iqKey struct {
	typ, space, local string
}

type iqEntry struct {
	scope Scope
	fn    Handler
}

// Host is what modules register with. After Build nothing registers any more
// and everything may be read by any goroutine.
type Host struct {
	Router *router.Router
	Store  *store.DB
	Log    *slog.Logger
	Now    func() time.Time
	Hosts  []string // the virtual hosts

	iqs       map[iqKey]map[Scope]iqEntry
	before    map[iqKey]Handler
	out, in   [phases][8][]Step
	broadcast [phases][]Step
	noSession []Step
	bound     []func(context.Context, *Session)
	unbound   []func(context.Context, *Turn, *Session)
	features  []func(Stage, string) stanza.Payload
	refused   []func(context.Context, *Packet)
	park      func(jid.JID, *stanza.Stanza, func(error)) Parked
	nonzas    map[[2]string]Nonza
	inline    []inline
	welcome   []func(context.Context, *Session) stanza.Payload
	figures   []Figure
	removed   []func(*store.Tx, jid.JID) error
	leaving   []func(context.Context, *Turn, jid.JID) error
	barriers  []func(context.Context, jid.JID, jid.JID) bool
	stops     []func()
	disco     Disco
	err       error
	exists    func(context.Context, jid.JID) (bool, error)
}

// NewHost returns a Host without modules. exists tells whether a local account
// is there.
func NewHost(r *router.Router, db *store.DB, log *slog.Logger, now func() time.Time, hosts []string,
	exists func(context.Context, jid.JID) (bool, error),
) *Host {
	return &Host{
		Router: r, Store: db, Log: log, Now: now, Hosts: hosts, exists: exists,
		iqs: map[iqKey]map[Scope]iqEntry{}, before: map[iqKey]Handler{},
	}
}

// Build registers the modules in order and hooks them into the router.
func (h *Host) Build(mods ...Module) error {
	for _, m := range mods {
		if err := m.Register(h); err != nil {
			return fmt.Errorf("register %T: %w", m, err)
		}
	}
	if h.err != nil {
		return h.err
	}
	h.disco.build()
	h.Router.SetHooks(router.Hooks{
		Exists:    h.exists,
		Before:    h.inBefore,
		After:     func(ctx context.Context, p *Packet) error { return run(ctx, p, h.in[Observe][p.Stanza.Kind]) },
		Request:   h.request,
		Refuse:    h.refuse,
		NoSession: h.takeOver,
		Refused:   h.tellRefused,
		Park:      h.park,
	})
	return nil
}

// Migrate brings the tables of the module of that name up to date, to be called in
// Register: files holds migrations/NNNNN_name.sql, as store.DB.Migrate wants them.
func (h *Host) Migrate(name string, files fs.FS) error {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		return err
	}
	return h.Store.Migrate(context.Background(), name, sub)
}

// IQ names the handler for requests of a type (stanza.Get, stanza.Set) whose
// child has this expanded name.
func (h *Host) IQ(scope Scope, typ, space, local string, fn Handler) {
	k := iqKey{typ, space, local}
	if h.iqs[k] == nil {
		h.iqs[k] = map[Scope]iqEntry{}
	}
	for _, bit := range [...]Scope{Server, Account, Own} {
		if scope&bit == 0 {
			continue
		}
		at := bit
		if at == Own {
			at = Account // one owner for requests to an account
		}
		if _, dup := h.iqs[k][at]; dup {
			h.err = fmt.Errorf("two handlers for iq %s {%s}%s", typ, space, local)
		}
		h.iqs[k][at] = iqEntry{bit, fn}
	}
}

// BeforeAuth names the handler for requests on streams that have not
// authenticated: in-band registration (XEP-0077 §3.1) and nothing else yet.
func (h *Host) BeforeAuth(typ, space, local string, fn Handler) {
	k := iqKey{typ, space, local}
	if h.before[k] != nil {
		h.err = fmt.Errorf("two handlers before authentication for iq %s {%s}%s", typ, space, local)
	}
	h.before[k] = fn
}

// Outbound adds a step on the way of stanzas of these kinds from a local
// session, presence without 'to' not among them.
func (h *Host) Outbound(ph Phase, kinds stanza.Kind, s Step) { add(&h.out, ph, kinds, s) }

// Inbound adds a step on the way of stanzas of these kinds to a local account.
// Observe comes after delivery: p.Targets tells to whom.
func (h *Host) Inbound(ph Phase, kinds stanza.Kind, s Step) { add(&h.in, ph, kinds, s) }

func add(t *[phases][8][]Step, ph Phase, kinds stanza.Kind, s Step) {
	for _, k := range [...]stanza.Kind{stanza.Message, stanza.Presence, stanza.IQ} {
		if kinds&k != 0 {
			t[ph][k] = append(t[ph][k], s)
		}
	}
}

// Broadcast adds a step for a session's own presence without 'to' (RFC 6121
// §4.2, §4.4, §4.5). In Guard the session's presence is still the one before; the
// step in Rewrite that broadcasts it has set the new one when Observe runs.
func (h *Host) Broadcast(ph Phase, s Step) { h.broadcast[ph] = append(h.broadcast[ph], s) }

// NoSession adds a step for messages that no session of the account may get
// (RFC 6121 §8.5.2.2.1). The first that returns ErrHandled has taken the message
// over; when none does, the sender gets service-unavailable.
func (h *Host) NoSession(s Step) { h.noSession = append(h.noSession, s) }

// Refused adds what happens when a message that has an ArchiveID was refused after
// the phase Rewrite: its sender gets an error.
func (h *Host) Refused(f func(context.Context, *Packet)) { h.refused = append(h.refused, f) }

// Park names what keeps a message that a session has not confirmed: see
// router.Hooks.
func (h *Host) Park(f func(account jid.JID, st *stanza.Stanza, safe func(error)) Parked) {
	if h.park != nil {
		h.err = errors.New("two modules park messages")
	}
	h.park = f
}

// Bound adds what happens when a session has been bound, before its first stanza.
func (h *Host) Bound(f func(context.Context, *Session)) { h.bound = append(h.bound, f) }

// Exists tells whether a local account is there.
func (h *Host) Exists(ctx context.Context, account jid.JID) (bool, error) {
	return h.exists(ctx, account)
}

// Unbound adds what happens after a session has ended; f is called once for each.
func (h *Host) Unbound(f func(context.Context, *Turn, *Session)) { h.unbound = append(h.unbound, f) }

// Removed adds what purges a module's data of an account, in the transaction
// that removes the account. It may run more than once.
func (h *Host) Removed(f func(*store.Tx, jid.JID) error) { h.removed = append(h.removed, f) }

// Leaving adds what is told to others before an account is removed, while its
// data and sessions are still there.
func (h *Host) Leaving(f func(ctx context.Context, t *Turn, account jid.JID) error) {
	h.leaving = append(h.leaving, f)
}

// Stage is where a stream is when features are offered.
type Stage uint8

// The stages.
const (
	BeforeLogin Stage = iota // before authentication
	AfterLogin               // after authentication, before binding
)

// StreamFeature adds what is offered in <stream:features/> (RFC 6120 §4.3.2) of
// a host; f returns nil for nothing. It is called for each stream.
func (h *Host) StreamFeature(f func(st Stage, host string) stanza.Payload) {
	h.features = append(h.features, f)
}

// Figure is one number that a module keeps for operators.
type Figure struct {
	Name  string // with dots, as OpenTelemetry has it: "trivium.archive.messages"
	Unit  string // of the UCUM, or in braces: "{message}"
	Text  string // one sentence
	Level bool   // it goes down as well; otherwise it counts from the start
	Read  func() int64
}

// Figure declares a number; it is read when somebody asks, by any goroutine.
func (h *Host) Figure(list ...Figure) { h.figures = append(h.figures, list...) }

// Figures returns what the modules have declared.
func (h *Host) Figures() []Figure { return h.figures }

// Disco returns what the server announces (XEP-0030).
func (h *Host) Disco() *Disco { return &h.disco }

// Feature announces features of the server, and of accounts where the scope has
// Account.
func (h *Host) Feature(scope Scope, vars ...string) {
	if scope&Server != 0 {
		h.disco.ServerFeatures = append(h.disco.ServerFeatures, vars...)
	}
	if scope&Account != 0 {
		h.disco.AccountFeatures = append(h.disco.AccountFeatures, vars...)
	}
}

// Disco is what disco#info and disco#items tell of the server and of accounts.
type Disco struct {
	ServerFeatures, AccountFeatures []string
	ServerIdentities                []Identity
	AccountIdentities               []Identity
	Items                           func(ctx context.Context, host string) []Item // nil: none
}

// Identity is one identity of XEP-0030 §3.1.
type Identity struct{ Category, Type, Name string }

// Item is one item of XEP-0030 §4.1.
type Item struct {
	JID  jid.JID
	Node string
	Name string
}

func (d *Disco) build() {
	for _, f := range []*[]string{&d.ServerFeatures, &d.AccountFeatures} {
		slices.Sort(*f)
		*f = slices.Compact(*f)
	}
}
