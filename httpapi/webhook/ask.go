package webhook

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/sony/gobreaker/v2"

	"trivium/core/stanza"
	"trivium/httpapi/event"
)

// Asks tells whether an endpoint answers what is sent to one of our domains at once.
func (s *Service) Asks(host string) bool { return s.asked(host) != nil }

// asked returns the endpoint that answers for a host: the one whose domain it is
// before those that get its events among others.
func (s *Service) asked(host string) (found *endpoint) {
	for _, e := range *s.list.Load() {
		d := e.def.Load()
		if !d.Sync || d.Silent || e.gone.Load() || !d.serves(host) {
			continue
		}
		if d.domains[host] {
			return e
		}
		if found == nil {
			found = e
		}
	}
	return found
}

// Ask posts an event at once, outside the log and the outbox, to the endpoint that
// answers for the event's host, and returns the stanzas that its response holds. ok
// tells whether there is such an endpoint: one with Sync that is not Silent, and whose
// Filter takes the event. An iq request has exactly one answer, and a registration none: it
// takes place unless there is an error. The error is a *stanza.Error for the sender:
// remote-server-timeout when the endpoint gives no answer in time, what its status code
// stands for, or for a registration what the Answer says.
//
// ev gets a number and a time if it has none. Ask waits, for as long as ctx and the
// endpoint's Timeout let it.
func (s *Service) Ask(ctx context.Context, ev *event.Event) (replies []*stanza.Stanza, ok bool, err error) {
	e := s.asked(ev.Host)
	if e == nil {
		return nil, false, nil
	}
	d := e.def.Load()
	if !d.Filter.Match(ev) {
		return nil, false, nil
	}
	select {
	case e.asking <- struct{}{}:
		defer func() { <-e.asking }()
	case <-ctx.Done():
		return nil, true, stanza.Err(stanza.RemoteServerTimeout, "the gateway has too much to do")
	}
	tell, err := e.breaker.Load().Allow()
	if err == gobreaker.ErrOpenState || err == gobreaker.ErrTooManyRequests {
		return nil, true, stanza.Err(stanza.RemoteServerTimeout, "the gateway does not answer")
	}
	s.number(ev)
	rs, err := e.request(ctx, d, ev)
	v, _, health := judge(ctx, rs, err)
	tell(health)
	e.stats.asked.Add(1)
	switch v {
	case taken:
	case gone:
		e.goneBy(d)
		return nil, true, stanza.Err(stanza.ServiceUnavailable, "the gateway is out of service")
	default:
		e.stats.failed.Add(1)
		return nil, true, refusalOf(rs.code)
	}
	switch {
	case err != nil:
	case ev.Type == event.Registration:
		err = refuses(rs)
		var told *stanza.Error
		if errors.As(err, &told) {
			return nil, true, told
		}
	default:
		replies, err = e.replies(d, ev, rs)
	}
	if err != nil {
		e.warnings.warn(e, "the answer of a webhook cannot be used", "id", ev.ID(), "err", err)
		return replies, true, stanza.Err(stanza.UndefinedCondition, "the gateway's answer cannot be used")
	}
	if ev.Type == event.IQ && len(replies) == 0 {
		// RFC 6120 §8.2.3: a request is always answered. Nothing said is nothing to say.
		if st, err := stanza.ParseDocument(ev.Stanza); err == nil && (st.Type == stanza.Get || st.Type == stanza.Set) {
			replies = append(replies, st.Result(nil))
		}
	}
	return replies, true, nil
}

// goneBy notes that the endpoint answered 410 while it was d.
func (e *endpoint) goneBy(d *definition) {
	if e.def.Load() != d || e.gone.Swap(true) {
		return
	}
	e.service.disable(e)
	e.service.log.Warn("a webhook answered 410 Gone and gets nothing more", "webhook", e.name)
	e.mail.notify()
}

// refusalOf is what the sender of a stanza is told when an endpoint that was asked
// answers with a status code, or with none.
func refusalOf(code int) *stanza.Error {
	condition := stanza.RemoteServerTimeout // RFC 6120 §8.3.3.17: it cannot be reached in time
	switch {
	case code == 0, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		condition = stanza.Forbidden
	case code == http.StatusNotFound:
		condition = stanza.ItemNotFound
	case code == http.StatusMethodNotAllowed:
		condition = stanza.NotAllowed
	case code == http.StatusNotAcceptable, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		condition = stanza.NotAcceptable
	case code == http.StatusConflict:
		condition = stanza.Conflict
	case code == http.StatusRequestEntityTooLarge, code == http.StatusTooManyRequests:
		condition = stanza.ResourceConstraint
	case code == http.StatusNotImplemented:
		condition = stanza.FeatureNotImplemented
	case code >= 500:
		condition = stanza.InternalServerError
	case code >= 400:
		condition = stanza.BadRequest
	default: // a redirect
		condition = stanza.UndefinedCondition
	}
	text := "the gateway does not answer"
	if code != 0 {
		text = strings.ToLower(http.StatusText(code))
		if text == "" {
			text = "refused by the gateway"
		}
	}
	return stanza.Err(condition, text)
}
