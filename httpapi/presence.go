package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"trivium/bridges/cpim"
	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
	"trivium/httpapi/message"
)

// Presences holds the presence of addresses that programs speak for: accounts and
// contacts of gateways. It has to be safe for concurrent use. Errors that are a
// *stanza.Error are told to the client.
type Presences interface {
	// Set replaces the presence of an address; nil: unavailable. The stanza needs no
	// addresses. It returns when contacts have been told, or will be.
	Set(ctx context.Context, j jid.JID, st *stanza.Stanza) error
	// Get returns the presence of every available resource, each from its full address,
	// in any order; of a full address the one that it has, if any. A presence of the bare
	// address comes from that.
	Get(ctx context.Context, j jid.JID) ([]*stanza.Stanza, error)
}

// PresenceState is what contacts see of an address.
type PresenceState struct {
	JID       string             `json:"jid" format:"xmpp-jid" doc:"The address that was asked for."`
	Available bool               `json:"available" doc:"Whether anything of it is."`
	Resources []ResourcePresence `json:"resources" nullable:"false" doc:"What is available, by address."`
}

// ResourcePresence is the presence of one resource.
type ResourcePresence struct {
	JID string `json:"jid" format:"xmpp-jid" doc:"The full address, or the bare one of a contact without resources."`
	PresenceFields
}

// PresenceFields is what a presence says (RFC 6121 §4.7).
type PresenceFields struct {
	Show     string            `json:"show,omitempty" enum:"away,chat,dnd,xa" doc:"Nothing means plainly available."`
	Status   string            `json:"status,omitempty" maxLength:"4096" doc:"A text for people."`
	Statuses map[string]string `json:"statuses,omitempty" doc:"The text in further languages, by language tag."`
	Lang     string            `json:"lang,omitempty" maxLength:"35" pattern:"^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$" doc:"The language of status."`
	Priority int               `json:"priority,omitempty" minimum:"-128" maximum:"127" doc:"Which resource messages go to. An account for which a program speaks takes none: there it is negative in any case."`
}

// PresenceRequest is the presence that an address is to have.
type PresenceRequest struct {
	Available *bool `json:"available,omitempty" default:"true" doc:"false ends the presence, as DELETE does."`
	PresenceFields
	Extensions string `json:"extensions,omitempty" doc:"Further child elements of the presence, as XML."`
}

func (a *API) presenceRoutes() []route {
	if a.opts.Messages.Presences == nil {
		return nil
	}
	no := map[int]string{404: "There is no such address.", 501: "Presence cannot be set for addresses of this kind."}
	return []route{{
		method: http.MethodGet, path: "/presence/{jid}", slashes: true, id: "get-presence", summary: "Read the presence of an address",
		text:  "For addresses that the token may speak for or read. As application/pidf+xml, the document of RFC 3863 that RFC 3922 maps the presence to.",
		gives: PresenceState{}, types: []string{jsonType, pidfType}, versioned: true, also: no,
		do: (*call).getPresence,
	}, {
		method: http.MethodDelete, path: "/presence/{jid}", slashes: true, id: "delete-presence", summary: "Make an address unavailable",
		versioned: true, do: (*call).deletePresence,
		also: map[int]string{404: no[404], 409: "A client has this resource.", 422: "Addresses of this kind have no presence of their own.", 501: no[501]},
	}}
}

// target is the address in the path.
func (c *call) target() (jid.JID, error) {
	j, err := jid.Parse(param(c.r, "*"))
	if err != nil {
		return j, problem(http.StatusNotFound, "The path does not hold an address.")
	}
	return j, nil
}

// state reads the presence of an address.
func (c *call) state(j jid.JID) (*PresenceState, []*stanza.Stanza, error) {
	list, err := c.opts.Messages.Presences.Get(c.r.Context(), j)
	if err != nil {
		return nil, nil, err
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *stanza.Stanza) int { return strings.Compare(a.From.String(), b.From.String()) })
	s := &PresenceState{JID: j.String(), Resources: []ResourcePresence{}}
	for _, st := range list {
		if st.Kind == stanza.Presence && st.Type == "" {
			s.Resources = append(s.Resources, ResourcePresence{st.From.String(), fieldsOf(st)})
		}
	}
	s.Available = len(s.Resources) > 0
	return s, list, nil
}

