package admin

import (
	"context"
	"strconv"
	"time"

	"trivium/core/jid"
)

// AuditPage is a part of the audit log, the newest entry first.
type AuditPage struct {
	Entries []Entry `json:"entries"`
	Next    int64   `json:"next,omitempty"` // "after" of the next page; 0: this is the last
}

// AuditLog declares the operation that reads the audit log.
func AuditLog(log *Audit) []Operation {
	return []Operation{{
		Name: "audit list", ReadOnly: true, Help: "list who has changed what, the newest first", Args: []Arg{
			{Name: "who", Help: "a token's id, a bare address, or socket"},
			{Name: "operation", Help: "an operation, such as user add, or its first word"},
			{Name: "subject", Help: "what it was done to: an address, a host, an id"},
			{Name: "host", Help: "only what was done to addresses at this domain"},
			{Name: "since", Help: "a date and time (RFC 3339), or how long ago, such as 24h or 7d"},
			{Name: "until", Help: "a date and time (RFC 3339), or how long ago"},
			{Name: "after", Help: "begin behind this entry: the last one of the page before"},
			{Name: "limit", Help: "the most entries to list: 100 if absent"},
		},
		Run: func(ctx context.Context, args Args) (any, error) {
			f, p, err := auditQuery(args, log.o.Now())
			if err != nil {
				return nil, err
			}
			list, next, err := log.Read(ctx, f, p)
			if err != nil {
				return nil, err
			}
			return AuditPage{list, next}, nil
		},
	}}
}

func auditQuery(args Args, now time.Time) (f Filter, p Page, err error) {
	f = Filter{Who: args["who"], Operation: args["operation"], Subject: args["subject"], Host: args["host"]}
	for _, address := range []*string{&f.Who, &f.Subject, &f.Host} {
		if j, err := jid.Parse(*address); err == nil {
			*address = j.String() // as entries have it
		}
	}
	for name, t := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if s := args[name]; s != "" {
			if *t, err = past(s, now); err != nil {
				return f, p, err
			}
		}
	}
	if s := args["after"]; s != "" {
		if p.After, err = strconv.ParseInt(s, 10, 64); err != nil || p.After < 1 {
			return f, p, Errorf("after is the number of an entry, not %q", s)
		}
	}
	p.Limit, err = number(args, "limit", 1, auditMax)
	return f, p, err
}

// past reads a time, or how long ago it was.
func past(s string, now time.Time) (time.Time, error) {
	t, err := moment(s, now, -1)
	if err != nil {
		return t, Errorf("%q is not a time: write a date and time as 2026-01-31T12:00:00Z, or how long ago, as 24h or 7d", s)
	}
	return t, nil
}
