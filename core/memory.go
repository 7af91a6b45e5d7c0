package core

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A login needs far more memory than the session that it leads to: the handshake,
// SASL and the first look at the roster. After many of them the collector alone
// would keep that memory for minutes, and the stacks that they grew as well.
const (
	tidyTick = 2 * time.Second
	tidyMin  = 500 // logins that are worth it
)

// A heap that has little alive is collected every few milliseconds under load, for
// the sake of some megabytes. roomMin is how much is allocated between collections at
// least; with more alive than that, Go's own rule holds.
const roomMin = 32 << 20

// breathe returns what sets GOGC, which is 100, by what is alive.
func breathe() func() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 100
	return func() {
		metrics.Read(live)
		percent := roomMin * 100 / int(max(live[0].Value.Uint64(), 2<<20))
		percent = max(percent, 100)
		if percent > set*5/4 || percent < set*4/5 {
			debug.SetGCPercent(percent)
			set = percent
		}
	}
}

// tidyMemory gives memory back to the system when a wave of logins has passed:
// nobody has logged in for a tick, and a quarter of the sessions are new.
func (s *Server) tidyMemory(ctx context.Context) {
	tick := time.NewTicker(tidyTick)
	defer tick.Stop()
	adapt := func() {}
	if os.Getenv("GOGC") == "" { // the operator knows better
		defer debug.SetGCPercent(100)
		adapt = breathe()
	}
	var tidied, before int64
	for {
		adapt()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		logins := s.Sessions.Stats.Logins.Load()
		quiet := logins == before
		before = logins
		if !quiet || logins-tidied < max(tidyMin, int64(s.Router.Sessions()/4)) {
			continue
		}
		tidied = logins
		// Each collection halves the stacks that are mostly empty; the second also
		// empties the pools.
		runtime.GC()
		runtime.GC()
		debug.FreeOSMemory()
	}
}
