// Package agent makes accounts available for which programs speak instead of
// clients: a program sets a presence for a full address, and contacts see it until
// the program takes it back, restarts of the server included.
//
// Behind such a presence stands a session without a connection. It takes nothing:
// messages to the account go where they would go without it, which is why its
// priority is always negative (RFC 6121 §4.7.2.3), and requests to the full address
// are refused as if the resource were not there.
package agent

import (
	"context"
	"embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/stream"
)

// Options of New; zero values are defaults.
type Options struct {
	// Resources is how many addresses of one account may be available by it: 8.
	Resources int
	// MaxSize bounds one presence, in octets: 8192.
	MaxSize int
}

// Service owns the presences. It is a module; its methods may be called from any
// goroutine once it is registered.
type Service struct {
	opts Options
	host *module.Host

	mu   sync.Mutex // orders changes; nothing waits under it
	here map[jid.JID]*router.Session
	of   map[jid.JID]int // how many there are of an account
}

//go:embed migrations/*.sql
var migrations embed.FS

// New returns the service.
func New(o Options) *Service {
	if o.Resources <= 0 {
		o.Resources = 8
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 8192
	}
	return &Service{opts: o, here: map[jid.JID]*router.Session{}, of: map[jid.JID]int{}}
}

// Register implements module.Module.
func (s *Service) Register(h *module.Host) error {
	s.host = h
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		_, err := tx.Exec(`DELETE FROM agent_presence WHERE account = ?`, account.String())
		return err
	})
	return h.Migrate("agent", migrations)
}

// Start makes those available that were when the server stopped. It is called once,
// before traffic.
func (s *Service) Start(ctx context.Context) error {
	rows, err := s.host.Store.Query(ctx, `SELECT stanza FROM agent_presence ORDER BY address`)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer rows.Close()
	var list []*stanza.Stanza
	for rows.Next() {
		var doc []byte
		if err := rows.Scan(&doc); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		st, err := stanza.ParseDocument(doc)
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		list = append(list, st)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	rows.Close()
	for _, st := range list {
		full := st.From
		if !s.host.Router.Hosts(full.Domain()) {
			continue // a host that is no longer served
		}
		s.mu.Lock()
		err := s.show(ctx, full, st.Readdressed(full, jid.JID{}))
		s.mu.Unlock()
		if err != nil {
			s.host.Log.Warn("a presence was not set again", "jid", full.String(), "err", err)
		}
	}
	return nil
}

// Set makes a full address available with this presence, which needs neither address;
// nil or one of type unavailable ends it. It returns when the change is durable. A
// priority that is not negative becomes -1. The error is a *stanza.Error when the
// address or the presence cannot be used.
func (s *Service) Set(ctx context.Context, full jid.JID, st *stanza.Stanza) error {
	switch {
	case full.Local() == "" || full.Resource() == "" || !s.host.Router.Hosts(full.Domain()):
		return stanza.Err(stanza.BadRequest, "presence is set for a resource of an account")
	case st != nil && st.Type != "" && st.Type != stanza.Unavailable:
		return stanza.Err(stanza.BadRequest, "presence to be set has no type, or is unavailable")
	case st != nil && st.Size() > s.opts.MaxSize:
		return stanza.Err(stanza.PolicyViolation, "the presence is too large")
	}
	full = full.Clone()
	if st == nil {
		st = stanza.New(stanza.Presence, stanza.Unavailable, full, jid.JID{}, "")
	}
	if st.Type == "" {
		if ok, err := s.host.Exists(ctx, full.Bare()); err != nil {
			return err
		} else if !ok {
			return stanza.Err(stanza.ItemNotFound, "there is no such account")
		}
	}
	st, err := negative(st.Readdressed(full, jid.JID{}))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	ctx = context.WithoutCancel(ctx) // what has begun is finished
	s.mu.Lock()
	err = s.change(ctx, full, st, func(err error) { done <- err })
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return <-done
}

// change shows st and queues what remembers it.
func (s *Service) change(ctx context.Context, full jid.JID, st *stanza.Stanza, done func(error)) error {
	if st.Type == stanza.Unavailable {
		s.hide(ctx, full, st)
		return s.host.Store.Submit(forget(full), done)
	}
	if err := s.show(ctx, full, st); err != nil {
		return err
	}
	address, account, doc := full.String(), full.Bare().String(), st.AppendDocument(nil)
	return s.host.Store.Submit(func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO agent_presence (address, account, stanza) VALUES (?, ?, ?)
			ON CONFLICT (address) DO UPDATE SET stanza = excluded.stanza`, address, account, doc)
		return err
	}, done)
}

func forget(full jid.JID) store.Op {
	address := full.String()
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM agent_presence WHERE address = ?`, address)
		return err
	}
}

