package kit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/xdata"
)

// Registration is a user's registration with a gateway.
type Registration struct {
	User    jid.JID           // bare
	Fields  map[string]string // secrets among them
	Created time.Time
	Changed time.Time
}

// plain are the fields that jabber:iq:register defines itself (XEP-0077 §14.2).
var plain = []string{
	"username", "nick", "password", "name", "first", "last", "email", "address", "city", "state", "zip",
	"phone", "url", "date", "misc", "text", "key",
}

// Registration returns a user's registration, or ErrNotRegistered.
func (g *Gateway) Registration(ctx context.Context, user jid.JID) (*Registration, error) {
	r := &Registration{User: user.Bare()}
	var fields string
	var created, changed int64
	err := g.opt.Store.QueryRow(ctx, `SELECT fields, created, changed FROM kit_registration WHERE domain = ? AND account = ?`,
		g.domain.Domain(), r.User.String()).Scan(&fields, &created, &changed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotRegistered
	}
	if err != nil {
		return nil, err
	}
	return r, r.decode(fields, created, changed)
}

func (r *Registration) decode(fields string, created, changed int64) error {
	r.Created, r.Changed = time.UnixMilli(created).UTC(), time.UnixMilli(changed).UTC()
	return json.Unmarshal([]byte(fields), &r.Fields)
}

