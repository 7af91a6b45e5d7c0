package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
)

const (
	streamType = "text/event-stream"
	// eventOctets is about how much a page of events holds at most.
	eventOctets = 4 << 20
)

// EventPage is a page of the event log.
type EventPage struct {
	Items []event.Envelope `json:"items" nullable:"false" doc:"The events, oldest first."`
	Next  string           `json:"next" doc:"The parameter after of the next page, which may be empty now and fill later."`
	Gap   bool             `json:"gap,omitempty" doc:"Events after the given one are not kept any more: some may be missing."`
}

// eventPage is an EventPage whose events are encoded.
type eventPage struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
	Gap   bool              `json:"gap,omitempty"`
}

// Ack says how far a gateway is.
type Ack struct {
	Host string `json:"host" format:"xmpp-domain" minLength:"1" maxLength:"1023" doc:"The domain of the gateway." example:"sms.example.org"`
	ID   string `json:"id" pattern:"^evt_[0-9a-z]{1,12}$" doc:"The last event that it has dealt with, and all before." example:"evt_hx2p3kd8m0"`
}

func (a *API) eventRoutes() []route {
	if a.opts.Events == nil {
		return nil
	}
	some := 64
	list := func(name, text string, item *huma.Schema) *huma.Param {
		explode := true
		return &huma.Param{
			Name: name, In: "query", Description: text, Explode: &explode,
			Schema: &huma.Schema{Type: huma.TypeArray, Items: item, MaxItems: &some},
		}
	}
	var types, formats []any
	for _, t := range event.Types {
		types = append(types, string(t))
	}
	for _, f := range event.Formats {
		formats = append(formats, string(f))
	}
	limit := paging()[0]
	limit.Description += " Streams have no pages."
	return []route{
		{
			method: http.MethodGet, path: "/events", id: "read-events", summary: "Follow or read the event log",
			text: "As `text/event-stream` (server-sent events) the answer goes on: each event has its id, type and data, and a reader that was cut off comes back with " +
				"`Last-Event-ID` and misses nothing. An event `gap` says that older events are not kept any more. As `application/json`, which is the default, it is a page of what has happened.\n\n" +
				"Without `Last-Event-ID` and `after`, a stream for the domain of a gateway goes on behind what was acknowledged, other streams begin now, and pages with the " +
				"oldest event. A gateway that comes back with `Last-Event-ID` acknowledges what it names.\n\n" +
				"The token sees what is from or to addresses that it may read, and what is about hosts that it may read.",
			query: []*huma.Param{
				list("type", "Only events of these types.", &huma.Schema{Type: huma.TypeString, Enum: types}),
				list("host", "Only events about these domains of the server.", &huma.Schema{Type: huma.TypeString, Format: "xmpp-domain"}),
				list("jid", "Only events from or to addresses that one of these patterns covers.", &huma.Schema{Type: huma.TypeString, Format: "xmpp-pattern"}),
				list("room", "Only events of these rooms.", &huma.Schema{Type: huma.TypeString, Format: "xmpp-jid"}),
				{
					Name: "format", In: "query", Description: "How a stream shows stanzas. What has no form in a format comes as JSON.",
					Schema: &huma.Schema{Type: huma.TypeString, Enum: formats, Default: string(event.JSON)},
				},
				{
					Name: "after", In: "query", Description: "The id of an event to begin behind, or `start` for all that are kept, or `now`.",
					Schema: &huma.Schema{Type: huma.TypeString, Pattern: `^(start|now|evt_[0-9a-z]{1,12})$`},
				},
				limit,
			},
			headers: []*huma.Param{{
				Name: "Last-Event-ID", In: "header", Description: "The last event that the reader has got. It counts instead of `after`.", Schema: &huma.Schema{Type: huma.TypeString, Format: "event-id"},
			}},
			gives: EventPage{}, types: []string{jsonType, streamType}, do: (*call).getEvents,
		},
		{
			method: http.MethodPost, path: "/events/ack", id: "acknowledge-events", summary: "Acknowledge events as a gateway",
			text:  "The gateway has dealt with the event and all before it: a stream of its domain begins there when it names no other place. It never goes back. Needs a scope to speak for the whole domain.",
			takes: Ack{}, also: map[int]string{404: "There is no such event yet."}, do: (*call).ackEvents,
		},
	}
}

