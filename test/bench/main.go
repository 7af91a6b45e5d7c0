// Command bench measures Trivium beside Debian's ejabberd and Prosody and a byte
// relay, in one interleaved run on one machine, and writes the report
// docs/performance.md.
//
// It owns the load client (link, session, splitter), the drivers that start the
// servers, the meter that reads their processor time and memory from the kernel,
// the scenarios, and the report. It drives servers over loopback only, as
// processes of their own, with bounded counts and times, and stops what it started.
//
//	go run ./test/bench                      # everything; about an hour
//	go run ./test/bench -quick               # a smoke run of less than a minute
//	go run ./test/bench -scenarios chat-tcp-32,chat-tcp-1 -servers trivium,relay
//	go run ./test/bench -scenarios sessions -rounds 1 -duration 1s -idle 500   # about four minutes
//	go run ./test/bench -scenarios bridge -rounds 3      # about three minutes
//	go run ./test/bench report -json test/artifacts/bench.json -out docs/performance.md
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		slog.Error("bench failed", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "relay":
			return relayCommand(ctx, args[1:])
		case "report":
			return reportCommand(args[1:])
		case "list":
			for _, s := range scenarios() {
				fmt.Printf("%-16s %s\n", s.name, s.title)
			}
			return nil
		}
	}
	return measureCommand(ctx, args)
}

func relayCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:15000", "`address` to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	if err := runRelay(l); ctx.Err() == nil {
		return err
	}
	return nil
}

func reportCommand(args []string) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	raw := flags.String("json", defaultJSON, "raw results to read, comma-separated `files`; later ones replace earlier ones per scenario")
	out := flags.String("out", defaultReport, "report `file` to write")
	src := sourceFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := readRecords(strings.Split(*raw, ",")...)
	if err != nil {
		return err
	}
	return writeReport(*out, r, *src)
}

func sourceFlags(flags *flag.FlagSet) *sources {
	src := &sources{}
	flags.StringVar(&src.profiles, "profile-dir", "test/artifacts/profiles", "`directory` of profiles, SCENARIO.pprof; the report shows those of missed goals")
	flags.StringVar(&src.notes, "notes", "test/bench/notes", "`directory` of remarks on missed goals, SCENARIO.md, for the report")
	return src
}

const (
	defaultReport = "docs/performance.md"
	defaultJSON   = "test/artifacts/bench.json"
)

func measureCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bench{}
	names := flags.String("scenarios", "all", "comma-separated `names`, or all, or sessions, or bridge; see the list command")
	servers := flags.String("servers", "trivium,ejabberd,prosody,relay", "comma-separated `names`, in the order of each round")
	quick := flags.Bool("quick", false, "smoke run: one round, small counts, less than a minute; its figures mean little")
	flags.IntVar(&b.rounds, "rounds", 5, "`rounds` of each scenario")
	flags.DurationVar(&b.duration, "duration", 3*time.Second, "measured `time` of one run of a scenario with no fixed count")
	flags.IntVar(&b.idle, "idle", 2000, "idle `connections`")
	flags.IntVar(&b.offline, "offline", 4000, "offline `messages` per run")
	flags.StringVar(&b.write, "write", "batch", "a closed-loop sender writes all slots freed by one read at once (`batch`), or one by one (each)")
	flags.StringVar(&b.out, "out", "", "report `file` to write, usually "+defaultReport)
	flags.StringVar(&b.json, "json", defaultJSON, "raw results `file` to write")
	flags.StringVar(&b.workdir, "workdir", "", "`directory` for the servers' data, removed afterwards (default: a temporary one)")
	flags.BoolVar(&b.install, "install", true, "let apt-get install a missing peer, when run as root")
	flags.StringVar(&b.triviumBinary, "trivium", "bin/trivium", "Trivium's built `binary`")
	flags.StringVar(&b.prosodyModules, "prosody-modules", "", "`directory` of Prosody's community modules: with mod_rest in it the REST scenarios have Prosody too")
	flags.StringVar(&b.profile, "profile", "", "after the rounds run each scenario once more on Trivium and fetch a CPU profile from this pprof `URL`:"+
		" admin for the admin socket, or http://host:port/debug/pprof, or unix:/path/to/socket:/debug/pprof")
	src := sourceFlags(flags)
	nice := flags.Int("nice", 0, "scheduling `priority` of the run and of its servers, -20 to 19; negative needs root and shields from other work")
	verbose := flags.Bool("v", false, "log every run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown command %q", flags.Arg(0))
	}
	if b.write != "batch" && b.write != "each" {
		return errors.New("-write must be batch or each")
	}
	if *quick {
		b.rounds, b.duration, b.idle, b.offline, b.quick = 1, 250*time.Millisecond, 100, 400, true
	}
	b.sources = *src
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	b.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	debug.SetGCPercent(400) // the client's garbage collector takes processor time from the server
	if err := renice(*nice); err != nil {
		return err
	}
	var err error
	if b.scenarios, err = chooseScenarios(*names); err != nil {
		return err
	}
	if b.drivers, err = chooseDrivers(*servers); err != nil {
		return err
	}
	return b.run(ctx)
}

// renice sets the priority of every thread of this process; what is started later
// inherits it. In Linux priorities belong to threads (setpriority(2), Notes).
func renice(n int) error {
	if n == 0 {
		return nil
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, n); err != nil {
			return fmt.Errorf("-nice %d: %w", n, err)
		}
	}
	return nil
}

// groups are names for several scenarios.
var groups = map[string]string{
	"sessions": "sm-*,archive-*,login-fast*,hibernated",    // what outlives a connection
	"bridge":   "rest,rest-many,rest-new,webhook,sse,cpim", // ways between XMPP and programs or other systems
}

func chooseScenarios(names string) ([]scenario, error) {
	all := scenarios()
	if names == "all" {
		return all, nil
	}
	var chosen []scenario
	for alias, group := range groups {
		names = strings.ReplaceAll(names, alias, group)
	}
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, s := range all {
			if s.name == name || strings.HasSuffix(name, "*") && strings.HasPrefix(s.name, strings.TrimSuffix(name, "*")) {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario %q; see the list command", name)
		}
	}
	return chosen, nil
}

func chooseDrivers(names string) ([]driver, error) {
	var chosen []driver
	for name := range strings.SplitSeq(names, ",") {
		switch name {
		case "trivium":
			chosen = append(chosen, &trivium{})
		case "ejabberd":
			chosen = append(chosen, &ejabberd{})
		case "prosody":
			chosen = append(chosen, &prosody{})
		case "relay":
			chosen = append(chosen, &relay{})
		default:
			return nil, fmt.Errorf("no server %q", name)
		}
	}
	return chosen, nil
}
