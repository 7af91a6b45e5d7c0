package kit

import (
	"context"
	"crypto/sha1" //nolint:gosec // XEP-0115 §5.4 makes it mandatory
	"encoding/base64"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/xdata"
)

// Namespaces of what a gateway answers.
const (
	nsDiscoInfo  = "http://jabber.org/protocol/disco#info"
	nsDiscoItems = "http://jabber.org/protocol/disco#items"
	nsCaps       = "http://jabber.org/protocol/caps"
	nsPing       = "urn:xmpp:ping"
	nsVersion    = "jabber:iq:version"
	nsRegister   = "jabber:iq:register"
	nsGateway    = "jabber:iq:gateway"
	nsCommands   = "http://jabber.org/protocol/commands"
	nsEscaping   = `jid\20escaping` // XEP-0106 §6

	capsNode = "urn:x-trivium:gateway"
)

// description is what disco#info tells of an address.
type description struct {
	category, typ, name string
	features            []string
	forms               []*xdata.Form
}

// describe describes the gateway or one of its contacts.
func (g *Gateway) describe(address jid.JID, p *Profile) *description {
	d := g.def.Load()
	c := g.capabilitiesOf(p)
	out := &description{features: []string{nsDiscoInfo, nsDiscoItems, nsPing, nsCaps}, forms: c.forms()}
	if address != g.domain {
		out.category, out.typ = "client", d.Client
		out.features = append(out.features, c.features()...)
	} else {
		out.category, out.typ, out.name = "gateway", d.Type, d.Name // XEP-0100 §4.1.1
		// XEP-0106 §6: clients that do not find it ask with jabber:iq:gateway, or not at all.
		out.features = append(out.features, nsGateway, nsEscaping)
		if d.Registration != nil {
			out.features = append(out.features, nsRegister, nsCommands)
		}
		if g.opt.Version != "" {
			out.features = append(out.features, nsVersion)
		}
	}
	if p.VCard != "" {
		out.features = append(out.features, nsVCard)
	}
	return out
}

func (d *description) element(node string) *stanza.Element {
	id := stanza.El(nsDiscoInfo, "identity").Set("category", d.category).Set("type", d.typ)
	if d.name != "" {
		id.Set("name", d.name)
	}
	q := stanza.El(nsDiscoInfo, "query", id)
	if node != "" {
		q.Set("node", node)
	}
	for _, f := range d.features {
		q.Add(stanza.El(nsDiscoInfo, "feature").Set("var", f))
	}
	for _, f := range d.forms {
		q.Add(f.Element())
	}
	return q
}

// verification is the string of XEP-0115 §5.1, hashed.
func (d *description) verification() string {
	var b strings.Builder
	b.WriteString(d.category + "/" + d.typ + "//" + d.name + "<")
	for _, f := range slices.Sorted(slices.Values(d.features)) {
		b.WriteString(f + "<")
	}
	forms := slices.SortedFunc(slices.Values(d.forms), func(x, y *xdata.Form) int { return strings.Compare(x.About(), y.About()) })
	for _, f := range forms {
		b.WriteString(f.About() + "<")
		fields := slices.SortedFunc(slices.Values(f.Fields), func(x, y xdata.Field) int { return strings.Compare(x.Var, y.Var) })
		for _, fd := range fields {
			if fd.Var == xdata.FormType {
				continue
			}
			b.WriteString(fd.Var + "<")
			for _, v := range slices.Sorted(slices.Values(fd.Values)) {
				b.WriteString(v + "<")
			}
		}
	}
	sum := sha1.Sum([]byte(b.String())) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// caps is the <c/> in presence of an address (XEP-0115 §4).
func (g *Gateway) caps(address jid.JID, p *Profile) *stanza.Element {
	return stanza.El(nsCaps, "c").Set("hash", "sha-1").Set("node", capsNode).Set("ver", g.describe(address, p).verification())
}

// info answers disco#info.
func (g *Gateway) info(ctx context.Context, st *stanza.Stanza, q *stanza.Element) (stanza.Payload, error) {
	node, address := q.Attr("node"), st.To.Bare()
	p, err := g.Profile(ctx, address)
	if err != nil {
		return nil, err
	}
	d := g.describe(address, p)
	if node == "" || node == capsNode+"#"+d.verification() { // XEP-0115 §6.2
		return d.element(node), nil
	}
	if address == g.domain {
		if d := g.commandNode(node); d != nil {
			return d.element(node), nil
		}
	}
	return nil, stanza.Err(stanza.ItemNotFound, "no such node") // XEP-0030 §7
}

// items answers disco#items: those of the gateway are the user's contacts.
func (g *Gateway) items(ctx context.Context, st *stanza.Stanza, q *stanza.Element) (stanza.Payload, error) {
	out := stanza.El(nsDiscoItems, "query")
	node := q.Attr("node")
	if node != "" {
		out.Set("node", node)
	}
	item := func(j jid.JID, node, name string) {
		e := stanza.El(nsDiscoItems, "item").Set("jid", j.String())
		if node != "" {
			e.Set("node", node)
		}
		if name != "" {
			e.Set("name", name)
		}
		out.Add(e)
	}
	switch {
	case st.To.Bare() != g.domain:
		if node != "" {
			return nil, stanza.Err(stanza.ItemNotFound, "no such node")
		}
	case node == nsCommands:
		for _, c := range g.commands() {
			item(g.domain, c.node, c.name)
		}
	case node != "":
		return nil, stanza.Err(stanza.ItemNotFound, "no such node")
	default:
		b, err := g.book(ctx, st.From.Bare())
		if err != nil {
			return nil, err
		}
		for _, e := range b.contacts {
			if e.jid != g.domain {
				item(e.jid, "", e.name)
			}
		}
	}
	return out, nil
}
