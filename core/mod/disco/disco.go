// Package disco implements XEP-0030 (Service Discovery) for the server and on
// behalf of accounts, and announces the server's own entity capabilities
// (XEP-0115). What is announced is what the modules registered.
//
//spec:xep-0030 2.5.0 complete | Service Discovery | info and items of the server and of accounts
//spec:xep-0115 1.6.0 complete | Entity Capabilities | the server's capabilities as a stream feature; those of clients pass through
package disco

import (
	"context"
	"crypto/sha1" //nolint:gosec // XEP-0115 §5.1 names it; nothing secret hangs on it
	"encoding/base64"
	"slices"
	"strings"
	"sync"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// Namespaces of XEP-0030 and XEP-0115.
const (
	NSInfo  = "http://jabber.org/protocol/disco#info"
	NSItems = "http://jabber.org/protocol/disco#items"
	NSCaps  = "http://jabber.org/protocol/caps"
)

// Contacts tells who may know that an account is there.
type Contacts interface {
	// Subscribed tells whether contact (a bare JID) has a subscription to the presence
	// of the account.
	Subscribed(ctx context.Context, account, contact jid.JID) (bool, error)
}

// Nodes are what the server has below its own address: the commands of XEP-0050
// for one.
type Nodes interface {
	// DiscoNode describes a node to who asks, as Disco describes the server. Nil says
	// that there is no such node.
	DiscoNode(ctx context.Context, rq *module.Request, node string) (*module.Disco, error)
}

// Options of New.
type Options struct {
	Name  string // of the server's identity; "Trivium" when empty
	Node  string // of the capabilities, a URI that names the software
	Nodes []Nodes
}

// Module is the feature.
type Module struct {
	host     *module.Host
	contacts Contacts
	opts     Options
	caps     func() string
}

// New returns the feature.
func New(contacts Contacts, o Options) *Module {
	if o.Name == "" {
		o.Name = "Trivium"
	}
	if o.Node == "" {
		o.Node = "urn:x-trivium:server"
	}
	return &Module{contacts: contacts, opts: o}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	m.host = h
	d := h.Disco()
	d.ServerIdentities = append(d.ServerIdentities, module.Identity{Category: "server", Type: "im", Name: m.opts.Name})
	d.AccountIdentities = append(d.AccountIdentities, module.Identity{Category: "account", Type: "registered"})
	h.Feature(module.Server|module.Account, NSInfo, NSItems)
	h.Feature(module.Server, NSCaps)
	h.IQ(module.Server, stanza.Get, NSInfo, "query", m.serverInfo)
	h.IQ(module.Server, stanza.Get, NSItems, "query", m.serverItems)
	h.IQ(module.Account, stanza.Get, NSInfo, "query", m.accountInfo)
	h.IQ(module.Account, stanza.Get, NSItems, "query", m.accountItems)
	m.caps = sync.OnceValue(func() string { return verification(d.ServerIdentities, d.ServerFeatures) })
	h.StreamFeature(func(st module.Stage, _ string) stanza.Payload {
		if st != module.AfterLogin {
			return nil
		}
		return stanza.El(NSCaps, "c").Set("hash", "sha-1").Set("node", m.opts.Node).Set("ver", m.caps()) // XEP-0115 §6.3
	})
	return nil
}

// verification is the string of XEP-0115 §5.1.
func verification(ids []module.Identity, features []string) string {
	var b strings.Builder
	lines := make([]string, len(ids))
	for i, id := range ids {
		lines[i] = id.Category + "/" + id.Type + "//" + id.Name + "<"
	}
	slices.Sort(lines)
	for _, l := range lines {
		b.WriteString(l)
	}
	for _, f := range slices.Sorted(slices.Values(features)) {
		b.WriteString(f + "<")
	}
	sum := sha1.Sum([]byte(b.String())) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// node returns what is told of a node of the server; "" is the server itself.
func (m *Module) node(ctx context.Context, rq *module.Request, node string) (*module.Disco, error) {
	if node == "" {
		return m.host.Disco(), nil
	}
	for _, n := range m.opts.Nodes {
		if d, err := n.DiscoNode(ctx, rq, node); d != nil || err != nil {
			return d, err
		}
	}
	return nil, stanza.Err(stanza.ItemNotFound, "no such node") // XEP-0030 §7
}

func (m *Module) serverInfo(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	node := rq.Element().Attr("node")
	of := node
	if node == m.opts.Node+"#"+m.caps() {
		of = "" // XEP-0115 §6.2
	}
	d, err := m.node(ctx, rq, of)
	if err != nil {
		return nil, err
	}
	return info(node, d.ServerIdentities, d.ServerFeatures), nil
}

func info(node string, ids []module.Identity, features []string) *stanza.Element {
	q := stanza.El(NSInfo, "query")
	if node != "" {
		q.Set("node", node)
	}
	for _, id := range ids {
		e := stanza.El(NSInfo, "identity").Set("category", id.Category).Set("type", id.Type)
		if id.Name != "" {
			e.Set("name", id.Name)
		}
		q.Add(e)
	}
	for _, f := range features {
		q.Add(stanza.El(NSInfo, "feature").Set("var", f))
	}
	return q
}

func (m *Module) serverItems(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	node := rq.Element().Attr("node")
	d, err := m.node(ctx, rq, node)
	if err != nil {
		return nil, err
	}
	q := stanza.El(NSItems, "query")
	if node != "" {
		q.Set("node", node)
	}
	if d.Items != nil {
		for _, it := range d.Items(ctx, rq.To().Domain()) {
			e := stanza.El(NSItems, "item").Set("jid", it.JID.String())
			if it.Node != "" {
				e.Set("node", it.Node)
			}
			if it.Name != "" {
				e.Set("name", it.Name)
			}
			q.Add(e)
		}
	}
	return q, nil
}

// visible refuses those who may not know of the account (XEP-0030 §8) in the
// words of an account that is not there.
func (m *Module) visible(ctx context.Context, rq *module.Request) error {
	from := rq.From().Bare()
	if from == rq.To() {
		return nil
	}
	ok, err := m.contacts.Subscribed(ctx, rq.To(), from)
	if err != nil {
		return err
	}
	if !ok {
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	}
	return nil
}

func (m *Module) accountInfo(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	if err := m.visible(ctx, rq); err != nil {
		return nil, err
	}
	if rq.Element().Attr("node") != "" {
		return nil, stanza.Err(stanza.ItemNotFound, "no such node")
	}
	d := m.host.Disco()
	return info("", d.AccountIdentities, d.AccountFeatures), nil
}

// accountItems tells of the available resources (XEP-0030 §4.2 and §8).
func (m *Module) accountItems(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	if err := m.visible(ctx, rq); err != nil {
		return nil, err
	}
	q := stanza.El(NSItems, "query")
	if node := rq.Element().Attr("node"); node != "" {
		return q.Set("node", node), nil
	}
	for _, s := range m.host.Router.Account(rq.To()).Sessions() {
		if s.Available() {
			q.Add(stanza.El(NSItems, "item").Set("jid", s.JID.String()))
		}
	}
	return q, nil
}
