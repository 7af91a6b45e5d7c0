package event

import (
	"testing"

	"trivium/core/jid"
)

func TestFilter(t *testing.T) {
	message := &Event{Type: Message, Host: "sms.example.org", From: juliet, To: romeo}
	room := &Event{
		Type: Message, Host: "example.org",
		From: jid.Must("room@conference.example.org/nurse"), To: juliet,
	}
	delivery := &Event{Type: Delivery, Host: "example.org"}
	pattern := func(list ...string) []jid.Pattern {
		var out []jid.Pattern
		for _, s := range list {
			out = append(out, jid.MustPattern(s))
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		filter Filter
		want   [3]bool // message, room, delivery
	}{
		{"zero", Filter{}, [3]bool{true, true, true}},
		{"type", Filter{Types: []Type{Delivery, Test}}, [3]bool{false, false, true}},
		{"host", Filter{Hosts: []string{"other.example.org", "example.org"}}, [3]bool{false, true, true}},
		{"sender", Filter{JIDs: pattern("juliet@example.org")}, [3]bool{true, true, false}},
		{"recipient", Filter{JIDs: pattern("rom*@sms.example.org")}, [3]bool{true, false, false}},
		{"resource", Filter{JIDs: pattern("juliet@example.org/chamber")}, [3]bool{false, false, false}},
		{"domain", Filter{JIDs: pattern("conference.example.org", "nowhere.example")}, [3]bool{false, true, false}},
		{"room", Filter{Rooms: []jid.JID{jid.Must("room@conference.example.org")}}, [3]bool{false, true, false}},
		{"another room", Filter{Rooms: []jid.JID{jid.Must("hall@conference.example.org")}}, [3]bool{false, false, false}},
		{
			"all at once",
			Filter{Types: []Type{Message}, Hosts: []string{"example.org"}, JIDs: pattern("juliet@example.org"), Rooms: []jid.JID{jid.Must("room@conference.example.org")}},
			[3]bool{false, true, false},
		},
		{"may", Filter{May: func(e *Event) bool { return e.Type == Delivery }}, [3]bool{false, false, true}},
		{"may not and type", Filter{Types: []Type{Message}, May: func(e *Event) bool { return e.Type == Delivery }}, [3]bool{}},
	} {
		for i, e := range []*Event{message, room, delivery} {
			if got := tt.filter.Match(e); got != tt.want[i] {
				t.Errorf("%s: event %d: %t", tt.name, i, got)
			}
		}
	}
}

// TestAllocations: what is done for each event and reader leaves no garbage.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations cannot be counted")
	}
	f := &Filter{
		Types: []Type{Message}, Hosts: []string{"sms.example.org"},
		JIDs: []jid.Pattern{jid.MustPattern("nobody@example.org"), jid.MustPattern("rom*@sms.example.org")},
	}
	e := &entry{Event: note("sms.example.org", 1)}
	if n := testing.AllocsPerRun(1000, func() { f.Match(e.Event) }); n != 0 {
		t.Errorf("Match: %v allocations", n)
	}
	l := openLog(t, Options{})
	after := l.Last()
	for i := range 100 {
		commit(t, l, note("sms.example.org", i))
	}
	c := &connection{Stream: Stream{Log: l, Encoder: &Encoder{}}, format: JSON, reader: l.Follow(f, after)}
	if n := testing.AllocsPerRun(100, func() {
		c.reader.after, c.buf = after, c.buf[:0]
		batch, _, err := c.reader.poll(t.Context())
		if err != nil || len(batch) != 100 {
			t.Fatal(len(batch), err)
		}
		c.add(batch)
	}); n != 0 {
		t.Errorf("a batch of 100 events for one stream: %v allocations", n)
	}
}
