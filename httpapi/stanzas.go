package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
	"trivium/httpapi/message"
)

// postStanza is POST /stanzas: one stanza of any kind, as XML.
func (a *API) postStanza(w http.ResponseWriter, r *http.Request) {
	a.post(w, r, func(rq *request) ([]letter, error) {
		if rq.media != xmlType {
			return nil, unsupported(xmlType)
		}
		return rq.one(message.ParseStanza(rq.body, stanza.Any, rq.opts.Limits))
	})
}

// IQRequest is an iq request (RFC 6120 §8.2.3).
type IQRequest struct {
	From    string  `json:"from,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Who asks: an address that the token may use. It may be left out when the token is bound to one address."`
	To      string  `json:"to,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Who is asked; the sender's own account by default."`
	Type    string  `json:"type" enum:"get,set" doc:"Whether something is read or changed."`
	Payload string  `json:"payload" minLength:"1" format:"xml-element" doc:"The one child element, as XML that declares its namespace." example:"<ping xmlns='urn:xmpp:ping'/>"`
	Timeout float64 `json:"timeout,omitempty" minimum:"0.1" maximum:"120" default:"30" doc:"How long to wait for the answer, in seconds."`
}

// IQAnswer is the result of an iq request.
type IQAnswer struct {
	From    string `json:"from" format:"xmpp-jid" doc:"Who has answered."`
	Type    string `json:"type" enum:"result" doc:"Errors are problem documents."`
	Payload string `json:"payload,omitempty" doc:"What the result holds, as XML; absent when it is empty."`
}

func (a *API) askRoutes() []route {
	if a.opts.Ask == nil {
		return nil
	}
	return []route{{
		method: http.MethodPost, path: "/iq", id: "send-iq", summary: "Send an iq request and wait for the answer",
		text:  "A stanza error becomes a problem document, with the status that its condition has for messages.",
		takes: IQRequest{}, gives: IQAnswer{},
		also: map[int]string{
			404: "There is nobody to answer, or what is asked for is not there.", 409: "The request conflicts with something.",
			410: "The address is no longer in use.", 501: "The service does not know the request.", 504: "There was no answer in time.",
		},
		do: (*call).askIQ,
	}}
}

func (c *call) askIQ() (any, error) {
	var in IQRequest
	if err := c.into(&in); err != nil {
		return nil, err
	}
	from, err := c.spokenFor(in.From)
	if err != nil {
		return nil, err
	}
	to := from.Bare() // RFC 6120 §10.3.3
	if in.To != "" {
		if to, err = message.Address("to", in.To); err != nil {
			return nil, err
		}
	}
	st, err := message.ParseStanza(wrap("iq", ` type='`+in.Type+`' id='`+message.NewID()+`'`, []byte(in.Payload)), stanza.IQ, c.opts.Limits)
	if err != nil {
		return nil, &message.FieldError{Field: "payload", Reason: "is not one element of well-formed XML that XMPP allows", Err: err}
	}
	st.From, st.To = from, to
	if st.Size() > c.stanzaMax {
		return nil, problem(http.StatusRequestEntityTooLarge, "The request is larger than a stanza may be.")
	}
	wait := c.opts.Timeout
	if in.Timeout > 0 {
		wait = time.Duration(in.Timeout * float64(time.Second))
	}
	end, ok := c.asks.begin(c.token.ID, maxAsks)
	if !ok {
		return nil, problem(http.StatusTooManyRequests, "Too many requests of the token wait for their answers.")
	}
	defer end()
	ctx, cancel := context.WithTimeout(c.r.Context(), wait)
	defer cancel()
	answer, err := c.opts.Ask(ctx, st)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, problem(http.StatusGatewayTimeout, "There was no answer in time.")
	case err != nil:
		return nil, err
	case answer.Type == stanza.TypeError:
		return nil, answer.ReadError()
	}
	var payload []byte
	answer.Each(func(ch stanza.Child) bool {
		payload = ch.Element().AppendXML(payload) // whatever the stanza around it declares
		return true
	})
	return &IQAnswer{From: answer.From.String(), Type: stanza.Result, Payload: string(payload)}, nil
}

// wrap puts the start and the end tag of a stanza around a payload.
func wrap(name, attrs string, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+128)
	b = append(append(append(b, '<'), name...), " xmlns='"+stanza.NSClient+"'"...)
	b = append(append(append(b, attrs...), '>'), payload...)
	return append(append(append(b, "</"...), name...), '>')
}

// spokenFor is who a request speaks for: the address in it, or the token's only one.
// The token may do so.
func (c *call) spokenFor(from string) (jid.JID, error) {
	rq := request{API: c.API, w: c.w, r: c.r, token: &c.token}
	j, err := rq.sender(from)
	if err != nil {
		return j, err
	}
	return j, c.maySend(c.w, c.r, &c.token, j)
}