// fieldsOf reads a presence.
func fieldsOf(st *stanza.Stanza) PresenceFields {
	f := PresenceFields{Lang: st.Lang}
	st.Each(func(ch stanza.Child) bool {
		if ch.Space != stanza.NSClient {
			return true
		}
		switch el := ch.Element(); ch.Local {
		case "show":
			if s := strings.TrimSpace(el.Text()); slices.Contains(shows, s) && f.Show == "" {
				f.Show = s
			}
		case "status":
			lang := ""
			for _, at := range el.Attrs {
				if at.Local == "lang" && at.Space == stanza.NSXML {
					lang = at.Value
				}
			}
			switch {
			case lang == "" && f.Status == "":
				f.Status = el.Text()
			case lang != "":
				if f.Statuses == nil {
					f.Statuses = map[string]string{}
				}
				f.Statuses[lang] = el.Text()
			}
		case "priority":
			if n, err := strconv.ParseInt(strings.TrimSpace(el.Text()), 10, 8); err == nil {
				f.Priority = int(n)
			}
		}
		return true
	})
	return f
}

var shows = []string{"away", "chat", "dnd", "xa"} // RFC 6121 §4.7.2.1

// tags returns the validators of both representations.
func (c *call) tags(j jid.JID, s *PresenceState, list []*stanza.Stanza) ([]string, error) {
	body, err := encodeJSON(s)
	if err != nil {
		return nil, err
	}
	tags := []string{etagOf(body)}
	if doc, err := c.document(j, list); err == nil {
		tags = append(tags, etagOf(doc))
	}
	return tags, nil
}

// unchanged checks If-Match and If-None-Match (RFC 9110 §13.2.2). An address always
// has a presence, be it that it is unavailable.
func (c *call) unchanged(j jid.JID) error {
	match, none := c.r.Header["If-Match"], c.r.Header["If-None-Match"]
	if len(match) == 0 && len(none) == 0 {
		return nil
	}
	s, list, err := c.state(j)
	if err != nil {
		return err
	}
	tags, err := c.tags(j, s, list)
	if err != nil {
		return err
	}
	has := func(lines []string, strong bool) bool {
		return slices.ContainsFunc(tags, func(tag string) bool { return tagged(lines, tag, strong) })
	}
	if len(match) > 0 && !has(match, true) || len(match) == 0 && has(none, false) {
		return problem(http.StatusPreconditionFailed, "The presence is not, or no longer, what the request says.")
	}
	return nil
}

func (c *call) getPresence() (any, error) {
	j, err := c.target()
	if err != nil {
		return nil, err
	}
	if !c.token.MaySend(j) && !c.token.MayRead(j) {
		return nil, noScope(c.w, "The token may not see the presence of this address.", readOf(j))
	}
	s, list, err := c.state(j)
	if err != nil {
		return nil, err
	}
	if media, _ := preferred(c.r, []string{jsonType, pidfType}); media == pidfType {
		doc, err := c.document(j, list)
		if err != nil {
			return nil, err
		}
		return c.show(doc), nil
	}
	c.w.Header()["Vary"] = append(c.w.Header()["Vary"], "Accept")
	return s, nil
}

// show answers with a presence document.
func (c *call) show(doc []byte) answered {
	h := c.w.Header()
	tag := etagOf(doc)
	h["Etag"], h["Cache-Control"] = []string{tag}, []string{"private, no-cache"}
	h["Vary"] = append(h["Vary"], "Accept")
	if none := c.r.Header["If-None-Match"]; c.r.Method != http.MethodPut && len(none) > 0 && tagged(none, tag, false) {
		c.w.WriteHeader(http.StatusNotModified)
		return answered{}
	}
	respond(c.w, http.StatusOK, pidfType, doc)
	return answered{}
}

