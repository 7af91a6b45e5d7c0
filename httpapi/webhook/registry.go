package webhook

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/store"
	"trivium/httpapi/event"
)

// What a change or a question can fail with, apart from a *message.FieldError and the
// store's errors.
var (
	// ErrUnknown: there is no endpoint of that name.
	ErrUnknown = errors.New("webhook: there is no such endpoint")
	// ErrFixed: the endpoint is in the configuration and can be changed there only.
	ErrFixed = errors.New("webhook: the endpoint belongs to the configuration")
	// ErrVersion: the endpoint is not in the version that the caller knows.
	ErrVersion = errors.New("webhook: the endpoint has been changed meanwhile")
	// ErrLimit: there are as many endpoints as there may be.
	ErrLimit = errors.New("webhook: there are too many endpoints")
)

// Versions that Put and Remove may be told instead of one that the caller knows.
const (
	AnyVersion int64 = -1
	NoVersion  int64 = 0 // there must be no such endpoint yet
)

// Info is an endpoint as it may be shown. Its Endpoint has no Keys.
type Info struct {
	Endpoint Endpoint
	Keys     []Key
	Version  int64 // rises with each change
	Fixed    bool  // it belongs to the configuration
	Status   Status
}

// Endpoints returns all endpoints, by name.
func (s *Service) Endpoints() []Info {
	endpoints := *s.list.Load()
	list := make([]Info, 0, len(endpoints))
	for _, e := range endpoints {
		list = append(list, e.info())
	}
	return list
}

// Endpoint returns one of them, or ErrUnknown.
func (s *Service) Endpoint(name string) (Info, error) {
	e := s.find(name)
	if e == nil {
		return Info{}, ErrUnknown
	}
	return e.info(), nil
}

func (e *endpoint) info() Info {
	d := e.def.Load()
	i := Info{Endpoint: d.Endpoint, Version: e.version.Load(), Fixed: e.fixed, Status: e.status()}
	i.Endpoint.Keys = nil
	for _, k := range d.keys {
		i.Keys = append(i.Keys, k.Key)
	}
	return i
}

