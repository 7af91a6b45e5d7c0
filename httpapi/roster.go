package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
)

const nsRoster = "jabber:iq:roster"

// Contact is an item of a roster (RFC 6121 §2.1.2).
type Contact struct {
	JID          string   `json:"jid" format:"xmpp-jid" doc:"The contact's address." example:"romeo@example.net"`
	Name         string   `json:"name" doc:"What the user calls the contact; may be empty." example:"Romeo"`
	Groups       []string `json:"groups" nullable:"false" doc:"The groups that the contact is in."`
	Subscription string   `json:"subscription" enum:"none,to,from,both" doc:"Who sees whose presence: to: the user the contact's; from: the contact the user's."`
	Pending      bool     `json:"pending" doc:"The user has asked for the contact's presence and has no answer yet."`
	Approved     bool     `json:"approved" doc:"A request of the contact is granted in advance (RFC 6121 section 3.4)."`
}

// ContactChange is what of a roster item can be replaced.
type ContactChange struct {
	Name   string   `json:"name,omitempty" maxLength:"1023" format:"xml-text" doc:"What the user calls the contact. Empty: nothing."`
	Groups []string `json:"groups,omitempty" nullable:"false" maxItems:"64" uniqueItems:"true" doc:"The groups that the contact is in: not empty, each once."`
}

func (a *API) rosterRoutes() []route {
	if a.opts.Ask == nil {
		return nil
	}
	const scopes = "Needs a scope to read what is the account's, or `admin:HOST`."
	const changes = "Needs a scope to speak for the account, or `admin:HOST`. Sessions of the account are told as of any change (RFC 6121 section 2.1.6)."
	refusals := map[int]string{409: "The account's roster has no room for it.", 504: "The roster did not answer in time."}
	return []route{
		{
			method: http.MethodGet, path: "/accounts/{account}/roster", id: "list-contacts", summary: "List the contacts of an account",
			text: "By address. " + scopes, query: paging(), gives: Page[Contact]{}, also: map[int]string{504: refusals[504]}, do: (*call).listContacts,
		},
		{
			method: http.MethodGet, path: "/accounts/{account}/roster/{contact}", slashes: true, id: "get-contact", summary: "Show a contact", versioned: true,
			text: scopes, gives: Contact{}, also: map[int]string{504: refusals[504]}, do: (*call).getContact,
		},
		{
			method: http.MethodPut, path: "/accounts/{account}/roster/{contact}", slashes: true, id: "put-contact", summary: "Add or replace a contact", versioned: true,
			text: "Subscriptions stay as they are: see /subscriptions. " + changes, takes: ContactChange{}, gives: Contact{}, also: refusals, do: (*call).putContact,
		},
		{
			method: http.MethodDelete, path: "/accounts/{account}/roster/{contact}", slashes: true, id: "remove-contact", summary: "Remove a contact", versioned: true,
			text: "With the subscriptions in both directions (RFC 6121 section 2.5). " + changes, also: refusals, do: (*call).removeContact,
		},
	}
}

// reader returns the account in the path, of which the token may see what is kept.
func (c *call) reader() (jid.JID, error) {
	j, err := c.account()
	switch {
	case err != nil:
		return j, err
	case !c.token.MayRead(j) && !c.token.MayAdmin(j.Domain()):
		return j, noScope(c.w, "The token may not see what is this account's.", readOf(j))
	}
	return j, c.exists(j)
}

// speaker returns the account in the path, for which the token may act.
func (c *call) speaker() (jid.JID, error) {
	j, err := c.account()
	switch {
	case err != nil:
		return j, err
	case !c.token.MaySend(j) && !c.token.MayAdmin(j.Domain()):
		return j, noScope(c.w, "The token may not speak for this account.", sendAs(j))
	}
	return j, c.exists(j)
}

// ask makes a request to the account in its own name.
func (c *call) ask(ctx context.Context, account jid.JID, typ string, payload *stanza.Element) (*stanza.Stanza, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	answer, err := c.opts.Ask(ctx, stanza.New(stanza.IQ, typ, account, account, "rest-"+c.ids.next(), payload))
	if err != nil {
		return nil, err
	}
	if answer.Type == stanza.TypeError {
		return nil, answer.ReadError()
	}
	return answer, nil
}

