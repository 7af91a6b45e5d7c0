package survival

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A place is where a message was seen.
type place string

const (
	live    place = "live"    // by a session, before the server went down
	stored  place = "offline" // with delay, when the recipient came back
	archive place = "archive" // in the recipient's archive (XEP-0313)
)

// message names one message: the n-th of its sender.
type message struct {
	from string
	n    int
}

// entry is what is known of one message.
type entry struct {
	message
	to    string
	round int
	acked bool // the sender was told that it is safe
	seen  []sighting
}

type sighting struct {
	at place
	id string // the stanza-id of the recipient's archive (XEP-0359)
}

// promise says where acknowledged messages for a recipient have to be found.
type promise []place

// ledger follows every message from its sender to its recipient. It is safe for
// concurrent use.
type ledger struct {
	mu       sync.Mutex
	round    int
	entries  map[message]*entry
	order    []*entry            // as sent
	arrivals map[string][]*entry // to each recipient, live and offline, as they came
	pages    map[string][]*entry // in each archive, as they lie there
	strange  []string            // what nobody has sent
	promises map[string]promise  // of each recipient
	acks     int
}

func newLedger(promises map[string]promise) *ledger {
	return &ledger{
		entries: map[message]*entry{}, arrivals: map[string][]*entry{}, pages: map[string][]*entry{}, promises: promises,
	}
}

// sent notes a message that is about to be sent.
func (l *ledger) sent(m message, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &entry{message: m, to: to, round: l.round}
	l.entries[m] = e
	l.order = append(l.order, e)
}

// acked notes that a message is safe, and returns how many are by now.
func (l *ledger) acked(m message) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[m]; !e.acked {
		e.acked = true
		l.acks++
	}
	return l.acks
}

// saw notes a message where it was seen.
func (l *ledger) saw(who string, at place, m message, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[m]
	if e == nil || e.to != who {
		l.strange = append(l.strange, fmt.Sprintf("%s has %s %d (%s), which nobody sent there", who, m.from, m.n, at))
		return
	}
	e.seen = append(e.seen, sighting{at, id})
	if at == archive {
		l.pages[who] = append(l.pages[who], e)
	} else {
		l.arrivals[who] = append(l.arrivals[who], e)
	}
}

// missing returns the acknowledged messages to one recipient that are not where
// they were promised, of those places alone if some are named.
func (l *ledger) missing(who string, among ...place) (lost []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.order {
		if e.to == who && e.acked && !e.found(l.promises[who], among) {
			lost = append(lost, "lost: "+e.String())
		}
	}
	return lost
}

// archived tells whether the archive is enough for a recipient.
func (l *ledger) archived(who string) bool { return slices.Contains(l.promises[who], archive) }

func (e *entry) found(p promise, among []place) bool {
	for _, s := range e.seen {
		if slices.Contains(p, s.at) && (len(among) == 0 || slices.Contains(among, s.at)) {
			return true
		}
	}
	return false
}

func (e *entry) String() string {
	ack := "not acknowledged"
	if e.acked {
		ack = "acknowledged"
	}
	var seen []string
	for _, s := range e.seen {
		seen = append(seen, fmt.Sprintf("%s (stanza-id %q)", s.at, s.id))
	}
	if seen == nil {
		seen = []string{"nowhere"}
	}
	return fmt.Sprintf("message %d of %s to %s, round %d, %s; seen: %s", e.n, e.from, e.to, e.round, ack, strings.Join(seen, ", "))
}

