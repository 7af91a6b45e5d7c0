package webhook

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/message"
)

// maxReplies is how many messages one answer may hold.
const maxReplies = 64

// Answer is what an endpoint may answer with, as application/json. An answer of
// text/plain is the body of one reply.
type Answer struct {
	Reply    *Reply  `json:"reply,omitempty" doc:"One message back."`
	Messages []Reply `json:"messages,omitempty" maxItems:"64" doc:"Any number of messages, after reply."`
}

// Reply is a message.Draft whose addresses need not be told: it goes from the
// recipient of the message that was posted to its sender.
type Reply struct {
	From       string `json:"from,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Another address of the gateway than the one that was written to."`
	To         string `json:"to,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Another recipient than who wrote."`
	Type       string `json:"type,omitempty" enum:"chat,normal,headline,groupchat" doc:"The type of RFC 6121 section 5.2.2; that of the message by default."`
	Body       string `json:"body,omitempty" doc:"The text."`
	Subject    string `json:"subject,omitempty" doc:"The subject."`
	Thread     string `json:"thread,omitempty" maxLength:"1023" doc:"The thread; that of the message by default."`
	ID         string `json:"id,omitempty" maxLength:"1023" doc:"The stanza's id. By default it is made of the webhook-id, so that a repeated reply can be recognised."`
	Lang       string `json:"lang,omitempty" maxLength:"35" doc:"The language, a tag of RFC 5646."`
	Extensions string `json:"extensions,omitempty" doc:"Further child elements, as XML."`
	*message.Extras
}

// replies reads the messages in an answer. What cannot be sent is logged and
// left out: the endpoint would answer the same again.
func (e *endpoint) replies(st *stanza.Stanza, it *item, rs response) []*stanza.Stanza {
	log := e.service.log
	var a Answer
	switch {
	case len(rs.body) == 0:
		return nil
	case rs.media == "text/plain":
		if body := strings.TrimRight(string(rs.body), "\r\n"); body != "" {
			a.Reply = &Reply{Body: body}
		}
	case rs.media == "application/json":
		if err := message.DecodeLoose(rs.body, &a); err != nil {
			log.Warn("the answer of a webhook cannot be read", "webhook", e.Name, "id", it.id, "err", err)
			return nil
		}
	default:
		return nil
	}
	drafts := a.Messages
	if a.Reply != nil {
		drafts = append([]Reply{*a.Reply}, drafts...)
	}
	if len(drafts) == 0 {
		return nil
	}
	if st.Type == stanza.TypeError {
		// An error is not answered (RFC 6120 §8.3.1), or two could go on for ever.
		log.Warn("a webhook has answered an error with a message, which is dropped", "webhook", e.Name, "id", it.id)
		return nil
	}
	if len(drafts) > maxReplies {
		log.Warn("the answer of a webhook has too many messages", "webhook", e.Name, "id", it.id, "messages", len(drafts))
		drafts = drafts[:maxReplies]
	}
	var list []*stanza.Stanza
	for i := range drafts {
		reply, err := e.reply(st, it, message.Draft(drafts[i]), i)
		if err != nil {
			log.Warn("a reply of a webhook cannot be sent", "webhook", e.Name, "id", it.id, "err", err)
			continue
		}
		list = append(list, reply)
	}
	return list
}

// reply makes the stanza of one draft. Its id is made of the webhook-id, so that
// whoever gets it twice can tell.
func (e *endpoint) reply(st *stanza.Stanza, it *item, d message.Draft, n int) (*stanza.Stanza, error) {
	gateway := e.domains[st.To.Domain()]
	from, to := st.To, st.From
	if !gateway {
		from = from.Bare() // the account's answer, not that of one of its clients
	}
	if d.From != "" {
		other, err := message.Address("from", d.From)
		if err != nil {
			return nil, err
		}
		if other.Bare() != from.Bare() && !(gateway && e.domains[other.Domain()]) {
			return nil, &message.FieldError{Field: "from", Reason: "is not an address of this webhook"}
		}
		if gateway {
			from = other
		}
	}
	if d.To != "" {
		var err error
		if to, err = message.Address("to", d.To); err != nil {
			return nil, err
		}
	}
	if d.Type == "" && st.Type != stanza.Chat {
		d.Type = stanza.Normal
		if st.Type == stanza.GroupChat {
			d.Type = stanza.Chat // in private: only occupants speak in a room
		}
	}
	if d.Thread == "" && d.To == "" {
		d.Thread = text(st, "thread") // RFC 6121 §5.2.5
	}
	if d.ID == "" {
		d.ID = it.id + "-" + strconv.Itoa(n)
	}
	return d.Stanza(from, to, e.service.opts.Limits)
}

// deliver sends the replies and calls done once: when all are safe or refused,
// or with the reason why one is not safe.
func (e *endpoint) deliver(list []*stanza.Stanza, done func(error)) {
	if len(list) == 0 {
		done(nil)
		return
	}
	s := e.service
	var left atomic.Int32
	var failed atomic.Pointer[error]
	left.Store(int32(len(list)))
	var t router.Turn
	for _, st := range list {
		rc := router.NewReceipt(func(err error) {
			if err != nil {
				if refusal(err) == nil {
					failed.Store(&err)
				}
			}
			if left.Add(-1) == 0 {
				if p := failed.Load(); p != nil {
					done(*p)
				} else {
					done(nil)
				}
			}
		})
		rc.Prompt = true // the next post waits for this one
		err := s.opts.Router.Send(s.ctx, &t, st, rc)
		if err != nil && refusal(err) != nil {
			s.log.Debug("a reply of a webhook was refused", "webhook", e.Name, "err", err)
			s.opts.Router.Bounce(s.ctx, &t, st, err) // the gateway's user learns of it
			err = nil
		}
		rc.Release(err)
	}
	t.Flush()
}

// bounce tells the sender that a message to a gateway was given up. Watched
// accounts have got theirs.
func (e *endpoint) bounce(it *item) {
	st, err := stanza.ParseDocument(it.doc)
	if err != nil || !e.domains[st.To.Domain()] || st.Type == stanza.TypeError {
		return
	}
	var t router.Turn
	e.service.opts.Router.Bounce(e.service.ctx, &t, st, stanza.Err(stanza.RecipientUnavailable, "the gateway could not deliver the message"))
	t.Flush()
}

// refusal returns the stanza error that err is, or nil.
func refusal(err error) *stanza.Error {
	var e *stanza.Error
	if errors.As(err, &e) && e.Condition != stanza.InternalServerError {
		return e
	}
	return nil
}
