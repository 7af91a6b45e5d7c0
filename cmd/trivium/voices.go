package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/httpapi"
	"trivium/httpapi/gateway"
)

// voices are the addresses that programs speak for: accounts, whose presence is the
// agents', and contacts of gateways.
type voices struct{ *engine }

var errNobody = stanza.Err(stanza.ItemNotFound, "there is no such account, nor a gateway")

// Set implements httpapi.Presences.
func (v voices) Set(ctx context.Context, j jid.JID, st *stanza.Stanza) error {
	if v.core.Router.Hosts(j.Domain()) {
		return v.agents.Set(ctx, j, st)
	}
	if st == nil {
		st = stanza.New(stanza.Presence, stanza.Unavailable, j, jid.JID{}, "")
	}
	return nobody(v.gateways.SetPresence(ctx, st.Readdressed(j, st.To)))
}

// Get implements httpapi.Presences.
func (v voices) Get(ctx context.Context, j jid.JID) ([]*stanza.Stanza, error) {
	if v.core.Router.Hosts(j.Domain()) {
		if err := v.known(ctx, j); err != nil {
			return nil, err
		}
		return v.agents.Get(ctx, j)
	}
	all, err := v.gateways.Presence(j)
	if err != nil {
		return nil, nobody(err)
	}
	var list []*stanza.Stanza
	for _, last := range all {
		if last.Stanza.Type == "" && last.User.IsZero() && (j.IsBare() || last.Stanza.From == j) {
			list = append(list, last.Stanza)
		}
	}
	return list, nil
}

// List implements httpapi.Subscriptions.
func (v voices) List(ctx context.Context, owner jid.JID, after string, limit int) (list []httpapi.Subscription, next string, err error) {
	owner = owner.Bare()
	if v.core.Router.Hosts(owner.Domain()) {
		if err := v.known(ctx, owner); err != nil {
			return nil, "", err
		}
		contacts, err := v.features.Roster.Contacts(ctx, owner)
		if err != nil {
			return nil, "", err
		}
		for _, c := range contacts {
			if c.JID.String() > after {
				list = append(list, httpapi.Subscription{JID: c.JID.String(), State: c.Subscription, Asked: c.Asked, Pending: c.Pending})
			}
		}
	} else {
		var from jid.JID
		if after != "" {
			if from, err = jid.Parse(after); err != nil {
				return nil, "", stanza.Err(stanza.BadRequest, "there is no such page")
			}
		}
		contacts, err := v.gateways.Contacts(ctx, owner.Domain(), jid.JID{}, owner, from, owner, limit+1)
		if err != nil {
			return nil, "", nobody(err)
		}
		for _, c := range contacts {
			list = append(list, seenFrom(&c))
		}
	}
	slices.SortFunc(list, func(a, b httpapi.Subscription) int { return strings.Compare(a.JID, b.JID) })
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].JID
	}
	return list, next, nil
}

// seenFrom is what a contact of a gateway has with a user, seen from the contact.
func seenFrom(c *gateway.Contact) httpapi.Subscription {
	s := httpapi.Subscription{JID: c.User, State: c.Subscription, Asked: c.Asks, Pending: c.Asked}
	switch c.Subscription {
	case "to":
		s.State = "from"
	case "from":
		s.State = "to"
	}
	return s
}

// known tells whether a virtual host has the account.
func (v voices) known(ctx context.Context, j jid.JID) error {
	if v.core.Router.Account(j.Bare()) != nil {
		return nil
	}
	ok, err := v.core.Exists(ctx, j.Bare())
	if err == nil && !ok {
		return errNobody
	}
	return err
}

func nobody(err error) error {
	if errors.Is(err, gateway.ErrNotFound) {
		return errNobody
	}
	return err
}
