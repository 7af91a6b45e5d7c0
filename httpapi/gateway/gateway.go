// Package gateway makes programs that speak HTTP the network behind gateway domains.
// Every stanza to an address of such a domain becomes an event, which webhooks and event
// streams bring to the program; the program speaks as any address of the domain by REST.
// What gateways do for their users is bridges/kit's.
//
// The Registry keeps the domains: those of the configuration, and those that were
// declared at run time. A gateway that no webhook serves and no stream follows is down:
// after a grace period its users see it leave. Messages wait in the event log all the same, and
// whoever comes to serve the gateway gets them; those that nobody takes in time go back to their senders.
package gateway

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
)

// Define declares a gateway domain.
type Define struct {
	Domain string `json:"domain" doc:"The gateway's domain." format:"hostname" example:"sms.example.org"`
	Owner  string `json:"owner,omitempty" maxLength:"255" doc:"The id of the API token that it belongs to. Empty: whoever may administer it."`
	kit.Definition
	GiveUpAfter int `json:"give_up_after,omitempty" minimum:"60" maximum:"2592000" doc:"Seconds after which messages that no program has taken go back to their senders; 0: 72 hours."`
}

// Sources of definitions.
const (
	Configured = "configuration"
	Declared   = "api"
)

// Resource is a gateway domain as REST shows it.
type Resource struct {
	Define
	Source        string    `json:"source" enum:"configuration,api" doc:"Where it was declared. What the configuration declares cannot be changed here."`
	Up            bool      `json:"up" doc:"A webhook serves it or a stream follows it."`
	Since         time.Time `json:"since" doc:"Since when it is up, or is not."`
	Registrations int64     `json:"registrations" doc:"Registered users."`
	Version       string    `json:"-"` // of the definition, for ETags
}

// Log is what the Registry needs of the event log.
type Log interface {
	event.Appender
	// Await and Offer are about events that nobody has taken, as event.Log has them.
	Await(func(host string) bool)
	Offer(ctx context.Context, host string, upTo int64, choose func([]*event.Event) ([]*event.Event, store.Op)) error
}

// Consumer is the name under which the program behind a gateway acknowledges events.
func Consumer(domain string) string { return event.Gateway(domain) }

// Options of New. Router, Store and Log are required; zero values of the rest are
// defaults.
type Options struct {
	Router *router.Router
	Store  *store.DB
	Log    Log
	Logger *slog.Logger
	Now    func() time.Time
	// Configured are the gateways of the configuration.
	Configured []Define
	// Sync answers an event at once instead of logging it: ok tells that somebody is
	// there to do so. It may wait. A *stanza.Error, or a reply of type error, refuses a
	// registration. Nil: nobody is. It is called for requests and registrations.
	Sync func(ctx context.Context, e *event.Event) (replies []*stanza.Stanza, ok bool, err error)
	// Served tells whether a webhook takes the events of a domain, and is up. It is asked
	// when the gateway starts. Nil: none does.
	Served func(domain string) (has, up bool)
	// Wants tells whether anybody takes events of this type of a domain. Requests that
	// nobody takes are refused at once. Nil: somebody does.
	Wants func(domain string, t event.Type) bool

	// Observe is shown every message to an address of a gateway, for what it tells of
	// messages sent before. It must not wait. Nil: nobody looks.
	Observe func(*stanza.Stanza)

	Version     string        // of the software, told by gateways
	Grace       time.Duration // before the loss of a gateway is announced: 30 s
	GiveUpAfter time.Duration // 72 h
	Sweep       time.Duration // between searches for messages to be given up: 1 min
	SyncMax     int           // questions of Sync under way for one gateway: 256
	SyncTimeout time.Duration // of one: 25 s
	MaxGateways int           // declared at run time: 1000
	Limits      kit.Options   // bounds of each gateway
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		of   *time.Duration
		zero time.Duration
	}{{&o.Grace, 30 * time.Second}, {&o.GiveUpAfter, 72 * time.Hour}, {&o.Sweep, time.Minute}, {&o.SyncTimeout, 25 * time.Second}} {
		if *d.of <= 0 {
			*d.of = d.zero
		}
	}
	if o.SyncMax <= 0 {
		o.SyncMax = 256
	}
	if o.MaxGateways <= 0 {
		o.MaxGateways = 1000
	}
}