// faults returns what is wrong, worst first: what was lost, what came out of
// order, and what came twice as if it were two.
func (l *ledger) faults() (all []string) {
	for who := range l.promises {
		all = append(all, l.missing(who)...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(all)
	for who := range l.promises {
		all = append(all, disorder(who+" was sent", l.arrivals[who])...)
		all = append(all, disorder("the archive of "+who+" has", l.pages[who])...)
	}
	for _, e := range l.order {
		inArchive := 0
		for _, s := range e.seen {
			if s.at == archive {
				inArchive++
			}
			if s.id == "" && len(e.seen) > 1 || s.id != e.seen[0].id {
				all = append(all, "twice without the same stanza-id: "+e.String())
				break
			}
		}
		if inArchive > 1 {
			all = append(all, "archived twice: "+e.String())
		}
	}
	return append(all, l.strange...)
}

// disorder finds the messages that came after a later one of the same sender,
// where each came first.
func disorder(what string, list []*entry) (all []string) {
	last := map[string]*entry{}
	before := map[*entry]bool{}
	for _, e := range list {
		if before[e] {
			continue
		}
		before[e] = true
		if p := last[e.from]; p != nil && e.n < p.n {
			all = append(all, fmt.Sprintf("out of order: %s %d of %s after %d: %s", what, e.n, e.from, p.n, e))
			continue
		}
		last[e.from] = e
	}
	return all
}

// tally counts the acknowledged messages of a round by the first place that has
// them.
func (l *ledger) tally(round int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent, acked, at := 0, 0, map[place]int{}
	for _, e := range l.order {
		if e.round != round {
			continue
		}
		sent++
		if e.acked {
			acked++
			if len(e.seen) > 0 {
				at[e.seen[0].at]++
			}
		}
	}
	return fmt.Sprintf("%d sent, %d acknowledged; of those live %d, offline %d, in the archive alone %d", sent, acked, at[live], at[stored], at[archive])
}

// The ledger finds every kind of fault.
func TestLedger(t *testing.T) {
	m := func(n int) message { return message{"romeo", n} }
	for _, tt := range []struct {
		name  string
		tell  func(*ledger)
		fault string // "" for none
	}{
		{"nothing", func(*ledger) {}, ""},
		{"arrived", func(l *ledger) { l.acked(m(1)); l.saw("juliet", live, m(1), "a") }, ""},
		{"offline", func(l *ledger) { l.acked(m(1)); l.saw("juliet", stored, m(1), "") }, ""},
		{"lost", func(l *ledger) { l.acked(m(1)) }, "lost: message 1 of romeo to juliet, round 0, acknowledged; seen: nowhere"},
		{"not promised there", func(l *ledger) { l.acked(m(4)); l.saw("nurse", archive, m(4), "a") }, "lost: message 4"},
		{"lost without a promise", func(l *ledger) { l.acked(m(2)); l.saw("juliet", live, m(2), "a") }, ""},
		{"twice with one id", func(l *ledger) { l.saw("juliet", live, m(1), "a"); l.saw("juliet", archive, m(1), "a") }, ""},
		{"twice with two ids", func(l *ledger) { l.saw("juliet", live, m(1), "a"); l.saw("juliet", stored, m(1), "b") }, "twice without"},
		{"twice without an id", func(l *ledger) { l.saw("juliet", live, m(1), ""); l.saw("juliet", stored, m(1), "") }, "twice without"},
		{"archived twice", func(l *ledger) { l.saw("juliet", archive, m(1), "a"); l.saw("juliet", archive, m(1), "a") }, "archived twice"},
		{"in order", func(l *ledger) { l.saw("juliet", live, m(1), "a"); l.saw("juliet", stored, m(3), "c") }, ""},
		{"out of order", func(l *ledger) { l.saw("juliet", live, m(3), "c"); l.saw("juliet", stored, m(1), "a") }, "out of order"},
		{"repeated in order", func(l *ledger) {
			l.saw("juliet", live, m(1), "a")
			l.saw("juliet", live, m(2), "b")
			l.saw("juliet", stored, m(1), "a")
			l.saw("juliet", stored, m(2), "b")
			l.saw("juliet", stored, m(3), "c")
		}, ""},
		{"archive out of order", func(l *ledger) { l.saw("juliet", archive, m(2), "b"); l.saw("juliet", archive, m(1), "a") }, "out of order: the archive"},
		{"sent by nobody", func(l *ledger) { l.saw("juliet", live, message{"tybalt", 1}, "a") }, "nobody sent"},
		{"for somebody else", func(l *ledger) { l.saw("juliet", live, m(4), "a") }, "nobody sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(map[string]promise{"juliet": {live, stored, archive}, "nurse": {stored}})
			for n := range 3 {
				l.sent(m(n+1), "juliet")
			}
			l.sent(m(4), "nurse")
			tt.tell(l)
			got := strings.Join(l.faults(), "\n")
			if tt.fault == "" && got != "" || !strings.Contains(got, tt.fault) || strings.Count(got, "\n") > 0 {
				t.Errorf("%q, want %q", got, tt.fault)
			}
		})
	}
}