// show broadcasts an available presence, by a session that is bound if there is none.
func (s *Service) show(ctx context.Context, full jid.JID, st *stanza.Stanza) error {
	peer := s.here[full]
	if peer == nil {
		if s.of[full.Bare()] >= s.opts.Resources {
			return &stanza.Error{Condition: stanza.ResourceConstraint, Text: "too many resources of this account are available by programs"}
		}
		var err error
		peer, err = s.host.Router.Bind(router.Binding{
			JID: full, Conflict: router.ConflictRefuse, // a client that is connected knows better
			Kick: func(*stream.Error) { go s.kicked(full) },
		})
		if err != nil {
			return err
		}
		s.here[full] = peer
		s.of[full.Bare()]++
		s.host.SessionBound(ctx, peer)
	}
	return s.announce(ctx, peer, st)
}

func (s *Service) announce(ctx context.Context, peer *router.Session, st *stanza.Stanza) error {
	var t router.Turn
	defer t.Flush()
	err := s.host.Announce(ctx, &router.Packet{Stanza: st, Session: peer, Turn: &t})
	if err == router.ErrHandled {
		return nil
	}
	return err
}

// hide ends a presence, if there is one.
func (s *Service) hide(ctx context.Context, full jid.JID, st *stanza.Stanza) {
	peer := s.here[full]
	if peer == nil {
		return
	}
	delete(s.here, full)
	if s.of[full.Bare()]--; s.of[full.Bare()] == 0 {
		delete(s.of, full.Bare())
	}
	if st != nil {
		if err := s.announce(ctx, peer, st); err != nil {
			s.host.Log.Error("a presence was not taken back", "jid", full.String(), "err", err)
		}
	}
	s.host.Router.Unbind(peer)
	var t router.Turn
	s.host.SessionUnbound(ctx, &t, peer)
	t.Flush()
}

// kicked follows an operator, a client that has taken the resource, or the removal of
// the account.
func (s *Service) kicked(full jid.JID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hide(context.Background(), full, nil)
	if err := s.host.Store.Submit(forget(full), nil); err != nil {
		s.host.Log.Warn("a presence was ended but not forgotten", "jid", full.String(), "err", err)
	}
}

// Get returns the presence of every available resource of an account, those of
// clients among them, each from its full address.
func (s *Service) Get(_ context.Context, account jid.JID) ([]*stanza.Stanza, error) {
	var list []*stanza.Stanza
	for _, p := range s.host.Router.Account(account.Bare()).Sessions() {
		if pr := p.Presence(); pr != nil && (account.IsBare() || p.JID == account) {
			list = append(list, pr.Stanza)
		}
	}
	return list, nil
}

// negative gives available presence a negative priority.
func negative(st *stanza.Stanza) (*stanza.Stanza, error) {
	if st.Type == stanza.Unavailable {
		return st, nil
	}
	given := false
	st.Each(func(c stanza.Child) bool {
		if c.Is(stanza.NSClient, "priority") {
			n, err := strconv.ParseInt(strings.TrimSpace(c.Element().Text()), 10, 8)
			given = err == nil && n < 0
		}
		return true
	})
	if given {
		return st, nil
	}
	st = st.Without(func(c stanza.Child) bool { return c.Is(stanza.NSClient, "priority") })
	return st.Append(stanza.TextEl(stanza.NSClient, "priority", "-1")), nil
}
