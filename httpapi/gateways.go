package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/httpapi/gateway"
)

// Gateway is a gateway domain.
type Gateway struct {
	gateway.Define
	Source string `json:"source" enum:"configuration,api" doc:"Where it was declared. What the configuration declares cannot be changed here."`
}

// GatewayChange is what a gateway is replaced with.
type GatewayChange struct {
	Owner string `json:"owner,omitempty" maxLength:"255" format:"token-id" doc:"The id of the token that it belongs to. Absent: as it is, or nobody. Only who administers the domain may change it."`
	kit.Definition
	GiveUpAfter int `json:"give_up_after,omitempty" minimum:"60" maximum:"2592000" doc:"Seconds after which messages that no program has taken go back to their senders: three days if absent."`
}

// GatewayStatus is how a gateway is.
type GatewayStatus struct {
	Up            bool      `json:"up" doc:"A webhook serves it or a stream follows it."`
	Since         time.Time `json:"since" doc:"Since when it is up, or is not."`
	Registrations int64     `json:"registrations" doc:"Registered users."`
}

// GatewayItem is a Gateway and its GatewayStatus.
type GatewayItem struct {
	Gateway
	GatewayStatus
}

func (a *API) gatewayRoutes() []route {
	if a.opts.Gateways == nil {
		return nil
	}
	const (
		owner   = "Needs to be the gateway's owner, or `admin:` with its domain."
		speaker = "Needs to be the gateway's owner, to speak for its domain, or `admin:` with its domain."
	)
	fixed := map[int]string{409: "The domain has another use, the configuration declares the gateway, or there are too many."}
	address := func(name, text string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: text, Schema: &huma.Schema{Type: huma.TypeString, Format: "xmpp-jid"}}
	}
	return []route{
		{
			method: http.MethodGet, path: "/gateways", id: "list-gateways", summary: "List gateways", text: "By domain: those that the token has to do with.",
			query: paging(), gives: Page[GatewayItem]{}, do: (*call).listGateways,
		},
		{
			method: http.MethodGet, path: "/gateways/{domain}", id: "get-gateway", summary: "Show a gateway", text: speaker, versioned: true, gives: Gateway{}, do: (*call).getGateway,
		},
		{
			method: http.MethodPut, path: "/gateways/{domain}", id: "put-gateway", summary: "Declare or replace a gateway", versioned: true, takes: GatewayChange{}, gives: Gateway{},
			text: "To declare one needs `admin:` with its domain. " + owner, also: fixed, do: (*call).putGateway,
		},
		{
			method: http.MethodDelete, path: "/gateways/{domain}", id: "remove-gateway", summary: "Remove a gateway", versioned: true,
			text: "Its users are told, and what is known of them is deleted. " + owner, also: fixed, do: (*call).removeGateway,
		},
		{
			method: http.MethodGet, path: "/gateways/{domain}/status", id: "get-gateway-status", summary: "Tell whether a gateway is up", text: speaker, gives: GatewayStatus{}, do: (*call).gatewayStatus,
		},
		{
			method: http.MethodGet, path: "/gateways/{domain}/registrations", id: "list-registrations", summary: "List the users of a gateway",
			text: "By address, without secrets. " + speaker, query: paging(), gives: Page[gateway.Registration]{}, do: (*call).listRegistrations,
		},
		{
			method: http.MethodGet, path: "/gateways/{domain}/registrations/{user}", id: "get-registration", summary: "Show a registration",
			text: "With its secrets. " + speaker, gives: gateway.Registration{}, do: (*call).getRegistration,
		},
		{
			method: http.MethodDelete, path: "/gateways/{domain}/registrations/{user}", id: "end-registration", summary: "End a registration",
			text: "The user is told (XEP-0100 section 4.3). " + speaker, do: (*call).endRegistration,
		},
		{
			method: http.MethodGet, path: "/gateways/{domain}/contacts", id: "list-gateway-contacts", summary: "List what is between contacts and users",
			text: "By user and contact: lists and subscriptions. " + speaker, gives: Page[gateway.Contact]{},
			query: append([]*huma.Param{address("user", "Only this user's."), address("contact", "Only this contact's.")}, paging()...), do: (*call).listGatewayContacts,
		},
		{
			method: http.MethodGet, path: "/gateways/{domain}/contacts/{jid}", id: "get-gateway-contact", summary: "Show a contact of a gateway",
			text: "Its profile, its presence, and what conversations with it can have. " + speaker, gives: gateway.Profile{}, do: (*call).getGatewayContact,
		},
		{
			method: http.MethodPut, path: "/gateways/{domain}/contacts/{jid}", id: "put-gateway-contact", summary: "Say what a contact of a gateway is",
			text:  "What is left out stays. With `user`, the contact is put on that user's list. " + speaker,
			takes: gateway.ContactSpec{}, gives: gateway.Profile{}, also: map[int]string{409: "There are too many contacts."}, do: (*call).putGatewayContact,
		},
		{
			method: http.MethodDelete, path: "/gateways/{domain}/contacts/{jid}", id: "remove-gateway-contact", summary: "Forget a contact of a gateway",
			text:  "With `user`, it is taken from that user's list and what is between them ends; without, its profile and presence go. " + speaker,
			query: []*huma.Param{address("user", "A user.")}, do: (*call).removeGatewayContact,
		},
	}
}