// Errors of the Registry, beside *kit.DefinitionError, *stanza.Error and those of kit.
var (
	ErrNotFound = errors.New("gateway: there is no such gateway")
	ErrTaken    = errors.New("gateway: the domain is served already")
	ErrReadOnly = errors.New("gateway: the gateway is declared by the configuration")
	ErrVersion  = errors.New("gateway: the gateway has changed meanwhile")
	ErrTooMany  = errors.New("gateway: too many gateways")
)

// Registry keeps the gateway domains. All methods may be called from any goroutine.
type Registry struct {
	opts Options
	log  *slog.Logger

	writing sync.Mutex // Put and Remove, one at a time

	mu       sync.RWMutex
	gateways map[string]*gateway
	ctx      context.Context // of Run; nil before
	ended    bool
	running  sync.WaitGroup
}

// gateway is one domain.
type gateway struct {
	registry *Registry
	domain   string
	source   string
	syncing  chan struct{} // a token for each question of Sync
	*kit.Gateway

	mu   sync.Mutex
	def  Define
	live liveness
	stop context.CancelFunc // ends Run; nil before
}

//go:embed migrations/*.sql
var migrations embed.FS

// New brings the tables up to date and serves the gateways that are known. They take
// stanzas from then on, and tell presence while Run runs.
func New(ctx context.Context, o Options) (*Registry, error) {
	if o.Router == nil || o.Store == nil || o.Log == nil {
		return nil, errors.New("gateway: Router, Store and Log are required")
	}
	o.setDefaults()
	r := &Registry{opts: o, log: o.Logger, gateways: map[string]*gateway{}}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if err := kit.Migrate(ctx, o.Store); err != nil { // also where there is no gateway yet
		return nil, err
	}
	if err := o.Store.Migrate(ctx, "gateway", files); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	o.Log.Await(func(host string) bool { return o.Router.Serves(host) && !o.Router.Hosts(host) })
	for _, d := range o.Configured {
		if _, err := r.open(ctx, d, Configured); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", d.Domain, err)
		}
	}
	declared, err := r.declared(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range declared {
		if _, err := r.open(ctx, d, Declared); errors.Is(err, ErrTaken) {
			r.log.Warn("a gateway that was declared at run time is not served: its domain is taken", "domain", d.Domain)
		} else if err != nil {
			return nil, fmt.Errorf("gateway %s: %w", d.Domain, err)
		}
	}
	return r, nil
}

