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
	gone      bool      // nobody is there
	givenUp   int64     // events up to here are taken, or their messages have gone back
	grace     *time.Timer
	ended     bool
}

func (l *liveness) there() bool { return l.hooked || l.followers > 0 }

// recall reads what has been given up. Nobody is there yet.
func (l *liveness) recall(ctx context.Context, g *gateway) error {
	l.since, l.gone = g.registry.opts.Now().UTC(), true
	err := g.registry.opts.Store.QueryRow(ctx, `SELECT given_up FROM gateway_state WHERE domain = ?`, g.domain).Scan(&l.givenUp)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
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
		l.gone = false
		if !g.Up() {
			l.since = now
			g.SetUp(true)
		}
	case !l.gone:
		l.gone = true
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
			if err := g.giveUp(ctx, r.opts.Now().Add(-g.patience()).UnixMicro()); err != nil && ctx.Err() == nil {
				r.log.Error("messages to a gateway were not given up", "gateway", g.domain, "err", err)
			}
		}
	}
}

// patience is how long messages wait for somebody to take them.
func (g *gateway) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.def.GiveUpAfter > 0 {
		return time.Duration(g.def.GiveUpAfter) * time.Second
	}
	return g.registry.opts.GiveUpAfter
}

// giveUp returns messages up to a number, which is a time in microseconds, to their
// senders if nobody has taken them, whoever has been there since. Webhooks give up what
// they have taken by themselves.
func (g *gateway) giveUp(ctx context.Context, upTo int64) error {
	return g.registry.opts.Log.Offer(ctx, g.domain, upTo, func(list []*event.Event) ([]*event.Event, store.Op) {
		var t router.Turn
		for _, e := range list {
			if e.Type == event.Message {
				g.bounce(ctx, &t, e)
			}
		}
		t.Flush()
		last := list[len(list)-1].Seq
		g.mu.Lock()
		g.live.givenUp = max(g.live.givenUp, last)
		g.mu.Unlock()
		return list, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO gateway_state (domain, given_up) VALUES (?, ?)
				ON CONFLICT (domain) DO UPDATE SET given_up = excluded.given_up WHERE excluded.given_up > gateway_state.given_up`, g.domain, last)
			return err
		}
	})
}

func (g *gateway) bounce(ctx context.Context, t *router.Turn, e *event.Event) {
	st, err := stanza.ParseDocument(e.Stanza)
	if err != nil {
		g.registry.log.Error("an event holds no stanza", "event", e.ID(), "err", err)
		return
	}
	g.registry.opts.Router.Bounce(ctx, t, st, stanza.Err(stanza.RecipientUnavailable, "the gateway was out of service for too long"))
}
