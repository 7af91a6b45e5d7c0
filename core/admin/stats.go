package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"trivium/core/auth"
	"trivium/core/c2s"
	"trivium/core/module"
	"trivium/core/store"
)

// Stats are figures of the server as it runs. Counts begin with its start.
type Stats struct {
	Version  string      `json:"version"`
	Started  time.Time   `json:"started"`
	Uptime   int64       `json:"uptime"` // seconds
	Sessions int         `json:"sessions"`
	Hosts    []HostStats `json:"hosts"`
	Stanzas  int64       `json:"stanzas"` // routed
	Clients  ClientStats `json:"clients"`
	Store    StoreStats  `json:"store"`
	Modules  Measures    `json:"modules"` // what modules measure, by the names of /metrics
}

// Measures are numbers by their names.
type Measures map[string]int64

// String has them in one line, for people.
func (m Measures) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(all, ", ")
}

// HostStats are those of one virtual host.
type HostStats struct {
	Host     string `json:"host"`
	Accounts int    `json:"accounts"`
}

// String is for people.
func (h HostStats) String() string { return fmt.Sprintf("%s: %d accounts", h.Host, h.Accounts) }

// ClientStats are those of the connections of clients.
type ClientStats struct {
	Streams       int64 `json:"streams"`    // open connections
	Hibernated    int64 `json:"hibernated"` // sessions that wait for their client
	Stanzas       int64 `json:"stanzas"`    // received
	Logins        int64 `json:"logins"`
	LoginsFailed  int64 `json:"logins_failed"`
	Resumed       int64 `json:"resumed"`
	ResumedFailed int64 `json:"resumed_failed"`
	StreamErrors  int64 `json:"stream_errors"`
}

// String is for people.
func (c ClientStats) String() string {
	return fmt.Sprintf("%d connections, %d sessions wait, %d stanzas, %d logins and %d failed, %d resumed and %d failed, %d stream errors",
		c.Streams, c.Hibernated, c.Stanzas, c.Logins, c.LoginsFailed, c.Resumed, c.ResumedFailed, c.StreamErrors)
}

// StoreStats are those of the database.
type StoreStats struct {
	Waiting      int   `json:"waiting"` // writes in the queue
	Transactions int64 `json:"transactions"`
	Writes       int64 `json:"writes"`
	WritesFailed int64 `json:"writes_failed"`
	Busy         int64 `json:"busy"` // milliseconds spent writing
}

// String is for people.
func (s StoreStats) String() string {
	return fmt.Sprintf("%d writes in %d transactions, %d failed, %d wait, %d ms", s.Writes, s.Transactions, s.WritesFailed, s.Waiting, s.Busy)
}

// StatsSources are what "stats" reads. All are needed, except Clients.
type StatsSources struct {
	Version string
	Started time.Time
	Users   *auth.Service
	Modules *module.Host
	Store   *store.DB
	Clients *c2s.Stats
}

// Figures declares the operation that shows the server's figures.
func Figures(s StatsSources) []Operation {
	return []Operation{{
		Name: "stats", ReadOnly: true, Help: "show the figures of the running server",
		Run: func(ctx context.Context, _ Args) (any, error) { return s.read(ctx) },
	}}
}

func (s *StatsSources) read(ctx context.Context) (*Stats, error) {
	mods, db := s.Modules, s.Store.Stats()
	out := &Stats{
		Version: s.Version, Started: s.Started.UTC().Truncate(time.Second), Uptime: int64(mods.Now().Sub(s.Started) / time.Second),
		Sessions: mods.Router.Sessions(), Hosts: []HostStats{}, Stanzas: mods.Router.Routed.Load(),
		Store: StoreStats{
			Waiting: db.Waiting, Transactions: db.Batches, Writes: db.Ops, WritesFailed: db.Failed, Busy: db.Busy.Milliseconds(),
		},
		Modules: Measures{},
	}
	for _, h := range mods.Hosts {
		n, err := s.Users.Count(ctx, h)
		if err != nil {
			return nil, err
		}
		out.Hosts = append(out.Hosts, HostStats{h, n})
	}
	if c := s.Clients; c != nil {
		out.Clients = ClientStats{
			Streams: c.Streams.Load(), Hibernated: c.Hibernated.Load(), Stanzas: c.Stanzas.Load(), Logins: c.Logins.Load(), LoginsFailed: c.LoginsBad.Load(),
			Resumed: c.Resumes.Load(), ResumedFailed: c.ResumesBad.Load(), StreamErrors: c.StreamFails.Load(),
		}
	}
	for _, f := range mods.Figures() {
		out.Modules[strings.TrimPrefix(f.Name, "trivium.")] = f.Read()
	}
	return out, nil
}
