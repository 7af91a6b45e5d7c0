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

type auditCmd struct {
	List auditListCmd `cmd:"" help:"List who has changed what, the newest first."`
}

type auditListCmd struct {
	Who       string `help:"A token's id, a bare address, 'socket' or 'command line'."`
	Operation string `help:"An operation, such as 'user add', or its first word."`
	Subject   string `help:"What it was done to: an address, a host, an id."`
	Host      string `help:"Only what was done to addresses at this domain."`
	Since     string `placeholder:"WHEN" help:"2026-01-31T12:00:00Z, or how long ago: 24h, 7d."`
	Until     string `placeholder:"WHEN" help:"2026-01-31T12:00:00Z, or how long ago."`
	After     int64  `placeholder:"ID" help:"Begin behind this entry: the last one of the page before."`
	Limit     int    `default:"100" help:"The most entries to list."`
	JSON      bool   `help:"Print JSON."`
}

func (cmd *auditListCmd) Run(c *cli) error {
	args := admin.Args{"limit": fmt.Sprint(cmd.Limit)}
	for name, v := range map[string]string{
		"who": cmd.Who, "operation": cmd.Operation, "subject": cmd.Subject, "host": cmd.Host, "since": cmd.Since, "until": cmd.Until,
	} {
		if v != "" {
			args[name] = v
		}
	}
	if cmd.After != 0 {
		args["after"] = fmt.Sprint(cmd.After)
	}
	return c.operate("audit list", args, func(out json.RawMessage) error {
		if cmd.JSON {
			fmt.Println(strings.TrimSpace(string(out)))
			return nil
		}
		var page admin.AuditPage
		if err := json.Unmarshal(out, &page); err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTIME\tWHO\tFROM\tOPERATION\tSUBJECT\tOUTCOME\tARGUMENTS")
		for _, e := range page.Entries {
			who := e.Who
			if e.Name != "" {
				who += " (" + e.Name + ")"
			}
			var arguments []string
			for _, name := range slices.Sorted(maps.Keys(e.Arguments)) {
				arguments = append(arguments, fmt.Sprintf("%s=%q", name, e.Arguments[name]))
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Time.Format(time.RFC3339), who, e.Remote, e.Operation, e.Subject, e.Outcome, strings.Join(arguments, " "))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if page.Next != 0 {
			fmt.Fprintf(os.Stderr, "there are more: --after %d\n", page.Next)
		}
		return nil
	})
}

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

type userShowCmd struct {
	JID  string `arg:"" help:"Address of the account."`
	JSON bool   `help:"Print JSON."`
}

func (cmd *userShowCmd) Run(c *cli) error {
	return c.operate("user show", admin.Args{"jid": cmd.JID}, func(out json.RawMessage) error {
		if cmd.JSON {
			fmt.Println(strings.TrimSpace(string(out)))
			return nil
		}
		var u admin.UserDetails
		if err := json.Unmarshal(out, &u); err != nil {
			return err
		}
		fmt.Printf("jid           %s\ncreated       %s\npassword set  %s\nlast seen     %s\nclients       %d\nsessions      %d\n",
			u.JID, u.Created.Format(time.RFC3339), moment(u.PasswordSet), moment(u.LastSeen), u.Clients, u.Sessions)
		return nil
	})
}