// gatewayProblem turns the errors of gateways into documents.
func gatewayProblem(err error) error {
	var bad *kit.DefinitionError
	switch {
	case errors.As(err, &bad):
		return unfit("body."+bad.Field, bad.Reason)
	case errors.Is(err, gateway.ErrNotFound):
		return problem(http.StatusNotFound, "There is no such gateway.")
	case errors.Is(err, gateway.ErrTaken):
		return problem(http.StatusConflict, "The domain has another use.")
	case errors.Is(err, gateway.ErrReadOnly):
		return problem(http.StatusConflict, "The configuration declares the gateway.")
	case errors.Is(err, gateway.ErrVersion):
		return problem(http.StatusPreconditionFailed, "The gateway has been changed meanwhile.")
	case errors.Is(err, gateway.ErrTooMany):
		return problem(http.StatusConflict, "There are as many gateways as there may be.")
	case errors.Is(err, kit.ErrNotRegistered):
		return problem(http.StatusNotFound, "The user is not registered.")
	case errors.Is(err, kit.ErrForeign):
		return problem(http.StatusNotFound, "The address is not one of the gateway's.")
	case errors.Is(err, kit.ErrTooMany):
		return problem(http.StatusConflict, "There are too many.")
	}
	return err
}

func (c *call) ownsGateway(r *gateway.Resource) bool {
	return c.token.MayAdmin(r.Domain) || r.Owner != "" && r.Owner == c.token.ID
}

// gatewayInPath returns the one that the path names, for whoever may speak for it.
// One that the token has nothing to do with is as if it were not there.
func (c *call) gatewayInPath() (*gateway.Resource, error) {
	none := problem(http.StatusNotFound, "There is no such gateway.")
	host, err := jid.New("", param(c.r, "domain"), "")
	if err != nil {
		return nil, none
	}
	r, err := c.opts.Gateways.Get(host.Domain())
	switch {
	case err != nil && !errors.Is(err, gateway.ErrNotFound):
		return nil, err
	case err != nil, !c.ownsGateway(&r) && !c.token.MaySend(host):
		return nil, none
	}
	return &r, nil
}

func shownGateway(r *gateway.Resource) *Gateway { return &Gateway{r.Define, r.Source} }

func statusOfGateway(r *gateway.Resource) GatewayStatus {
	return GatewayStatus{r.Up, r.Since.UTC(), r.Registrations}
}

