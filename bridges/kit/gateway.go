// Package kit is the behaviour that every gateway shares, whatever network is behind
// it: XEP-0100 for one domain, as a router.Handler. HTTP gateways and bridges
// supply a [Network] and get a [Gateway].
//
// A Gateway owns registrations (XEP-0077, in plain fields, as a data form and as an
// ad-hoc command), the subscription state of its contacts, on their side, by the tables
// of RFC 6121 Appendix A, the presence that the network has set for them, and what they
// say of themselves. All of it is in the store and survives a restart. It answers
// probes, tells users when the gateway is lost and when it is back, keeps requests that
// the network has to answer, and turns foreign addresses into JIDs.
//
// What is neither answered nor refused here goes to the Network, on the goroutine of
// whoever sent it. Nothing is routed under a lock.
//
//spec:xep-0100 1.0 complete | Gateway Interaction | registration, log-in, contacts, prompts; no Agent Information, which is deprecated
//spec:xep-0077 2.4 complete | In-Band Registration | with gateways: fields that the gateway declares
//spec:xep-0050 1.3.0 complete | Ad-Hoc Commands | registration with gateways
//spec:xep-0115 1.6.0 complete | Entity Capabilities | gateways and their contacts
//spec:xep-0144 1.1.1 partial | Roster Item Exchange | gateways suggest their contacts
//spec:xep-0128 1.0.1 complete | Service Discovery Extensions | capabilities of gateways and their contacts
//spec:xep-0153 1.1.1 partial | vCard-Based Avatars | avatars of gateways' contacts
package kit

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Network is what is behind a gateway. Its methods run on the goroutine of whoever
// sent the stanza and must not wait for peers, save Register. They may call the Gateway.
// A *stanza.Error goes back to the sender.
type Network interface {
	// Message takes a message to an address of the domain over: p.Receipt is held until
	// it is safe (see router.Receipt).
	Message(ctx context.Context, p *router.Packet) error
	// Presence tells that a user is available or not, or that presence of a contact came
	// back in error. Without a localpart in 'to' it is to the gateway: a log-in or a
	// log-out (XEP-0100 §4.4, §4.5).
	Presence(ctx context.Context, st *stanza.Stanza) error
	// Subscription tells of a request, an approval, or the end of one, that changes the
	// state between a user and a contact (RFC 6121 §3).
	Subscription(ctx context.Context, st *stanza.Stanza) error
	// IQ takes a request that the gateway has not answered, or the answer to one that
	// was sent with Send. A request is answered with Send; whoever asked is told
	// remote-server-timeout when that takes too long.
	IQ(ctx context.Context, st *stanza.Stanza) error
	// Register tells of a registration. It may wait, and refuse what is not an end.
	Register(ctx context.Context, change Change, r *Registration) error
}

// Change is what has happened to a registration.
type Change string

// The changes.
const (
	Registered   Change = "registered"
	Changed      Change = "changed"
	Unregistered Change = "unregistered"
)

// Options of New. Router and Store are required; zero values of the rest are defaults.
type Options struct {
	Router *router.Router
	Store  *store.DB
	Logger *slog.Logger
	Now    func() time.Time
	// Version of the software, for jabber:iq:version; empty: it is not told.
	Version string

	MaxRegistrations int           // of the gateway: 100000
	MaxContacts      int           // of one user: 2000
	MaxPresences     int           // kept for all contacts: 65536
	MaxRequests      int           // that wait for the network's answer: 1024
	MaxUserRequests  int           // of one user: 64
	RequestTimeout   time.Duration // 30 s
	MaxRegistering   int           // registrations that wait for the network: 32
	MaxOnline        int           // resources remembered as logged in: 65536
	MaxVCard         int           // octets of one vCard: 128 KiB
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		of   *int
		zero int
	}{
		{&o.MaxRegistrations, 100000},
		{&o.MaxContacts, 2000},
		{&o.MaxPresences, 65536},
		{&o.MaxRequests, 1024},
		{&o.MaxUserRequests, 64},
		{&o.MaxRegistering, 32},
		{&o.MaxOnline, 65536},
		{&o.MaxVCard, 128 << 10},
	} {
		if *d.of <= 0 {
			*d.of = d.zero
		}
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = 30 * time.Second
	}
}

// Gateway is the handler of one domain. All methods may be called from any goroutine.
type Gateway struct {
	domain jid.JID
	opt    Options
	log    *slog.Logger
	net    Network
	key    []byte // of ad-hoc sessions

	def atomic.Pointer[settled]

	books    *otter.Cache[jid.JID, *book]
	profiles *otter.Cache[jid.JID, *Profile]
	locks    [256]sync.Mutex // by user: changes of a book
	enrolled atomic.Int64    // registrations

	presences presences
	online    online
	requests  requests
	herald    herald
	entering  chan struct{} // a token for each registration that waits for the network

	ending  sync.RWMutex
	ended   bool // Run has returned: nothing is begun any more
	working sync.WaitGroup
}

//go:embed migrations/*.sql
var migrations embed.FS

// Errors of methods, beside *stanza.Error, *DefinitionError and those of the store.
var (
	// ErrForeign: an address is not at the gateway's domain.
	ErrForeign = errors.New("kit: the address is not one of the gateway's")
	// ErrNotRegistered: the user has no registration.
	ErrNotRegistered = errors.New("kit: the user is not registered")
	// ErrNoRequest: nobody waits for this answer, or somebody has given it.
	ErrNoRequest = errors.New("kit: no request waits for this answer")
	// ErrTooMany: a bound of Options is reached.
	ErrTooMany = errors.New("kit: too many")
)

