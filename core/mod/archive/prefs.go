package archive

import (
	"context"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Policy says which messages are kept, XEP-0441 §2.2.
type Policy string

// The policies.
const (
	Always Policy = "always"
	Never  Policy = "never"
	Roster Policy = "roster" // those exchanged with a contact
)

// Valid tells whether p is one of the policies.
func (p Policy) Valid() bool { return p == Always || p == Never || p == Roster }

// preferences are what an account wants kept. They are immutable.
type preferences struct {
	fallback      Policy // for addresses in neither list; empty: the server's
	always, never []jid.JID
}

// verdict is what a list says.
type verdict int

const (
	silent verdict = iota
	keep
	drop
)

// lookup looks for the other side's address in the lists, as XEP-0441 §3 says: as
// it is, then without its resource. In an address that stands in both, caution wins.
func (p *preferences) lookup(peer jid.JID) verdict {
	if len(p.always) == 0 && len(p.never) == 0 {
		return silent
	}
	for _, j := range [...]jid.JID{peer, peer.Bare()} {
		switch {
		case slices.Contains(p.never, j):
			return drop
		case slices.Contains(p.always, j):
			return keep
		}
	}
	return silent
}

// policy returns what holds for addresses in neither list.
func (m *Module) policy(p *preferences) Policy {
	if p.fallback == "" {
		return m.opt.Default
	}
	return p.fallback
}

// never tells whether b keeps nothing, whoever the peer is.
func (m *Module) never(b *book) bool {
	return m.policy(&b.prefs) == Never && len(b.prefs.always) == 0
}

// wanted tells whether an account keeps what it exchanges with peer.
func (m *Module) wanted(ctx context.Context, b *book, peer jid.JID) (bool, error) {
	if b.passing {
		return false, nil
	}
	switch b.prefs.lookup(peer) {
	case keep:
		return true, nil
	case drop:
		return false, nil
	}
	switch policy := m.policy(&b.prefs); {
	case policy == Always:
		return true, nil
	case policy == Roster && peer.Bare() == b.account:
		return true, nil // a note to oneself
	case policy == Roster && m.opt.Contacts != nil:
		return m.opt.Contacts.Listed(ctx, b.account, peer.Bare()) // §3.1: always bare
	}
	return false, nil
}

// prefs answers with the account's preferences, XEP-0441 §2.1.
func (m *Module) prefs(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	b, err := m.books.Get(ctx, rq.To())
	if err != nil {
		return nil, err
	}
	return m.describe(b.prefs), nil
}

func (m *Module) describe(p preferences) *stanza.Element {
	list := func(name string, jids []jid.JID) *stanza.Element {
		e := stanza.El(NS, name)
		for _, j := range jids {
			e.Add(stanza.TextEl(NS, "jid", j.String()))
		}
		return e
	}
	return stanza.El(NS, "prefs", list("always", p.always), list("never", p.never)).Set("default", string(m.policy(&p)))
}

// setPrefs replaces the account's preferences and answers with what applies now.
func (m *Module) setPrefs(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	p, err := m.parsePrefs(rq.Element())
	if err != nil {
		return nil, err
	}
	err = m.books.Change(ctx, rq.To(), func(b *book) (*book, error) {
		if b.passing {
			return nil, &stanza.Error{Condition: stanza.NotAllowed}
		}
		var num int64
		err := m.host.Store.Write(ctx, func(tx *store.Tx) (err error) {
			if num, err = numberOf(tx, b.account); err != nil {
				return err
			}
			_, err = tx.Exec(`UPDATE archive_account SET fallback = ?, always = ?, never = ? WHERE num = ?`,
				string(p.fallback), joinJIDs(p.always), joinJIDs(p.never), num)
			return err
		})
		if err != nil {
			return nil, err
		}
		b.num.Store(num)
		return &book{b.owner, p}, nil
	})
	if err != nil {
		return nil, err
	}
	return m.describe(p), nil
}

func (m *Module) parsePrefs(el *stanza.Element) (preferences, error) {
	p := preferences{fallback: Policy(el.Attr("default"))}
	if !p.fallback.Valid() { // XEP-0441 §2.2: MUST be one of these
		return p, stanza.Err(stanza.BadRequest, "the default is always, never or roster")
	}
	for _, l := range [...]struct {
		name string
		list *[]jid.JID
	}{{"always", &p.always}, {"never", &p.never}} {
		for _, e := range el.Child(NS, l.name).Children(NS, "jid") {
			j, err := jid.Parse(strings.TrimSpace(e.Text()))
			if err != nil {
				return p, &stanza.Error{Condition: stanza.JIDMalformed, Cause: err}
			}
			if !slices.Contains(*l.list, j) {
				*l.list = append(*l.list, j.Clone())
			}
			if len(*l.list) > m.opt.PrefsMax {
				return p, stanza.Err(stanza.PolicyViolation, "too many addresses in a list")
			}
		}
	}
	return p, nil
}

// joinJIDs writes a list as it is stored; addresses hold no line feeds (RFC 7622
// §3.4.1).
func joinJIDs(list []jid.JID) string {
	var b strings.Builder
	for i, j := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(j.String())
	}
	return b.String()
}

func splitJIDs(s string) ([]jid.JID, error) {
	if s == "" {
		return nil, nil
	}
	var list []jid.JID
	for line := range strings.SplitSeq(s, "\n") {
		j, err := jid.Parse(line)
		if err != nil {
			return nil, err
		}
		list = append(list, j)
	}
	return list, nil
}
