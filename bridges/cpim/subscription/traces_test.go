package subscription_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"trivium/bridges/cpim"
	"trivium/bridges/cpim/pidf"
	"trivium/bridges/cpim/subscription"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// traces are those of the mapping reference, 13.4, in its notation: X> from the
// XMPP user, <X to it, F> from the foreign side, <F to it; "at" passes time. What
// is written out there as "s01, then" is repeated here by a line with the name.
var traces = map[string]string{
	"s01 approve": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 success duration=600
		F> notify desk
		<X subscribed id=s1
		<X available from bob@im.example/desk
		at 479
		at 480
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t2`,
	"s02 deny": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 denied
		<X unsubscribed id=s1
		at 1000000`,
	"s03 unknown": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 unknown
		<X error id=s1 item-not-found/cancel
		at 1000000`,
	"s04 repeat": `
		s01 approve
		X> subscribe id=s2
		<X subscribed id=s2`,
	"s05 unsubscribe": `
		s01 approve
		F> response t2 success duration=600
		X> unsubscribe id=u1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=0 SubscriptID=S1 TransID=t3
		F> response t3 success duration=0
		F> notify phone
		<X unsubscribed id=u1
		<X unavailable from bob@im.example/desk
		at 1000000`,
	"s06 foreign watcher": `
		F> subscribe duration=300 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		X> subscribed
		<F response b1 success duration=300
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		at 299
		at 300
		<X unavailable from bob@im.example`,
	"s07 second time": `
		s06 foreign watcher
		F> subscribe duration=300 SubscriptID=B2 TransID=b2
		<F response b2 success duration=300
		<F notify SubscriptID=B2 ID-balcony:open ID-phone:open`,
	"s08 fetch": `
		s06 foreign watcher
		F> subscribe duration=0 SubscriptID=B3 TransID=b3
		<F response b3 success duration=0
		<F notify SubscriptID=B3 ID-balcony:open ID-phone:open last
		at 1000000`,
	"s08 fetch by a stranger": `
		F> subscribe duration=0 SubscriptID=B3 TransID=b3
		<F response b3 failure
		at 1000000`,
	"s09 block": `
		F> subscribe duration=300 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		X> subscribed
		<F response b1 success duration=300
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		X> block
		<F notify SubscriptID=B1 ID-none:closed last
		F> subscribe duration=300 SubscriptID=B4 TransID=b4
		<F response b4 failure
		at 1000000`,
	// s10 is about messages: cpim.TestOperations.
	"s11 probe": `
		X> probe
		<X unsubscribed`,

	// The decision below the traces: the user takes long.
	"pending": `
		F> subscribe duration=300 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		at 1
		<F response b1 success duration=300
		<F notify SubscriptID=B1 ID-none:closed note=pending
		X> change
		X> subscribed
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open`,
	"pending, then denied": `
		F> subscribe duration=300 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		at 1
		<F response b1 success duration=300
		<F notify SubscriptID=B1 ID-none:closed note=pending
		X> unsubscribed id=d1
		<F end SubscriptID=B1 TransID=d1
		at 1000000`,
	"denied at once": `
		F> subscribe duration=300 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		X> unsubscribed
		<F response b1 failure
		at 1000000`,
	"pending until the end": `
		F> subscribe duration=60 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		at 1
		<F response b1 success duration=60
		<F notify SubscriptID=B1 ID-none:closed note=pending
		F> subscribe duration=60 SubscriptID=B1 TransID=b2
		<F response b2 success duration=60
		<F notify SubscriptID=B1 ID-none:closed note=pending
		at 61
		X> subscribed
		F> subscribe duration=60 SubscriptID=B2 TransID=b3
		<F response b3 success duration=60
		<F notify SubscriptID=B2 ID-balcony:open ID-phone:open`,
	"duplicate": `
		F> subscribe duration=300 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		X> subscribed
		<F response b1 success duration=300
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		F> subscribe duration=300 SubscriptID=B2 TransID=b2
		<F response b2 failure
		F> subscribe duration=5 SubscriptID=B1 TransID=b3
		<F response b3 success duration=60
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		F> subscribe duration=0 SubscriptID=B1 TransID=b4
		<F response b4 success duration=0
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open last
		<X unavailable from bob@im.example`,
	"changes come at most every five seconds": `
		F> subscribe duration=86401 SubscriptID=B1 TransID=b1
		<X subscribe from=bob@im.example id=b1
		X> subscribed
		<F response b1 success duration=86400
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		X> change
		X> change
		at 4
		at 5
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		at 11
		X> change
		<F notify SubscriptID=B1 ID-balcony:open ID-phone:open
		X> unsubscribed id=d1
		<F end SubscriptID=B1 TransID=d1
		X> change`,
	"nobody answers a request": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		X> subscribe id=s1
		at 32
		at 34
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t2
		F> response t1 success duration=600
		F> response t2 failure
		at 38
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t3
		F> response t3 failure
		at 46
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t4
		F> response t4 failure
		at 62
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t5
		F> response t5 failure
		at 94
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t6
		F> response t6 failure
		<X error id=s1 remote-server-timeout/wait
		at 1000000`,
	"a refresh fails until it runs out": `
		s01 approve
		F> response t2 failure
		at 482
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t3
		at 514
		at 518
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t4
		at 550
		at 558
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t5
		at 590
		at 600
		<X unavailable from bob@im.example/desk
		at 606
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S2 TransID=t6
		F> response t6 success duration=600
		F> notify desk
		<X available from bob@im.example/desk`,
	"a refresh is denied": `
		s01 approve
		F> response t2 denied
		<X unsubscribed
		<X unavailable from bob@im.example/desk
		F> notify desk
		at 1000000`,
	"no refresh for who is not there": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 success duration=600
		F> notify desk
		<X subscribed id=s1
		<X available from bob@im.example/desk
		X> offline
		at 480
		at 600
		<X unavailable from bob@im.example/desk
		X> probe
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=0 SubscriptID=S2 TransID=t2
		F> response t2 success duration=0
		F> notify phone
		<X available from bob@im.example/phone
		X> online
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S3 TransID=t3
		F> response t3 success duration=600
		F> notify phone
		X> probe
		<X available from bob@im.example/phone`,
	"the other side asks and takes long": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 success duration=600
		F> undecided
		X> probe
		F> ended denied
		<X unsubscribed id=s1`,
	"the other side ends it": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 success duration=600
		F> notify desk
		<X subscribed id=s1
		<X available from bob@im.example/desk
		F> ended
		at 2
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S2 TransID=t2
		F> response t2 success duration=600
		at 100
		F> ended
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S3 TransID=t3`,
	"unsubscribe without an answer": `
		s01 approve
		X> unsubscribe id=u1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=0 SubscriptID=S1 TransID=t3
		F> notify phone
		at 512
		<X unsubscribed id=u1
		<X unavailable from bob@im.example/desk`,
	"unsubscribe from nobody": `
		s01 approve
		X> unsubscribe id=u1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=0 SubscriptID=S1 TransID=t3
		F> response t3 unknown
		<X error id=u1 item-not-found/cancel
		<X unavailable from bob@im.example/desk
		X> unsubscribe id=u2
		<X unsubscribed id=u2`,
	"a change of mind": `
		s01 approve
		X> unsubscribe id=u1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=0 SubscriptID=S1 TransID=t3
		X> subscribe id=s3
		<X unavailable from bob@im.example/desk
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S2 TransID=t4
		F> response t3 success duration=0
		F> response t4 forbidden
		<X error id=s3 forbidden/auth`,
	"conflict": `
		X> subscribe id=s1
		<F subscribe watcher=pres:alice@xmpp.example target=pres:bob@im.example duration=3600 SubscriptID=S1 TransID=t1
		F> response t1 duplicate
		<X error id=s1 conflict/cancel`,
	"presence nobody asked for": `
		F> notify desk`,
}

func TestTraces(t *testing.T) {
	for name := range traces {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.play(t, name)
			p.quiet(t, "the end")
		})
	}
}

// A pair is both directions between alice, the XMPP user, and bob.
type pair struct {
	out     subscription.Outgoing
	in      subscription.Incoming
	rules   subscription.Rules
	start   time.Time
	now     time.Time
	ids     int
	names   map[string]string // identifiers of ours by their names in the trace
	seen    map[string]int
	watched cpim.Watched
	mapper  *cpim.Mapper
	alice   *cpim.Presentity
	done    []string // what was done and not yet expected
}

var (
	alice = jid.Must("alice@xmpp.example")
	bob   = jid.Must("bob@im.example")
)

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{
		start: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), mapper: cpim.New(cpim.Options{}),
		names: map[string]string{}, seen: map[string]int{},
	}
	p.now = p.start
	p.rules = subscription.Rules{
		NewID:  func() string { p.ids++; return fmt.Sprintf("identifier-%d", p.ids) },
		Jitter: func() float64 { return 0.5 },
	}
	var err error
	if p.out, err = subscription.NewOutgoing(alice, bob); err != nil {
		t.Fatal(err)
	}
	if p.alice, err = p.mapper.Presentity(alice); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"balcony", "phone"} {
		from, err := alice.WithResource(r)
		if err != nil {
			t.Fatal(err)
		}
		p.alice.Update(stanza.New(stanza.Presence, "", from, bob, ""), p.now)
	}
	return p
}

func (p *pair) play(t *testing.T, name string) {
	t.Helper()
	trace, ok := traces[name]
	if !ok {
		t.Fatalf("no trace %q", name)
	}
	for sc := bufio.NewScanner(strings.NewReader(trace)); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		switch {
		case line == "":
		case strings.HasPrefix(line, "<"):
			if len(p.done) == 0 {
				t.Fatalf("%s: want %s, nothing was done", name, line)
			}
			if got := p.done[0]; got != line {
				t.Fatalf("%s:\ngot  %s\nwant %s", name, got, line)
			}
			p.done = p.done[1:]
		case strings.HasPrefix(line, "s0"):
			p.play(t, line)
		default:
			p.quiet(t, line)
			p.event(t, line)
		}
	}
}

func (p *pair) quiet(t *testing.T, before string) {
	t.Helper()
	if len(p.done) > 0 {
		t.Fatalf("before %s: unexpected %s", before, strings.Join(p.done, "; "))
	}
}

// event reads one line of input.
func (p *pair) event(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	arg := map[string]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			arg[k] = v
		}
	}
	seconds := func(s string) time.Duration {
		d, err := time.ParseDuration(s + "s")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if words[0] == "at" {
		p.advance(p.start.Add(seconds(words[1])))
		return
	}
	switch words[0] + " " + words[1] {
	case "X> subscribe", "X> unsubscribe", "X> probe":
		p.outgoing(subscription.Presence{Type: words[1], ID: arg["id"]})
	case "X> subscribed", "X> unsubscribed":
		p.incoming(subscription.Presence{Type: words[1], ID: arg["id"]})
	case "X> online", "X> offline":
		p.outgoing(subscription.Online{Now: words[1] == "online"})
	case "X> block":
		p.incoming(subscription.Blocked{Now: true})
	case "X> change":
		p.incoming(subscription.Changed{})
	case "F> subscribe":
		p.incoming(subscription.Request{Duration: seconds(arg["duration"]), SubscriptID: arg["SubscriptID"], TransID: arg["TransID"]})
	case "F> response":
		r := subscription.Response{TransID: p.names[words[2]], OK: words[3] == "success"}
		if r.TransID == "" {
			t.Fatalf("%s answers nothing", line)
		}
		if r.OK {
			r.Duration = seconds(arg["duration"])
		}
		r.Reason = reasons[words[3]]
		p.outgoing(r)
	case "F> notify":
		p.outgoing(subscription.Notice{Document: &pidf.Presence{Tuples: []pidf.Tuple{{ID: words[2], Basic: pidf.Open}}}})
	case "F> undecided":
		p.outgoing(subscription.Notice{Undecided: true})
	case "F> ended":
		n := subscription.Notice{Ended: true}
		if len(words) > 2 {
			n.Reason = reasons[words[2]]
		}
		p.outgoing(n)
	default:
		t.Fatalf("what is %q?", line)
	}
}

var reasons = map[string]subscription.Reason{
	"failure": subscription.Transient, "denied": subscription.Denied, "unknown": subscription.NotFound,
	"forbidden": subscription.NotAllowed, "duplicate": subscription.Duplicate,
}

// advance goes to a time, with a Tick whenever one is due.
func (p *pair) advance(to time.Time) {
	for range 1000 {
		due := p.out.Due()
		if d := p.in.Due(&p.rules); due.IsZero() || !d.IsZero() && d.Before(due) {
			due = d
		}
		if due.IsZero() || due.After(to) {
			break
		}
		if due.After(p.now) {
			p.now = due
		}
		p.outgoing(subscription.Tick{})
		p.incoming(subscription.Tick{})
	}
	p.now = to
}

func (p *pair) outgoing(e subscription.Event) {
	var actions []subscription.Action
	p.out, actions = p.out.On(e, &p.rules, p.now)
	p.carryOut(actions)
}

func (p *pair) incoming(e subscription.Event) {
	var actions []subscription.Action
	p.in, actions = p.in.On(e, &p.rules, p.now)
	p.carryOut(actions)
}

// carryOut does what a gateway does with the actions, and writes it down.
func (p *pair) carryOut(actions []subscription.Action) {
	say := func(format string, args ...any) {
		p.done = append(p.done, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
	id := func(s string) string {
		if s == "" {
			return ""
		}
		return " id=" + s
	}
	stanzas := func(sts []*stanza.Stanza) {
		for _, st := range sts {
			typ := st.Type
			if typ == "" {
				typ = "available"
			}
			say("<X %s from %s", typ, st.From)
		}
	}
	for _, a := range actions {
		switch a := a.(type) {
		case subscription.Tell:
			if a.Err != nil {
				say("<X %s%s %s/%s", a.Type, id(a.ID), a.Err.Condition, a.Err.ErrType())
			} else {
				say("<X %s%s", a.Type, id(a.ID))
			}
		case subscription.Show:
			stanzas(p.mapper.Notify(&p.watched, cpim.Notification{From: bob, To: alice, Document: a.Document}))
		case subscription.Replay:
			stanzas(p.watched.Replay(bob, alice))
		case subscription.Hide:
			stanzas(p.watched.Close(bob, alice))
		case subscription.Question:
			say("<X subscribe from=%s%s", bob, id(a.ID))
		case subscription.Leave:
			say("<X unavailable from %s", bob)
		case subscription.Subscribe:
			say("<F subscribe watcher=%s target=%s duration=%.0f SubscriptID=%s TransID=%s", a.Watcher, a.Target, a.Duration.Seconds(), p.name("S", a.SubscriptID), p.name("t", a.TransID))
		case subscription.Answer:
			if a.OK {
				say("<F response %s success duration=%.0f", a.TransID, a.Duration.Seconds())
			} else {
				say("<F response %s failure", a.TransID)
			}
		case subscription.End:
			say("<F end SubscriptID=%s TransID=%s", a.SubscriptID, a.TransID)
		case subscription.Notify:
			var doc *pidf.Presence
			switch a.What {
			case subscription.Current:
				doc = p.alice.Document(p.now)
			case subscription.Withheld:
				doc = p.alice.Closed("", p.now)
			case subscription.Undecided:
				doc = p.alice.Closed("pending", p.now)
			}
			line := "<F notify SubscriptID=" + a.SubscriptID
			for _, t := range doc.Tuples {
				line += " " + t.ID + ":" + string(t.Basic)
				for _, n := range t.Notes {
					line += " note=" + n.Text
				}
			}
			if a.Last {
				line += " last"
			}
			say("%s", line)
		default:
			say("what is %T?", a)
		}
	}
}

// name gives an identifier of ours the name that it has in the trace: S1, S2, t1.
func (p *pair) name(kind, id string) string {
	for name, other := range p.names {
		if other == id {
			return name
		}
	}
	p.seen[kind]++
	name := fmt.Sprintf("%s%d", kind, p.seen[kind])
	p.names[name] = id
	return name
}
