package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/event"
)

// network is the kit.Network of programs that speak HTTP.
type network struct{ *gateway }

// append logs an event; the sender is told when the log is full.
func (n network) append(e *event.Event, rc *router.Receipt) error {
	if err := n.registry.opts.Log.Append(e, rc); err != nil {
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "too much is waiting for the gateway", Cause: err}
	}
	return nil
}

// Message implements kit.Network.
func (n network) Message(ctx context.Context, p *router.Packet) error {
	if observe := n.registry.opts.Observe; observe != nil {
		observe(p.Stanza)
	}
	return n.append(event.Of(event.Message, n.domain, p.Stanza).In(ctx), p.Receipt)
}

// Presence implements kit.Network.
func (n network) Presence(ctx context.Context, st *stanza.Stanza) error {
	return n.append(event.Of(event.Presence, n.domain, st).In(ctx), nil)
}

// Subscription implements kit.Network.
func (n network) Subscription(ctx context.Context, st *stanza.Stanza) error {
	return n.append(event.Of(event.Subscription, n.domain, st).In(ctx), nil)
}

// IQ implements kit.Network.
func (n network) IQ(ctx context.Context, st *stanza.Stanza) error {
	e := event.Of(event.IQ, n.domain, st).In(ctx)
	if st.Type != stanza.Get && st.Type != stanza.Set {
		return n.append(e, nil) // an answer to what the program has asked
	}
	o := &n.registry.opts
	if o.Wants != nil && !o.Wants(n.domain, event.IQ) {
		return &stanza.Error{Condition: stanza.ServiceUnavailable} // RFC 6120 §8.4
	}
	if o.Sync == nil {
		return n.append(e, nil)
	}
	select {
	case n.syncing <- struct{}{}:
	default:
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "too many requests wait for the gateway"}
	}
	begun := n.registry.begin(func(ctx context.Context) {
		defer func() { <-n.syncing }()
		n.ask(ctx, e, st)
	})
	if !begun {
		<-n.syncing
		return n.append(e, nil)
	}
	return nil
}

// ask has a request answered at once, if there is somebody to do so.
func (n network) ask(ctx context.Context, e *event.Event, st *stanza.Stanza) {
	ctx, cancel := context.WithTimeout(ctx, n.registry.opts.SyncTimeout)
	defer cancel()
	var t router.Turn
	defer t.Flush()
	replies, ok, err := n.registry.opts.Sync(ctx, e)
	switch {
	case err != nil:
		n.fail(ctx, &t, st, err)
	case ok:
		for _, reply := range replies {
			if err := n.Send(ctx, &t, reply, nil); err != nil {
				n.registry.log.Debug("an answer was not sent", "gateway", n.domain, "err", err)
			}
		}
	default:
		if err := n.append(e, nil); err != nil {
			n.fail(ctx, &t, st, err)
		}
	}
}

// fail answers a request in the negative.
func (n network) fail(ctx context.Context, t *router.Turn, st *stanza.Stanza, err error) {
	var told *stanza.Error
	if !errors.As(err, &told) {
		n.registry.log.Warn("a gateway has not answered a request", "gateway", n.domain, "err", err)
		told = stanza.Err(stanza.RemoteServerTimeout, "the gateway has not answered")
	}
	if err := n.Send(ctx, t, st.ErrorReply(told), nil); err != nil {
		n.registry.log.Debug("an error was not sent", "gateway", n.domain, "err", err)
	}
}

// registrationData is the data of an event of type registration.
type registrationData struct {
	Change  kit.Change        `json:"change" enum:"registered,changed,unregistered"`
	Domain  string            `json:"domain"`
	User    string            `json:"user"`
	Fields  map[string]string `json:"fields"`
	Secrets []string          `json:"secrets,omitempty"`
}

// Register implements kit.Network. Secrets are not written to the log: the event names
// them, and the gateway's owner reads the registration. A synchronous endpoint gets them,
// since it has to say whether they are right.
func (n network) Register(ctx context.Context, change kit.Change, r *kit.Registration) error {
	d := registrationData{Change: change, Domain: n.domain, User: r.User.String(), Fields: r.Fields}
	e := func() (*event.Event, error) {
		raw, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		return (&event.Event{
			Type: event.Registration, Host: n.domain, From: r.User, To: n.Domain(), Data: raw,
		}).In(ctx), nil
	}
	if n.registry.opts.Sync != nil && change != kit.Unregistered {
		open, err := e()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, n.registry.opts.SyncTimeout)
		defer cancel()
		replies, ok, err := n.registry.opts.Sync(ctx, open)
		if err != nil {
			var told *stanza.Error
			if errors.As(err, &told) {
				return told
			}
			return &stanza.Error{Condition: stanza.RemoteServerTimeout, Text: "the gateway has not answered", Cause: err}
		}
		if ok {
			return n.verdict(ctx, replies)
		}
	}
	d.Fields = map[string]string{}
	for name, value := range r.Fields {
		if n.Secret(name) {
			d.Secrets = append(d.Secrets, name)
		} else {
			d.Fields[name] = value
		}
	}
	slices.Sort(d.Secrets)
	logged, err := e()
	if err != nil {
		return err
	}
	return n.append(logged, nil)
}

// verdict sends the replies to a registration; an error among them refuses it.
func (n network) verdict(ctx context.Context, replies []*stanza.Stanza) error {
	for _, st := range replies {
		if st.Type == stanza.TypeError {
			return errorOf(st)
		}
	}
	var t router.Turn
	defer t.Flush()
	for _, st := range replies {
		if err := n.Send(ctx, &t, st, nil); err != nil {
			n.registry.log.Debug("a reply to a registration was not sent", "gateway", n.domain, "err", err)
		}
	}
	return nil
}

// errorOf reads the error of a stanza.
func errorOf(st *stanza.Stanza) *stanza.Error {
	e := &stanza.Error{Condition: stanza.NotAcceptable}
	c, ok := st.Child(stanza.NSClient, "error")
	if !ok {
		return e
	}
	el := c.Element()
	for _, child := range el.Children(stanza.NSStanzas, "") {
		if child.Local == "text" {
			e.Text = child.Text()
		} else if known(stanza.Condition(child.Local)) {
			e.Condition = stanza.Condition(child.Local)
		}
	}
	switch typ := stanza.ErrorType(el.Attr("type")); typ {
	case stanza.Auth, stanza.Cancel, stanza.Modify, stanza.Wait:
		e.Type = typ
	}
	return e
}

// known are the conditions by which a registration may be refused.
func known(c stanza.Condition) bool {
	switch c {
	case stanza.BadRequest, stanza.Conflict, stanza.Forbidden, stanza.NotAcceptable, stanza.NotAllowed, stanza.NotAuthorized,
		stanza.PolicyViolation, stanza.RemoteServerTimeout, stanza.ResourceConstraint, stanza.ServiceUnavailable, stanza.ItemNotFound:
		return true
	}
	return false
}

// Send sends a stanza from an address of a gateway, as kit.Gateway.Send does. ok is false
// when its sender is at no gateway; then nothing has happened.
func (r *Registry) Send(ctx context.Context, t *router.Turn, st *stanza.Stanza, rc *router.Receipt) (ok bool, err error) {
	g, err := r.find(st.From.Domain())
	if err != nil {
		return false, nil
	}
	return true, g.Gateway.Send(ctx, t, st, rc)
}

// of returns the gateway that an address is at.
func (r *Registry) of(address jid.JID) (*gateway, error) { return r.find(address.Domain()) }
