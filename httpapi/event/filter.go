package event

import (
	"slices"

	"trivium/core/jid"
)

// Filter chooses events. The zero Filter takes all; each list that is not empty
// narrows it.
type Filter struct {
	Types []Type
	// Hosts are domains of ours that events are about.
	Hosts []string
	// JIDs: From or To is covered by one of them.
	JIDs []jid.Pattern
	// Rooms are bare addresses of rooms: groupchat messages from them, and what
	// else comes from or goes to them.
	Rooms []jid.JID
	// May tells whether the reader may see the event at all; nil: yes.
	May func(*Event) bool
}

// Match tells whether the filter takes e.
func (f *Filter) Match(e *Event) bool {
	if len(f.Types) > 0 && !slices.Contains(f.Types, e.Type) || len(f.Hosts) > 0 && !slices.Contains(f.Hosts, e.Host) {
		return false
	}
	if len(f.JIDs) > 0 && !slices.ContainsFunc(f.JIDs, func(p jid.Pattern) bool { return p.Match(e.From) || p.Match(e.To) }) {
		return false
	}
	if len(f.Rooms) > 0 && !slices.ContainsFunc(f.Rooms, func(r jid.JID) bool { return e.From.Bare() == r || e.To.Bare() == r }) {
		return false
	}
	return f.May == nil || f.May(e)
}
