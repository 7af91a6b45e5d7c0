package store

import "time"

// Stats counts what the writer did since Open.
type Stats struct {
	Waiting int           // operations in the queue now
	Batches int64         // transactions taken on
	Ops     int64         // operations run
	Failed  int64         // operations that ended with an error
	Replays int64         // batches run again because one of them failed
	Largest int64         // operations in the largest batch
	Busy    time.Duration // time spent running and committing
}

type writerStats struct {
	batches, ops, failed, replays, largest, busy counter
}

func (s *writerStats) count(ops int, busy time.Duration) {
	s.batches.add(1)
	s.ops.add(int64(ops))
	s.busy.add(int64(busy))
	if n := int64(ops); n > s.largest.load() { // only the writer stores it
		s.largest.n.Store(n)
	}
}

// Stats returns the counters; each is exact, together they may be of slightly
// different moments.
func (db *DB) Stats() Stats {
	s := &db.writer.stats
	return Stats{
		Waiting: db.queue.waiting(),
		Batches: s.batches.load(),
		Ops:     s.ops.load(),
		Failed:  s.failed.load(),
		Replays: s.replays.load(),
		Largest: s.largest.load(),
		Busy:    time.Duration(s.busy.load()),
	}
}