// document maps presence to a PIDF document (RFC 3922 §5.1). It has no timestamps,
// so that nothing but a change changes it.
func (c *call) document(j jid.JID, list []*stanza.Stanza) ([]byte, error) {
	p, err := c.opts.Messages.CPIM.Presentity(j)
	if err != nil {
		return nil, err
	}
	now := time.Unix(0, 0)
	for _, st := range list {
		p.Update(st, now)
	}
	doc := p.Document(now)
	for i := range doc.Tuples {
		doc.Tuples[i].Timestamp = time.Time{}
	}
	return doc.AppendTo(nil)
}

func (c *call) deletePresence() (any, error) {
	j, err := c.mine()
	if err != nil {
		return nil, err
	}
	defer c.edits.lock(j.String())()
	if err := c.unchanged(j); err != nil {
		return nil, err
	}
	return nil, c.opts.Messages.Presences.Set(c.r.Context(), j, nil)
}

// mine is the address in the path, which the token may speak for.
func (c *call) mine() (jid.JID, error) {
	j, err := c.target()
	if err != nil {
		return j, err
	}
	return j, c.maySend(c.w, c.r, &c.token, j)
}

// putPresence is PUT /presence/{jid}. It is apart from the tables because of its two
// types of bodies.
func (a *API) putPresence(w http.ResponseWriter, r *http.Request) {
	c := &call{API: a, w: w, r: r}
	out, err := c.replacePresence()
	if err != nil {
		c.refuse(err)
		return
	}
	c.answer(&route{versioned: true}, out)
}

func (c *call) replacePresence() (any, error) {
	var p *Problem
	if c.token, p = c.authenticate(c.w, c.r); p != nil {
		return nil, p
	}
	types := []string{jsonType, pidfType}
	media, ok := preferred(c.r, types)
	if !ok {
		return nil, problem(http.StatusNotAcceptable, "The answer comes as "+strings.Join(types, " or ")+".")
	}
	j, err := c.mine()
	if err != nil {
		return nil, err
	}
	raw, err := c.readBody() // before others have to wait for us
	if err != nil {
		return nil, err
	}
	defer c.edits.lock(j.String())()
	if err := c.unchanged(j); err != nil {
		return nil, err
	}
	switch mediaType(c.r) {
	case jsonType:
		err = c.setJSON(j, raw)
	case pidfType:
		err = c.setDocument(j, string(raw))
	default:
		return nil, problem(http.StatusUnsupportedMediaType, "The presence comes as application/json or application/pidf+xml, in UTF-8.")
	}
	if err != nil {
		return nil, err
	}
	s, list, err := c.state(j)
	if err != nil {
		return nil, err
	}
	if media == pidfType {
		doc, err := c.document(j, list)
		if err != nil {
			return nil, err
		}
		return c.show(doc), nil
	}
	c.w.Header()["Vary"] = append(c.w.Header()["Vary"], "Accept")
	return s, nil
}

func (c *call) setJSON(j jid.JID, raw []byte) error {
	var in PresenceRequest
	if err := message.Decode(raw, &in); err != nil {
		return err
	}
	st, err := in.stanza(j, c.opts.Limits)
	if err != nil {
		return err
	}
	return c.opts.Messages.Presences.Set(c.r.Context(), j, st)
}

