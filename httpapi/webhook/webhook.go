// Package webhook is the road from the server to programs: messages to gateway
// domains and to watched accounts are posted as JSON to HTTP endpoints, signed
// by the Standard Webhooks scheme, and what an endpoint answers is delivered as
// the addressed user's reply.
//
// A message is in the outbox table before its sender's acknowledgement goes out,
// and leaves it when the endpoint has answered 2xx and its replies are safe. The
// messages of one conversation (one sender, one recipient, bare addresses) are
// posted in order, one at a time; conversations go in parallel. After a crash
// the oldest messages of a conversation may be posted again, with the same
// webhook-id, and their replies sent again with the same stanza id.
package webhook

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/wire"
)

// Endpoint is one address that messages are posted to.
type Endpoint struct {
	// Name identifies the endpoint in the outbox and in logs. It must be unique
	// and should never change.
	Name string
	// URL is absolute, http or https.
	URL string
	// Secrets sign the posts: whsec_ and base64 of 24 to 64 octets. All of them
	// sign each post, so that a new one can be brought in before the old one goes.
	Secrets []string
	// Domains are gateway domains: every message to an address there is posted.
	Domains []string
	// Watch are local accounts (bare addresses), or whole virtual hosts, whose
	// incoming messages are posted as well as delivered.
	Watch []jid.JID
	// AllowPrivate lets the URL lead into private networks and to this machine, but
	// never to link-local addresses.
	AllowPrivate bool
	// Timeout bounds one attempt: 10 s.
	Timeout time.Duration
	// GiveUpAfter is how long a message is tried again: 72 h.
	GiveUpAfter time.Duration
	// Concurrency is how many posts may be under way: 32.
	Concurrency int
}

// Options of New. Router and Store are required; zero values of the rest are
// defaults.
type Options struct {
	Router *router.Router
	Store  *store.DB
	Logger *slog.Logger
	// Transport carries the posts instead of one that guards against addresses
	// in private networks.
	Transport http.RoundTripper
	// MaxPending is how many messages may wait for one endpoint: 100000. Senders
	// beyond it get resource-constraint.
	MaxPending int
	// MaxDead is how many messages that were given up are kept for one endpoint:
	// 10000. The oldest go first.
	MaxDead int
	// RetryMin and RetryMax bound the wait before the next attempt, which doubles
	// each time: 1 s and 10 min.
	RetryMin, RetryMax time.Duration
	// Grace is how long posts under way may take to end when Run is told to: 5 s.
	Grace time.Duration
	// Limits of a reply, apart from its octets.
	Limits wire.Limits
}

// Service owns the outbox and its deliveries. It is a module (for watched
// accounts) and registers itself with the router for gateway domains. All methods
// may be called from any goroutine.
type Service struct {
	opts      Options
	log       *slog.Logger
	endpoints []*endpoint // sorted by name
	accounts  map[jid.JID][]*endpoint
	hosts     map[string][]*endpoint
	ctx       context.Context // of what is done on behalf of nobody

	// order makes rows enter the store's queue in the order of seq.
	order sync.Mutex
	seq   int64
}

//go:embed migrations/*.sql
var migrations embed.FS

