package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"trivium/bridges/cpim"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/delivery"
	"trivium/httpapi/idempotency"
)

// MessageOptions are what the routes on the way of stanzas need beside the router.
// Zero values are defaults, or leave out what they would serve.
type MessageOptions struct {
	// Submit sends a stanza on behalf of its sender, as module.Host.Submit does.
	// Router.Send if nil: nothing is archived for the sender then.
	Submit func(context.Context, *router.Turn, *stanza.Stanza, *router.Receipt) error
	// Idempotency keeps the answers of requests with an Idempotency-Key. Nil: they are
	// refused.
	Idempotency *idempotency.Keeper
	// Delivery follows what becomes of messages. Nil: nobody does.
	Delivery *delivery.Tracker
	// CPIM maps message/cpim and application/pidf+xml; one with defaults if nil.
	CPIM *cpim.Mapper
	// Uploads stores the files of multipart/form-data. Nil: they are refused.
	Uploads Uploads
	// Presences is what PUT /presence/{jid} sets, and Subscriptions what GET
	// /subscriptions lists. Nil: these routes are not there.
	Presences     Presences
	Subscriptions Subscriptions
	// MaxLines is how many lines a batch may have: 10000; MaxBatch how many octets:
	// 64 MiB.
	MaxLines int
	MaxBatch int64
}

func (o *MessageOptions) setDefaults() {
	if o.CPIM == nil {
		o.CPIM = cpim.New(cpim.Options{Type: stanza.Chat})
	}
	if o.MaxLines <= 0 {
		o.MaxLines = 10000
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = 64 << 20
	}
}

// mountMessages registers the routes on the way of stanzas. They see each request
// as it came: no middleware stands between but edge.
func (a *API) mountMessages(r chi.Router) {
	r.Post("/messages", a.postMessage)
	r.Post("/messages/batch", a.postBatch)
	r.Post("/stanzas", a.postStanza)
	a.mountPresence(r)
}

// messageRoutes are those that stand in the tables.
func (a *API) messageRoutes() []route {
	var list []route
	if a.opts.Messages.Delivery != nil {
		list = append(list, route{
			method: http.MethodGet, path: "/messages/{id}", slashes: true, id: "get-message", summary: "Tell what became of a message",
			text: "By the stanza's id. Messages that were sent with a request for a receipt or a marker, or with `track`, are known for a week; of those with " +
				"an Idempotency-Key whether they were accepted is known as long as the key. Of others it is known while they are among the latest. Of several with one id, it is the latest that the token may see.",
			query: []*huma.Param{{
				Name: "from", In: "query", Description: "Who sent it, where the id alone does not tell.",
				Schema: &huma.Schema{Type: huma.TypeString, Format: "xmpp-jid"},
			}},
			gives: delivery.Status{}, do: (*call).getMessage,
		})
	}
	list = append(list, a.askRoutes()...)
	list = append(list, a.presenceRoutes()...)
	return append(list, a.subscriptionRoutes()...)
}

func (c *call) getMessage() (any, error) {
	var from jid.JID
	if c.args.Has("from") {
		var err error
		if from, err = jid.Parse(c.args.Get("from")); err != nil {
			return nil, badQuery("from", "is not an address")
		}
	}
	fits := func(sender jid.JID) bool {
		return (from.IsZero() || from == sender || from == sender.Bare()) && (c.token.MaySend(sender) || c.token.MayRead(sender))
	}
	id := param(c.r, "*")
	s, ok, err := c.opts.Messages.Delivery.Find(c.r.Context(), id, fits)
	if err == nil && !ok {
		s, ok, err = c.answered(id, fits)
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, problem(http.StatusNotFound, "No message with this id is known that the token may see.")
	}
	return &s, nil
}

// answered tells of a message that it was accepted, as the answer to its
// Idempotency-Key does.
func (c *call) answered(id string, fits func(jid.JID) bool) (s delivery.Status, ok bool, err error) {
	if c.opts.Messages.Idempotency == nil {
		return s, false, nil
	}
	a, at, ok, err := c.opts.Messages.Idempotency.Sent(c.r.Context(), id)
	if err != nil || !ok || a.Status != http.StatusAccepted {
		return s, false, err
	}
	sender, err := jid.Parse(a.Sender)
	if err != nil || !fits(sender) {
		return s, false, nil
	}
	var told Accepted
	if err := json.Unmarshal(a.Body, &told); err != nil {
		return s, false, err
	}
	at = at.UTC()
	return delivery.Status{ID: id, From: a.Sender, To: told.To, State: delivery.Accepted, Created: at, Accepted: &at}, true, nil
}