func (s *Service) find(name string) *endpoint {
	list := *s.list.Load()
	i, ok := slices.BinarySearchFunc(list, name, func(e *endpoint, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return nil
	}
	return list[i]
}

// Put makes an endpoint, or replaces the one of that name if it is in the given
// version. A Key's ID among c.Keys stands for that key of the one before; no Keys at
// all stand for all of them, and for a new HMAC key where there was none: made is
// that key then, which is not shown again. Another URL than before begins anew: it
// is not gone, and all that waits is posted at once.
//
// The host of the URL is looked up: it must have an address, and no address where
// the endpoint may not lead.
func (s *Service) Put(ctx context.Context, c Endpoint, version int64) (i Info, made string, err error) {
	if !endpointName.MatchString(c.Name) {
		return i, "", refused("name", "is not 1 to 64 letters, digits, dots, dashes and underscores")
	}
	if err := s.reachable(ctx, c.URL, c.AllowPrivate); err != nil { // before the lock: it may take its time
		return i, "", err
	}
	s.change.Lock()
	defer s.change.Unlock()
	old := s.find(c.Name)
	switch {
	case old != nil && old.fixed:
		return i, "", ErrFixed
	case old == nil && version > 0, old != nil && version != AnyVersion && version != old.version.Load():
		return i, "", ErrVersion
	case old == nil && len(*s.list.Load()) >= s.opts.MaxEndpoints:
		return i, "", ErrLimit
	}
	if made, err = c.resolveKeys(old); err != nil {
		return i, "", err
	}
	d, err := s.define(c)
	if err != nil {
		return i, "", err
	}
	if err := s.owned(d); err != nil {
		d.close()
		return i, "", err
	}
	e := old
	if e == nil {
		e = s.newEndpoint(d)
	}
	if err := s.save(ctx, e, d); err != nil {
		d.close()
		return i, "", err
	}
	if old == nil {
		s.insert(e)
	} else {
		before := e.def.Swap(d)
		if before.URL != d.URL {
			e.renew()
		}
		before.close()
		e.mail.notify()
		s.tellState(before)
	}
	if s.opts.Watcher != nil {
		s.opts.Watcher.Watch(e.name, d.Watch)
	}
	s.mu.Lock()
	s.launch(e)
	s.mu.Unlock()
	s.tellState(d)
	return e.info(), made, nil
}

// resolveKeys replaces IDs of keys by the keys of the endpoint before.
func (c *Endpoint) resolveKeys(old *endpoint) (made string, err error) {
	var had []*signer
	if old != nil {
		had = old.def.Load().keys
	}
	keys := []string{}
	for _, k := range c.Keys {
		if i := slices.IndexFunc(had, func(s *signer) bool { return s.ID == k }); i >= 0 {
			k = had[i].text
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		for _, k := range had {
			keys = append(keys, k.text)
		}
	}
	if len(keys) == 0 {
		if made, err = NewKey(HMAC); err != nil {
			return "", err
		}
		keys = append(keys, made)
	}
	c.Keys = keys
	return made, nil
}

// owned refuses a gateway domain that another endpoint speaks for.
func (s *Service) owned(d *definition) error {
	for _, e := range *s.list.Load() {
		if e.name == d.Name {
			continue
		}
		for host := range e.def.Load().domains {
			if d.domains[host] {
				return refused("domains", "has one that belongs to another webhook")
			}
		}
	}
	return nil
}

// insert adds an endpoint to the list; s.change is held, or nobody knows s yet.
func (s *Service) insert(e *endpoint) {
	list := append(slices.Clone(*s.list.Load()), e)
	slices.SortFunc(list, func(a, b *endpoint) int { return strings.Compare(a.name, b.name) })
	s.list.Store(&list)
}

// Remove ends an endpoint and forgets its delivery log and its dead letters. What is
// pending of its gateway domains waits for another.
func (s *Service) Remove(ctx context.Context, name string, version int64) error {
	s.change.Lock()
	defer s.change.Unlock()
	e := s.find(name)
	switch {
	case e == nil:
		return ErrUnknown
	case e.fixed:
		return ErrFixed
	case version != AnyVersion && version != e.version.Load():
		return ErrVersion
	}
	before := s.list.Load()
	s.list.Store(new(slices.DeleteFunc(slices.Clone(*before), func(x *endpoint) bool { return x == e })))
	s.opts.Log.Given() // from here on, nobody expects it to take anything
	done := func() {}
	err := s.opts.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if _, err := tx.Exec(`DELETE FROM webhook_endpoint WHERE id = ?`, e.id); err != nil {
			return err
		}
		if done, err = s.requeue(tx, e.id); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM webhook_delivery WHERE endpoint = ?`, e.id); err != nil {
			return err
		}
		// The writer is one goroutine: no later operation of the log adds rows.
		e.removed.Store(true)
		return nil
	})
	if err != nil {
		e.removed.Store(false)
		s.list.Store(before)
		return err
	}
	done()
	if s.opts.Watcher != nil {
		s.opts.Watcher.Watch(name, nil)
	}
	s.mu.Lock()
	cancel := e.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		select {
		case <-e.stopped:
		case <-ctx.Done():
		}
	}
	d := e.def.Load()
	d.close()
	s.tellState(d)
	return nil
}

// Enable lets an endpoint that has answered 410 Gone have events again, and tries one
// that is down at once.
func (s *Service) Enable(ctx context.Context, name string) error {
	s.change.Lock()
	defer s.change.Unlock()
	e := s.find(name)
	if e == nil {
		return ErrUnknown
	}
	err := s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE webhook_endpoint SET gone = NULL WHERE id = ?`, e.id)
		return err
	})
	if err != nil {
		return err
	}
	e.renew()
	s.tellState(e.def.Load())
	return nil
}

// renew forgets what was bad about an endpoint.
func (e *endpoint) renew() {
	e.stale.Store(true) // what came while it was gone
	e.gone.Store(false)
	e.down.Store(false)
	e.breaker.Store(e.newBreaker())
	e.mail.renew()
}

// Up tells whether an endpoint takes the events of one of our domains, and whether
// it, or one of them, works. One that has answered 410 Gone takes nothing, and one that
// is Silent looks on, where the domain is not its own.
func (s *Service) Up(host string) (has, up bool) {
	for _, e := range *s.list.Load() {
		if !e.gone.Load() && e.def.Load().answers(host) {
			has = true
			up = up || !e.down.Load()
		}
	}
	return has, up
}

