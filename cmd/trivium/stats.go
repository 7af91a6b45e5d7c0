package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"trivium/core/admin"
)

type statsCmd struct {
	JSON bool `help:"Print JSON."`
}

func (cmd *statsCmd) Run(c *cli) error {
	return c.operate("stats", admin.Args{}, func(out json.RawMessage) error {
		if cmd.JSON {
			fmt.Println(strings.TrimSpace(string(out)))
			return nil
		}
		var s admin.Stats
		if err := json.Unmarshal(out, &s); err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		row := func(name string, format string, v ...any) {
			fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, v...))
		}
		row("version", "%s", s.Version)
		row("started", "%s, %s ago", s.Started.Format(time.RFC3339), time.Duration(s.Uptime)*time.Second)
		for _, h := range s.Hosts {
			row("accounts at "+h.Host, "%d", h.Accounts)
		}
		row("sessions", "%d, of which %d wait for their clients", s.Sessions, s.Clients.Hibernated)
		row("connections", "%d", s.Clients.Streams)
		row("logins", "%d, and %d failed", s.Clients.Logins, s.Clients.LoginsFailed)
		row("stanzas", "%d received from clients, %d routed", s.Clients.Stanzas, s.Stanzas)
		row("writes", "%d in %d transactions, %d failed, %d wait", s.Store.Writes, s.Store.Transactions, s.Store.WritesFailed, s.Store.Waiting)
		for _, name := range slices.Sorted(maps.Keys(s.Modules)) {
			row(name, "%d", s.Modules[name])
		}
		return w.Flush()
	})
}
