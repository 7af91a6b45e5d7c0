package core

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// A login needs far more memory than the session that it leads to: the handshake,
// SASL and the first look at the roster. After many of them the collector alone
// would keep that memory for minutes, and the stacks that they grew as well.
const (
	tidyTick = 2 * time.Second
	tidyMin  = 500 // logins that are worth it
)

// tidyMemory gives memory back to the system when a wave of logins has passed:
// nobody has logged in for a tick, and a quarter of the sessions are new.
func (s *Server) tidyMemory(ctx context.Context) {
	tick := time.NewTicker(tidyTick)
	defer tick.Stop()
	var tidied, before int64
	for {
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
