package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/httpapi/event"
	"trivium/httpapi/webhook"
)

// Webhook is an endpoint that events are posted to.
type Webhook struct {
	Name         string        `json:"name" doc:"Its name."`
	URL          string        `json:"url" format:"uri" doc:"Where events are posted."`
	Domains      []string      `json:"domains" nullable:"false" doc:"Gateway domains whose events it gets, and whose addresses its answers may speak as."`
	Watch        []string      `json:"watch" nullable:"false" doc:"Patterns of addresses whose incoming messages it gets beside them."`
	Types        []event.Type  `json:"types" nullable:"false" doc:"Only events of these types; empty: all."`
	Hosts        []string      `json:"hosts" nullable:"false" doc:"Only events about these domains; empty: all."`
	JIDs         []string      `json:"jids" nullable:"false" doc:"Only events from or to addresses that one of these patterns covers; empty: all."`
	Rooms        []string      `json:"rooms" nullable:"false" doc:"Only events of these rooms; empty: all."`
	Format       event.Format  `json:"format" enum:"json,xml,cpim" doc:"How events are posted."`
	Sync         bool          `json:"sync" doc:"Requests (iq) are posted at once, and the response answers them."`
	Silent       bool          `json:"silent" doc:"Its answers are not looked at."`
	AllowPrivate bool          `json:"allow_private" doc:"The URL may lead into private networks."`
	Timeout      float64       `json:"timeout_seconds" doc:"Bounds one attempt."`
	GiveUpAfter  float64       `json:"give_up_after_seconds" doc:"How long an event is tried again."`
	Concurrency  int           `json:"concurrency" doc:"How many posts may be under way."`
	Keys         []webhook.Key `json:"keys" nullable:"false" doc:"What signs the posts."`
	Fixed        bool          `json:"fixed" doc:"It belongs to the server's configuration, and can be changed there only."`
}

// WebhookMade is a Webhook that was put, and the key that was made for it.
type WebhookMade struct {
	Webhook
	Secret string `json:"secret,omitempty" doc:"The signing key that the server has made. It is told now and never again."`
}

// WebhookChange is what a webhook is replaced with.
type WebhookChange struct {
	URL          string       `json:"url" format:"webhook-url" minLength:"8" maxLength:"2000" pattern:"^https?://" doc:"Where to post, http or https. Its host must have an address that the server may connect to." example:"https://app.example.com/hook"`
	Keys         []Key        `json:"keys,omitempty" nullable:"false" maxItems:"8" doc:"What signs: whsec_ and base64 of 24 to 64 octets, or whsk_ and base64 of an ed25519 key pair; or the id of a key that the webhook has, which stays. All sign. Empty: those that it has, or a new one that the answer tells."`
	Domains      []Domain     `json:"domains,omitempty" nullable:"false" maxItems:"100" doc:"Gateway domains whose events it gets, and whose addresses its answers may speak as."`
	Watch        []Pattern    `json:"watch,omitempty" nullable:"false" maxItems:"1000" doc:"Patterns of addresses at virtual hosts whose incoming messages it gets beside them."`
	Types        []event.Type `json:"types,omitempty" nullable:"false" maxItems:"7" enum:"message,presence,subscription,iq,registration,delivery,test" doc:"Only events of these types."`
	Hosts        []Domain     `json:"hosts,omitempty" nullable:"false" maxItems:"100" doc:"Only events about these domains."`
	JIDs         []Pattern    `json:"jids,omitempty" nullable:"false" maxItems:"1000" doc:"Only events from or to addresses that one of these patterns covers."`
	Rooms        []Address    `json:"rooms,omitempty" nullable:"false" maxItems:"1000" doc:"Only events of these rooms."`
	Format       event.Format `json:"format,omitempty" enum:"json,xml,cpim" default:"json" doc:"How events are posted."`
	Sync         bool         `json:"sync,omitempty" doc:"Requests (iq) are posted at once, and the response answers them."`
	Silent       bool         `json:"silent,omitempty" doc:"Its answers are not looked at. Needed for watching addresses that the token may read but not speak for."`
	AllowPrivate bool         `json:"allow_private,omitempty" doc:"The URL may lead into private networks. Needs admin:*."`
	Timeout      float64      `json:"timeout_seconds,omitempty" minimum:"0.1" maximum:"120" doc:"Bounds one attempt: 10 if absent."`
	GiveUpAfter  float64      `json:"give_up_after_seconds,omitempty" minimum:"1" maximum:"2592000" doc:"How long an event is tried again: three days if absent."`
	Concurrency  int          `json:"concurrency,omitempty" minimum:"1" maximum:"1000" doc:"How many posts may be under way: 32 if absent."`
}