// stanza makes the presence; nil: unavailable.
func (in *PresenceRequest) stanza(from jid.JID, limits wire.Limits) (*stanza.Stanza, error) {
	fail := func(field, reason string) error { return &message.FieldError{Field: field, Reason: reason} }
	said := in.Show != "" || in.Status != "" || len(in.Statuses) > 0 || in.Priority != 0 || in.Extensions != ""
	switch {
	case in.Available != nil && !*in.Available && said:
		return nil, fail("available", "is false, and the rest says something")
	case in.Available != nil && !*in.Available:
		return nil, nil
	case in.Show != "" && !slices.Contains(shows, in.Show):
		return nil, fail("show", "is not away, chat, dnd or xa")
	case in.Priority < -128 || in.Priority > 127: // RFC 6121 §4.7.2.3
		return nil, fail("priority", "is not from -128 to 127")
	case utf8.RuneCountInString(in.Status) > 4096:
		return nil, fail("status", "is too long")
	case !wire.ValidText(in.Status):
		return nil, fail("status", "has a character that XML cannot carry")
	case in.Lang != "" && !message.ValidLang(in.Lang):
		return nil, fail("lang", "is not a language tag")
	}
	var b []byte
	text := func(name, value string) *stanza.Element {
		if value == "" {
			return stanza.El(stanza.NSClient, name)
		}
		return stanza.TextEl(stanza.NSClient, name, value)
	}
	if in.Show != "" {
		b = text("show", in.Show).AppendXML(b)
	}
	if in.Status != "" {
		b = text("status", in.Status).AppendXML(b)
	}
	seen := map[string]bool{strings.ToLower(in.Lang): in.Lang != "" && in.Status != ""}
	for _, lang := range slices.Sorted(maps.Keys(in.Statuses)) {
		s := in.Statuses[lang]
		folded := strings.ToLower(lang)
		switch {
		case !message.ValidLang(lang):
			return nil, fail("statuses", "has a name that is not a language tag")
		case seen[folded]: // RFC 6121 §4.7.2.2
			return nil, fail("statuses", "has a language twice")
		case !wire.ValidText(s):
			return nil, fail("statuses", "has a character that XML cannot carry")
		}
		seen[folded] = true
		b = text("status", s).SetLang(lang).AppendXML(b)
	}
	if in.Priority != 0 {
		b = text("priority", strconv.Itoa(in.Priority)).AppendXML(b)
	}
	b = append(b, in.Extensions...)
	st, err := message.ParseStanza(wrap("presence", "", b), stanza.Presence, limits)
	if err != nil {
		return nil, fail("extensions", "is not well-formed XML, or not what XMPP allows")
	}
	st.From, st.Lang = from, in.Lang
	return st, nil
}

// setDocument takes a presence document over (RFC 3922 §5.2). For a bare address it
// is the full state: resources that it does not name become unavailable. For a full
// one it is the tuple of that resource, or the only one.
func (c *call) setDocument(j jid.JID, text string) error {
	doc, err := c.opts.Messages.CPIM.ReadPresence(text, j)
	if err != nil {
		p := cpimProblem(err)
		if told, ok := p.(*Problem); ok && told.Status == http.StatusBadRequest { //nolint:errorlint // as it was made
			told.Detail = "The document is not well-formed PIDF (RFC 3863), or about another address."
		}
		return p
	}
	set := c.opts.Messages.Presences.Set
	ctx := c.r.Context()
	var told cpim.Watched
	list := c.opts.Messages.CPIM.Notify(&told, cpim.Notification{From: j.Bare(), To: j.Bare(), Document: doc})
	if j.IsFull() {
		list = slices.DeleteFunc(list, func(st *stanza.Stanza) bool { return len(list) > 1 && st.From != j })
		if len(list) != 1 {
			return problem(http.StatusUnprocessableEntity, "The document has no tuple of this resource.")
		}
		return set(ctx, j, available(list[0], j))
	}
	_, before, err := c.state(j)
	if err != nil {
		return err
	}
	for _, st := range list {
		if err := set(ctx, st.From, available(st, st.From)); err != nil {
			return err
		}
	}
	for _, st := range before {
		if !slices.ContainsFunc(list, func(n *stanza.Stanza) bool { return n.From == st.From }) {
			if err := set(ctx, st.From, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// available returns the presence without recipient, nil for an unavailable one.
func available(st *stanza.Stanza, from jid.JID) *stanza.Stanza {
	if st.Type == stanza.Unavailable {
		return nil
	}
	return st.Readdressed(from, jid.JID{})
}

func (a *API) mountPresence(r chi.Router) {
	if a.opts.Messages.Presences != nil {
		r.Put("/presence/*", a.putPresence)
	}
}
