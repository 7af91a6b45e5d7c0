package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/rsm"
	"trivium/httpapi/message"
)

// Archive is what keeps the messages of accounts: archive.Module.
type Archive interface {
	// Query reads a page. An error that is a *stanza.Error is the request's fault.
	Query(ctx context.Context, account jid.JID, q archive.Query) (*archive.Result, error)
}

// ArchivedMessage is a message in an archive.
type ArchivedMessage struct {
	ID        string       `json:"id" doc:"Its id in the archive (XEP-0359), by which pages are found."`
	Timestamp time.Time    `json:"timestamp" doc:"When the server took it."`
	Sent      bool         `json:"sent" doc:"The account itself has sent it."`
	Message   message.Data `json:"message" doc:"The message."`
}

// ArchivePage is a page of an archive.
type ArchivePage struct {
	Items    []ArchivedMessage `json:"items" nullable:"false" doc:"The messages, oldest first."`
	Next     string            `json:"next,omitempty" doc:"The parameter after of the next page; absent when no newer messages are known."`
	Previous string            `json:"previous,omitempty" doc:"The parameter before of the page before; absent when there are no older messages."`
}

func (a *API) archiveRoutes() []route {
	if a.opts.Archive == nil {
		return nil
	}
	text := func(name, text, format string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: text, Schema: &huma.Schema{Type: huma.TypeString, Format: format}}
	}
	return []route{{
		method: http.MethodGet, path: "/accounts/{account}/archive", id: "query-archive", summary: "Read the archive of an account",
		text: "What XEP-0313 keeps. Without `after` and `before`, the page begins with the oldest message. Needs a scope to read what is the account's: `admin:HOST` is not enough.",
		query: []*huma.Param{
			text("with", "Only messages exchanged with this address; a bare one stands for all its resources.", "xmpp-jid"),
			text("start", "Only messages of this time or later.", "date-time"),
			text("end", "Only messages of this time or earlier.", "date-time"),
			text("q", "Only messages with these words, where the server searches archives (XEP-0431).", "search"),
			paging()[0],
			text("after", "The id of a message: the page is behind it.", "archive-id"),
			text("before", "The id of a message: the page is in front of it, and of what `after` excludes. Empty: the newest page.", "archive-id"),
		},
		gives: ArchivePage{},
		also: map[int]string{
			403: "The token lacks a scope, which `WWW-Authenticate` names; or the query asks for too much.",
			404: "There is no such account, or no message of that id.", 501: "Archives cannot be searched here.",
		},
		do: (*call).queryArchive,
	}}
}

func (c *call) queryArchive() (any, error) {
	account, err := c.account()
	if err != nil {
		return nil, err
	}
	if !c.token.MayRead(account) {
		return nil, noScope(c.w, "The token may not see the messages of this account.", readOf(account))
	}
	if err := c.exists(account); err != nil {
		return nil, err
	}
	q := archive.Query{Text: c.args.Get("q"), Page: rsm.Request{Max: c.limit(), HasMax: true}}
	if s := c.args.Get("with"); s != "" {
		if q.With, err = jid.Parse(s); err != nil {
			return nil, badQuery("with", "is not an address")
		}
	}
	for name, t := range map[string]*time.Time{"start": &q.Start, "end": &q.End} {
		if s := c.args.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return nil, badQuery(name, "is not a date and time of RFC 3339")
			}
		}
	}
	if c.args.Has("before") {
		q.Page.Backwards, q.Page.Before = true, c.args.Get("before")
		q.After = c.args.Get("after") // a bound, not where the page begins
	} else {
		q.Page.After = c.args.Get("after")
	}
	res, err := c.opts.Archive.Query(c.r.Context(), account, q)
	if err != nil {
		return nil, err
	}
	page := &ArchivePage{Items: make([]ArchivedMessage, 0, len(res.Items))}
	for i := range res.Items {
		it := &res.Items[i]
		page.Items = append(page.Items, ArchivedMessage{
			ID: it.ID, Timestamp: it.Time.UTC(), Sent: it.Sent, Message: message.Describe(it.Stanza, it.Stanza.AppendDocument(nil)),
		})
	}
	if n := len(page.Items); n > 0 {
		first, last := page.Items[0].ID, page.Items[n-1].ID
		more := !res.Complete // the way that the page goes
		if q.Page.Backwards {
			page.Previous, page.Next = when(more, first), when(q.Page.Before != "", last)
		} else {
			page.Next, page.Previous = when(more, last), when(q.Page.After != "", first)
		}
	}
	return page, nil
}

func when(ok bool, s string) string {
	if !ok {
		return ""
	}
	return s
}

// badQuery is the problem of a parameter that its schema cannot tell.
func badQuery(name, text string) error {
	p := problem(http.StatusBadRequest, "The query is not as it should be.")
	p.Errors = []Fault{{"query." + name, text}}
	return p
}
