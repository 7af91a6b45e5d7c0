package webhook

import (
	"context"

	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/event"
)

// gateway is the least that a gateway domain does: what comes goes into the log.
type gateway struct{ w *Service }

// serve hands the domains of w's endpoints over to it.
func serve(r *router.Router, w *Service) {
	for _, i := range w.Endpoints() {
		for domain := range w.find(i.Endpoint.Name).def.Load().domains {
			r.Serve(domain, gateway{w})
		}
	}
}

// Handle implements router.Handler.
func (g gateway) Handle(_ context.Context, p *router.Packet) error {
	st := p.Stanza
	if st.Kind != stanza.Message {
		return nil
	}
	if has, _ := g.w.Up(st.To.Domain()); !has {
		if st.Type == stanza.TypeError {
			return nil
		}
		return stanza.Err(stanza.ServiceUnavailable, "the gateway is out of service")
	}
	if err := g.w.opts.Log.Append(event.Of(event.Message, st.To.Domain(), st), p.Receipt); err != nil {
		return &stanza.Error{Condition: stanza.ResourceConstraint, Text: "too much is waiting for the gateway", Cause: err}
	}
	return nil
}