// contacts reads a roster, sorted by address.
func (c *call) contacts(account jid.JID) ([]Contact, error) {
	answer, err := c.ask(c.r.Context(), account, stanza.Get, stanza.El(nsRoster, "query"))
	if err != nil {
		return nil, err
	}
	list := []Contact{}
	q, ok := answer.Child(nsRoster, "query")
	if !ok {
		return list, nil
	}
	for _, it := range q.Element().Children(nsRoster, "item") {
		out := Contact{
			JID: it.Attr("jid"), Name: it.Attr("name"), Subscription: it.Attr("subscription"), Groups: []string{},
			Pending: it.Attr("ask") == "subscribe", Approved: it.Attr("approved") == "true",
		}
		if out.Subscription == "" {
			out.Subscription = "none" // RFC 6121 §2.1.2.5
		}
		for _, g := range it.Children(nsRoster, "group") {
			out.Groups = append(out.Groups, g.Text())
		}
		list = append(list, out)
	}
	slices.SortFunc(list, func(a, b Contact) int { return strings.Compare(a.JID, b.JID) })
	return list, nil
}

// contact returns the one in the path, nil if the roster does not have it.
func (c *call) contact(account jid.JID) (jid.JID, *Contact, error) {
	j, err := jid.Parse(param(c.r, "*"))
	if err != nil {
		return j, nil, problem(http.StatusNotFound, "The path does not hold the address of a contact.")
	}
	list, err := c.contacts(account)
	if err != nil {
		return j, nil, err
	}
	i := slices.IndexFunc(list, func(e Contact) bool { return e.JID == j.String() })
	if i < 0 {
		return j, nil, nil
	}
	return j, &list[i], nil
}

func (c *call) listContacts() (any, error) {
	account, err := c.reader()
	if err != nil {
		return nil, err
	}
	list, err := c.contacts(account)
	if err != nil {
		return nil, err
	}
	return cut(c, list, func(e *Contact) string { return e.JID })
}

func (c *call) getContact() (any, error) {
	account, err := c.reader()
	if err != nil {
		return nil, err
	}
	_, contact, err := c.contact(account)
	switch {
	case err != nil:
		return nil, err
	case contact == nil:
		return nil, problem(http.StatusNotFound, "The roster has no such contact.")
	}
	return contact, nil
}

func (c *call) putContact() (any, error) {
	account, err := c.speaker()
	if err != nil {
		return nil, err
	}
	var in ContactChange
	if err := c.into(&in); err != nil {
		return nil, err
	}
	defer c.edits.lock("roster/" + account.String())()
	j, was, err := c.contact(account)
	if err != nil {
		return nil, err
	}
	if err := precondition(c.r, was); err != nil {
		return nil, err
	}
	item := stanza.El(nsRoster, "item").Set("jid", j.String())
	if in.Name != "" {
		item.Set("name", in.Name)
	}
	for _, g := range in.Groups {
		item.Add(stanza.TextEl(nsRoster, "group", g))
	}
	ctx := context.WithoutCancel(c.r.Context())
	if _, err := c.ask(ctx, account, stanza.Set, stanza.El(nsRoster, "query", item)); err != nil {
		return nil, err
	}
	_, now, err := c.contact(account)
	switch {
	case err != nil:
		return nil, err
	case now == nil: // a client of the account has removed it meanwhile
		return nil, problem(http.StatusConflict, "The contact has been removed meanwhile.")
	case was == nil:
		return &outcome{value: now, status: http.StatusCreated}, nil
	}
	return now, nil
}

func (c *call) removeContact() (any, error) {
	account, err := c.speaker()
	if err != nil {
		return nil, err
	}
	defer c.edits.lock("roster/" + account.String())()
	j, was, err := c.contact(account)
	switch {
	case err != nil:
		return nil, err
	case was == nil:
		return nil, problem(http.StatusNotFound, "The roster has no such contact.")
	}
	if err := precondition(c.r, was); err != nil {
		return nil, err
	}
	item := stanza.El(nsRoster, "item").Set("jid", j.String()).Set("subscription", "remove") // RFC 6121 §2.5.1
	_, err = c.ask(context.WithoutCancel(c.r.Context()), account, stanza.Set, stanza.El(nsRoster, "query", item))
	return nil, err
}
