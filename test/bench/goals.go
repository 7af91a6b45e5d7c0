package main

import (
	"cmp"
	"slices"
)

// figure is one line of the report's table: a metric, and how good it has to be.
type figure struct {
	scenario string
	metric   string
	title    string
	unit     string
	goal     goal
}

// goal is an upper bound: a share of the better peer's median, a multiple of the
// relay's or of another row's of the scenario, or a value; or a lower bound. Zero
// fields do not count.
type goal struct {
	ofPeer  float64
	ofRelay float64
	ofOwn   float64
	own     string // the row that ofOwn refers to; alone it is a comparison without a goal
	value   float64
	least   float64 // the lower bound
	row     string  // that has the goal, "" is "trivium"
}

// figures lists the goals of the project, in the order of the report.
func figures() []figure {
	return []figure{
		{"chat-tcp-32", "cpu_us", "chat TCP, window 32", "µs", goal{ofPeer: 1. / 10}},
		{"chat-tcp-1", "cpu_us", "chat TCP, window 1", "µs", goal{ofRelay: 1.6}},
		{"chat-starttls-32", "cpu_us", "chat STARTTLS, window 32", "µs", goal{ofPeer: 1. / 8}},
		{"chat-direct-32", "cpu_us", "chat Direct TLS, window 32", "µs", goal{ofPeer: 1. / 8}},
		{"chat-ws-32", "cpu_us", "chat WebSocket, window 32", "µs", goal{ofPeer: 1. / 12}},
		{"chat-bosh-32", "cpu_us", "chat BOSH, window 32", "µs", goal{ofPeer: 1. / 3}},
		{"presence", "cpu_us", "presence change, 20 online contacts, per delivery", "µs", goal{ofPeer: 1. / 6}},
		{"offline", "store_us", "offline message: store", "µs", goal{ofPeer: 1. / 10}},
		{"offline", "deliver_us", "offline message: deliver at login", "µs", goal{ofPeer: 1. / 8}},
		{"rest", "cpu_us", "REST send to an online user", "µs", goal{ofPeer: 1. / 6}},
		{"rest", "cpu_us", "the same, beside a fixed bound", "µs", goal{value: 25}},
		{"rest", "cpu_us", "REST send, idempotent and on disk", "µs", goal{row: "trivium idempotent", own: "trivium"}},
		{"rest-many", "cpu_us", "REST send, idempotent and on disk, 64 connections", "µs", goal{row: "trivium idempotent", ofOwn: 2, own: "trivium"}},
		{"rest-new", "cpu_us", "REST send, a connection for each", "µs", goal{own: "ejabberd"}},
		{"webhook", "per_second", "webhook deliveries per second", "/s", goal{least: 5000}},
		{"webhook", "cpu_us", "webhook delivery", "µs", goal{value: 60}},
		{"sse", "cpu_us", "event to a subscriber of the event stream", "µs", goal{value: 5}},
		{"cpim", "message_out_us", "stanza to Message/CPIM object", "µs", goal{value: 5}},
		{"cpim", "message_in_us", "Message/CPIM object to stanza", "µs", goal{value: 5}},
		{"cpim", "pidf_out_us", "presence to PIDF document", "µs", goal{value: 5}},
		{"cpim", "pidf_in_us", "PIDF document to presence", "µs", goal{value: 5}},
		{"cpim", "pidf_rich_us", "PIDF document of RFC 3863 §4.3.1 to presence", "µs", goal{value: 5}},
		{"idle-tcp", "pss_kb", "idle connection with presence, TCP, PSS", "kB", goal{value: 9}},
		{"idle-tls", "pss_kb", "idle connection with presence, TLS, PSS", "kB", goal{value: 20}},
		{"login-tcp", "cpu_ms", "login, TCP", "ms", goal{value: 0.25}},
		{"login-tls", "cpu_ms", "login, TLS", "ms", goal{value: 0.55}},
		{"sm-chat-32", "cpu_us", "chat with stream management, window 32", "µs", goal{ofPeer: 1. / 8}},
		{"sm-chat-32", "cpu_us", "the same, beside our plain chat", "µs", goal{ofOwn: 1.2, own: "trivium plain"}},
		{"sm-chat-32", "cpu_us", "cost of the promise: the same without", "µs", goal{own: "trivium unpromised"}},
		{"sm-archive-chat", "cpu_us", "cost of the promise with archives: the same without", "µs", goal{own: "trivium unpromised"}},
		{"archive-chat", "cpu_us", "chat with both archives on, window 32", "µs", goal{ofPeer: 1. / 20}},
		{"archive-page", "cpu_us", "archive page of 50", "µs", goal{ofPeer: 1. / 5}},
		{"hibernated", "pss_kb", "hibernated session, PSS", "kB", goal{value: 6}},
		{"login-fast", "cpu_ms", "login with FAST and Bind 2, WebSocket", "ms", goal{own: "trivium SCRAM"}},
		{"login-fast", "cpu_ms", "login with FAST that resumes, WebSocket", "ms", goal{row: "trivium resume", ofOwn: 1. / 2, own: "trivium SCRAM"}},
		{"login-fast-tls", "cpu_ms", "login with FAST and Bind 2, Direct TLS", "ms", goal{own: "trivium SCRAM"}},
		{"login-fast-tls", "cpu_ms", "login with FAST that resumes, Direct TLS", "ms", goal{row: "trivium resume", own: "trivium SCRAM"}},
		{"latency-1000", "p99_ms", "p99 latency at 1,000 msg/s", "ms", goal{ofRelay: 1.5}},
		{"latency-5000", "p99_ms", "p99 latency at 5,000 msg/s", "ms", goal{ofRelay: 1.5}},
	}
}