// Registrations returns registrations in the order of their users, those behind after
// (zero: from the first).
func (g *Gateway) Registrations(ctx context.Context, after jid.JID, limit int) ([]*Registration, error) {
	rows, err := g.opt.Store.Query(ctx, `SELECT account, fields, created, changed FROM kit_registration
		WHERE domain = ? AND account > ? ORDER BY account LIMIT ?`, g.domain.Domain(), after.String(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*Registration
	for rows.Next() {
		r := &Registration{}
		var fields string
		var created, changed int64
		if err := rows.Scan(&r.User, &fields, &created, &changed); err != nil {
			return nil, err
		}
		if err := r.decode(fields, created, changed); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Count is how many registrations there are.
func (g *Gateway) Count() int64 { return g.enrolled.Load() }

// Secret tells whether a field of a registration is not to be shown to its user.
func (g *Gateway) Secret(name string) bool { return g.def.Load().secret(name) }

// form is the data form of a registration; have is what is on file, nil for none.
func (g *Gateway) form(d *settled, have *Registration) *xdata.Form {
	f := xdata.New(xdata.Ask, nsRegister)
	f.Title = "Registration"
	if d.Name != "" {
		f.Title = "Registration with " + d.Name
	}
	if s := d.Registration.Instructions; s != "" {
		f.Instructions = []string{s}
	}
	for _, fd := range d.Registration.Fields {
		x := xdata.Field{Var: fd.Name, Label: fd.Label, Required: fd.Required, Type: xdata.TextSingle}
		switch fd.Kind {
		case KindSecret:
			x.Type = xdata.TextPrivate
		case KindList:
			x.Type = xdata.ListSingle
			for _, o := range fd.Options {
				x.Options = append(x.Options, xdata.Option{Label: o.Label, Value: o.Value})
			}
		case KindBoolean:
			x.Type = xdata.Boolean
		case KindAddress:
			x.Type = xdata.JIDSingle
		}
		if have != nil {
			v, on := have.Fields[fd.Name]
			switch {
			case on && fd.Kind == KindSecret:
				x.Required = false // an empty one keeps what is there (XEP-0077 §3.3)
			case on:
				x.Values = []string{v}
			}
		}
		f.Fields = append(f.Fields, x)
	}
	return f
}

// registration answers jabber:iq:register.
func (g *Gateway) registration(ctx context.Context, st *stanza.Stanza, q *stanza.Element) (stanza.Payload, bool, error) {
	d, user := g.def.Load(), st.From.Bare()
	have, err := g.Registration(ctx, user)
	if err != nil && !errors.Is(err, ErrNotRegistered) {
		return nil, false, err
	}
	if st.Type == stanza.Get {
		return g.offer(d, have), true, nil
	}
	if q.Child(nsRegister, "remove") != nil {
		switch {
		case len(q.Children("", "")) != 1:
			return nil, false, stanza.Err(stanza.BadRequest, "remove stands alone") // XEP-0077 §3.2
		case have == nil:
			return nil, false, &stanza.Error{Condition: stanza.RegistrationRequired}
		}
		return nil, false, g.enter(func(ctx context.Context, t *router.Turn) {
			g.conclude(ctx, t, st, g.unregister(ctx, t, user, func() { g.send(ctx, t, st.Result(nil)) }))
		})
	}
	values, err := g.read(d, have, q)
	if err != nil {
		return nil, false, err
	}
	return nil, false, g.enter(func(ctx context.Context, t *router.Turn) {
		g.conclude(ctx, t, st, g.register(ctx, t, user, values, func() { g.send(ctx, t, st.Result(nil)) }))
	})
}

// conclude answers a request in the negative, if it has failed.
func (g *Gateway) conclude(ctx context.Context, t *router.Turn, st *stanza.Stanza, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, ErrTooMany) {
		err = stanza.Err(stanza.ResourceConstraint, "too many users have registered")
	}
	g.opt.Router.Bounce(ctx, t, st, err)
}

// enter runs f apart, since the network may wait. It is refused when too many do.
func (g *Gateway) enter(f func(ctx context.Context, t *router.Turn)) error {
	select {
	case g.entering <- struct{}{}:
	default:
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "too many registrations are under way"}
	}
	begun := g.begin(func() {
		var t router.Turn
		defer t.Flush()
		defer func() { <-g.entering }() // before the user can see the answer and try again
		f(context.Background(), &t)
	})
	if !begun {
		<-g.entering
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ServiceUnavailable}
	}
	return nil
}

// offer answers what there is to fill in, or what is on file (XEP-0077 §3.1.1).
func (g *Gateway) offer(d *settled, have *Registration) stanza.Payload {
	q := stanza.El(nsRegister, "query")
	if have != nil {
		q.Add(stanza.El(nsRegister, "registered"))
	}
	instructions := d.Registration.Instructions
	if instructions == "" {
		instructions = "Please fill in what the gateway needs to know."
	}
	q.Add(stanza.TextEl(nsRegister, "instructions", instructions))
	// XEP-0077 §6: plain fields stand beside the form only when they are enough.
	enough := !slices.ContainsFunc(d.Registration.Fields, func(f Field) bool { return f.Required && !slices.Contains(plain, f.Name) })
	if enough {
		for _, f := range d.Registration.Fields {
			if !slices.Contains(plain, f.Name) {
				continue
			}
			e := stanza.El(nsRegister, f.Name)
			if have != nil && f.Kind != KindSecret {
				e.AddText(have.Fields[f.Name])
			}
			q.Add(e)
		}
	}
	return q.Add(g.form(d, have).Element()) // §4: the form takes precedence
}

// read reads what a user has filled in, as a form or in plain fields.
func (g *Gateway) read(d *settled, have *Registration, q *stanza.Element) (map[string]string, error) {
	form, err := xdata.Find(q)
	if err != nil {
		return nil, err
	}
	if form == nil {
		form = xdata.New(xdata.Submit, nsRegister)
		for _, f := range d.Registration.Fields {
			if e := q.Child(nsRegister, f.Name); e != nil && slices.Contains(plain, f.Name) {
				form.Fields = append(form.Fields, xdata.Field{Var: f.Name, Values: []string{e.Text()}})
			}
		}
	}
	return g.accept(d, have, form)
}

// accept checks a submission. The values are those on file where it leaves secrets out.
func (g *Gateway) accept(d *settled, have *Registration, form *xdata.Form) (map[string]string, error) {
	for i := range form.Fields {
		if f := &form.Fields[i]; f.Var != xdata.FormType && len(f.Values) == 1 && f.Values[0] == "" {
			f.Values = nil // nothing was filled in
		}
	}
	if form.About() == "" { // COMPAT: clients that fill in forms by hand
		form.Fields = append(form.Fields, xdata.Field{Var: xdata.FormType, Values: []string{nsRegister}})
	}
	given, err := g.form(d, have).Accept(form)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	size := 0
	for _, f := range d.Registration.Fields {
		switch v := given.Field(f.Name); {
		case v != nil && len(v.Values) > 0:
			values[f.Name] = v.Value()
		case f.Kind == KindSecret && have != nil:
			if old, ok := have.Fields[f.Name]; ok {
				values[f.Name] = old
			}
		}
		size += len(values[f.Name])
	}
	if size > 64<<10 {
		return nil, stanza.Err(stanza.NotAcceptable, "the fields are too long")
	}
	return values, nil
}

// Enroll registers a user on the gateway's own account, or changes the registration.
// Fields that the form does not have are kept as they are.
func (g *Gateway) Enroll(ctx context.Context, user jid.JID, fields map[string]string) error {
	var t router.Turn
	defer t.Flush()
	return g.register(ctx, &t, user.Bare(), maps.Clone(fields), func() {})
}

// register stores a registration that the network does not refuse, and begins what
// follows from it (XEP-0100 §4.1.1). done is called in between.
func (g *Gateway) register(ctx context.Context, t *router.Turn, user jid.JID, values map[string]string, done func()) error {
	ctx = context.WithoutCancel(ctx)
	have, err := g.Registration(ctx, user)
	change := Changed
	now := g.opt.Now().UTC()
	r := &Registration{User: user.Clone(), Fields: values, Created: now, Changed: now}
	switch {
	case errors.Is(err, ErrNotRegistered):
		change = Registered
		if g.enrolled.Load() >= int64(g.opt.MaxRegistrations) {
			return ErrTooMany
		}
	case err != nil:
		return err
	default:
		r.Created = have.Created
	}
	if err := g.net.Register(ctx, change, r); err != nil {
		return err
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return err
	}
	err = g.enlist(ctx, user, true, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO kit_registration (domain, account, fields, created, changed) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (domain, account) DO UPDATE SET fields = excluded.fields, changed = excluded.changed`,
			g.domain.Domain(), user.String(), string(raw), r.Created.UnixMilli(), r.Changed.UnixMilli())
		return err
	})
	if err != nil {
		return err
	}
	done()
	if change != Registered {
		return nil
	}
	// What the user has asked of the gateway before is granted now; what comes next is
	// granted because the user is registered.
	b, err := g.book(ctx, user)
	if err != nil {
		return err
	}
	granted := false
	if b.state(g.domain).has(pendingIn) {
		if granted, err = g.subscribe(ctx, t, stanza.New(stanza.Presence, stanza.Subscribed, g.domain, user, "")); err != nil {
			g.log.Debug("a subscription to the gateway was not granted", "user", user.String(), "err", err)
		}
	}
	if !b.state(g.domain).has(sees) {
		if _, err := g.subscribe(ctx, t, stanza.New(stanza.Presence, stanza.Subscribe, g.domain, user, "")); err != nil {
			g.log.Debug("the gateway's subscription request found nobody", "user", user.String(), "err", err)
		}
	}
	if !granted { // else it has come behind the grant
		g.show(ctx, t, user, g.domain, false)
	}
	return nil
}

// enlist changes whether a user is registered, with op in the same transaction.
func (g *Gateway) enlist(ctx context.Context, user jid.JID, on bool, op store.Op) error {
	mu := g.lock(user)
	mu.Lock()
	defer mu.Unlock()
	b, err := g.load(ctx, user)
	if err != nil {
		return err
	}
	if err := g.opt.Store.Write(ctx, op); err != nil {
		return err
	}
	if b.registered == on {
		return nil
	}
	n := *b
	n.registered = on
	if on {
		g.enrolled.Add(1)
	} else {
		g.enrolled.Add(-1)
		n.contacts = nil
	}
	g.books.Set(user.Clone(), &n)
	return nil
}

// Unregister ends a user's registration, the subscriptions between the user and all
// contacts, and everything else that is known of the user. It returns ErrNotRegistered
// where there was none.
func (g *Gateway) Unregister(ctx context.Context, user jid.JID) error {
	var t router.Turn
	defer t.Flush()
	if _, err := g.Registration(ctx, user); err != nil {
		return err
	}
	return g.unregister(ctx, &t, user.Bare(), func() {})
}

// unregister is XEP-0100 §4.3.1.
func (g *Gateway) unregister(ctx context.Context, t *router.Turn, user jid.JID, done func()) error {
	ctx = context.WithoutCancel(ctx)
	r, err := g.Registration(ctx, user)
	if errors.Is(err, ErrNotRegistered) {
		return &stanza.Error{Condition: stanza.RegistrationRequired}
	}
	if err != nil {
		return err
	}
	b, err := g.book(ctx, user)
	if err != nil {
		return err
	}
	if err := g.net.Register(ctx, Unregistered, r); err != nil {
		return err
	}
	err = g.enlist(ctx, user, false, func(tx *store.Tx) error {
		for _, q := range [...]string{
			`DELETE FROM kit_registration WHERE domain = ? AND account = ?`,
			`DELETE FROM kit_contact WHERE domain = ? AND account = ?`,
		} {
			if _, err := tx.Exec(q, g.domain.Domain(), user.String()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	done()
	g.leave(ctx, t, user, b)
	return nil
}

// leave tells a user that everything with the gateway has ended; b is what there was.
func (g *Gateway) leave(ctx context.Context, t *router.Turn, user jid.JID, b *book) {
	own := b.entry(g.domain)
	g.online.forget(user)
	for i := range b.contacts {
		if e := &b.contacts[i]; e.jid != g.domain {
			g.part(ctx, t, user, e)
		}
	}
	g.part(ctx, t, user, &own)
	err := g.opt.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM kit_presence WHERE domain = ? AND account = ?`, g.domain.Domain(), user.String())
		return err
	})
	if err != nil {
		g.log.Error("presence for a user who has left was not deleted", "user", user.String(), "err", err)
		return
	}
	g.presences.forget(user)
}