// ReplayOrder says which dead letters wait again.
type ReplayOrder struct {
	IDs  []EventID `json:"ids,omitempty" nullable:"false" maxItems:"1000" doc:"Of single events."`
	From string    `json:"from,omitempty" pattern:"^evt_[0-9a-z]{1,12}$" doc:"The first of a range."`
	To   string    `json:"to,omitempty" pattern:"^evt_[0-9a-z]{1,12}$" doc:"The last of a range."`
}

// Replayed tells how many dead letters wait again.
type Replayed struct {
	Replayed int `json:"replayed" doc:"How many events wait again. Others than dead letters are passed over."`
}

func (a *API) webhookRoutes() []route {
	if a.opts.Webhooks == nil {
		return nil
	}
	const scopes = "Needs `admin:*`, or for a webhook that is bound to gateway domains, watched addresses or hosts the scopes for all of these: " +
		"`admin:HOST`, or to speak for the gateway's domain, or to read what is watched and, unless it is `silent`, to speak for that."
	fixed := map[int]string{409: "The webhook belongs to the server's configuration, or there are too many, or another has the domain."}
	return []route{
		{
			method: http.MethodGet, path: "/webhooks", id: "list-webhooks", summary: "List webhooks", text: "By name: those that the token has to do with.",
			query: paging(), gives: Page[Webhook]{}, do: (*call).listWebhooks,
		},
		{
			method: http.MethodGet, path: "/webhooks/{name}", id: "get-webhook", summary: "Show a webhook", text: scopes, versioned: true, gives: Webhook{}, do: (*call).getWebhook,
		},
		{
			method: http.MethodPut, path: "/webhooks/{name}", id: "put-webhook", summary: "Make or replace a webhook", versioned: true, takes: WebhookChange{}, gives: WebhookMade{},
			text: "Another URL than before begins anew: what waits is posted at once. " + scopes, also: fixed, do: (*call).putWebhook,
		},
		{
			method: http.MethodDelete, path: "/webhooks/{name}", id: "remove-webhook", summary: "Remove a webhook", versioned: true,
			text: "With what waits for it, its delivery log and its dead letters. " + scopes, also: fixed, do: (*call).removeWebhook,
		},
		{
			method: http.MethodGet, path: "/webhooks/{name}/status", id: "get-webhook-status", summary: "Show the state of a webhook", text: scopes, gives: webhook.Status{}, do: (*call).webhookStatus,
		},
		{
			method: http.MethodGet, path: "/webhooks/{name}/deliveries", id: "list-deliveries", summary: "Show the delivery log of a webhook",
			text: "Latest event first. " + scopes, query: paging(), gives: Page[webhook.Delivery]{},
			do: func(c *call) (any, error) { return c.deliveries(c.opts.Webhooks.Deliveries) },
		},
		{
			method: http.MethodGet, path: "/webhooks/{name}/dead", id: "list-dead-letters", summary: "List the dead letters of a webhook",
			text: "Events that were given up, latest first. " + scopes, query: paging(), gives: Page[webhook.Delivery]{},
			do: func(c *call) (any, error) { return c.deliveries(c.opts.Webhooks.Dead) },
		},
		{
			method: http.MethodPost, path: "/webhooks/{name}/replay", id: "replay-dead-letters", summary: "Post dead letters again",
			text:  "Single ones by `ids`, those of a range, or both; an empty order is all. " + scopes,
			takes: ReplayOrder{}, gives: Replayed{}, do: (*call).replay,
		},
		{
			method: http.MethodPost, path: "/webhooks/{name}/test", id: "test-webhook", summary: "Post a test event", text: "At once, and tells what has happened. " + scopes,
			gives: webhook.Trial{}, do: (*call).tryWebhook,
		},
		{
			method: http.MethodPost, path: "/webhooks/{name}/enable", id: "enable-webhook", summary: "Let a webhook have events again",
			text: "After it has answered 410, or to try one that is down at once. " + scopes, do: (*call).enableWebhook,
		},
	}
}

