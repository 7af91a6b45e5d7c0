package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"trivium/bridges/cpim"
	"trivium/bridges/cpim/entity"
	"trivium/core/stanza"
	"trivium/httpapi/message"
)

// Format is a form in which programs get events.
type Format string

// The formats.
const (
	// JSON is an Envelope.
	JSON Format = "json"
	// XML is the stanza; JSON where there is none.
	XML Format = "xml"
	// CPIM is Message/CPIM (RFC 3862) for messages and PIDF (RFC 3863) for presence;
	// JSON for everything else, and for what these cannot hold: errors, messages of
	// rooms, messages without a body such as chat states, and encrypted ones.
	CPIM Format = "cpim"
)

// Formats are all of them.
var Formats = []Format{JSON, XML, CPIM}

// ParseFormat reads the name of a format; "" is JSON.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case "":
		return JSON, nil
	case JSON, XML, CPIM:
		return f, nil
	}
	return "", fmt.Errorf("event: %q is no format: want json, xml or cpim", s)
}

// The media types that Encode gives.
const (
	TypeJSON = "application/json"
	TypeXML  = "application/xml"
	TypeCPIM = "message/cpim"
	TypePIDF = "application/pidf+xml"
)

// Envelope is an event as JSON.
type Envelope struct {
	ID        string    `json:"id" doc:"The event's id: what Last-Event-ID and webhook-id hold." example:"evt_hx2p3kd8m0"`
	Type      Type      `json:"type" enum:"message,presence,subscription,iq,registration,delivery,test" doc:"What has happened."`
	Timestamp time.Time `json:"timestamp" doc:"When the server took it."`
	Host      string    `json:"host" doc:"The domain of the server that the event is about: a gateway or a virtual host." example:"sms.example.org"`
	Data      any       `json:"data" doc:"What depends on the type."`
}

// PresenceData is the Data of an event of type presence.
type PresenceData struct {
	From     string `json:"from" format:"xmpp-jid" doc:"Whose presence it is." example:"juliet@example.org/balcony"`
	To       string `json:"to" format:"xmpp-jid" doc:"Who is told." example:"romeo@sms.example.org"`
	Type     string `json:"type" enum:"available,unavailable,probe,error" doc:"available stands for the presence without a type of RFC 6121 section 4.7.1."`
	Show     string `json:"show,omitempty" enum:"away,chat,dnd,xa" doc:"The availability of RFC 6121 section 4.7.2.1."`
	Status   string `json:"status,omitempty" doc:"The description."`
	Priority int    `json:"priority,omitempty" minimum:"-128" maximum:"127" doc:"The priority of the resource."`
	XML      string `json:"xml" doc:"The whole stanza."`
}

// SubscriptionData is the Data of an event of type subscription.
type SubscriptionData struct {
	From   string `json:"from" format:"xmpp-jid" doc:"Who asks or answers." example:"juliet@example.org"`
	To     string `json:"to" format:"xmpp-jid" doc:"Who is asked or answered." example:"romeo@sms.example.org"`
	Type   string `json:"type" enum:"subscribe,subscribed,unsubscribe,unsubscribed" doc:"The type of RFC 6121 section 3."`
	Status string `json:"status,omitempty" doc:"What the sender says to it."`
	XML    string `json:"xml" doc:"The whole stanza."`
}

// IQData is the Data of an event of type iq.
type IQData struct {
	ID               string `json:"id" doc:"The stanza's id, which the answer repeats."`
	From             string `json:"from" format:"xmpp-jid" doc:"Who asks." example:"juliet@example.org/balcony"`
	To               string `json:"to" format:"xmpp-jid" doc:"Who is asked." example:"romeo@sms.example.org"`
	Type             string `json:"type" enum:"get,set,result,error" doc:"The type of RFC 6120 section 8.2.3."`
	PayloadNamespace string `json:"payload_namespace,omitempty" doc:"The namespace of the child, which says what is asked." example:"vcard-temp"`
	PayloadName      string `json:"payload_name,omitempty" doc:"The name of the child." example:"vCard"`
	XML              string `json:"xml" doc:"The whole stanza."`
}

// Encoder writes events. It is safe for concurrent use.
type Encoder struct {
	// Mapper makes Message/CPIM and PIDF; nil: one without options.
	Mapper *cpim.Mapper
}

