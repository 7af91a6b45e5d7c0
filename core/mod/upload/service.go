package upload

import (
	"context"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/xdata"
)

// Namespaces that the service answers besides.
const (
	nsInfo  = "http://jabber.org/protocol/disco#info"
	nsItems = "http://jabber.org/protocol/disco#items"
	nsPing  = "urn:xmpp:ping"
)

// label is in front of the host in the address of its service. Clients look for
// the service among the items of their server (XEP-0363 §3); not all of them ask
// the server itself as well.
const label = "upload."

// dateTime is XEP-0082 §3.2.
const dateTime = "2006-01-02T15:04:05Z"

// service is the upload service of a host.
type service struct {
	m    *Module
	host string
}

func (m *Module) serve(host string) error {
	domain, err := jid.New("", label+host, "")
	if err != nil {
		return fmt.Errorf("upload: the service of %s: %w", host, err)
	}
	if m.host.Router.Serves(domain.Domain()) {
		return fmt.Errorf("upload: %s is the address of the service for uploads and cannot be another's", domain)
	}
	m.host.Router.Serve(domain.Domain(), service{m, host})
	return nil
}

// item is the service in the disco#items of its host.
func (m *Module) item(host string) module.Item {
	domain, _ := jid.New("", label+host, "") // as in serve
	return module.Item{JID: domain, Name: serviceName}
}

const serviceName = "HTTP File Upload"

// Handle implements router.Handler.
func (s service) Handle(ctx context.Context, p *module.Packet) error {
	st := p.Stanza
	switch {
	case st.Type == stanza.TypeError:
		return nil
	case st.Kind == stanza.Presence:
		return nil // it has none
	case st.Kind == stanza.Message:
		return stanza.Err(stanza.ServiceUnavailable, "nobody reads messages here")
	case st.Type != stanza.Get && st.Type != stanza.Set:
		return nil // it asks nothing
	}
	p.Turn.Flush() // the answer may wait for the store; nobody else should
	payload, err := s.answer(ctx, st)
	if err != nil {
		return err
	}
	reply := st.Result(payload)
	if p.Session != nil && p.Session.JID == st.From {
		p.Session.Deliver(p.Turn, reply, nil)
		return nil
	}
	if err := s.m.host.Router.Send(ctx, p.Turn, reply, nil); err != nil {
		s.m.host.Log.Debug("an answer found nobody", "to", st.From.String(), "err", err)
	}
	return nil
}

func (s service) answer(ctx context.Context, st *stanza.Stanza) (stanza.Payload, error) {
	child, ok := st.First()
	if !ok || st.Len() != 1 {
		return nil, &stanza.Error{Condition: stanza.BadRequest} // RFC 6120 §8.2.3
	}
	if !st.To.IsHost() || st.Type != stanza.Get {
		return nil, &stanza.Error{Condition: stanza.ServiceUnavailable} // RFC 6120 §8.4
	}
	switch {
	case child.Is(NS, "request"):
		return s.slot(ctx, st.From, child.Element())
	case child.Is(nsInfo, "query"), child.Is(nsItems, "query"):
		if child.Element().Attr("node") != "" {
			return nil, stanza.Err(stanza.ItemNotFound, "no such node") // XEP-0030 §7
		}
		if child.Is(nsItems, "query") {
			return stanza.El(nsItems, "query"), nil
		}
		return s.info(), nil
	case child.Is(nsPing, "ping"):
		return nil, nil
	}
	return nil, &stanza.Error{Condition: stanza.ServiceUnavailable}
}

