// Package survival kills the server and counts.
//
// The promise of an acknowledgement (docs/architecture.md, section 5) is that a
// message that was acknowledged, by the 'h' of stream management or by 202, is
// not lost when the process is killed. The tests run the program itself with
// many senders and receivers of every kind, kill it at a random moment, start it
// again on the same data, and look where each message has gone.
//
//	go test ./test/survival -survival.rounds 200 -survival.seed 7
package survival

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trivium/test/harness"
)

var (
	rounds = flag.Int("survival.rounds", 20, "how often the server is killed")
	roamer = flag.Bool("survival.roamer", true, "one of the senders loses its connection again and again")
	seed   = flag.Uint64("survival.seed", 0, "makes the same choices again; 0: others each time")
)

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "survival")
	if err == nil && !testing.Short() {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// anywhere is what everybody online was promised. Whoever is offline gets
// messages when they come back, whether or not they look into the archive.
var (
	anywhere = promise{live, stored, archive}
	returned = promise{live, stored}
)

// cast makes the senders and receivers.
func cast(rng *rand.Rand, online promise) (senders []*sender, receivers []*receiver, promises map[string]promise) {
	own := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())) }
	for i, framing := range []string{"tcp", "tcp", "tcp", "tcp", "websocket", "websocket", "bosh", "bosh", "rest", "rest"} {
		senders = append(senders, &sender{name: fmt.Sprintf("%s%d", framing, i), framing: framing, rng: own()})
	}
	if *roamer {
		senders = append(senders, &sender{name: "roamer", framing: "tcp", roams: true, rng: own()})
	}
	receivers = []*receiver{
		{name: "managed-tcp", framing: "tcp", managed: true, every: 10},
		{name: "managed-websocket", framing: "websocket", managed: true, every: 7},
		{name: "managed-bosh", framing: "bosh", managed: true, every: 10},
		{name: "roaming", framing: "tcp", managed: true, every: 10, habit: roams},
		{name: "vanishing", framing: "tcp", managed: true, every: 3, habit: vanishes},
		{name: "plain-tcp", framing: "tcp"},
		{name: "plain-websocket", framing: "websocket"},
		{name: "plain-bosh", framing: "bosh"},
		{name: "offline", framing: "tcp", habit: away},
		{name: "offline-managed", framing: "websocket", managed: true, every: 10, habit: away},
	}
	promises = map[string]promise{}
	for _, r := range receivers {
		r.rng = own()
		promises[r.name] = online
		if r.habit == away {
			promises[r.name] = returned
		}
	}
	return senders, receivers, promises
}

// flood is one round: messages from everybody to everybody until the server goes
// down.
type flood struct {
	srv       *server
	ledger    *ledger
	receivers []*receiver
	padding   string // of every body
	target    int    // acknowledgements in all after which it goes down
	end       func() // brings it down
	down      atomic.Bool
}

func (f *flood) isDown() bool { return f.down.Load() }

// choose gives the sender's next message a number and a recipient.
func (f *flood) choose(s *sender) string {
	to := f.receivers[s.rng.IntN(len(f.receivers))].name
	s.n++
	f.ledger.sent(message{s.name, s.n}, to)
	return to
}

// acked notes an acknowledgement. The one that is the target ends the server.
func (f *flood) acked(m message) {
	if f.ledger.acked(m) >= f.target {
		f.finish()
	}
}

func (f *flood) finish() {
	if !f.down.Swap(true) {
		f.end()
	}
}

