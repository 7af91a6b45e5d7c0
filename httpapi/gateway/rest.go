package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"time"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// Registration is a user's registration with a gateway.
type Registration struct {
	User    string            `json:"user" format:"xmpp-jid" doc:"The user's bare address." example:"romeo@example.org"`
	Fields  map[string]string `json:"fields" doc:"What the user has filled in, secrets among it where a single registration is asked for."`
	Created time.Time         `json:"created" doc:"When the user registered."`
	Changed time.Time         `json:"changed" doc:"When the registration last changed."`
}

// Contact is what a gateway knows of one contact and one user.
type Contact struct {
	JID          string   `json:"jid" format:"xmpp-jid" doc:"The contact's address." example:"+15551234@sms.example.org"`
	User         string   `json:"user" format:"xmpp-jid" doc:"The user's bare address."`
	Name         string   `json:"name,omitempty" doc:"What the contact is called on the user's list."`
	Groups       []string `json:"groups,omitempty" doc:"The groups of the list that it is in."`
	Listed       bool     `json:"listed" doc:"The gateway has put it on the list, rather than the user."`
	Subscription string   `json:"subscription" enum:"none,to,from,both" doc:"As in the user's roster: to, the user sees the contact's presence; from, the contact sees the user's."`
	Asked        bool     `json:"asked" doc:"The user waits for leave to see the contact's presence."`
	Asks         bool     `json:"asks" doc:"The contact waits for leave to see the user's presence."`
	Approved     bool     `json:"approved" doc:"A request of the user is granted beforehand."`
}

// ContactSpec is what a program says of a contact. Members that are left out stay as they
// are.
type ContactSpec struct {
	User         string            `json:"user,omitempty" format:"xmpp-jid" doc:"Whose list the contact is put on, with name and groups. Empty: nobody's."`
	Name         string            `json:"name,omitempty" maxLength:"1023" doc:"What it is called, on the list and in its vCard."`
	Groups       []string          `json:"groups,omitempty" maxItems:"64" doc:"The groups of the list that it is in."`
	Invite       bool              `json:"invite,omitempty" doc:"Ask the user for a subscription, by which the contact appears in the roster."`
	VCard        string            `json:"vcard,omitempty" doc:"A vCard of XEP-0054, an XML element. It is made of name and avatar where it is left out."`
	Avatar       *Avatar           `json:"avatar,omitempty" doc:"A picture."`
	Capabilities *kit.Capabilities `json:"capabilities,omitempty" doc:"What conversations with this contact can have, in place of what the gateway says."`
}

// Avatar is a picture of a contact.
type Avatar struct {
	Type string `json:"type" doc:"Its media type." example:"image/png"`
	Data []byte `json:"data" doc:"Its octets, in base64."`
}

// Profile is what a contact says of itself.
type Profile struct {
	JID          string           `json:"jid" format:"xmpp-jid" doc:"The contact's address."`
	Name         string           `json:"name" doc:"What the network knows it by: the localpart without its escapes (XEP-0106)."`
	VCard        string           `json:"vcard,omitempty" doc:"Its vCard (XEP-0054)."`
	Capabilities kit.Capabilities `json:"capabilities" doc:"What conversations with it can have."`
	Own          bool             `json:"own_capabilities" doc:"They were set for this contact."`
	Presence     []string         `json:"presence,omitempty" doc:"The presence stanzas that were set for it."`
}

// Subscription is a change to what is between a contact and a user.
type Subscription struct {
	From   string `json:"from" format:"xmpp-jid" doc:"The contact."`
	To     string `json:"to" format:"xmpp-jid" doc:"The user."`
	Type   string `json:"type" enum:"subscribe,subscribed,unsubscribe,unsubscribed" doc:"The stanza of RFC 6121 section 3 that the contact sends."`
	Status string `json:"status,omitempty" maxLength:"1023" doc:"A word to the user."`
}

// Registrations returns registrations in the order of users, those behind after,
// without their secrets.
func (r *Registry) Registrations(ctx context.Context, domain string, after jid.JID, limit int) ([]Registration, error) {
	g, err := r.find(domain)
	if err != nil {
		return nil, err
	}
	list, err := g.Gateway.Registrations(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Registration, len(list))
	for i, x := range list {
		out[i] = registrationOf(x)
		maps.DeleteFunc(out[i].Fields, func(name, _ string) bool { return g.Secret(name) })
	}
	return out, nil
}

// Registration returns one with its secrets, or kit.ErrNotRegistered.
func (r *Registry) Registration(ctx context.Context, domain string, user jid.JID) (Registration, error) {
	g, err := r.find(domain)
	if err != nil {
		return Registration{}, err
	}
	x, err := g.Gateway.Registration(ctx, user)
	if err != nil {
		return Registration{}, err
	}
	return registrationOf(x), nil
}

func registrationOf(x *kit.Registration) Registration {
	return Registration{User: x.User.String(), Fields: x.Fields, Created: x.Created, Changed: x.Changed}
}

// Unregister ends one, or returns kit.ErrNotRegistered.
func (r *Registry) Unregister(ctx context.Context, domain string, user jid.JID) error {
	g, err := r.find(domain)
	if err != nil {
		return err
	}
	return g.Gateway.Unregister(ctx, user)
}

// Contacts returns what a gateway knows of contacts and users, in the order of users and
// contacts, those behind the pair given. A user or a contact that is not zero narrows it.
func (r *Registry) Contacts(ctx context.Context, domain string, user, contact, afterUser, afterContact jid.JID, limit int) ([]Contact, error) {
	g, err := r.find(domain)
	if err != nil {
		return nil, err
	}
	list, err := g.Subscriptions(ctx, kit.Between{User: user, Contact: contact}, kit.Between{User: afterUser, Contact: afterContact}, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Contact, len(list))
	for i, w := range list {
		out[i] = Contact{
			JID: w.JID.String(), User: w.User.String(), Name: w.Name, Groups: w.Groups, Listed: w.Listed,
			Subscription: w.Subscription, Asked: w.Asked, Asks: w.Asks, Approved: w.Approved,
		}
	}
	return out, nil
}