// info is XEP-0363 §3, Example 4.
func (s service) info() stanza.Payload {
	q := stanza.El(nsInfo, "query",
		stanza.El(nsInfo, "identity").Set("category", "store").Set("type", "file").Set("name", serviceName))
	for _, f := range [...]string{nsInfo, nsItems, NS, NSPurpose + "#ephemeral", NSPurpose + "#message", nsPing} {
		q.Add(stanza.El(nsInfo, "feature").Set("var", f))
	}
	return q.Add(xdata.New(
		xdata.Result, NS,
		xdata.Field{Var: "max-file-size", Values: []string{strconv.FormatInt(s.m.opt.MaxSize, 10)}},
	).Element())
}

// slot answers a request for a slot, XEP-0363 §4.
func (s service) slot(ctx context.Context, from jid.JID, el *stanza.Element) (stanza.Payload, error) {
	owner := from.Bare()
	if owner.Local() == "" || !s.m.host.Router.Hosts(owner.Domain()) {
		return nil, stanza.Err(stanza.Forbidden, "only accounts of this server can upload files")
	}
	want, err := parseRequest(el, s.m.host.Now())
	if err != nil {
		return nil, err
	}
	want.Owner = owner
	slot, err := s.m.Slot(ctx, want)
	if err != nil {
		return nil, err
	}
	put, get := slot.URLs(s.m.opt.URL(s.host))
	return stanza.El(NS, "slot",
		stanza.El(NS, "put").Set("url", put),
		stanza.El(NS, "get").Set("url", get)), nil
}

// parseRequest reads <request/>.
func parseRequest(el *stanza.Element, now time.Time) (f File, err error) {
	bad := func(text string) (File, error) { return File{}, stanza.Err(stanza.BadRequest, text) }
	if f.Name = CleanName(el.Attr("filename")); el.Attr("filename") == "" {
		return bad("the file has no name")
	}
	// §14: xs:positiveInteger.
	digits := strings.TrimPrefix(strings.TrimSpace(el.Attr("size")), "+")
	if f.Size, err = strconv.ParseInt(digits, 10, 64); err != nil || f.Size <= 0 {
		return bad("the size is not a number of octets")
	}
	if f.Type, err = CleanType(el.Attr("content-type")); err != nil {
		return bad("the content type is none")
	}
	// §6: without a purpose, and with one that was not announced, it is a message.
	if e := el.Child(NSPurpose, "ephemeral"); e != nil {
		t, err := time.Parse(time.RFC3339, strings.TrimSpace(e.Attr("expire-before")))
		if err != nil {
			return bad("expire-before is not a time")
		}
		if !t.After(now) {
			return bad("expire-before is over")
		}
		// Times behind what fits into a number of milliseconds are as good as none.
		if t.Year() < 10_000 {
			f.Expires = t
		}
	}
	return f, nil
}

// maxType bounds a content type, in octets.
const maxType = 255

// CleanType returns a content type as it may stand in a header, empty for an empty
// one. The error says that it is none.
func CleanType(v string) (string, error) {
	if v = strings.TrimSpace(v); v == "" {
		return "", nil
	}
	kind, params, err := mime.ParseMediaType(v)
	if err != nil || !strings.Contains(kind, "/") || len(v) > maxType {
		return "", fmt.Errorf("upload: not a content type: %w", err)
	}
	clean := mime.FormatMediaType(kind, params)
	if clean == "" || len(clean) > maxType {
		return "", fmt.Errorf("upload: not a content type")
	}
	return clean, nil
}

// tooLarge is <file-too-large/>, XEP-0363 §7.
type tooLarge struct{ max int64 }

// AppendXML implements stanza.Payload.
func (t tooLarge) AppendXML(dst []byte) []byte {
	return stanza.El(NS, "file-too-large", stanza.TextEl(NS, "max-file-size", strconv.FormatInt(t.max, 10))).AppendXML(dst)
}

// retry is <retry/>, XEP-0363 §7.
type retry struct{ at time.Time }

// AppendXML implements stanza.Payload.
func (r retry) AppendXML(dst []byte) []byte {
	return stanza.El(NS, "retry").Set("stamp", r.at.UTC().Format(dateTime)).AppendXML(dst)
}