// Takes tells whether events of a type that concern one of our domains are posted
// anywhere. Those that are answered at once (Asks) are not.
func (s *Service) Takes(host string, t event.Type) bool {
	for _, e := range *s.list.Load() {
		d := e.def.Load()
		if e.gone.Load() || !d.answers(host) || t == event.IQ && d.Sync && !d.Silent {
			continue
		}
		if len(d.Filter.Types) == 0 || slices.Contains(d.Filter.Types, t) {
			return true
		}
	}
	return false
}

// OnState adds a function that is called when what Up tells of a host may have
// changed. It must not block, nor change endpoints.
func (s *Service) OnState(f func(host string, up bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onState = append(s.onState, f)
}

// tellState calls the functions of OnState for the hosts that d names.
func (s *Service) tellState(d *definition) {
	s.mu.Lock()
	list := slices.Clone(s.onState)
	s.mu.Unlock()
	for _, host := range d.hosts() {
		_, up := s.Up(host)
		for _, f := range list {
			f(host, up)
		}
	}
}

// stored is the JSON of an endpoint in webhook_endpoint.
type stored struct {
	URL          string       `json:"url"`
	Keys         []string     `json:"keys"`
	Domains      []string     `json:"domains,omitempty"`
	Watch        []string     `json:"watch,omitempty"`
	Types        []event.Type `json:"types,omitempty"`
	Hosts        []string     `json:"hosts,omitempty"`
	JIDs         []string     `json:"jids,omitempty"`
	Rooms        []string     `json:"rooms,omitempty"`
	Format       event.Format `json:"format"`
	Sync         bool         `json:"sync,omitempty"`
	Silent       bool         `json:"silent,omitempty"`
	AllowPrivate bool         `json:"allow_private,omitempty"`
	Timeout      int64        `json:"timeout_ms"`
	GiveUpAfter  int64        `json:"give_up_after_ms"`
	Concurrency  int          `json:"concurrency"`
}

func (d *definition) stored() stored {
	c := stored{
		URL: d.URL, Keys: d.Keys, Domains: d.Domains, Types: d.Filter.Types, Hosts: d.Filter.Hosts, Format: d.Format, Sync: d.Sync,
		Silent: d.Silent, AllowPrivate: d.AllowPrivate, Timeout: d.Timeout.Milliseconds(), GiveUpAfter: d.GiveUpAfter.Milliseconds(), Concurrency: d.Concurrency,
	}
	for _, p := range d.Watch {
		c.Watch = append(c.Watch, p.String())
	}
	for _, p := range d.Filter.JIDs {
		c.JIDs = append(c.JIDs, p.String())
	}
	for _, r := range d.Filter.Rooms {
		c.Rooms = append(c.Rooms, r.String())
	}
	return c
}

func (c *stored) endpoint(name string) (Endpoint, error) {
	e := Endpoint{
		Name: name, URL: c.URL, Keys: c.Keys, Domains: c.Domains, Format: c.Format, Sync: c.Sync, Silent: c.Silent, AllowPrivate: c.AllowPrivate,
		Timeout: time.Duration(c.Timeout) * time.Millisecond, GiveUpAfter: time.Duration(c.GiveUpAfter) * time.Millisecond,
		Concurrency: c.Concurrency, Filter: event.Filter{Types: c.Types, Hosts: c.Hosts},
	}
	for _, text := range c.Watch {
		p, err := jid.ParsePattern(text)
		if err != nil {
			return e, err
		}
		e.Watch = append(e.Watch, p)
	}
	for _, text := range c.JIDs {
		p, err := jid.ParsePattern(text)
		if err != nil {
			return e, err
		}
		e.Filter.JIDs = append(e.Filter.JIDs, p)
	}
	for _, text := range c.Rooms {
		r, err := jid.Parse(text)
		if err != nil {
			return e, err
		}
		e.Filter.Rooms = append(e.Filter.Rooms, r)
	}
	return e, nil
}

// save writes an endpoint that was made or changed at run time.
func (s *Service) save(ctx context.Context, e *endpoint, d *definition) error {
	definition, err := json.Marshal(d.stored())
	if err != nil {
		return err
	}
	id, version := e.id, e.version.Load()+1
	err = s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		if e.id == 0 {
			// One that was in the configuration once begins anew.
			if _, err := tx.Exec(`DELETE FROM webhook_delivery WHERE endpoint = (SELECT id FROM webhook_endpoint WHERE name = ?)`, e.name); err != nil {
				return err
			}
			if _, err := tx.Exec(`DELETE FROM webhook_endpoint WHERE name = ?`, e.name); err != nil {
				return err
			}
			return tx.QueryRow(`INSERT INTO webhook_endpoint (name, version, definition) VALUES (?, ?, ?) RETURNING id`,
				e.name, version, string(definition)).Scan(&id)
		}
		_, err := tx.Exec(`UPDATE webhook_endpoint SET version = ?, definition = ?, gone = CASE WHEN gone = ? THEN gone END WHERE id = ?`,
			version, string(definition), d.URL, e.id)
		return err
	})
	if err != nil {
		return err
	}
	if e.id == 0 {
		e.id = id // nobody else knows it yet
	}
	e.version.Store(version)
	return nil
}