// seen tells whether the token may see an event.
func seen(t *auth.Token, e *event.Event) bool {
	return t.MayRead(e.From) || t.MayRead(e.To) || aboutHost(t, e)
}

// aboutHost tells whether the token may read all of the event's host. Whoever may
// read a single address there sees what is from or to that alone.
func aboutHost(t *auth.Token, e *event.Event) bool {
	if e.Host == "" {
		return false
	}
	host, err := jid.New("", e.Host, "")
	return err == nil && t.MayRead(host)
}

func (c *call) getEvents() (any, error) {
	if len(c.token.Scopes.Read) == 0 {
		return nil, noScope(c.w, "The token may read nothing.")
	}
	f, err := c.filter()
	if err != nil {
		return nil, err
	}
	token := c.token
	f.May = func(e *event.Event) bool { return seen(&token, e) }
	kind, _ := preferred(c.r, []string{jsonType, streamType}) // who does not ask for a stream is not given one without an end
	after, err := c.position(f, kind == streamType)
	if err != nil {
		return nil, err
	}
	if kind == jsonType {
		return c.eventPage(f, after)
	}
	format, err := event.ParseFormat(c.args.Get("format"))
	if err != nil {
		return nil, badQuery("format", "is not json, xml or cpim")
	}
	if err := c.resumed(f); err != nil {
		return nil, err
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", streamType)
		c.w.WriteHeader(http.StatusOK)
		return answered{}, nil
	}
	end, ok := c.open.begin(c.token.ID, maxOpen)
	if !ok {
		return nil, problem(http.StatusTooManyRequests, "The token has too many streams open.")
	}
	defer end()
	stream := *c.opts.Events
	stream.Serving = c.serving(f)
	stream.Allowed = func(ctx context.Context) bool { return c.stillGood(ctx, c.r) }
	stream.Serve(c.w, c.r, *f, format, after)
	return answered{}, nil
}

// filter reads the parameters that choose events.
func (c *call) filter() (*event.Filter, error) {
	f := &event.Filter{}
	for _, t := range c.args["type"] {
		f.Types = append(f.Types, event.Type(t))
	}
	for _, s := range c.args["host"] {
		j, err := jid.Parse(s)
		if err != nil || !j.IsHost() {
			return nil, badQuery("host", "is not a domain")
		}
		f.Hosts = append(f.Hosts, j.Domain())
	}
	for _, s := range c.args["jid"] {
		p, err := jid.ParsePattern(s)
		if err != nil {
			return nil, badQuery("jid", "is not an address nor a pattern of some")
		}
		f.JIDs = append(f.JIDs, p)
	}
	for _, s := range c.args["room"] {
		j, err := jid.Parse(s)
		if err != nil {
			return nil, badQuery("room", "is not an address")
		}
		f.Rooms = append(f.Rooms, j.Bare())
	}
	return f, nil
}

// position returns after which event to begin.
func (c *call) position(f *event.Filter, stream bool) (int64, error) {
	switch after := c.args.Get("after"); after {
	case "start":
		return 0, nil
	case "now":
		if stream {
			return event.FromNow, nil
		}
		return c.opts.Events.Log.Last(), nil
	case "":
		if c.args.Has("after") {
			return 0, badCursor("after")
		}
	default:
		seq, ok := event.ParseID(after)
		if !ok {
			return 0, badCursor("after")
		}
		return seq, nil
	}
	if host, ok := c.gateway(f); ok {
		acked, err := c.opts.Events.Log.Acked(c.r.Context(), gateway.Consumer(host))
		if c.opts.Gateways != nil { // whose senders know that they were not taken
			acked = max(acked, c.opts.Gateways.GivenUp(host))
		}
		return acked, err
	}
	if stream {
		return event.FromNow, nil
	}
	return 0, nil
}

