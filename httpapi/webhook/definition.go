package webhook

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"trivium/core/jid"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

// Endpoint is one address that events are posted to.
//
// It gets the events that concern one of its Domains or Watch, or all events when
// both are empty, as far as Filter takes them.
type Endpoint struct {
	// Name identifies the endpoint in the tables and in logs: 1 to 64 letters, digits,
	// dots, dashes and underscores. It is unique.
	Name string
	// URL is absolute, http or https.
	URL string
	// Keys sign the posts: whsec_ and base64 of 24 to 64 octets (HMAC, v1), or whsk_
	// and base64 of an ed25519 key pair (v1a). All of them sign each post, so that a
	// new one can be brought in before the old one goes. At most 8.
	Keys []string
	// Domains are gateway domains, whose addresses its answers may speak as.
	Domains []string
	// Watch are addresses whose incoming messages are posted as well as delivered, and
	// what became of what they sent by REST.
	Watch []jid.Pattern
	// Filter narrows what it gets. Its May is not kept.
	Filter event.Filter
	// Format of the posts: JSON when empty.
	Format event.Format
	// Sync says that iq requests are posted at once and answered by the response
	// (Service.Ask), instead of being posted like other events.
	Sync bool
	// Silent says that its answers are not looked at: it learns what it is posted, and
	// speaks for nobody.
	Silent bool
	// AllowPrivate lets the URL lead into private networks and to this machine, but
	// never to link-local addresses.
	AllowPrivate bool
	// Timeout bounds one attempt: 10 s.
	Timeout time.Duration
	// GiveUpAfter is how long an event is tried again: 72 h.
	GiveUpAfter time.Duration
	// Concurrency is how many posts may be under way: 32.
	Concurrency int
}

const (
	maxKeys   = 8
	maxFilter = 1000 // entries of each list
)

var endpointName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// definition is an Endpoint that was checked, ready for use. It is not changed.
type definition struct {
	Endpoint
	url       *url.URL
	keys      []*signer
	domains   map[string]bool
	transport http.RoundTripper
	own       *http.Transport // to be closed with the definition; nil: the Service's
}

func refused(field, reason string) error { return &message.FieldError{Field: field, Reason: reason} }

// parseURL reads an endpoint's URL. The error is a *message.FieldError.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, refused("url", "is not an absolute one of http or https")
	case u.User != nil:
		return nil, refused("url", "holds credentials; the signature identifies us")
	case len(text) > 2000:
		return nil, refused("url", "is too long")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// define checks c and prepares it. The error is a *message.FieldError.
func (s *Service) define(c Endpoint) (*definition, error) {
	d := &definition{domains: map[string]bool{}}
	var err error
	if d.url, err = parseURL(c.URL); err != nil {
		return nil, err
	}
	switch {
	case len(c.Keys) == 0:
		return nil, refused("keys", "is empty: posts must be signed")
	case len(c.Keys) > maxKeys:
		return nil, refused("keys", "has too many")
	}
	for _, text := range c.Keys {
		k, err := parseKey(text)
		if err != nil {
			return nil, refused("keys", err.Error())
		}
		d.keys = append(d.keys, k)
	}
	if c.Format == "" {
		c.Format = event.JSON
	}
	if !slices.Contains(event.Formats, c.Format) {
		return nil, refused("format", "is not json, xml or cpim")
	}
	for _, name := range c.Domains {
		dom, err := jid.New("", name, "")
		if err != nil {
			return nil, refused("domains", "has one that is no domain")
		}
		if s.opts.Router.Hosts(dom.Domain()) {
			return nil, refused("domains", "has one that is a virtual host")
		}
		d.domains[dom.Domain()] = true
	}
	if len(c.Watch) > 0 && s.opts.Watcher == nil {
		return nil, refused("watch", "cannot be used here")
	}
	for _, p := range c.Watch {
		if !s.opts.Router.Hosts(p.Domain()) {
			return nil, refused("watch", "has an address that is not at a virtual host")
		}
	}
	f := &c.Filter
	hosts := make([]string, len(f.Hosts))
	for i, name := range f.Hosts {
		host, err := jid.New("", name, "")
		if err != nil {
			return nil, refused("hosts", "has one that is no domain")
		}
		hosts[i] = host.Domain()
	}
	f.Hosts = hosts
	if max(len(f.Types), len(f.Hosts), len(f.JIDs), len(f.Rooms), len(c.Domains), len(c.Watch)) > maxFilter {
		return nil, refused("filter", "is too long")
	}
	for _, t := range f.Types {
		if !slices.Contains(event.Types, t) {
			return nil, refused("types", "has one that is not known")
		}
	}
	f.May = nil
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.GiveUpAfter <= 0 {
		c.GiveUpAfter = 72 * time.Hour
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 32
	}
	c.Concurrency = min(c.Concurrency, 1000)
	d.Endpoint = c
	if d.transport = s.opts.Transport; d.transport == nil {
		d.own = newTransport(c)
		d.transport = d.own
	}
	return d, nil
}

// takes tells whether the endpoint gets an event.
func (d *definition) takes(ev *event.Event) bool {
	switch {
	case ev.Type == event.Test:
		return false // Try posts it where it is to go
	case ev.Type == event.IQ && d.Sync && !d.Silent:
		return false // Ask does
	case len(d.domains) > 0 || len(d.Watch) > 0:
		if !d.domains[ev.Host] && !slices.ContainsFunc(d.Watch, func(p jid.Pattern) bool {
			return p.Match(ev.To) || ev.Stanza == nil && p.Match(ev.From) // what became of what it sent or ordered
		}) {
			return false
		}
	}
	return d.Filter.Match(ev)
}

// serves tells whether the endpoint gets events of one of our domains.
func (d *definition) serves(host string) bool {
	if len(d.Filter.Hosts) > 0 && !slices.Contains(d.Filter.Hosts, host) {
		return false
	}
	return d.domains[host] || len(d.domains) == 0 && len(d.Watch) == 0
}

// answers tells whether the endpoint is the program behind one of our domains, or one
// of them, rather than one that looks on.
func (d *definition) answers(host string) bool {
	return d.serves(host) && (d.domains[host] || !d.Silent)
}

// hosts are the domains of ours that the definition names.
func (d *definition) hosts() []string {
	list := slices.AppendSeq(slices.Clone(d.Filter.Hosts), maps.Keys(d.domains))
	slices.Sort(list)
	return slices.Compact(list)
}

// mayBe tells whether what answers an event to addr may come from other: from another
// address of the same gateway, or else from addr itself.
func (d *definition) mayBe(addr, other jid.JID) bool {
	return other.Bare() == addr.Bare() || d.domains[addr.Domain()] && d.domains[other.Domain()]
}

// close ends the idle connections.
func (d *definition) close() {
	if d.own != nil {
		d.own.CloseIdleConnections()
	}
}
