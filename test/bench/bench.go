package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// bench is one interleaved run: its options, then what it starts.
type bench struct {
	scenarios     []scenario
	drivers       []driver
	rounds        int
	duration      time.Duration // measured window of a timed scenario
	idle          int           // connections of the idle scenarios
	offline       int           // messages of the offline scenario
	quick         bool
	write         string // "batch" or "each"
	out, json     string
	workdir       string
	install       bool
	triviumBinary string
	// prosodyModules is a directory of Prosody's community modules, with mod_rest.
	prosodyModules string
	profile        string
	sources        sources
	log            *slog.Logger

	profileWindow func() // called when a run's measured window opens, nil if it is not profiled

	cert     *certificate
	receiver *receiver // of webhooks
	servers  []*server
	records  records
}

// errUnsupported says that a server lacks what a scenario needs: no failure.
var errUnsupported = errors.New("not offered by this server")

// scenario is one thing that is measured, on every server.
type scenario struct {
	name  string
	title string
	relay bool  // runs on the byte relay too
	fresh bool  // needs a server that has just started
	quiet bool  // means little while others use the processors: waits for a pause
	heap  bool  // it is memory that is measured: a profile of it is a heap profile
	setup setup // how the servers are configured
	run   runner
	also  []variant // measured in turn with the servers
}

type runner func(context.Context, *bench, *server) (*outcome, error)

// variant is one more row of a scenario's table: a server that is configured, or
// driven, in another way.
type variant struct {
	name   string // as in the report; begins with the server's name
	server string
	setup  setup
	run    runner
}

// rows returns what a scenario measures on the servers that run.
func (sc scenario) rows(servers []*server) []variant {
	var rows []variant
	for _, s := range servers {
		if !s.ep.relay || sc.relay {
			rows = append(rows, variant{name: s.name(), server: s.name(), setup: sc.setup, run: sc.run})
		}
		for _, v := range sc.also {
			if v.server == s.name() {
				rows = append(rows, v)
			}
		}
	}
	return rows
}

// outcome is what one run of a scenario on one server gave.
type outcome struct {
	Metrics  map[string]float64 `json:"metrics"`
	Sent     int64              `json:"sent"`
	Received int64              `json:"received"`
	Errors   int64              `json:"errors"`
	Notes    []string           `json:"notes,omitempty"`
}

// record is an outcome with its place in the run.
type record struct {
	Scenario string    `json:"scenario"`
	Server   string    `json:"server"` // the row: a server's name, or a variant's
	Round    int       `json:"round"`
	Start    time.Time `json:"start"`
	Failure  string    `json:"failure,omitempty"`
	Skipped  string    `json:"skipped,omitempty"`
	Others   float64   `json:"others"` // share of the machine's cores used by processes that are not the run's, 0 to 1
	outcome
}

// Accounts, by purpose, so that scenarios do not disturb each other.
const (
	chatFrom     = 0 // 2 per pair
	chatPairs    = 50
	presenceFrom = 100
	offlineFrom  = 200
	restFrom     = 280
	pageFrom     = 290
	idleFrom     = 300
)

func (b *bench) accounts() []string {
	n := idleFrom
	for _, s := range b.scenarios {
		if s.fresh {
			n = idleFrom + b.idle
		}
	}
	return users(0, n)
}

func (b *bench) run(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.workdir, "trivium-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // peers run as users of their own
		return err
	}
	if b.cert, err = newCertificate(); err != nil {
		return err
	}
	if b.receiver, err = newReceiver(); err != nil {
		return err
	}
	defer b.receiver.close()
	b.records.Machine = describeMachine()
	b.records.Options = fmt.Sprintf("rounds %d, duration %s, idle %d, offline %d, write %s", b.rounds, b.duration, b.idle, b.offline, b.write)
	b.records.Versions = map[string]string{}
	defer func() {
		for _, s := range b.servers {
			s.stop()
		}
	}()
	if err := b.startServers(ctx, dir); err != nil {
		return err
	}
	for _, sc := range b.scenarios {
		if err := b.runScenario(ctx, sc); err != nil {
			return err
		}
		if err := b.save(); err != nil { // an interrupted run keeps what it has
			return err
		}
	}
	if b.profile != "" {
		if err := b.profileAll(ctx); err != nil {
			return err
		}
	}
	if b.out != "" {
		if err := writeReport(b.out, &b.records, b.sources); err != nil {
			return err
		}
	}
	printSummary(os.Stdout, &b.records)
	return b.records.sound("trivium")
}

