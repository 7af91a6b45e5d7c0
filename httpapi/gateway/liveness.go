package gateway

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
)

// liveness is whether anybody is behind a gateway. It is guarded by gateway.mu.
type liveness struct {
	hooked    bool      // a webhook serves it, and is up
	followers int       // streams
	since     time.Time // of the state that is announced
	downSince time.Time // since when nobody is there; zero while somebody is
	givenUp   int64     // messages up to here have gone back
	grace     *time.Timer
	ended     bool
}

func (l *liveness) there() bool { return l.hooked || l.followers > 0 }

// recall reads since when the gateway is without a program. One that nobody has ever
// served is, from now on.
func (l *liveness) recall(ctx context.Context, g *gateway) error {
	var down int64
	err := g.registry.opts.Store.QueryRow(ctx, `SELECT down_since, given_up FROM gateway_state WHERE domain = ?`, g.domain).Scan(&down, &l.givenUp)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	l.since = g.registry.opts.Now().UTC()
	l.downSince = l.since
	if down != 0 {
		l.downSince = time.UnixMilli(down).UTC()
		return nil
	}
	return g.registry.opts.Store.Write(ctx, l.op(g.domain))
}

// op writes the state down.
func (l *liveness) op(domain string) store.Op {
	down, givenUp := int64(0), l.givenUp
	if !l.downSince.IsZero() {
		down = l.downSince.UnixMilli()
	}
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO gateway_state (domain, down_since, given_up) VALUES (?, ?, ?)
			ON CONFLICT (domain) DO UPDATE SET down_since = excluded.down_since, given_up = excluded.given_up`, domain, down, givenUp)
		return err
	}
}

// noteSoon writes the state down for callers that must not wait.
func (l *liveness) noteSoon(g *gateway) {
	if err := g.registry.opts.Store.Submit(l.op(g.domain), nil); err != nil {
		g.registry.log.Warn("the state of a gateway was not stored", "gateway", g.domain, "err", err)
	}
}

func (l *liveness) hook(g *gateway, up bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.hooked = up
	l.weigh(g)
}

func (l *liveness) follow(g *gateway, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.followers = n
	l.weigh(g)
}

// weigh tells what has changed: that somebody is there at once, that nobody is after
// the grace period.
func (l *liveness) weigh(g *gateway) {
	now := g.registry.opts.Now().UTC()
	switch {
	case l.ended:
	case l.there():
		if l.grace != nil {
			l.grace.Stop()
			l.grace = nil
		}
		if !l.downSince.IsZero() {
			l.downSince = time.Time{}
			l.noteSoon(g)
		}
		if !g.Up() {
			l.since = now
			g.SetUp(true)
		}
	case l.downSince.IsZero():
		l.downSince = now
		l.noteSoon(g)
		l.grace = time.AfterFunc(g.registry.opts.Grace, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if l.there() || l.ended || !g.Up() {
				return
			}
			l.grace, l.since = nil, g.registry.opts.Now().UTC()
			g.SetUp(false)
		})
	}
}

// end stops what is timed.
func (l *liveness) end(g *gateway) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.ended = true
	if l.grace != nil {
		l.grace.Stop()
	}
}

// WebhookState says that the webhook of a domain answers, or does not any more. It is
// the notice that webhook.Service.OnState gives. Domains that are no gateways do not matter.
func (r *Registry) WebhookState(domain string, up bool) {
	if g, err := r.find(domain); err == nil {
		g.live.hook(g, up)
	}
}

// Followers says how many event streams name a domain. It is the notice that
// event.Log.OnFollow gives.
func (r *Registry) Followers(domain string, n int) {
	if g, err := r.find(domain); err == nil {
		g.live.follow(g, n)
	}
}

// GivenUp returns the number of the last event of a domain whose message has gone back
// to its sender: a program that comes back need not see those up to it.
func (r *Registry) GivenUp(domain string) int64 {
	g, err := r.find(domain)
	if err != nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.live.givenUp
}

// sweep gives messages up until ctx ends.
func (r *Registry) sweep(ctx context.Context) {
	tick := time.NewTicker(r.opts.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, g := range r.all() {
			if err := g.giveUp(ctx); err != nil && ctx.Err() == nil {
				r.log.Error("messages to a gateway were not given up", "gateway", g.domain, "err", err)
			}
		}
	}
}

// giveUp returns messages to their senders that have waited for too long: they came
// while nobody was there, and nobody has been since. Webhooks give up by themselves.
func (g *gateway) giveUp(ctx context.Context) error {
	o := &g.registry.opts
	if o.Served != nil {
		if has, _ := o.Served(g.domain); has {
			return nil
		}
	}
	g.mu.Lock()
	down, after, patience := g.live.downSince, g.live.givenUp, time.Duration(g.def.GiveUpAfter)*time.Second
	g.mu.Unlock()
	if patience <= 0 {
		patience = o.GiveUpAfter
	}
	limit := o.Now().Add(-patience)
	if down.IsZero() || down.After(limit) {
		return nil
	}
	acked, err := o.Log.Acked(ctx, Consumer(g.domain))
	if err != nil {
		return err
	}
	after = max(after, acked, down.UnixMicro()-1) // numbers are microseconds
	filter := &event.Filter{Hosts: []string{g.domain}, Types: []event.Type{event.Message}}
	for ctx.Err() == nil {
		list, last, err := o.Log.Read(ctx, filter, after, 100)
		if err != nil {
			return err
		}
		done := false
		var t router.Turn
		for _, e := range list {
			if e.Time.After(limit) {
				done = true
				break
			}
			g.mu.Lock()
			back := g.live.downSince != down
			g.mu.Unlock()
			if back { // somebody has come, and will take the rest
				done = true
				break
			}
			after = e.Seq
			g.bounce(ctx, &t, e)
		}
		t.Flush()
		if len(list) > 0 {
			g.mu.Lock()
			g.live.givenUp = max(g.live.givenUp, after)
			op := g.live.op(g.domain)
			g.mu.Unlock()
			if err := o.Store.Write(ctx, op); err != nil {
				return err
			}
		}
		if done || len(list) == 0 {
			return nil
		}
		after = max(after, min(last, list[len(list)-1].Seq))
	}
	return nil
}

func (g *gateway) bounce(ctx context.Context, t *router.Turn, e *event.Event) {
	st, err := stanza.ParseDocument(e.Stanza)
	if err != nil {
		g.registry.log.Error("an event holds no stanza", "event", e.ID(), "err", err)
		return
	}
	g.registry.opts.Router.Bounce(ctx, t, st, stanza.Err(stanza.RecipientUnavailable, "the gateway was out of service for too long"))
}