func (c *call) listGateways() (any, error) {
	list := []GatewayItem{}
	for _, r := range c.opts.Gateways.List() {
		if host, err := jid.New("", r.Domain, ""); err == nil && (c.ownsGateway(&r) || c.token.MaySend(host)) {
			list = append(list, GatewayItem{*shownGateway(&r), statusOfGateway(&r)})
		}
	}
	slices.SortFunc(list, func(a, b GatewayItem) int { return strings.Compare(a.Domain, b.Domain) })
	return cut(c, list, func(g *GatewayItem) string { return g.Domain })
}

func (c *call) getGateway() (any, error) {
	r, err := c.gatewayInPath()
	if err != nil {
		return nil, err
	}
	return shownGateway(r), nil
}

func (c *call) gatewayStatus() (any, error) {
	r, err := c.gatewayInPath()
	if err != nil {
		return nil, err
	}
	return statusOfGateway(r), nil
}

func (c *call) putGateway() (_ any, err error) {
	host, err := jid.New("", param(c.r, "domain"), "")
	if err != nil {
		return nil, problem(http.StatusNotFound, "The path does not hold a domain.")
	}
	var in GatewayChange
	if err := c.into(&in); err != nil {
		return nil, err
	}
	defer c.edits.lock("gateway/" + host.Domain())()
	have, err := c.opts.Gateways.Get(host.Domain())
	there := err == nil
	switch {
	case err != nil && !errors.Is(err, gateway.ErrNotFound):
		return nil, err
	case !there && !c.token.MayAdmin(host.Domain()), there && !c.ownsGateway(&have):
		return nil, noScope(c.w, "The token may not declare this gateway.", adminOf(host.Domain()))
	}
	defer func() { c.audit("gateway put", host.Domain(), map[string]string{"owner": in.Owner}, err) }()
	d := gateway.Define{Domain: host.Domain(), Owner: in.Owner, Definition: in.Definition, GiveUpAfter: in.GiveUpAfter}
	version := ""
	if there {
		version = have.Version
		err = precondition(c.r, shownGateway(&have))
		if d.Owner == "" {
			d.Owner = have.Owner
		}
		if d.Owner != have.Owner && !c.token.MayAdmin(host.Domain()) {
			return nil, noScope(c.w, "The token may not give the gateway away.", adminOf(host.Domain()))
		}
	} else {
		err = precondition[Gateway](c.r, nil)
	}
	if err != nil {
		return nil, err
	}
	r, created, err := c.opts.Gateways.Put(context.WithoutCancel(c.r.Context()), d, version)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	out := &outcome{value: shownGateway(&r)}
	if created {
		out.status = http.StatusCreated
	}
	return out, nil
}

func (c *call) removeGateway() (_ any, err error) {
	r, err := c.gatewayInPath()
	switch {
	case err != nil:
		return nil, err
	case !c.ownsGateway(r):
		return nil, noScope(c.w, "The token may not remove this gateway.", adminOf(r.Domain))
	}
	if err := precondition(c.r, shownGateway(r)); err != nil {
		return nil, err
	}
	defer func() { c.audit("gateway remove", r.Domain, nil, err) }()
	return nil, gatewayProblem(c.opts.Gateways.Remove(context.WithoutCancel(c.r.Context()), r.Domain, r.Version))
}

func (c *call) listRegistrations() (any, error) {
	r, err := c.gatewayInPath()
	if err != nil {
		return nil, err
	}
	place, err := c.place()
	if err != nil {
		return nil, err
	}
	var after jid.JID
	if place != "" {
		if after, err = jid.Parse(place); err != nil {
			return nil, badCursor("after")
		}
	}
	list, err := c.opts.Gateways.Registrations(c.r.Context(), r.Domain, after, c.limit()+1)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	return first(c, list, func(e *gateway.Registration) string { return e.User }), nil
}

// userInPath returns the gateway and the user in the path.
func (c *call) userInPath() (*gateway.Resource, jid.JID, error) {
	r, err := c.gatewayInPath()
	if err != nil {
		return nil, jid.JID{}, err
	}
	user, err := jid.Parse(param(c.r, "user"))
	if err != nil {
		return nil, user, problem(http.StatusNotFound, "The user is not registered.")
	}
	return r, user.Bare(), nil
}