// configure takes the endpoints of the configuration, and those that were made at run
// time and have no namesake there. It is part of New.
func (s *Service) configure(ctx context.Context, list []Endpoint) error {
	known := map[string]*row{}
	rows, err := s.opts.Store.Query(ctx, `SELECT id, name, version, definition, gone FROM webhook_endpoint ORDER BY name`)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer rows.Close()
	var order []*row
	for rows.Next() {
		r := &row{}
		if err := rows.Scan(&r.id, &r.name, &r.version, &r.definition, &r.gone); err != nil {
			return fmt.Errorf("webhook: %w", err)
		}
		known[r.name] = r
		order = append(order, r)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	for _, c := range list {
		if err := s.configureOne(ctx, c, known[c.Name]); err != nil {
			return fmt.Errorf("webhook %q: %w", c.Name, err)
		}
	}
	for _, r := range order {
		switch {
		case s.find(r.name) != nil:
		case r.definition.Valid:
			// One that is not right any more, because a domain has become a virtual
			// host for example, must not keep the server from starting.
			if err := s.restore(r); err != nil {
				s.log.Error("a webhook cannot be used", "webhook", r.name, "err", err)
			}
		default:
			if err := s.forget(ctx, r); err != nil {
				return fmt.Errorf("webhook %q: %w", r.name, err)
			}
		}
	}
	return nil
}

// row is one of webhook_endpoint.
type row struct {
	id, version      int64
	name             string
	definition, gone sql.NullString
}

func (s *Service) configureOne(ctx context.Context, c Endpoint, r *row) error {
	if c.Name == "" {
		return errors.New("it has no name")
	}
	if s.find(c.Name) != nil {
		return errors.New("two endpoints have this name")
	}
	d, err := s.define(c)
	if err == nil {
		err = s.owned(d)
	}
	if err != nil {
		return err
	}
	if r == nil {
		r = &row{version: 1}
		err = s.opts.Store.Write(ctx, func(tx *store.Tx) error {
			return tx.QueryRow(`INSERT INTO webhook_endpoint (name, version) VALUES (?, 1) RETURNING id`, c.Name).Scan(&r.id)
		})
		if err != nil {
			return err
		}
	}
	s.add(d, r, true)
	return nil
}

func (s *Service) restore(r *row) error {
	var c stored
	if err := json.Unmarshal([]byte(r.definition.String), &c); err != nil {
		return err
	}
	def, err := c.endpoint(r.name)
	if err != nil {
		return err
	}
	d, err := s.define(def)
	if err == nil {
		err = s.owned(d)
	}
	if err == nil {
		s.add(d, r, false)
	}
	return err
}

func (s *Service) add(d *definition, r *row, fixed bool) {
	e := s.newEndpoint(d)
	e.id, e.fixed = r.id, fixed
	e.version.Store(r.version)
	e.gone.Store(r.gone.Valid && r.gone.String == d.URL)
	s.insert(e)
	if s.opts.Watcher != nil {
		s.opts.Watcher.Watch(e.name, d.Watch)
	}
}

// orphanAge is how long deliveries wait for an endpoint that was taken out of the
// configuration to come back.
const orphanAge = 30 * 24 * time.Hour

// forget removes what has waited too long for an endpoint that is not there.
func (s *Service) forget(ctx context.Context, r *row) error {
	before := time.Now().Add(-orphanAge).UnixMicro()
	return s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM webhook_delivery WHERE endpoint = ? AND at < ?`, r.id, before)
		return err
	})
}
