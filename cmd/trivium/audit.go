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