// Encode returns an event in a format, and the media type of what that has become:
// see the formats for when it is JSON all the same. The error says that the event
// is damaged.
func (enc *Encoder) Encode(e *Event, f Format) (contentType string, body []byte, err error) {
	if e.Stanza == nil || f == JSON {
		return enc.json(e)
	}
	if f == XML {
		return TypeXML, e.Stanza, nil
	}
	st, err := stanza.ParseDocument(e.Stanza)
	if err != nil {
		return "", nil, damaged(e, err)
	}
	switch st.Kind {
	case stanza.Message:
		contentType, body, err = enc.cpim(e, st)
	case stanza.Presence:
		contentType, body, err = enc.pidf(e, st)
	default:
		err = cpim.ErrNothing
	}
	if err != nil { // it has no place there
		return enc.json(e)
	}
	return contentType, body, nil
}

func damaged(e *Event, err error) error { return fmt.Errorf("event: %s is damaged: %w", e.ID(), err) }

func (enc *Encoder) mapper() *cpim.Mapper {
	if enc.Mapper == nil {
		return cpim.New(cpim.Options{})
	}
	return enc.Mapper
}

// cpim maps a message: RFC 3922 §4.1.
func (enc *Encoder) cpim(e *Event, st *stanza.Stanza) (string, []byte, error) {
	o, err := enc.mapper().Message(st, cpim.Meta{Received: e.Time})
	if err != nil {
		return "", nil, err
	}
	if o.Message == nil {
		return endToEnd(o.EndToEnd)
	}
	body, err := o.Message.AppendPayload(make([]byte, 0, len(e.Stanza)+256))
	return TypeCPIM, body, err
}

// endToEnd returns an object of RFC 3923 as the body of something that knows no
// MIME header but the media type.
func endToEnd(object string) (string, []byte, error) {
	part, err := entity.Parse(object, true)
	if err != nil {
		return "", nil, err
	}
	typ := part.Get("Content-Type")
	switch strings.ToLower(part.Get("Content-Transfer-Encoding")) {
	case "", "7bit", "8bit", "binary":
	default:
		return "", nil, cpim.ErrNothing
	}
	if typ == "" {
		return "", nil, cpim.ErrNothing
	}
	return typ, []byte(part.Body), nil
}

// errNoDocument says that a presence stanza is none that PIDF has a word for.
var errNoDocument = errors.New("event: not in a presence document")

// pidf makes a document of one stanza: RFC 3922 §5.1.
func (enc *Encoder) pidf(e *Event, st *stanza.Stanza) (string, []byte, error) {
	p, err := enc.mapper().Presentity(st.From)
	if err != nil {
		return "", nil, err
	}
	if !p.Update(st, e.Time) {
		return "", nil, errNoDocument
	}
	body, err := p.Document(e.Time).AppendTo(nil)
	return TypePIDF, body, err
}

func (enc *Encoder) json(e *Event) (string, []byte, error) {
	data, err := describe(e)
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	b.Grow(2*e.size() + 512)
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false)
	if err := w.Encode(Envelope{ID: e.ID(), Type: e.Type, Timestamp: e.Time, Host: e.Host, Data: data}); err != nil {
		return "", nil, damaged(e, err)
	}
	return TypeJSON, bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// describe returns the data of an Envelope.
func describe(e *Event) (any, error) {
	if e.Stanza == nil {
		if e.Data == nil {
			return struct{}{}, nil
		}
		return json.RawMessage(e.Data), nil
	}
	st, err := stanza.ParseDocument(e.Stanza)
	if err != nil {
		return nil, damaged(e, err)
	}
	switch st.Kind {
	case stanza.Message:
		return message.Describe(st, e.Stanza), nil
	case stanza.Presence:
		if e.Type == Subscription {
			return SubscriptionData{
				From: st.From.String(), To: st.To.String(), Type: st.Type, Status: child(st, "status"), XML: string(e.Stanza),
			}, nil
		}
		return describePresence(st, e.Stanza), nil
	}
	d := IQData{ID: st.ID, From: st.From.String(), To: st.To.String(), Type: st.Type, XML: string(e.Stanza)}
	if c, ok := st.First(); ok {
		d.PayloadNamespace, d.PayloadName = c.Space, c.Local
	}
	return d, nil
}

func describePresence(st *stanza.Stanza, doc []byte) PresenceData {
	d := PresenceData{
		From: st.From.String(), To: st.To.String(), Type: st.Type, Status: child(st, "status"), XML: string(doc),
	}
	if d.Type == "" {
		d.Type = "available"
	}
	// RFC 6121 §4.7.2.1, §4.7.2.3: what is none of the values is as good as absent.
	switch show := child(st, "show"); show {
	case "away", "chat", "dnd", "xa":
		d.Show = show
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(child(st, "priority")), 10, 8); err == nil {
		d.Priority = int(n)
	}
	return d
}

func child(st *stanza.Stanza, name string) string {
	c, ok := st.Child(stanza.NSClient, name)
	if !ok {
		return ""
	}
	return c.Element().Text()
}
