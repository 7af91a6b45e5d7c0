package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	presenceHubs     = 4  // accounts that change their presence
	presenceContacts = 20 // online contacts of each
	presenceWindow   = 4  // changes under way per hub
)

// hub is an account with its contacts, all mutually subscribed and online.
type hub struct {
	session  *session
	contacts []*session

	changes, deliveries atomic.Int64
}

func hubUsers(i int) (name string, contacts []string) {
	first := presenceFrom + i*(presenceContacts+1)
	return userName(first), users(first+1, presenceContacts)
}

// openHubs logs all accounts in, subscribes where that was not done before, and
// sends initial presence.
func openHubs(ctx context.Context, s *server, n int) ([]*hub, error) {
	hubs := make([]*hub, n)
	for i := range hubs {
		name, contacts := hubUsers(i)
		sessions, err := loginAll(ctx, s.ep, roadTCP, append([]string{name}, contacts...))
		if err != nil {
			closeHubs(hubs)
			return nil, err
		}
		hubs[i] = &hub{session: sessions[0], contacts: sessions[1:]}
	}
	for _, h := range hubs {
		if err := h.prepare(s.subscribed); err != nil {
			closeHubs(hubs)
			return nil, err
		}
	}
	s.subscribed = true
	return hubs, nil
}

func closeHubs(hubs []*hub) {
	for _, h := range hubs {
		if h != nil {
			closeAll(append([]*session{h.session}, h.contacts...))
		}
	}
}

func (h *hub) prepare(subscribed bool) error {
	everyone := append([]*session{h.session}, h.contacts...)
	for _, s := range everyone {
		if err := s.available(); err != nil {
			return err
		}
	}
	for _, s := range everyone {
		if err := s.setDeadline(time.Now().Add(setupTimeout)); err != nil {
			return err
		}
	}
	if !subscribed {
		for _, c := range h.contacts {
			if err := h.befriend(c); err != nil {
				return fmt.Errorf("subscription of %s and %s: %w", h.session.jid, c.jid, err)
			}
		}
	}
	roster, err := h.session.query("get", "both", "<query xmlns='jabber:iq:roster'/>")
	if err != nil {
		return err
	}
	both := bytes.Count(roster, []byte("subscription='both'")) + bytes.Count(roster, []byte(`subscription="both"`))
	if both != presenceContacts {
		return fmt.Errorf("the roster of %s has %d mutual contacts, want %d: %.600s", h.session.jid, both, presenceContacts, roster)
	}
	for _, s := range everyone {
		if err := s.setDeadline(time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// befriend makes two online accounts see each other (RFC 6121 §3.1).
func (h *hub) befriend(c *session) error {
	a, b := h.session, c
	for range 2 {
		if err := a.sendXML("<presence to='" + bare(b.jid) + "' type='subscribe'/>"); err != nil {
			return err
		}
		if err := b.awaitPresence("subscribe", bare(a.jid)); err != nil {
			return err
		}
		if err := b.sendXML("<presence to='" + bare(a.jid) + "' type='subscribed'/>"); err != nil {
			return err
		}
		if err := a.awaitPresence("subscribed", bare(b.jid)); err != nil {
			return err
		}
		a, b = b, a
	}
	return nil
}

// awaitPresence skips elements up to a presence of that type and sender.
func (s *session) awaitPresence(kind, from string) error {
	for {
		el, err := s.await("<presence")
		if err != nil {
			return err
		}
		if attr(el, "type") == kind && bare(attr(el, "from")) == from {
			return nil
		}
	}
}

func bare(jid string) string {
	name, _, _ := strings.Cut(jid, "/")
	return name
}

// watch counts presence at one contact, and lets the hub change again for each
// change that all contacts have seen. Only the changes measured hold a status.
func (h *hub) watch(c *session, stop *atomic.Bool, changes [][]byte) {
	count := newCounter("</status>")
	for buf := make([]byte, 16<<10); ; {
		n, err := c.recv(buf)
		if err != nil {
			return
		}
		k := int64(count.count(buf[:n]))
		if k == 0 {
			continue
		}
		all := h.deliveries.Add(k)
		freed := all/presenceContacts - (all-k)/presenceContacts
		for range freed {
			if stop.Load() {
				break
			}
			if err := h.change(changes); err != nil {
				return
			}
		}
	}
}

func (h *hub) change(changes [][]byte) error {
	n := h.changes.Add(1)
	return h.session.send(changes[n%int64(len(changes))])
}

// runPresence is a closed loop of presence changes.
func runPresence(ctx context.Context, b *bench, s *server) (*outcome, error) {
	n := presenceHubs
	if b.quick {
		n = 1
	}
	hubs, err := openHubs(ctx, s, n)
	if err != nil {
		return nil, err
	}
	changes := [][]byte{
		[]byte("<presence><show>away</show><status>In a meeting until noon</status></presence>"),
		[]byte("<presence><show>chat</show><status>Back at the desk again</status></presence>"),
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer closeHubs(hubs)
	defer context.AfterFunc(ctx, func() { closeHubs(hubs) })()
	for _, h := range hubs {
		for _, c := range h.contacts {
			wg.Go(func() { h.watch(c, &stop, changes) })
		}
		wg.Go(func() { discard(h.session) })
		for range presenceWindow {
			if err := h.change(changes); err != nil {
				return nil, err
			}
		}
	}
	delivered := func() (n, changes int64) {
		for _, h := range hubs {
			n += h.deliveries.Load()
			changes += h.changes.Load()
		}
		return n, changes
	}
	if err := pause(ctx, b.rampUp()); err != nil {
		return nil, err
	}
	before, _ := delivered()
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, b.duration); err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	after, _ := delivered()
	stop.Store(true)
	await(drainLimit, func() bool { n, changes := delivered(); return n >= changes*presenceContacts })
	received, sent := delivered()
	ops := after - before
	if ops == 0 {
		return nil, errSilent
	}
	return &outcome{
		Metrics: map[string]float64{"cpu_us": micros(cpu, ops), "per_second": float64(ops) / passed.Seconds()},
		Sent:    sent * presenceContacts, Received: received,
	}, nil
}

// discard reads until the connection ends.
func discard(s *session) {
	for buf := make([]byte, 16<<10); ; {
		if _, err := s.recv(buf); err != nil {
			return
		}
	}
}