// text is a body that is no JSON.
func text(example string) *huma.MediaType {
	m := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	if example != "" {
		m.Example = example
	}
	return m
}

// describeMessages adds the paths of mountMessages to the document.
func (a *API) describeMessages(doc *huma.OpenAPI, ref func(any) *huma.Schema, problems func(map[int]string) map[string]*huma.Response) {
	var table strings.Builder
	for _, e := range statusOf {
		fmt.Fprintf(&table, "\n| %s | %d |", e.condition, e.status)
	}
	one := 1
	key := &huma.Param{
		Name: "Idempotency-Key", In: "header",
		Description: "Makes the request one that can be repeated: a string of RFC 9651, whose quotes may be left out. The answer to the first request with a key of " +
			"a token is kept for 24 hours and given again, with `Idempotent-Replayed: true`. Kept are successes and refusals by the recipient's side that would " +
			"come again, not what was wrong with the request itself. A message without an `id` gets one that follows from the key.",
		Schema: &huma.Schema{Type: huma.TypeString, MinLength: &one},
	}
	refusals := map[int]string{
		400: "The body is not well-formed, or not in UTF-8; or the Idempotency-Key is no key.",
		401: "There is no valid token.",
		403: "The token may not send as this address, or it was forbidden on its way.",
		404: "Nobody takes messages at this address.",
		409: "It conflicts with something (conflict, unexpected-request), or the first request with the Idempotency-Key is under way (type `" + typeUnderWay + "`).",
		410: "The address is no longer in use.",
		413: "The request is larger than the server allows.",
		415: "The body is of no type that is taken here, or it has a content coding.",
		422: "A field is missing or cannot be sent; `errors` tells which. Or the Idempotency-Key was used for another request (type `" + typeReused + "`).",
		429: "The token has made too many requests; `Retry-After` tells when to go on.",
		500: "The server has failed.",
		501: "The recipient's service does not do this, or the server keeps no keys or no files.",
		503: "It cannot be taken now; `Retry-After` tells when to try again.",
		504: "It is on its way but not safe yet. It may still arrive; a retry should have the same Idempotency-Key or id.",
	}
	send := problems(refusals)
	send["202"] = &huma.Response{
		Description: "The message is safe: it has left for every device that takes it, or it is stored and survives a crash. A Message/CPIM object for several recipients is answered with a list.",
		Content: map[string]*huma.MediaType{jsonType: {Schema: &huma.Schema{OneOf: []*huma.Schema{
			ref(Accepted{}), ref(Results{}),
		}}}},
	}
	send["207"] = &huma.Response{
		Description: "Of several messages, not all are safe.",
		Content:     map[string]*huma.MediaType{jsonType: {Schema: ref(Results{})}},
	}
	if a.opts.Messages.Uploads != nil {
		send["507"] = problems(map[int]string{507: "There is no room for the files."})["507"]
		send["408"] = problems(map[int]string{408: "A file came too slowly."})["408"]
	}
	content := map[string]*huma.MediaType{
		jsonType: {Schema: ref(Submission{}), Example: map[string]any{
			"to": "juliet@example.org", "body": "Art thou not Romeo, and a Montague?",
		}},
		xmlType:  text("<message to='juliet@example.org' type='chat'><body>Art thou not Romeo?</body></message>"),
		cpimType: text("From: <im:romeo@example.org>\r\nTo: <im:juliet@example.org>\r\n\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nArt thou not Romeo?"),
	}
	if a.opts.Messages.Uploads != nil {
		content[multipartType] = &huma.MediaType{Schema: &huma.Schema{
			Type: huma.TypeObject, Required: []string{"message"},
			Properties: map[string]*huma.Schema{
				"message": ref(Submission{}),
				"file":    {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, ContentEncoding: "binary"}},
			},
		}}
	}
	doc.AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: "/messages", OperationID: "send-message", Summary: "Send a message", Tags: []string{"messages"},
		Description: "When the message is refused on its way, the status follows the stanza error's condition (RFC 6120 section 8.3.3):\n\n" +
			"| condition | status |\n|---|---|" + table.String() + "\n",
		Security: needsToken, Parameters: []*huma.Param{key},
		RequestBody: &huma.RequestBody{
			Required: true,
			Description: "As XML: one `<message/>` element, in the namespace jabber:client or in none; `from` as with JSON. As message/cpim: an object of RFC 3862 " +
				"whose From is an im: URI of an address that the token may use; each To becomes a message (RFC 3922). As multipart/form-data: the part `message`, " +
				"which comes first, is what application/json would be, and every further part is a file that is stored and mentioned in the message.",
			Content: content,
		},
		Responses: send,
	})

	batch := problems(map[int]string{
		400: "The Idempotency-Key is no key.", 401: refusals[401], 415: "The body is not application/x-ndjson, or it has a content coding.",
		429: refusals[429], 500: refusals[500], 501: "The server keeps no keys.", 503: "Tokens cannot be checked now.",
	})
	batch["200"] = &huma.Response{
		Description: "A line for each line that is not empty, in their order, while they come: each is a Result.",
		Content:     map[string]*huma.MediaType{ndjsonType: {Schema: ref(Result{})}},
	}
	doc.AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: "/messages/batch", OperationID: "send-messages", Summary: "Send many messages", Tags: []string{"messages"},
		Description: fmt.Sprintf("A message on each line, as JSON like that of POST /messages; at most %d lines, %d octets, and %d octets a line. ", a.opts.Messages.MaxLines, a.opts.Messages.MaxBatch, a.opts.MaxBody) +
			"They are sent in their order. A line that cannot be sent does not stop the others. With `Idempotency-Key: KEY`, the key of line 7 is `KEY/7`. " +
			"Each line counts as a request where those of the token are limited: the batch is slowed down.",
		Security: needsToken, Parameters: []*huma.Param{key},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{ndjsonType: {
			Schema: ref(Submission{}), Example: `{"to":"juliet@example.org","body":"one"}` + "\n" + `{"to":"juliet@example.org","body":"two"}` + "\n",
		}}},
		Responses: batch,
	})

	stanzas := problems(refusals)
	stanzas["202"] = &huma.Response{
		Description: "The stanza is safe, or has been routed where nothing more is promised (presence and iq).",
		Content:     map[string]*huma.MediaType{jsonType: {Schema: ref(Accepted{})}},
	}
	doc.AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: "/stanzas", OperationID: "send-stanza", Summary: "Send a stanza of any kind", Tags: []string{"stanzas"},
		Description: "A message, a presence to an address, an iq request or the answer to one, errors among them. `from` may be left out when the token is bound to one address. " +
			"Answers to an iq go to `from`: use POST /iq to get them here.",
		Security: needsToken, Parameters: []*huma.Param{key},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			xmlType: text("<presence from='juliet@example.org' to='romeo@example.net' type='subscribed'/>"),
		}},
		Responses: stanzas,
	})
	if a.opts.Messages.Presences != nil {
		a.describePresence(doc, ref, problems)
	}
}

// describePresence adds PUT /presence/{jid}.
func (a *API) describePresence(doc *huma.OpenAPI, ref func(any) *huma.Schema, problems func(map[int]string) map[string]*huma.Response) {
	rt := route{
		method: http.MethodPut, path: "/presence/{jid}", slashes: true, id: "put-presence", summary: "Set the presence of an address",
		text:  "For an account, of a full address: a resource that no client has bound. A document for a bare address sets all its resources.",
		takes: PresenceRequest{}, gives: PresenceState{}, types: []string{jsonType, pidfType}, versioned: true,
		also: map[int]string{
			404: "There is no such address.", 409: "A client has this resource.", 501: "Presence cannot be set for addresses of this kind.",
		},
	}
	op := rt.operation(ref, problems)
	delete(op.Responses, "201")
	op.RequestBody.Content[pidfType] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	doc.AddOperation(op)
}