// New checks the endpoints, brings the tables up to date and takes the gateway
// domains over. Messages are accepted from then on and posted while Run runs.
func New(ctx context.Context, list []Endpoint, o Options) (*Service, error) {
	if o.Router == nil || o.Store == nil {
		return nil, errors.New("webhook: Router and Store are required")
	}
	o.setDefaults()
	s := &Service{
		opts: o, log: o.Logger, ctx: context.WithoutCancel(ctx),
		accounts: map[jid.JID][]*endpoint{}, hosts: map[string][]*endpoint{},
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if err := o.Store.Migrate(ctx, "webhook", files); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if s.seq, err = s.lastSeq(ctx); err != nil {
		return nil, err
	}
	domains := map[string]*endpoint{}
	for _, c := range list {
		e, err := s.newEndpoint(ctx, c, domains)
		if err != nil {
			return nil, fmt.Errorf("webhook %q: %w", c.Name, err)
		}
		s.endpoints = append(s.endpoints, e)
	}
	slices.SortFunc(s.endpoints, func(a, b *endpoint) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(s.endpoints); i++ {
		if s.endpoints[i].Name == s.endpoints[i-1].Name {
			return nil, fmt.Errorf("webhook: two endpoints are named %q", s.endpoints[i].Name)
		}
	}
	for d, e := range domains {
		o.Router.Serve(d, gateway{s, e})
	}
	return s, nil
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 100000
	}
	if o.MaxDead <= 0 {
		o.MaxDead = 10000
	}
	if o.RetryMin <= 0 {
		o.RetryMin = time.Second
	}
	if o.RetryMax < o.RetryMin {
		o.RetryMax = max(10*time.Minute, o.RetryMin)
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
}

// newEndpoint checks c and enters it in the tables.
func (s *Service) newEndpoint(ctx context.Context, c Endpoint, domains map[string]*endpoint) (*endpoint, error) {
	if c.Name == "" {
		return nil, errors.New("it has no name")
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the URL is not an absolute one of http or https")
	}
	if u.User != nil {
		return nil, errors.New("the URL holds credentials; the signature identifies us")
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.GiveUpAfter <= 0 {
		c.GiveUpAfter = 72 * time.Hour
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 32
	}
	e := &endpoint{Endpoint: c, service: s, domains: map[string]bool{}, mail: mailbox{wake: make(chan struct{}, 1)}}
	if len(c.Secrets) == 0 {
		return nil, errors.New("it has no secret to sign with")
	}
	for _, secret := range c.Secrets {
		w, err := standardwebhooks.NewWebhook(secret)
		if err != nil || !strings.HasPrefix(secret, "whsec_") || len(secret) < len("whsec_")+32 {
			return nil, errors.New("a secret is whsec_ and base64 of 24 octets or more")
		}
		e.signers = append(e.signers, w)
	}
	for _, name := range c.Domains {
		d, err := jid.New("", name, "")
		if err != nil {
			return nil, fmt.Errorf("gateway domain: %w", err)
		}
		if domains[d.Domain()] != nil || s.opts.Router.Hosts(d.Domain()) {
			return nil, fmt.Errorf("the domain %s has another owner", d.Domain())
		}
		domains[d.Domain()] = e
		e.domains[d.Domain()] = true
	}
	for _, j := range c.Watch {
		switch {
		case !j.IsBare():
			return nil, errors.New("it watches an address that is not bare")
		case j.IsHost():
			s.hosts[j.Domain()] = append(s.hosts[j.Domain()], e)
		default:
			s.accounts[j] = append(s.accounts[j], e)
		}
	}
	transport := s.opts.Transport
	if transport == nil {
		transport = newTransport(c)
	}
	e.client = &http.Client{
		Transport: transport, Timeout: c.Timeout,
		// A redirect would carry the message where nobody has agreed to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, s.recall(ctx, e)
}

// Run posts what is in the outbox until ctx ends, then lets posts under way end
// within Options.Grace. It is called once.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, e := range s.endpoints {
		wg.Go(func() { e.run(ctx) })
	}
	wg.Wait()
}

// Register implements module.Module: it watches accounts. The Service must come
// before the modules that store messages for accounts that are offline.
func (s *Service) Register(h *module.Host) error {
	if len(s.accounts) == 0 && len(s.hosts) == 0 {
		return nil
	}
	for host := range s.hosts {
		if !slices.Contains(h.Hosts, host) {
			return fmt.Errorf("webhook: %s is not a virtual host: it cannot be watched", host)
		}
	}
	for a := range s.accounts {
		if !slices.Contains(h.Hosts, a.Domain()) {
			return fmt.Errorf("webhook: %s is not local: it cannot be watched", a)
		}
	}
	h.Inbound(module.Observe, stanza.Message, s.watch)
	h.NoSession(func(ctx context.Context, p *module.Packet) error {
		if p.Received == nil { // left over from a lost session: seen when it was delivered
			return nil
		}
		return s.watch(ctx, p)
	})
	return nil
}

// watch puts a copy of a message to a watched account in the outbox.
func (s *Service) watch(_ context.Context, p *module.Packet) error {
	st := p.Stanza
	if st.Type == stanza.TypeError {
		return nil // about something a client of the account has sent
	}
	for _, e := range s.accounts[st.To.Bare()] {
		s.watched(e, p)
	}
	for _, e := range s.hosts[st.To.Domain()] {
		s.watched(e, p)
	}
	return nil
}

func (s *Service) watched(e *endpoint, p *module.Packet) {
	if e.gone.Load() {
		return
	}
	p.Receipt.Hold()
	if err := s.enqueue(e, p.Stanza, p.Receipt); err != nil {
		// The message itself has been delivered: its sender may be told that not
		// all is well, but not that it did not arrive.
		e.stats.dropped.Add(1)
		s.log.Warn("a copy of a message was not queued for its webhook", "webhook", e.Name, "err", err)
		p.Receipt.Release(nil)
	}
}

// Status is the state of one endpoint.
type Status struct {
	Name      string     `json:"name" doc:"The endpoint's name."`
	State     string     `json:"state" enum:"up,down,gone" doc:"down: several attempts in a row have failed; gone: it answered 410 and gets nothing more."`
	Pending   int64      `json:"pending" doc:"Messages that wait, those being posted among them."`
	Delivered int64      `json:"delivered" doc:"Messages taken with 2xx since the server started."`
	Failed    int64      `json:"failed" doc:"Failed attempts since the server started."`
	Dead      int64      `json:"dead" doc:"Messages given up since the server started."`
	Dropped   int64      `json:"dropped" doc:"Copies for watched accounts that found the outbox full."`
	LastCode  int        `json:"last_status,omitempty" doc:"The status code of the last answer."`
	LastTry   *time.Time `json:"last_attempt,omitempty" doc:"When the last attempt ended."`
}

// Status returns the state of every endpoint, by name.
func (s *Service) Status() []Status {
	list := make([]Status, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		t := &e.stats
		st := Status{
			Name: e.Name, State: "up", Pending: t.pending.Load(), Delivered: t.delivered.Load(),
			Failed: t.failed.Load(), Dead: t.dead.Load(), Dropped: t.dropped.Load(), LastCode: int(t.lastCode.Load()),
		}
		if at := t.lastTry.Load(); at != 0 {
			last := time.UnixMilli(at).UTC()
			st.LastTry = &last
		}
		switch {
		case e.gone.Load():
			st.State = "gone"
		case t.down.Load():
			st.State = "down"
		}
		list = append(list, st)
	}
	return list
}

type stats struct {
	pending, delivered, failed, dead, dropped atomic.Int64

	lastCode atomic.Int64
	lastTry  atomic.Int64 // Unix milliseconds
	down     atomic.Bool
}