// peers are the servers Trivium is compared with.
var peers = [...]string{"ejabberd", "prosody"}

// verdict compares Trivium's median of a figure with its goal.
type verdict struct {
	trivium  spread
	better   string // the peer with the lower median, "" when none was measured
	peer     spread
	relay    spread
	own      spread  // of the row that the goal refers to
	limit    float64 // the goal in the figure's unit, 0 when its reference is missing
	lost     int64   // by Trivium, or wrong: with losses or failures a figure is not valid
	failed   int
	measured bool
	met      bool
}

// toExplain reports whether the goal was missed.
func (v verdict) toExplain() bool { return !v.met && (v.measured || v.failed > 0) }

func (r *records) verdict(f figure) verdict {
	v := verdict{
		trivium: r.spread(f.scenario, cmp.Or(f.goal.row, "trivium"), f.metric),
		relay:   r.spread(f.scenario, "relay", f.metric),
		own:     r.spread(f.scenario, f.goal.own, f.metric),
	}
	for _, name := range r.rows(f.scenario) {
		if !slices.Contains(peers[:], serverOf(name)) {
			continue
		}
		if s := r.spread(f.scenario, name, f.metric); s.n > 0 && (v.better == "" || s.median < v.peer.median) {
			v.better, v.peer = name, s
		}
	}
	switch {
	case f.goal.value > 0:
		v.limit = f.goal.value
	case f.goal.least > 0:
		v.limit = f.goal.least
	case f.goal.ofRelay > 0 && v.relay.n > 0:
		v.limit = f.goal.ofRelay * v.relay.median
	case f.goal.ofOwn > 0 && v.own.n > 0:
		v.limit = f.goal.ofOwn * v.own.median
	case f.goal.ofPeer > 0 && v.better != "":
		v.limit = f.goal.ofPeer * v.peer.median
	}
	t, _ := r.tally(f.scenario, cmp.Or(f.goal.row, "trivium"))
	v.lost, v.failed = max(t.lost, t.errors), len(t.failures)
	v.measured = v.trivium.n > 0 && v.limit > 0
	v.met = v.measured && v.miss(f.goal) <= 0 && v.lost == 0 && v.failed == 0
	return v
}

// miss is by how much of the limit the figure is on its wrong side; on the right
// one it is negative, or 0.
func (v verdict) miss(g goal) float64 {
	beyond := v.trivium.median/v.limit - 1
	if g.least > 0 {
		return -beyond
	}
	return beyond
}
