package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// bodySize is the length of every message body in bytes.
const bodySize = 100

// body returns a message body that starts with the given text.
func body(start string) string {
	return start + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 3)[:bodySize-len(start)]
}

var (
	managedSetup = setup{sm: true}
	archiveSetup = setup{archive: true}
	bothSetup    = setup{sm: true, archive: true}
)

// comebacks is logins with what was learnt at the one before, and with SCRAM, which
// is all that the peers have.
func comebacks(name, title string, r road) scenario {
	by := func(how comeback) runner {
		return func(ctx context.Context, b *bench, s *server) (*outcome, error) {
			return runComebacks(ctx, b, s, r, how)
		}
	}
	su := setup{sm: true, proxied: r == roadWebSocket}
	return scenario{
		name: name, title: "Login with a FAST token, the peers with SCRAM-SHA-256: " + title, setup: su,
		run: func(ctx context.Context, b *bench, s *server) (*outcome, error) {
			if s.name() == "trivium" {
				return runComebacks(ctx, b, s, r, byToken)
			}
			return runComebacks(ctx, b, s, r, bySCRAM)
		},
		also: []variant{
			{name: "trivium resume", server: "trivium", setup: su, run: by(byResume)},
			{name: "trivium SCRAM", server: "trivium", setup: su, run: by(bySCRAM)},
		},
	}
}

