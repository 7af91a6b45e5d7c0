package kit

import (
	"slices"
	"sync"

	"trivium/core/jid"
)

// online is who is logged in to the gateway: has sent it available presence.
type online struct {
	mu    sync.Mutex
	users map[jid.JID][]jid.JID // full addresses by bare ones
	n     int
	max   int
}

func (o *online) init(max int) { o.users, o.max = map[jid.JID][]jid.JID{}, max }

// add notes a resource and tells whether it is new.
func (o *online) add(full jid.JID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.users[full.Bare()]
	if slices.Contains(list, full) {
		return false
	}
	if o.n < o.max {
		full = full.Clone()
		o.users[full.Bare()] = append(slices.Clip(list), full)
		o.n++
	}
	return true
}

// remove forgets a resource and tells whether it was there.
func (o *online) remove(full jid.JID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.users[full.Bare()]
	i := slices.Index(list, full)
	if i < 0 {
		return false
	}
	o.n--
	if len(list) == 1 {
		delete(o.users, full.Bare())
	} else {
		o.users[full.Bare()] = slices.Delete(slices.Clone(list), i, i+1)
	}
	return true
}

func (o *online) forget(user jid.JID) {
	o.mu.Lock()
	o.n -= len(o.users[user])
	delete(o.users, user)
	o.mu.Unlock()
}

func (o *online) has(full jid.JID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.users[full.Bare()], full)
}

// all returns every resource.
func (o *online) all() []jid.JID {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]jid.JID, 0, o.n)
	for _, list := range o.users {
		out = append(out, list...)
	}
	return out
}

// Online returns the resources of a user that are logged in to the gateway: the last
// presence that each has sent to the gateway's own address was available.
func (g *Gateway) Online(user jid.JID) []jid.JID {
	g.online.mu.Lock()
	defer g.online.mu.Unlock()
	return slices.Clone(g.online.users[user.Bare()])
}