// gateway returns the domain that a filter is about, when the token speaks for all
// of it and it is not a virtual host.
func (c *call) gateway(f *event.Filter) (string, bool) {
	if len(f.Hosts) != 1 {
		return "", false
	}
	return f.Hosts[0], c.speaksFor(f.Hosts[0])
}

func (c *call) speaksFor(domain string) bool {
	host, err := jid.New("", domain, "")
	return err == nil && !c.opts.Router.Hosts(domain) && c.token.MaySend(host)
}

// resumed notes how far a gateway is that comes back: what it has the id of it has
// got.
func (c *call) resumed(f *event.Filter) error {
	seq, ok := event.ParseID(c.r.Header.Get("Last-Event-ID"))
	if !ok || seq > c.opts.Events.Log.Last() {
		return nil
	}
	for _, host := range c.serving(f) {
		if err := c.opts.Events.Log.Ack(c.r.Context(), gateway.Consumer(host), seq); err != nil {
			return err
		}
	}
	return nil
}

// serving are the gateway domains whose program reads a stream: it takes all messages
// that come for them and speaks for them. Somebody else who looks on does not make a
// gateway that is down seem up.
func (c *call) serving(f *event.Filter) []string {
	hosts := []string{}
	if len(f.JIDs) > 0 || len(f.Rooms) > 0 || len(f.Types) > 0 && !slices.Contains(f.Types, event.Message) {
		return hosts // a part of it
	}
	for _, name := range f.Hosts {
		host, err := jid.New("", name, "")
		if err == nil && c.speaksFor(name) && c.token.MayRead(host) && !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

func (c *call) eventPage(f *event.Filter, after int64) (any, error) {
	if id := c.r.Header.Get("Last-Event-ID"); id != "" {
		seq, ok := event.ParseID(id)
		if !ok {
			p := problem(http.StatusBadRequest, "Last-Event-ID does not hold the id of an event.")
			p.Errors = []Fault{{"header.Last-Event-ID", "is not the id of an event"}}
			return nil, p
		}
		after = seq
	}
	log := c.opts.Events.Log
	page := &eventPage{Items: []json.RawMessage{}, Gap: log.Gap(after)}
	list, last, err := log.Read(c.r.Context(), f, after, c.limit())
	if err != nil {
		return nil, err
	}
	octets := 0
	for _, e := range list {
		_, raw, err := c.opts.Events.Encoder.Encode(e, event.JSON)
		if err != nil {
			return nil, err
		}
		if octets += len(raw); octets > eventOctets && len(page.Items) > 0 {
			break
		}
		page.Items = append(page.Items, raw)
		page.Next = e.ID()
	}
	if len(page.Items) == len(list) {
		page.Next = event.FormatID(last)
	}
	return page, nil
}

func (c *call) ackEvents() (any, error) {
	var in Ack
	if err := c.into(&in); err != nil {
		return nil, err
	}
	host, err := jid.Parse(in.Host)
	if err != nil || !host.IsHost() {
		return nil, unfit("body.host", "is not a domain")
	}
	if !c.token.MaySend(host) {
		return nil, noScope(c.w, "The token may not speak for this domain.", sendAs(host))
	}
	seq, ok := event.ParseID(in.ID)
	if !ok {
		return nil, unfit("body.id", "is not the id of an event")
	}
	if !slices.Contains(c.opts.Hosts, host.Domain()) && !c.opts.Router.Serves(host.Domain()) || seq > c.opts.Events.Log.Last() {
		return nil, problem(http.StatusNotFound, "There is no such event.")
	}
	return nil, c.opts.Events.Log.Ack(c.r.Context(), gateway.Consumer(host.Domain()), seq)
}
