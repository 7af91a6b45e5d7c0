package kit

import (
	"context"
	"encoding/json"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
)

// nsExchange is the namespace of XEP-0144.
const nsExchange = "http://jabber.org/protocol/rosterx"

// Contact is what a gateway knows of one contact of one user.
type Contact struct {
	JID    jid.JID
	Name   string
	Groups []string
	// Listed: the gateway has put it on the user's list; otherwise the user has.
	Listed bool
	// Subscription as the user's roster has it: none, to (the user sees the contact's
	// presence), from, both.
	Subscription string
	// Asked: the user waits to see the contact's presence.
	Asked bool
	// Asks: the contact waits to see the user's.
	Asks bool
	// Approved: a request of the user is granted beforehand.
	Approved bool
}

func contactOf(e *entry) Contact {
	return Contact{
		JID: e.jid, Name: e.name, Groups: e.groups, Listed: e.state.has(listed), Subscription: e.state.subscription(),
		Asked: e.state.has(pendingIn), Asks: e.state.has(pendingOut), Approved: e.state.has(approved),
	}
}

// Contacts returns what the gateway knows of a user's contacts, in the order of their
// addresses; the gateway itself may be among them.
func (g *Gateway) Contacts(ctx context.Context, user jid.JID) ([]Contact, error) {
	b, err := g.book(ctx, user.Bare())
	if err != nil {
		return nil, err
	}
	out := make([]Contact, len(b.contacts))
	for i := range b.contacts {
		out[i] = contactOf(&b.contacts[i])
	}
	return out, nil
}

// Contact returns one of them; ok tells whether there is anything to know.
func (g *Gateway) Contact(ctx context.Context, user, contact jid.JID) (c Contact, ok bool, err error) {
	b, err := g.book(ctx, user.Bare())
	if err != nil {
		return c, false, err
	}
	e := b.entry(contact.Bare())
	return contactOf(&e), !e.empty(), nil
}

// Watched is one user's subscription to a contact, or a contact's to a user.
type Watched struct {
	User jid.JID
	Contact
}

// Between is a user and a contact.
type Between struct{ User, Contact jid.JID }

// Subscriptions returns what is between users and contacts, in the order of users and
// contacts, those behind the pair after (zero: from the first). of narrows it to one user,
// one contact, or both.
func (g *Gateway) Subscriptions(ctx context.Context, of, after Between, limit int) ([]Watched, error) {
	user, contact := of.User.Bare().String(), of.Contact.Bare().String()
	rows, err := g.opt.Store.Query(ctx, `SELECT account, contact, state, name, groupset FROM kit_contact
		WHERE domain = ?1 AND (?2 = '' OR account = ?2) AND (?3 = '' OR contact = ?3) AND (account, contact) > (?4, ?5)
		ORDER BY account, contact LIMIT ?6`, g.domain.Domain(), user, contact, after.User.String(), after.Contact.String(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Watched
	for rows.Next() {
		var w Watched
		var e entry
		var groups string
		if err := rows.Scan(&w.User, &e.jid, &e.state, &e.name, &groups); err != nil {
			return nil, err
		}
		if groups != "" {
			if err := json.Unmarshal([]byte(groups), &e.groups); err != nil {
				return nil, err
			}
		}
		w.Contact = contactOf(&e)
		out = append(out, w)
	}
	return out, rows.Err()
}

// PutContact puts a contact on a user's list: it is named in service discovery, and when
// the user asks to see its presence, that is granted (RFC 6121 §3.4). invite asks the user
// for a subscription, so that the contact appears in the user's roster if the user agrees.
func (g *Gateway) PutContact(ctx context.Context, user, contact jid.JID, name string, groups []string, invite bool) error {
	user, contact = user.Bare(), contact.Bare()
	switch {
	case !g.ours(contact) || contact == g.domain:
		return ErrForeign
	case utf8.RuneCountInString(name) > 1023 || len(groups) > 64:
		return stanza.Err(stanza.NotAcceptable, "the name or the list of groups is too long")
	}
	var pending bool
	_, _, err := g.change(ctx, user, contact, func(_ *book, e entry) (entry, error) {
		e.name, e.groups = name, groups
		e.state |= listed
		pending = e.state.has(pendingIn)
		if !e.state.has(shown) && !pending {
			e.state |= approved
		}
		return e, nil
	})
	if err != nil {
		return err
	}
	if pending { // the user has asked already
		if _, err := g.Subscribe(ctx, stanza.Subscribed, contact, user, ""); err != nil {
			return err
		}
	}
	if invite {
		_, err = g.Subscribe(ctx, stanza.Subscribe, contact, user, "")
	}
	return err
}

// RemoveContact takes a contact from a user's list and ends all subscriptions between
// them (XEP-0100 §5.2.1). It tells whether there was anything to end.
func (g *Gateway) RemoveContact(ctx context.Context, user, contact jid.JID) (bool, error) {
	user, contact = user.Bare(), contact.Bare()
	if !g.ours(contact) || contact == g.domain {
		return false, ErrForeign
	}
	was, _, err := g.change(ctx, user, contact, func(*book, entry) (entry, error) { return entry{jid: contact}, nil })
	if err != nil || was.empty() {
		return false, err
	}
	var t router.Turn
	g.part(context.WithoutCancel(ctx), &t, user, &was)
	t.Flush()
	return true, nil
}

// Suggest asks a user's client to add contacts of the gateway to the roster (XEP-0144
// §3.1), those on the user's list that the user does not see yet. It returns how many.
func (g *Gateway) Suggest(ctx context.Context, user jid.JID) (int, error) {
	b, err := g.book(ctx, user.Bare())
	if err != nil {
		return 0, err
	}
	x := stanza.El(nsExchange, "x")
	n := 0
	for _, e := range b.contacts {
		if e.jid == g.domain || !e.state.has(listed) || e.state.has(shown) {
			continue
		}
		it := stanza.El(nsExchange, "item").Set("action", "add").Set("jid", e.jid.String())
		if e.name != "" {
			it.Set("name", e.name)
		}
		for _, group := range e.groups {
			it.Add(stanza.TextEl(nsExchange, "group", group))
		}
		x.Add(it)
		n++
	}
	if n == 0 {
		return 0, nil
	}
	var t router.Turn
	defer t.Flush()
	return n, g.opt.Router.Send(ctx, &t, stanza.New(stanza.Message, "", g.domain, user.Bare(), "", x), nil)
}
