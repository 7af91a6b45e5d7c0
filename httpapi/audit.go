package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/admin"
	"trivium/core/auth"
	"trivium/core/jid"
)

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	ID        int64             `json:"id" doc:"Its number."`
	Time      time.Time         `json:"time" doc:"When it was done."`
	Who       string            `json:"who" doc:"The id of a token, the address of a user, or a road without an address: socket, command line."`
	Name      string            `json:"name,omitempty" doc:"What people call that."`
	Remote    string            `json:"remote,omitempty" doc:"Where the request came from."`
	Operation string            `json:"operation" doc:"What was done." example:"user add"`
	Subject   string            `json:"subject,omitempty" doc:"What it was done to."`
	Arguments map[string]string `json:"arguments,omitempty" doc:"With what; secrets are hidden."`
	Outcome   string            `json:"outcome" doc:"ok, or why it was refused."`
	Own       bool              `json:"own,omitempty" doc:"By a user, on the own account."`
}

func (a *API) auditRoutes() []route {
	if a.opts.Operations == nil {
		return nil
	}
	text := func(name, text, format string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: text, Schema: &huma.Schema{Type: huma.TypeString, Format: format}}
	}
	return []route{{
		method: http.MethodGet, path: "/audit", id: "read-audit-log", summary: "Read the audit log",
		text: "Newest first: what operators, users and programs have changed, and what they were refused. Needs `admin:*`; with `host`, `admin:HOST`.",
		query: append([]*huma.Param{
			text("who", "Only what this token or user did.", ""),
			text("operation", "Only this operation, or those that begin with this word.", ""),
			text("subject", "Only what was done to this.", ""),
			text("host", "Only what was done to something at this host.", "xmpp-domain"),
			text("since", "Only what was done at this time or later.", "date-time"),
			text("until", "Only what was done before this time.", "date-time"),
		}, paging()...),
		gives: Page[AuditEntry]{}, do: (*call).readAudit,
	}}
}

func (c *call) readAudit() (any, error) {
	f := admin.Filter{Who: c.args.Get("who"), Operation: c.args.Get("operation"), Subject: c.args.Get("subject")}
	scope := auth.AnyHost
	if s := c.args.Get("host"); s != "" {
		j, err := jid.Parse(s)
		if err != nil || !j.IsHost() {
			if !c.token.MayAdmin(auth.AnyHost) {
				return nil, noScope(c.w, "The token may not administer this.")
			}
			return &Page[AuditEntry]{Items: []AuditEntry{}}, nil // nothing was done there
		}
		f.Host, scope = j.Domain(), j.Domain()
	}
	if err := c.mayAdmin(scope); err != nil {
		return nil, err
	}
	var err error
	for name, t := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if s := c.args.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return nil, badQuery(name, "is not a date and time of RFC 3339")
			}
		}
	}
	place, err := c.place()
	if err != nil {
		return nil, err
	}
	p := admin.Page{Limit: c.limit()}
	if place != "" {
		if p.After, err = strconv.ParseInt(place, 10, 64); err != nil || p.After <= 0 {
			return nil, badCursor("after")
		}
	}
	if c.opts.Operations.Audit == nil {
		return &Page[AuditEntry]{Items: []AuditEntry{}}, nil
	}
	list, next, err := c.opts.Operations.Audit.Read(c.r.Context(), f, p)
	if err != nil {
		return nil, err
	}
	page := &Page[AuditEntry]{Items: slices.Grow([]AuditEntry{}, len(list))}
	for _, e := range list {
		page.Items = append(page.Items, AuditEntry(e))
	}
	if next > 0 {
		page.Next = cursor(strconv.FormatInt(next, 10))
	}
	return page, nil
}

// audit notes a change that is no operation of core/admin.
func (c *call) audit(operation, subject string, args map[string]string, err error) {
	if c.opts.Operations == nil || c.opts.Operations.Audit == nil {
		return
	}
	by := caller(c.r, &c.token)
	e := admin.Entry{Who: by.Who, Name: by.Name, Remote: by.Remote, Operation: operation, Subject: subject, Arguments: args, Outcome: admin.Outcome(err)}
	if p, ok := err.(*Problem); ok { //nolint:errorlint // handlers return it as it is
		e.Outcome = p.Detail
	}
	c.opts.Operations.Audit.Record(c.r.Context(), e)
}