func (c *call) getRegistration() (any, error) {
	r, user, err := c.userInPath()
	if err != nil {
		return nil, err
	}
	out, err := c.opts.Gateways.Registration(c.r.Context(), r.Domain, user)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	return out, nil
}

func (c *call) endRegistration() (any, error) {
	r, user, err := c.userInPath()
	if err != nil {
		return nil, err
	}
	err = gatewayProblem(c.opts.Gateways.Unregister(context.WithoutCancel(c.r.Context()), r.Domain, user))
	c.audit("gateway unregister", user.String(), map[string]string{"domain": r.Domain}, err)
	return nil, err
}

// among reads an address in the query.
func (c *call) among(name string) (jid.JID, error) {
	s := c.args.Get(name)
	if s == "" {
		return jid.JID{}, nil
	}
	j, err := jid.Parse(s)
	if err != nil {
		return j, badQuery(name, "is not an address")
	}
	return j.Bare(), nil
}

func (c *call) listGatewayContacts() (any, error) {
	r, err := c.gatewayInPath()
	if err != nil {
		return nil, err
	}
	user, err := c.among("user")
	if err != nil {
		return nil, err
	}
	contact, err := c.among("contact")
	if err != nil {
		return nil, err
	}
	place, err := c.place()
	if err != nil {
		return nil, err
	}
	var afterUser, afterContact jid.JID
	if place != "" {
		a, b, both := strings.Cut(place, " ") // bare addresses have none
		if afterUser, err = jid.Parse(a); err == nil && both {
			afterContact, err = jid.Parse(b)
		}
		if err != nil {
			return nil, badCursor("after")
		}
	}
	list, err := c.opts.Gateways.Contacts(c.r.Context(), r.Domain, user, contact, afterUser, afterContact, c.limit()+1)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	return first(c, list, func(e *gateway.Contact) string { return e.User + " " + e.JID }), nil
}

// gatewayContact returns the contact in the path, which is at the gateway's domain.
func (c *call) gatewayContact() (jid.JID, error) {
	r, err := c.gatewayInPath()
	if err != nil {
		return jid.JID{}, err
	}
	j, err := jid.Parse(param(c.r, "jid"))
	if err != nil || j.Domain() != r.Domain {
		return j, problem(http.StatusNotFound, "The address is not one of the gateway's.")
	}
	return j.Bare(), nil
}

func (c *call) getGatewayContact() (any, error) {
	j, err := c.gatewayContact()
	if err != nil {
		return nil, err
	}
	p, err := c.opts.Gateways.Profile(c.r.Context(), j)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	return &p, nil
}

func (c *call) putGatewayContact() (any, error) {
	j, err := c.gatewayContact()
	if err != nil {
		return nil, err
	}
	var in gateway.ContactSpec
	if err := c.into(&in); err != nil {
		return nil, err
	}
	if in.User != "" {
		if _, err := jid.Parse(in.User); err != nil {
			return nil, unfit("body.user", "is not an address")
		}
	}
	if err := c.opts.Gateways.PutContact(context.WithoutCancel(c.r.Context()), j, in); err != nil {
		return nil, gatewayProblem(err)
	}
	p, err := c.opts.Gateways.Profile(c.r.Context(), j)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	return &p, nil
}

func (c *call) removeGatewayContact() (any, error) {
	j, err := c.gatewayContact()
	if err != nil {
		return nil, err
	}
	user, err := c.among("user")
	if err != nil {
		return nil, err
	}
	there, err := c.opts.Gateways.RemoveContact(context.WithoutCancel(c.r.Context()), j, user)
	if err != nil {
		return nil, gatewayProblem(err)
	}
	if !there {
		return nil, problem(http.StatusNotFound, "There is no such contact.")
	}
	return nil, nil
}