// New returns the gateway of a domain with what the store knows of it. It takes nothing
// until it is given to Router.Serve, and announces nothing until Run runs. The gateway is
// down at first.
func New(ctx context.Context, domain string, d Definition, n Network, o Options) (*Gateway, error) {
	if o.Router == nil || o.Store == nil || n == nil {
		return nil, errors.New("kit: Router, Store and a Network are required")
	}
	o.setDefaults()
	host, err := jid.New("", domain, "")
	if err != nil {
		return nil, fmt.Errorf("kit: %w", err)
	}
	g := &Gateway{
		domain: host.Clone(), opt: o, log: o.Logger.With("gateway", host.Domain()), net: n, key: []byte(rand.Text()),
		books: otter.Must(&otter.Options[jid.JID, *book]{
			MaximumWeight: 1 << 18, Weigher: func(_ jid.JID, b *book) uint32 { return 1 + uint32(len(b.contacts)) },
		}),
		profiles: otter.Must(&otter.Options[jid.JID, *Profile]{
			MaximumWeight: 32 << 20, Weigher: func(_ jid.JID, p *Profile) uint32 { return 256 + uint32(len(p.VCard)) },
		}),
		entering: make(chan struct{}, o.MaxRegistering),
	}
	g.online.init(o.MaxOnline)
	g.requests.init()
	g.herald.init()
	if err := Migrate(ctx, o.Store); err != nil {
		return nil, err
	}
	if err := g.Define(d); err != nil {
		return nil, err
	}
	if err := g.presences.load(ctx, g); err != nil {
		return nil, fmt.Errorf("kit: %w", err)
	}
	var n64 int64
	if err := o.Store.QueryRow(ctx, `SELECT COUNT(*) FROM kit_registration WHERE domain = ?`, g.domain.Domain()).Scan(&n64); err != nil {
		return nil, fmt.Errorf("kit: %w", err)
	}
	g.enrolled.Store(n64)
	return g, nil
}

// Migrate brings the tables up to date. New does so too; whoever may Purge without a
// Gateway calls it first.
func Migrate(ctx context.Context, db *store.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("kit: %w", err)
	}
	return db.Migrate(ctx, "kit", files)
}

// Domain returns the gateway's own address.
func (g *Gateway) Domain() jid.JID { return g.domain }

// Define replaces what the gateway is to its users. The error is a *DefinitionError.
func (g *Gateway) Define(d Definition) error {
	s, err := settle(d)
	if err != nil {
		return err
	}
	old := g.def.Swap(s)
	if old != nil && g.Up() && !reflect.DeepEqual(old.Definition, s.Definition) {
		g.herald.refresh() // other capabilities, other presence
	}
	return nil
}

// Definition returns what the gateway is to its users, defaults filled in.
func (g *Gateway) Definition() Definition { return g.def.Load().Definition }

// Handle implements router.Handler.
func (g *Gateway) Handle(ctx context.Context, p *router.Packet) error {
	switch p.Stanza.Kind {
	case stanza.Message:
		return g.message(ctx, p)
	case stanza.Presence:
		return g.presence(ctx, p)
	}
	return g.iq(ctx, p)
}

// admit refuses those who may not use the gateway.
func (g *Gateway) admit(ctx context.Context, from jid.JID) error {
	d := g.def.Load()
	if !d.admits(from) {
		return stanza.Err(stanza.Forbidden, "this gateway is not for you")
	}
	if !d.Registered {
		return nil
	}
	b, err := g.book(ctx, from.Bare())
	if err != nil {
		return err
	}
	if !b.registered { // XEP-0100 §4.8.2
		return stanza.Err(stanza.RegistrationRequired, "register with the gateway first")
	}
	return nil
}

// ours tells whether an address is the gateway's or that of a contact.
func (g *Gateway) ours(j jid.JID) bool { return j.Domain() == g.domain.Domain() }

// send routes what the gateway says of itself; that it finds nobody is no concern.
func (g *Gateway) send(ctx context.Context, t *router.Turn, st *stanza.Stanza) {
	if err := g.opt.Router.Send(ctx, t, st, nil); err != nil {
		g.log.Debug("a stanza of the gateway found nobody", "to", st.To.String(), "err", err)
	}
}

// around tells whether it is any use to send a user presence: those of our own hosts
// without a session would not see it.
func (g *Gateway) around(user jid.JID) bool {
	return !g.opt.Router.Hosts(user.Domain()) || user.Local() == "" || g.opt.Router.Account(user.Bare()) != nil
}

// begin runs f apart, and has Run wait for it. False: the gateway has ended.
func (g *Gateway) begin(f func()) bool {
	g.ending.RLock()
	defer g.ending.RUnlock()
	if g.ended {
		return false
	}
	g.working.Go(f)
	return true
}

// Purge deletes what all gateways know of an account that is being removed. Forget
// follows when that is committed.
func Purge(tx *store.Tx, account jid.JID) error {
	for _, q := range [...]string{
		`DELETE FROM kit_registration WHERE account = ?`,
		`DELETE FROM kit_contact WHERE account = ?`,
		`DELETE FROM kit_presence WHERE account = ?`,
	} {
		if _, err := tx.Exec(q, account.String()); err != nil {
			return err
		}
	}
	return nil
}