func (r *Registry) declared(ctx context.Context) ([]Define, error) {
	rows, err := r.opts.Store.Query(ctx, `SELECT definition FROM gateway ORDER BY domain`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Define
	for rows.Next() {
		var raw string
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		var d Define
		if err := json.Unmarshal([]byte(raw), &d); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// open serves a gateway.
func (r *Registry) open(ctx context.Context, d Define, source string) (*gateway, error) {
	host, err := jid.New("", d.Domain, "")
	if err != nil {
		return nil, &kit.DefinitionError{Field: "domain", Reason: "is no domain"}
	}
	d.Domain = strings.Clone(host.Domain())
	if r.opts.Router.Serves(d.Domain) {
		return nil, ErrTaken
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	g := &gateway{registry: r, domain: d.Domain, source: source, syncing: make(chan struct{}, r.opts.SyncMax), def: d}
	o := r.opts.Limits
	o.Router, o.Store, o.Logger, o.Now, o.Version = r.opts.Router, r.opts.Store, r.log, r.opts.Now, r.opts.Version
	if g.Gateway, err = kit.New(ctx, d.Domain, d.Definition, network{g}, o); err != nil {
		return nil, err
	}
	if err := g.live.recall(ctx, g); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gateways[d.Domain] = g
	r.opts.Router.Serve(d.Domain, g.Gateway)
	if r.ctx != nil && !r.ended {
		r.start(g)
	}
	return g, nil
}

// begin runs f apart, and has Run wait for it. False: Run does not run.
func (r *Registry) begin(f func(ctx context.Context)) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.ctx == nil || r.ended {
		return false
	}
	ctx := r.ctx
	r.running.Go(func() { f(ctx) })
	return true
}

// start runs a gateway; the registry is locked and running.
func (r *Registry) start(g *gateway) {
	ctx, cancel := context.WithCancel(r.ctx)
	g.stop = cancel
	r.opts.Router.Serve(g.domain, g.Gateway) // whatever its webhook has made of it meanwhile
	r.running.Go(func() {
		g.Run(ctx)
		g.live.end(g)
	})
	if r.opts.Served != nil {
		if _, up := r.opts.Served(g.domain); up {
			g.live.hook(g, true)
		}
	}
}

// Run serves the gateways until ctx ends. It is called once.
func (r *Registry) Run(ctx context.Context) {
	r.mu.Lock()
	r.ctx = ctx
	for _, g := range r.gateways {
		r.start(g)
	}
	r.mu.Unlock()
	r.sweep(ctx)
	r.mu.Lock()
	r.ended = true // whatever was begun has been counted by now
	r.mu.Unlock()
	r.running.Wait()
}

// Register implements module.Module: accounts that are removed leave their gateways.
func (r *Registry) Register(h *module.Host) error {
	h.Leaving(func(ctx context.Context, _ *module.Turn, account jid.JID) error {
		for _, g := range r.all() {
			if err := g.Unregister(ctx, account); err != nil && !errors.Is(err, kit.ErrNotRegistered) {
				return err
			}
		}
		return nil
	})
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		for _, g := range r.all() {
			g.Forget(account)
		}
		return kit.Purge(tx, account)
	})
	d, others := h.Disco(), h.Disco().Items
	d.Items = func(ctx context.Context, host string) []module.Item {
		var items []module.Item
		if others != nil {
			items = others(ctx, host)
		}
		for _, g := range r.all() {
			if item, ok := g.item(host, h.Hosts); ok {
				items = append(items, item)
			}
		}
		return items
	}
	return nil
}

// item is what a virtual host says of the gateway to those who look for one: the host
// whose domain it is under, or every host if it is under none. Gateways for certain
// users are told of where these are.
func (g *gateway) item(host string, hosts []string) (module.Item, bool) {
	under := func(h string) bool { return strings.HasSuffix(g.domain, "."+h) }
	if !under(host) && slices.ContainsFunc(hosts, under) {
		return module.Item{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	admits := func(text string) bool {
		p, err := jid.ParsePattern(text)
		return err == nil && p.Domain() == host
	}
	if len(g.def.Users) > 0 && !slices.ContainsFunc(g.def.Users, admits) {
		return module.Item{}, false
	}
	return module.Item{JID: g.Domain(), Name: g.def.Name}, true
}

func (r *Registry) all() []*gateway {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*gateway, 0, len(r.gateways))
	for _, g := range r.gateways {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *gateway) int { return strings.Compare(a.domain, b.domain) })
	return out
}

// find returns the gateway of a domain, or ErrNotFound.
func (r *Registry) find(domain string) (*gateway, error) {
	r.mu.RLock()
	g := r.gateways[domain]
	r.mu.RUnlock()
	if g != nil {
		return g, nil
	}
	host, err := jid.New("", domain, "") // another spelling
	if err != nil || host.Domain() == domain {
		return nil, ErrNotFound
	}
	return r.find(host.Domain())
}

// Gateway returns what serves a domain, or ErrNotFound.
func (r *Registry) Gateway(domain string) (*kit.Gateway, error) {
	g, err := r.find(domain)
	if err != nil {
		return nil, err
	}
	return g.Gateway, nil
}

// Serves tells whether a domain is a gateway's, and who owns it.
func (r *Registry) Serves(domain string) (owner string, ok bool) {
	g, err := r.find(domain)
	if err != nil {
		return "", false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.def.Owner, true
}

func (d *Define) check() error {
	if d.GiveUpAfter != 0 && (d.GiveUpAfter < 60 || d.GiveUpAfter > 30*24*3600) {
		return &kit.DefinitionError{Field: "give_up_after", Reason: "is between 60 and 2592000"}
	}
	if len(d.Owner) > 255 {
		return &kit.DefinitionError{Field: "owner", Reason: "has more than 255 octets"}
	}
	return d.Definition.Check()
}

// version is that of a definition.
func (d *Define) version() string {
	raw, err := json.Marshal(d)
	if err != nil {
		panic("gateway: a definition is no JSON: " + err.Error()) // it has strings, numbers and flags
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:12])
}

func (g *gateway) resource() Resource {
	g.mu.Lock()
	defer g.mu.Unlock()
	res := Resource{Define: g.def, Source: g.source, Up: g.Up(), Since: g.live.since, Registrations: g.Count(), Version: g.def.version()}
	res.Definition = g.Definition() // with defaults
	return res
}

// Get returns a gateway, or ErrNotFound.
func (r *Registry) Get(domain string) (Resource, error) {
	g, err := r.find(domain)
	if err != nil {
		return Resource{}, err
	}
	return g.resource(), nil
}

// List returns the gateways in the order of their domains.
func (r *Registry) List() []Resource {
	all := r.all()
	out := make([]Resource, len(all))
	for i, g := range all {
		out[i] = g.resource()
	}
	return out
}

// Put declares a gateway, or replaces the definition of one that was declared at run
// time. A version that is not empty must be that of the gateway that is there; "*" is any.
// The errors are ErrTaken, ErrReadOnly, ErrVersion, ErrTooMany, *kit.DefinitionError.
func (r *Registry) Put(ctx context.Context, d Define, version string) (res Resource, created bool, err error) {
	host, err := jid.New("", d.Domain, "")
	if err != nil {
		return res, false, &kit.DefinitionError{Field: "domain", Reason: "is no domain"}
	}
	d.Domain = strings.Clone(host.Domain())
	if err := d.check(); err != nil {
		return res, false, err
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	g, err := r.find(d.Domain)
	switch {
	case err != nil:
		if version != "" {
			return res, false, ErrVersion
		}
		if r.opts.Router.Serves(d.Domain) {
			return res, false, ErrTaken
		}
		if r.count() >= r.opts.MaxGateways {
			return res, false, ErrTooMany
		}
	case g.source == Configured:
		return res, false, ErrReadOnly
	case version != "" && version != "*" && version != g.resource().Version:
		return res, false, ErrVersion
	}
	if err := r.store(ctx, d); err != nil {
		return res, false, err
	}
	if g == nil {
		if g, err = r.open(ctx, d, Declared); err != nil {
			return res, false, errors.Join(err, r.forget(ctx, d.Domain))
		}
		return g.resource(), true, nil
	}
	if err := g.Define(d.Definition); err != nil {
		return res, false, err
	}
	g.mu.Lock()
	g.def = d
	g.mu.Unlock()
	return g.resource(), false, nil
}

func (r *Registry) count() (n int) {
	for _, g := range r.all() {
		if g.source == Declared {
			n++
		}
	}
	return n
}

func (r *Registry) store(ctx context.Context, d Define) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	now := r.opts.Now().UnixMilli()
	return r.opts.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO gateway (domain, definition, created, changed) VALUES (?, ?, ?, ?)
			ON CONFLICT (domain) DO UPDATE SET definition = excluded.definition, changed = excluded.changed`, d.Domain, string(raw), now, now)
		return err
	})
}

// Remove takes a gateway away that was declared at run time: its users are told, messages
// that nobody has taken go back, and everything that is known of the users is deleted. version is as for Put. The errors are
// ErrNotFound, ErrReadOnly and ErrVersion.
func (r *Registry) Remove(ctx context.Context, domain, version string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	g, err := r.find(domain)
	switch {
	case err != nil:
		return err
	case g.source == Configured:
		return ErrReadOnly
	case version != "" && version != "*" && version != g.resource().Version:
		return ErrVersion
	}
	ctx = context.WithoutCancel(ctx)
	if err := r.forget(ctx, g.domain); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.gateways, g.domain)
	r.opts.Router.Serve(g.domain, nil)
	stop := g.stop
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
	return errors.Join(g.giveUp(ctx, math.MaxInt64), r.forget(ctx, g.domain), g.Erase(ctx))
}

// forget deletes the rows of a gateway.
func (r *Registry) forget(ctx context.Context, domain string) error {
	return r.opts.Store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM gateway WHERE domain = ?`, domain); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM gateway_state WHERE domain = ?`, domain)
		return err
	})
}