func (b *bench) startServers(ctx context.Context, dir string) error {
	accounts := b.accounts()
	for _, d := range b.drivers {
		s := &server{driver: d, dir: filepath.Join(dir, d.name()), log: filepath.Join(dir, d.name()+".log")}
		if err := os.Mkdir(s.dir, 0o755); err != nil {
			return err
		}
		ep, err := d.prepare(ctx, b, s.dir, accounts)
		if err == nil {
			ep.domain, ep.tls, ep.creds = domain, b.cert.client, &credentials{}
			s.ep = ep
			err = s.start(ctx)
		}
		var version string
		if err == nil {
			version, err = d.version(ctx)
		}
		if err != nil {
			if d.name() == "trivium" {
				return err // the report is about it
			}
			b.log.Error("server left out", "server", d.name(), "err", err)
			b.records.Versions[d.name()] = "left out: " + err.Error()
			continue
		}
		b.log.Info("server runs", "server", d.name(), "version", version)
		b.records.Versions[d.name()] = version
		b.servers = append(b.servers, s)
	}
	if len(b.servers) == 0 {
		return errors.New("no server runs")
	}
	return nil
}

// runScenario interleaves the rows: A B C, then B C A, and so on, so that no
// server always follows the same other one.
func (b *bench) runScenario(ctx context.Context, sc scenario) error {
	rows := sc.rows(b.servers)
	for round := range b.rounds {
		for i := range rows {
			v := rows[(i+round)%len(rows)]
			if err := ctx.Err(); err != nil {
				return err
			}
			rec := b.runOnce(ctx, sc, v, round)
			b.records.Runs = append(b.records.Runs, rec)
			b.log.Info("run", "scenario", sc.name, "server", v.name, "round", round+1, "metrics", formatMetrics(rec.Metrics),
				"sent", rec.Sent, "received", rec.Received, "errors", rec.Errors, "failure", rec.Failure, "skipped", rec.Skipped)
		}
	}
	return nil
}

func (b *bench) runOnce(ctx context.Context, sc scenario, v variant, round int) record {
	rec := record{Scenario: sc.name, Server: v.name, Round: round + 1, Start: time.Now().UTC()}
	fail := func(err error) record {
		if errors.Is(err, errUnsupported) {
			rec.Skipped = err.Error()
		} else {
			rec.Failure = err.Error()
		}
		return rec
	}
	s := b.find(v.server)
	if sc.fresh && !b.quick || s.cmd == nil || ended(s) || s.setup != v.setup {
		s.stop()
		s.setup = v.setup
		if err := s.start(ctx); err != nil {
			return fail(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.duration+5*time.Minute)
	defer cancel()
	if sc.quiet && !b.quick {
		if err := b.awaitQuiet(ctx); err != nil {
			return fail(err)
		}
	}
	noise, err := b.watchOthers()
	if err != nil {
		return fail(err)
	}
	out, err := v.run(ctx, b, s)
	if err != nil {
		return fail(err)
	}
	rec.outcome = *out
	if out.Received == 0 { // figures per operation would be nonsense
		rec.Metrics = nil
		return fail(fmt.Errorf("nothing of %d came through", out.Sent))
	}
	if rec.Others, err = noise(); err != nil {
		return fail(err)
	}
	return rec
}

func ended(s *server) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// watchOthers returns a function that tells the share of all cores that processes
// outside this run have used since: what else disturbed the figures.
func (b *bench) watchOthers() (func() (float64, error), error) {
	sample := func() (others, total time.Duration, err error) {
		text, err := os.ReadFile("/proc/stat")
		if err != nil {
			return 0, 0, err
		}
		busy, total, err := parseMachine(text)
		if err != nil {
			return 0, 0, err
		}
		own, err := processClock(os.Getpid())
		if err != nil {
			return 0, 0, err
		}
		for _, s := range b.servers {
			if s.cmd == nil {
				continue
			}
			cpu, err := s.meter().cpu()
			if err != nil {
				return 0, 0, err
			}
			own += cpu
		}
		return busy - own, total, nil
	}
	others, total, err := sample()
	return func() (float64, error) {
		others2, total2, err := sample()
		if total2 == total {
			return 0, err
		}
		return max(0, float64(others2-others)/float64(total2-total)), err
	}, err
}

// awaitQuiet waits, a while, for a moment when others leave the processors alone.
func (b *bench) awaitQuiet(ctx context.Context) error {
	const limit, step, calm = 10 * time.Second, 500 * time.Millisecond, 0.1
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		noise, err := b.watchOthers()
		if err != nil {
			return err
		}
		if err := pause(ctx, step); err != nil {
			return err
		}
		if share, err := noise(); err != nil || share < calm {
			return err
		}
	}
	return nil
}

func (b *bench) save() error {
	if b.json == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.json), 0o755); err != nil {
		return err
	}
	return b.records.write(b.json)
}

// find returns the running server of that name.
func (b *bench) find(name string) *server {
	if i := slices.IndexFunc(b.servers, func(s *server) bool { return s.name() == name }); i >= 0 {
		return b.servers[i]
	}
	return nil
}