// PutContact says what a contact is. The errors are ErrNotFound, kit.ErrForeign,
// kit.ErrTooMany, *kit.DefinitionError, *stanza.Error, and *jid.Error for the user.
func (r *Registry) PutContact(ctx context.Context, contact jid.JID, c ContactSpec) error {
	g, err := r.of(contact)
	if err != nil {
		return err
	}
	var user jid.JID
	if c.User != "" {
		if user, err = jid.Parse(c.User); err != nil {
			return err
		}
	}
	p, err := g.Gateway.Profile(ctx, contact)
	if err != nil {
		return err
	}
	next := *p
	if c.Capabilities != nil {
		next.Capabilities = c.Capabilities
	}
	switch {
	case c.VCard != "":
		next.VCard = c.VCard
	case c.Avatar != nil || c.Name != "" && (p.VCard == "" || c.User == ""):
		next.VCard = vcard(p.VCard, c.Name, c.Avatar)
	}
	if next != *p {
		if err := g.SetProfile(ctx, contact, next); err != nil {
			return err
		}
	}
	if user.IsZero() {
		return nil
	}
	return g.Gateway.PutContact(ctx, user, contact, c.Name, c.Groups, c.Invite)
}

// Suggest asks a user's client to add to the roster what a gateway has put on the user's
// list and the user does not see (XEP-0144); it returns how many contacts that are.
func (r *Registry) Suggest(ctx context.Context, domain string, user jid.JID) (int, error) {
	g, err := r.find(domain)
	if err != nil {
		return 0, err
	}
	return g.Gateway.Suggest(ctx, user)
}

// vcard changes name and picture in a vCard; "" is none yet.
func vcard(have, name string, a *Avatar) string {
	const ns = "vcard-temp"
	el, err := stanza.ParseElement(have)
	if err != nil {
		el = stanza.El(ns, "vCard")
	}
	out := stanza.El(ns, "vCard")
	for _, c := range el.Children("", "") {
		if name != "" && c.Is(ns, "FN") || a != nil && c.Is(ns, "PHOTO") {
			continue
		}
		out.Add(c)
	}
	if name != "" {
		out.Add(stanza.TextEl(ns, "FN", name))
	}
	if a != nil {
		out.Add(stanza.El(ns, "PHOTO", stanza.TextEl(ns, "TYPE", a.Type), stanza.TextEl(ns, "BINVAL", base64.StdEncoding.EncodeToString(a.Data))))
	}
	return out.String()
}

// Profile returns what a contact says of itself.
func (r *Registry) Profile(ctx context.Context, contact jid.JID) (Profile, error) {
	g, err := r.of(contact)
	if err != nil {
		return Profile{}, err
	}
	p, err := g.Gateway.Profile(ctx, contact)
	if err != nil {
		return Profile{}, err
	}
	out := Profile{JID: contact.Bare().String(), Name: kit.Name(contact), VCard: p.VCard}
	if out.Capabilities, out.Own, err = g.CapabilitiesOf(ctx, contact); err != nil {
		return Profile{}, err
	}
	for _, l := range g.Presences(contact) {
		var b strings.Builder
		b.Write(l.Stanza.Readdressed(l.Stanza.From, l.User).AppendDocument(nil))
		out.Presence = append(out.Presence, b.String())
	}
	return out, nil
}

// RemoveContact takes a contact from a user's list and ends what is between them; a zero
// user means that nothing more is known of the contact itself: its profile and presence
// go. It tells whether there was anything.
func (r *Registry) RemoveContact(ctx context.Context, contact, user jid.JID) (bool, error) {
	g, err := r.of(contact)
	if err != nil {
		return false, err
	}
	if !user.IsZero() {
		return g.Gateway.RemoveContact(ctx, user, contact)
	}
	p, err := g.Gateway.Profile(ctx, contact)
	if err != nil {
		return false, err
	}
	had := *p != kit.Profile{} || len(g.Presences(contact)) > 0
	return had, errors.Join(g.SetProfile(ctx, contact, kit.Profile{}), g.ClearPresence(ctx, contact))
}

// SetPresence sets the presence of a contact, or of the gateway itself, as
// kit.Gateway.SetPresence does; ClearPresence forgets it. ErrNotFound says that the
// address is at no gateway.
func (r *Registry) SetPresence(ctx context.Context, st *stanza.Stanza) error {
	g, err := r.of(st.From)
	if err != nil {
		return err
	}
	return g.Gateway.SetPresence(ctx, st)
}

// ClearPresence forgets what was set.
func (r *Registry) ClearPresence(ctx context.Context, contact jid.JID) error {
	g, err := r.of(contact)
	if err != nil {
		return err
	}
	return g.Gateway.ClearPresence(ctx, contact)
}

// Presence returns the presence that was set for a contact, the latest last.
func (r *Registry) Presence(contact jid.JID) ([]*kit.Last, error) {
	g, err := r.of(contact)
	if err != nil {
		return nil, err
	}
	return g.Presences(contact), nil
}

// Subscribe sends a subscription stanza on behalf of a contact, as kit.Gateway.Subscribe
// does.
func (r *Registry) Subscribe(ctx context.Context, typ string, contact, user jid.JID, status string) (routed bool, err error) {
	g, err := r.of(contact)
	if err != nil {
		return false, err
	}
	return g.Gateway.Subscribe(ctx, typ, contact, user, status)
}