func shownWebhook(i *webhook.Info) *Webhook {
	e := &i.Endpoint
	out := &Webhook{
		Name: e.Name, URL: e.URL, Domains: texts(e.Domains), Watch: patterns(e.Watch), Types: append([]event.Type{}, e.Filter.Types...),
		Hosts: texts(e.Filter.Hosts), JIDs: patterns(e.Filter.JIDs), Rooms: []string{}, Format: e.Format, Sync: e.Sync, Silent: e.Silent, AllowPrivate: e.AllowPrivate,
		Timeout: e.Timeout.Seconds(), GiveUpAfter: e.GiveUpAfter.Seconds(), Concurrency: e.Concurrency, Keys: append([]webhook.Key{}, i.Keys...), Fixed: i.Fixed,
	}
	for _, r := range e.Filter.Rooms {
		out.Rooms = append(out.Rooms, r.String())
	}
	if out.Format == "" {
		out.Format = event.JSON
	}
	return out
}

func texts(list []string) []string { return append([]string{}, list...) }

func patterns(list []jid.Pattern) []string {
	out := []string{}
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

// mayHook tells whether the token has to do with a webhook: with all that it is
// bound to, or with the server.
func (c *call) mayHook(e *webhook.Endpoint) bool {
	if c.token.MayAdmin(auth.AnyHost) {
		return true
	}
	if e.AllowPrivate {
		return false
	}
	about := func(domain string) bool {
		host, err := jid.New("", domain, "")
		return err == nil && (c.token.MayAdmin(host.Domain()) || c.speaksFor(host.Domain()) && c.token.MayRead(host))
	}
	for _, d := range e.Domains {
		if !about(d) {
			return false
		}
	}
	for _, p := range e.Watch {
		if !c.token.MayAdmin(p.Domain()) && !c.mayWatchBy(e, p) {
			return false
		}
	}
	if len(e.Domains)+len(e.Watch) > 0 {
		return true
	}
	for _, h := range e.Filter.Hosts {
		if !about(h) {
			return false
		}
	}
	return len(e.Filter.Hosts) > 0
}

// mayWatch tells whether the token may have what comes for these addresses posted: to
// administer their host is to see that somebody does, not what is said.
func (c *call) mayWatch(e *webhook.Endpoint) bool {
	return c.token.MayAdmin(auth.AnyHost) || !slices.ContainsFunc(e.Watch, func(p jid.Pattern) bool { return !c.mayWatchBy(e, p) })
}

// mayWatchBy tells whether the token may read everything that a pattern covers and,
// where what the endpoint answers is the account's word, speak for it.
func (c *call) mayWatchBy(e *webhook.Endpoint, p jid.Pattern) bool {
	covers := func(r jid.Pattern) bool { return r.Covers(p) }
	return slices.ContainsFunc(c.token.Scopes.Read, covers) && (e.Silent || slices.ContainsFunc(c.token.Scopes.SendAs, covers))
}

// webhook returns the one in the path. One that the token has nothing to do with is
// as if it were not there.
func (c *call) webhook() (*webhook.Info, error) {
	i, err := c.opts.Webhooks.Endpoint(param(c.r, "name"))
	if err == nil && !c.mayHook(&i.Endpoint) {
		err = webhook.ErrUnknown
	}
	return &i, hookProblem(err)
}

// hookProblem turns the errors of webhooks into documents.
func hookProblem(err error) error {
	switch {
	case errors.Is(err, webhook.ErrUnknown):
		return problem(http.StatusNotFound, "There is no such webhook.")
	case errors.Is(err, webhook.ErrFixed):
		return problem(http.StatusConflict, "The webhook belongs to the server's configuration.")
	case errors.Is(err, webhook.ErrVersion):
		return problem(http.StatusPreconditionFailed, "The webhook has been changed meanwhile.")
	case errors.Is(err, webhook.ErrLimit):
		return problem(http.StatusConflict, "There are as many webhooks as there may be.")
	}
	return err
}

func (c *call) listWebhooks() (any, error) {
	list := []Webhook{}
	for _, i := range c.opts.Webhooks.Endpoints() {
		if c.mayHook(&i.Endpoint) {
			list = append(list, *shownWebhook(&i))
		}
	}
	return cut(c, list, func(w *Webhook) string { return w.Name })
}

func (c *call) getWebhook() (any, error) {
	i, err := c.webhook()
	if err != nil {
		return nil, err
	}
	return shownWebhook(i), nil
}

func (c *call) putWebhook() (_ any, err error) {
	var in WebhookChange
	if err := c.into(&in); err != nil {
		return nil, err
	}
	e, err := in.endpoint(param(c.r, "name"))
	if err != nil {
		return nil, err
	}
	if !c.mayHook(e) || !c.mayWatch(e) {
		return nil, noScope(c.w, "The token may not have these events posted.")
	}
	defer func() { c.audit("webhook put", e.Name, map[string]string{"host": hostOf(e.URL)}, err) }()
	old, err := c.opts.Webhooks.Endpoint(e.Name)
	version := webhook.NoVersion
	switch {
	case errors.Is(err, webhook.ErrUnknown):
		if err = precondition[Webhook](c.r, nil); err == nil && c.hooks() >= maxHooks {
			err = problem(http.StatusConflict, "There are as many webhooks as the token may have.")
		}
	case err != nil:
	case !c.mayHook(&old.Endpoint):
		err = noScope(c.w, "The token may not change this webhook.")
	default:
		version = old.Version
		err = precondition(c.r, shownWebhook(&old))
	}
	if err != nil {
		return nil, err
	}
	i, secret, err := c.opts.Webhooks.Put(context.WithoutCancel(c.r.Context()), *e, version)
	if err != nil {
		return nil, hookProblem(err)
	}
	shown := shownWebhook(&i)
	out := &outcome{value: &WebhookMade{*shown, secret}, tagged: shown}
	if version == webhook.NoVersion {
		out.status = http.StatusCreated
	}
	return out, nil
}

// maxHooks is how many webhooks there may be that a token has to do with for it to
// make one more, unless it administers the server: each of them may get a copy of the
// same event.
const maxHooks = 32

// hooks counts those that a token has to do with that does not administer the server.
func (c *call) hooks() (n int) {
	if c.token.MayAdmin(auth.AnyHost) {
		return 0
	}
	for _, i := range c.opts.Webhooks.Endpoints() {
		if c.mayHook(&i.Endpoint) {
			n++
		}
	}
	return n
}

// hostOf is what of a URL is no secret.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// endpoint reads the change.
func (in *WebhookChange) endpoint(name string) (*webhook.Endpoint, error) {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	e := &webhook.Endpoint{
		Name: name, URL: in.URL, Keys: plain(in.Keys), Domains: plain(in.Domains), Format: in.Format, Sync: in.Sync, Silent: in.Silent, AllowPrivate: in.AllowPrivate,
		Timeout: seconds(in.Timeout), GiveUpAfter: seconds(in.GiveUpAfter), Concurrency: in.Concurrency, Filter: event.Filter{Types: in.Types},
	}
	var err error
	pattern := func(field string, texts []Pattern) (list []jid.Pattern) {
		for _, s := range texts {
			p, perr := jid.ParsePattern(string(s))
			if perr != nil && err == nil {
				err = unfit("body."+field, "has something that is not an address nor a pattern of some")
			}
			list = append(list, p)
		}
		return list
	}
	e.Watch, e.Filter.JIDs = pattern("watch", in.Watch), pattern("jids", in.JIDs)
	for _, s := range in.Hosts {
		j, perr := jid.Parse(string(s))
		if perr != nil || !j.IsHost() {
			return nil, unfit("body.hosts", "has something that is not a domain")
		}
		e.Filter.Hosts = append(e.Filter.Hosts, j.Domain())
	}
	for _, s := range in.Rooms {
		j, perr := jid.Parse(string(s))
		if perr != nil {
			return nil, unfit("body.rooms", "has something that is not an address")
		}
		e.Filter.Rooms = append(e.Filter.Rooms, j.Bare())
	}
	return e, err
}

func (c *call) removeWebhook() (_ any, err error) {
	i, err := c.webhook()
	if err == nil {
		err = precondition(c.r, shownWebhook(i))
	}
	if err != nil {
		return nil, err
	}
	defer func() { c.audit("webhook remove", i.Endpoint.Name, nil, err) }()
	return nil, hookProblem(c.opts.Webhooks.Remove(context.WithoutCancel(c.r.Context()), i.Endpoint.Name, i.Version))
}

func (c *call) webhookStatus() (any, error) {
	i, err := c.webhook()
	if err != nil {
		return nil, err
	}
	return i.Status, nil
}

// deliveries answers with a page of what read returns.
func (c *call) deliveries(read func(context.Context, string, webhook.Page) ([]webhook.Delivery, error)) (any, error) {
	i, err := c.webhook()
	if err != nil {
		return nil, err
	}
	place, err := c.place()
	if err != nil {
		return nil, err
	}
	p := webhook.Page{Limit: c.limit() + 1}
	if place != "" {
		if p.Before, err = strconv.ParseInt(place, 10, 64); err != nil || p.Before <= 0 {
			return nil, badCursor("after")
		}
	}
	list, err := read(c.r.Context(), i.Endpoint.Name, p)
	if err != nil {
		return nil, hookProblem(err)
	}
	return first(c, list, func(d *webhook.Delivery) string { return strconv.FormatInt(d.Seq, 10) }), nil
}

func (c *call) replay() (_ any, err error) {
	i, err := c.webhook()
	if err != nil {
		return nil, err
	}
	var in ReplayOrder
	if err := c.into(&in); err != nil {
		return nil, err
	}
	for _, id := range in.IDs {
		if _, ok := event.ParseID(string(id)); !ok {
			return nil, unfit("body.ids", "has something that is not the id of an event")
		}
	}
	ctx := context.WithoutCancel(c.r.Context())
	n, more := 0, 0
	if len(in.IDs) > 0 {
		n, err = c.opts.Webhooks.Replay(ctx, i.Endpoint.Name, plain(in.IDs)...)
	}
	if err == nil && (len(in.IDs) == 0 || in.From != "" || in.To != "") {
		from, _ := event.ParseID(in.From)
		to, _ := event.ParseID(in.To)
		more, err = c.opts.Webhooks.ReplayRange(ctx, i.Endpoint.Name, from, to)
	}
	c.audit("webhook replay", i.Endpoint.Name, map[string]string{"ids": strings.Join(plain(in.IDs), " "), "from": in.From, "to": in.To}, hookProblem(err))
	if err != nil {
		return nil, hookProblem(err)
	}
	return &Replayed{n + more}, nil
}

func (c *call) tryWebhook() (any, error) {
	i, err := c.webhook()
	if err != nil {
		return nil, err
	}
	t, err := c.opts.Webhooks.Try(c.r.Context(), i.Endpoint.Name)
	if err != nil {
		return nil, hookProblem(err)
	}
	return &t, nil
}

func (c *call) enableWebhook() (_ any, err error) {
	i, err := c.webhook()
	if err != nil {
		return nil, err
	}
	defer func() { c.audit("webhook enable", i.Endpoint.Name, nil, err) }()
	return nil, hookProblem(c.opts.Webhooks.Enable(context.WithoutCancel(c.r.Context()), i.Endpoint.Name))
}