// scenarios lists everything that can be measured, in the order of the report.
func scenarios() []scenario {
	talk := func(r road, window int) runner { return chat{road: r, window: window}.run }
	managed := func(window int) runner { return chat{road: roadTCP, window: window, managed: true}.run }
	latency := func(rate int) runner {
		return func(ctx context.Context, b *bench, s *server) (*outcome, error) { return runLatency(ctx, b, s, rate) }
	}
	idle := func(r road) runner {
		return func(ctx context.Context, b *bench, s *server) (*outcome, error) { return runIdle(ctx, b, s, r) }
	}
	logins := func(r road) runner {
		return func(ctx context.Context, b *bench, s *server) (*outcome, error) { return runLogins(ctx, b, s, r) }
	}
	pairs := fmt.Sprintf("%d pairs", chatPairs)
	return []scenario{
		{name: "chat-tcp-32", title: "Chat, TCP without TLS, " + pairs + ", window 32", relay: true, run: talk(roadTCP, 32)},
		{name: "chat-tcp-1", title: "Chat, TCP without TLS, " + pairs + ", window 1", relay: true, run: talk(roadTCP, 1)},
		{name: "chat-starttls-32", title: "Chat, STARTTLS, " + pairs + ", window 32", run: talk(roadSTARTTLS, 32)},
		{name: "chat-direct-32", title: "Chat, Direct TLS, " + pairs + ", window 32", run: talk(roadDirectTLS, 32)},
		{name: "chat-ws-32", title: "Chat, WebSocket, " + pairs + ", window 32", run: talk(roadWebSocket, 32)},
		{name: "chat-bosh-32", title: "Chat, BOSH, " + pairs + ", window 32", run: talk(roadBOSH, 32)},
		{name: "presence", title: fmt.Sprintf("Presence change to %d online contacts", presenceContacts), run: runPresence},
		{name: "offline", title: "Offline messages: store, and deliver at login", run: runOffline},
		{
			name: "rest", title: "REST send to an online user", run: restLoad{}.run,
			also: []variant{{name: "trivium idempotent", server: "trivium", run: restLoad{keyed: true}.run}},
		},
		{
			name: "rest-many", title: fmt.Sprintf("REST send to an online user, %d connections", restMany), run: restLoad{posters: restMany}.run,
			also: []variant{{name: "trivium idempotent", server: "trivium", run: restLoad{posters: restMany, keyed: true}.run}},
		},
		{name: "rest-new", title: "REST send to an online user, a connection for each", run: restLoad{fresh: true}.run},
		{
			name: "webhook", title: fmt.Sprintf("Webhook deliveries, %d conversations, %d messages under way", hookTalks, hookWindow),
			setup: setup{gateway: true}, run: runWebhook,
		},
		{
			name: "sse", title: fmt.Sprintf("Event stream, %d subscribers, %d events under way, per event and subscriber", streamReaders, streamWindow),
			setup: setup{gateway: true, pulled: true}, run: runStream,
		},
		{name: "cpim", title: "Message/CPIM and PIDF, in the load client", run: runCPIM},
		{name: "login-tcp", title: "Login with SCRAM-SHA-256, TCP without TLS", run: logins(roadTCP)},
		{name: "login-tls", title: "Login with SCRAM-SHA-256, Direct TLS", run: logins(roadDirectTLS)},
		{
			name: "sm-chat-32", title: "Chat with stream management, TCP, " + pairs + ", window 32", setup: managedSetup, run: managed(32),
			also: []variant{
				{name: "trivium plain", server: "trivium", setup: managedSetup, run: talk(roadTCP, 32)},
				{name: "trivium unpromised", server: "trivium", setup: setup{sm: true, unpromised: true}, run: managed(32)},
			},
		},
		{
			name: "sm-chat-1", title: "Chat with stream management, TCP, " + pairs + ", window 1", setup: managedSetup, run: managed(1),
			also: []variant{{name: "trivium plain", server: "trivium", setup: managedSetup, run: talk(roadTCP, 1)}},
		},
		{
			name: "archive-chat", title: "Chat with both users' archives on, TCP, " + pairs + ", window 32",
			setup: archiveSetup, run: talk(roadTCP, 32),
			also: []variant{{name: "ejabberd mnesia", server: "ejabberd", setup: setup{archive: true, store: storeMnesia}, run: talk(roadTCP, 32)}},
		},
		{
			name: "sm-archive-chat", title: "Chat with stream management and archives, TCP, " + pairs + ", window 32",
			setup: bothSetup, run: managed(32),
			also: []variant{
				{name: "trivium unpromised", server: "trivium", setup: setup{sm: true, archive: true, unpromised: true}, run: managed(32)},
			},
		},
		{
			name: "archive-page", title: fmt.Sprintf("Archive pages of %d results, archives of %d messages", pageSize, pageArchive),
			setup: archiveSetup, run: runPages,
			also: []variant{{name: "prosody sqlite", server: "prosody", setup: setup{archive: true, store: storeSQLite}, run: runPages}},
		},
		comebacks("login-fast", "WebSocket behind a proxy that speaks TLS", roadWebSocket),
		comebacks("login-fast-tls", "Direct TLS, TLS sessions resumed", roadDirectTLS),
		{name: "latency-1000", title: "Open loop, 1,000 messages per second, " + pairs + ", TCP", relay: true, quiet: true, run: latency(1000)},
		{name: "latency-5000", title: "Open loop, 5,000 messages per second, " + pairs + ", TCP", relay: true, quiet: true, run: latency(5000)},
		{name: "idle-tcp", title: "Idle connections with presence, TCP without TLS", fresh: true, heap: true, run: idle(roadTCP)},
		{name: "hibernated", title: "Hibernated sessions, presence sent, connection cut", fresh: true, heap: true, setup: managedSetup, run: runHibernated},
		{name: "idle-tls", title: "Idle connections with presence, Direct TLS", fresh: true, heap: true, run: idle(roadDirectTLS)},
	}
}

// window measures a server between two instants.
type window struct {
	meter meter
	cpu   time.Duration
	start time.Time
}

func (b *bench) openWindow(s *server) (window, error) {
	if b.profileWindow != nil {
		b.profileWindow()
	}
	m := s.meter()
	cpu, err := m.cpu()
	return window{meter: m, cpu: cpu, start: time.Now()}, err
}

// close returns the processor time and the time passed since openWindow.
func (w window) close() (cpu, passed time.Duration, err error) {
	passed = time.Since(w.start)
	now, err := w.meter.cpu()
	return now - w.cpu, passed, err
}

// errSilent ends a run in which there is nothing to divide by.
var errSilent = errors.New("nothing came through in the measured window")

// micros returns d per operation in microseconds, 0 when there was none.
func micros(d time.Duration, ops int64) float64 {
	if ops == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1e3 / float64(ops)
}

// rampUp is how long a timed scenario runs before its window opens.
func (b *bench) rampUp() time.Duration { return min(b.duration/4, time.Second) }

// drainLimit bounds the wait for messages still under way when senders have stopped.
const drainLimit = 5 * time.Second

// await polls until done reports true or the limit has passed.
func await(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