// run returns when the server is gone and everybody has noticed.
func (f *flood) run(senders []*sender) (errs []error) {
	var mu sync.Mutex
	do := func(wg *sync.WaitGroup, job func() error) {
		wg.Go(func() {
			if err := job(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	var sending, listening sync.WaitGroup
	for _, r := range f.receivers {
		if r.habit != away {
			do(&listening, func() error { return r.listen(f) })
		}
	}
	for _, s := range senders {
		do(&sending, func() error { return s.flood(f) })
	}
	sending.Wait()
	f.finish()
	listening.Wait()
	<-f.srv.gone
	return errs
}

// all runs a job for everybody at once.
func all[T any](list []T, job func(T) error) (errs []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, x := range list {
		wg.Go(func() {
			if err := job(x); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errs
}

// check fails the test at errors, with what the server last said.
func check(t *testing.T, s *server, what string, errs []error) {
	t.Helper()
	for _, err := range errs {
		t.Errorf("%s: %v", what, err)
	}
	if t.Failed() {
		t.Fatalf("the server said at last:\n%s", s.log)
	}
}

// report fails the test at faults of the ledger.
func report(t *testing.T, s *server, l *ledger) {
	t.Helper()
	faults := l.faults()
	for i, f := range faults {
		if i == 20 {
			t.Errorf("and %d more", len(faults)-i)
			break
		}
		t.Error(f)
	}
	if len(faults) > 0 {
		t.Fatalf("the server said at last:\n%s", s.log)
	}
}

// play runs rounds of one way to go down.
func play(t *testing.T, n int, down func(*server), online promise) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	chosen := *seed
	if chosen == 0 {
		chosen = uint64(time.Now().UnixNano())
	}
	t.Logf("-survival.seed %d", chosen)
	rng := rand.New(rand.NewPCG(chosen, 0))
	senders, receivers, promises := cast(rng, online)
	var accounts, tokens []string
	for _, s := range senders {
		accounts = append(accounts, s.name)
		if s.framing == "rest" {
			tokens = append(tokens, s.name)
		}
	}
	for _, r := range receivers {
		accounts = append(accounts, r.name)
	}
	srv := newServer(t, "4MiB", accounts, tokens)
	defer func() {
		for _, s := range senders {
			if s.c != nil {
				s.c.Drop()
			}
		}
		for _, r := range receivers {
			if r.c != nil {
				r.c.Drop()
			}
		}
	}()
	l := newLedger(promises)
	srv.start(t)
	check(t, srv, "logging in", all(receivers, func(r *receiver) error {
		if r.habit == away {
			return nil
		}
		return r.login(srv)
	}))
	for l.round = 1; l.round <= n; l.round++ {
		began := time.Now()
		check(t, srv, "logging in", all(senders, func(s *sender) error { return s.login(srv) }))
		f := &flood{srv: srv, ledger: l, receivers: receivers, target: l.acks + 20 + rng.IntN(len(senders)*perSender*9/10)}
		f.end = func() { down(srv) }
		check(t, srv, fmt.Sprintf("round %d", l.round), f.run(senders))
		srv.start(t)
		check(t, srv, fmt.Sprintf("after round %d", l.round), all(receivers, func(r *receiver) error { return r.collect(srv, l) }))
		t.Logf("round %d: %s; %s", l.round, l.tally(l.round), time.Since(began).Round(time.Millisecond))
		report(t, srv, l)
		check(t, srv, "leaving", all(receivers, func(r *receiver) error {
			if r.habit == away {
				return r.leave()
			}
			return nil
		}))
	}
}

// What was acknowledged survives SIGKILL.
func TestKill(t *testing.T) { play(t, *rounds, (*server).kill, anywhere) }

// An orderly stop loses nothing either: what waited for a session that was away
// has become offline messages, so that even a client without an archive gets all.
func TestTerminate(t *testing.T) { play(t, min(*rounds, 3), (*server).stop, returned) }

// A receiver that reads and never acknowledges fills its queue. What does not fit
// goes where messages go that find no session, and nothing is lost.
func TestFullQueue(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	s := &sender{name: "romeo", framing: "tcp", rng: rng}
	r := &receiver{name: "juliet", framing: "tcp", managed: true, rng: rng}
	srv := newServer(t, "256KiB", []string{s.name, r.name}, nil)
	l := newLedger(map[string]promise{r.name: returned})
	srv.start(t)
	check(t, srv, "logging in", all([]func(*server) error{s.login, r.login}, func(login func(*server) error) error { return login(srv) }))
	f := &flood{srv: srv, ledger: l, receivers: []*receiver{r}, padding: " " + strings.Repeat("x", 4096), target: math.MaxInt}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			n, err := r.c.Take()
			if err != nil {
				return
			}
			if n != nil && n.Is(harness.NSClient, "message") {
				if err := r.take(l, live, n); err != nil {
					t.Error(err)
				}
			}
		}
	})
	err := s.floodXMPP(f)
	r.c.Drop()
	reading.Wait()
	if err != nil {
		t.Fatal(err)
	}
	// With so little room the session may be full again before it is asked: then it
	// ends, and its client comes back once more.
	for try := 1; ; try++ {
		r.c = nil
		if err = r.collect(srv, l); err == nil {
			break
		}
		if r.c != nil {
			r.c.Drop()
		}
		if try == 20 {
			t.Fatal(err)
		}
		t.Log(err)
	}
	t.Log(l.tally(0))
	report(t, srv, l)
	for _, c := range []*harness.Client{s.c, r.c} {
		c.Drop()
	}
}
