package httpapi

import (
	"net/http"
	"slices"
	"time"

	"trivium/core/auth"
	"trivium/core/router"
)

// ServerStats is what the server counts.
type ServerStats struct {
	Version  string      `json:"version" doc:"The server's version."`
	Started  time.Time   `json:"started" doc:"When it was started."`
	Hosts    []HostStats `json:"hosts" nullable:"false" doc:"The virtual hosts that the token administers."`
	Sessions int         `json:"sessions" doc:"Sessions on these hosts."`
	// For admin:* alone.
	Routed  *int64       `json:"stanzas_routed,omitempty" doc:"Stanzas routed since then; with admin:* only."`
	REST    *SendStats   `json:"rest,omitempty" doc:"Requests to send; with admin:* only."`
	Store   *StoreStats  `json:"store,omitempty" doc:"What is written to disk; with admin:* only."`
	Figures []FigureStat `json:"figures,omitempty" nullable:"false" doc:"What the parts of the server count; with admin:* only."`
}

// HostStats are those of one virtual host.
type HostStats struct {
	Host     string `json:"host" format:"xmpp-domain" doc:"Its domain."`
	Accounts int    `json:"accounts" doc:"Accounts in the server's own table."`
	Online   int    `json:"online" doc:"Accounts with sessions."`
	Sessions int    `json:"sessions" doc:"Sessions."`
}

// SendStats are Stats.
type SendStats struct {
	Accepted int64 `json:"accepted" doc:"Answered with 2xx."`
	Refused  int64 `json:"refused" doc:"Answered with 4xx."`
	Failed   int64 `json:"failed" doc:"Answered with 5xx."`
}

// StoreStats are those of the writer.
type StoreStats struct {
	Waiting int   `json:"waiting" doc:"Writes that wait now."`
	Batches int64 `json:"batches" doc:"Transactions."`
	Ops     int64 `json:"operations" doc:"Writes."`
	Failed  int64 `json:"failed" doc:"Writes that failed."`
}

// FigureStat is a number that a part of the server keeps.
type FigureStat struct {
	Name  string `json:"name" doc:"Its name, as among the metrics." example:"trivium.archive.messages"`
	Unit  string `json:"unit" doc:"Its unit (UCUM)." example:"{message}"`
	Text  string `json:"text" doc:"What it is."`
	Value int64  `json:"value" doc:"The number."`
}

func (a *API) statsRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/stats", id: "get-stats", summary: "Show what the server counts",
		text: "Needs `admin:*`; a token with `admin:HOST` is told of its hosts.", gives: ServerStats{}, do: (*call).getStats,
	}}
}

func (c *call) getStats() (any, error) {
	if err := c.administers(); err != nil {
		return nil, err
	}
	out := &ServerStats{Version: c.opts.Version, Started: c.started.UTC().Truncate(time.Second), Hosts: []HostStats{}}
	at := map[string]int{}
	for _, h := range slices.Sorted(slices.Values(c.opts.Hosts)) {
		if !c.token.MayAdmin(h) {
			continue
		}
		n, err := c.opts.Auth.Count(c.r.Context(), h)
		if err != nil {
			return nil, err
		}
		at[h] = len(out.Hosts)
		out.Hosts = append(out.Hosts, HostStats{Host: h, Accounts: n})
	}
	c.opts.Router.Accounts(func(acc *router.Account) bool {
		if i, ok := at[acc.Bare.Domain()]; ok {
			if n := len(acc.Sessions()); n > 0 {
				out.Hosts[i].Online++
				out.Hosts[i].Sessions += n
				out.Sessions += n
			}
		}
		return true
	})
	if !c.token.MayAdmin(auth.AnyHost) {
		return out, nil
	}
	routed := c.opts.Router.Routed.Load()
	out.Routed = &routed
	out.REST = &SendStats{c.Stats.Accepted.Load(), c.Stats.Refused.Load(), c.Stats.Failed.Load()}
	if c.opts.Store != nil {
		s := c.opts.Store.Stats()
		out.Store = &StoreStats{s.Waiting, s.Batches, s.Ops, s.Failed}
	}
	for _, f := range c.opts.Figures {
		out.Figures = append(out.Figures, FigureStat{f.Name, f.Unit, f.Text, f.Read()})
	}
	return out, nil
}