// Subscriptions are who sees whose presence. It has to be safe for concurrent use.
type Subscriptions interface {
	// List returns subscriptions of an account or of a contact of a gateway, in an
	// order that does not change, at most limit of them after the one that next of the
	// page before names ("": from the start), and next ("": there are no more).
	List(ctx context.Context, owner jid.JID, after string, limit int) (list []Subscription, next string, err error)
}

// Subscription is what there is between two addresses (RFC 6121 §3).
type Subscription struct {
	JID     string `json:"jid" format:"xmpp-jid" doc:"The other one."`
	State   string `json:"state" enum:"none,to,from,both" doc:"Who sees whose presence, as RFC 6121 section 2.1.2.5 has it: to, the owner sees that of the other; from, the other sees the owner's."`
	Asked   bool   `json:"asked,omitempty" doc:"The owner has asked to see the presence of the other, who has not answered."`
	Pending bool   `json:"pending,omitempty" doc:"The other has asked to see the owner's presence, and waits for an answer."`
}

// SubscriptionRequest is a presence stanza of a subscription type (RFC 6121 §3).
type SubscriptionRequest struct {
	From   string `json:"from,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Who says so: an address that the token may use. It may be left out when the token is bound to one address."`
	To     string `json:"to" format:"xmpp-jid" minLength:"1" maxLength:"3071" doc:"To whom."`
	Type   string `json:"type" enum:"subscribe,subscribed,unsubscribe,unsubscribed" doc:"What is said (RFC 6121 section 4.7.1)."`
	Status string `json:"status,omitempty" maxLength:"4096" doc:"An explanation for people."`
	ID     string `json:"id,omitempty" maxLength:"1023" doc:"The stanza's id."`
}

func (a *API) subscriptionRoutes() []route {
	list := []route{{
		method: http.MethodPost, path: "/subscriptions", id: "send-subscription", summary: "Ask for somebody's presence, or answer who asks",
		text:  "The addresses are taken without resources (RFC 6121 section 3.1.1).",
		takes: SubscriptionRequest{}, gives: Accepted{}, status: http.StatusAccepted,
		also: map[int]string{
			404: "There is nobody at the address.", 409: "It conflicts with something.", 410: "The address is no longer in use.",
			501: "The service does not do this.", 504: "It is on its way, but not safe yet.",
		},
		do: (*call).subscribe,
	}}
	if a.opts.Messages.Subscriptions == nil {
		return list
	}
	return append(list, route{
		method: http.MethodGet, path: "/subscriptions", id: "list-subscriptions", summary: "List who sees whose presence",
		query: append(paging(), &huma.Param{
			Name: "jid", In: "query", Required: true, Description: "Whose subscriptions: an account, or a contact of a gateway.",
			Schema: &huma.Schema{Type: huma.TypeString, Format: "xmpp-jid"},
		}),
		gives: Page[Subscription]{},
		also:  map[int]string{404: "There is no such address."},
		do:    (*call).subscriptions,
	})
}

func (c *call) subscribe() (any, error) {
	var in SubscriptionRequest
	if err := c.into(&in); err != nil {
		return nil, err
	}
	from, err := c.spokenFor(in.From)
	if err != nil {
		return nil, err
	}
	to, err := message.Address("to", in.To)
	if err != nil {
		return nil, err
	}
	if !wire.ValidText(in.ID) || !wire.ValidText(in.Status) {
		return nil, &message.FieldError{Reason: "has a character that XML cannot carry"}
	}
	var status stanza.Payload
	if in.Status != "" {
		status = stanza.TextEl(stanza.NSClient, "status", in.Status)
	}
	if in.ID == "" {
		in.ID = message.NewID()
	}
	st := stanza.New(stanza.Presence, in.Type, from.Bare(), to.Bare(), in.ID, status)
	rq := request{API: c.API, w: c.w, r: c.r, token: &c.token}
	if p := rq.send(c.r.Context(), &letter{st: st}, nil).wait(c.r.Context()); p != nil {
		return nil, p
	}
	return &Accepted{ID: st.ID, To: st.To.String(), Status: "accepted"}, nil
}

func (c *call) subscriptions() (any, error) {
	owner, err := jid.Parse(c.args.Get("jid"))
	if err != nil {
		return nil, badQuery("jid", "is not an address")
	}
	owner = owner.Bare()
	if !c.token.MayRead(owner) && !c.token.MaySend(owner) {
		return nil, noScope(c.w, "The token may not see what is this address's.", readOf(owner))
	}
	after, err := c.place()
	if err != nil {
		return nil, err
	}
	list, next, err := c.opts.Messages.Subscriptions.List(c.r.Context(), owner, after, c.limit())
	if err != nil {
		return nil, err
	}
	return &Page[Subscription]{Items: append([]Subscription{}, list...), Next: cursor(next)}, nil
}
