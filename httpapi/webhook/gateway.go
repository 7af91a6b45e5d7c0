package webhook

import (
	"context"

	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/event"
)

// Namespaces that a gateway domain answers itself.
const (
	nsDiscoInfo  = "http://jabber.org/protocol/disco#info"
	nsDiscoItems = "http://jabber.org/protocol/disco#items"
	nsPing       = "urn:xmpp:ping"
)

// gateway is the handler of an endpoint's domain that nobody else serves: messages
// go into the log.
type gateway struct {
	service *Service
	e       *endpoint
}

// Handle implements router.Handler.
func (g gateway) Handle(ctx context.Context, p *router.Packet) error {
	st := p.Stanza
	switch st.Kind {
	case stanza.Message:
		return g.message(p)
	case stanza.IQ:
		if st.Type != stanza.Get && st.Type != stanza.Set {
			return nil // we ask nothing
		}
		payload, err := g.answer(st)
		if err != nil {
			return err
		}
		if err := g.service.opts.Router.Send(ctx, p.Turn, st.Result(payload), nil); err != nil {
			g.service.log.Debug("an answer found nobody", "to", st.From.String(), "err", err)
		}
	}
	return nil // presence: nobody here has any
}

func (g gateway) message(p *router.Packet) error {
	if g.e.gone.Load() {
		if p.Stanza.Type == stanza.TypeError {
			return nil
		}
		return stanza.Err(stanza.ServiceUnavailable, "the gateway is out of service")
	}
	if err := g.service.opts.Log.Append(event.Of(event.Message, p.Stanza.To.Domain(), p.Stanza), p.Receipt); err != nil {
		return &stanza.Error{Condition: stanza.ResourceConstraint, Text: "too much is waiting for the gateway", Cause: err}
	}
	return nil
}

// answer is what a gateway domain and its addresses say of themselves.
func (g gateway) answer(st *stanza.Stanza) (stanza.Payload, error) {
	child, ok := st.First()
	if !ok || st.Len() != 1 {
		return nil, &stanza.Error{Condition: stanza.BadRequest} // RFC 6120 §8.2.3
	}
	if st.Type == stanza.Get {
		switch {
		case child.Is(nsDiscoInfo, "query"):
			if child.Element().Attr("node") != "" {
				return nil, &stanza.Error{Condition: stanza.ItemNotFound} // XEP-0030 §7
			}
			identity := stanza.El(nsDiscoInfo, "identity")
			if st.To.Local() == "" {
				identity.Set("category", "gateway").Set("type", "http-ws")
			} else {
				identity.Set("category", "client").Set("type", "bot")
			}
			return stanza.El(nsDiscoInfo, "query", identity,
				stanza.El(nsDiscoInfo, "feature").Set("var", nsDiscoInfo),
				stanza.El(nsDiscoInfo, "feature").Set("var", nsDiscoItems),
				stanza.El(nsDiscoInfo, "feature").Set("var", nsPing)), nil
		case child.Is(nsDiscoItems, "query"):
			return stanza.El(nsDiscoItems, "query"), nil
		case child.Is(nsPing, "ping"):
			return nil, nil // XEP-0199 §4.2
		}
	}
	return nil, &stanza.Error{Condition: stanza.ServiceUnavailable} // RFC 6120 §8.4
}
