package event

import "trivium/core/store"

// Count returns how many events the log believes to hold.
func Count(l *Log) int64 { pushed, _ := l.tail.count(); return l.removal.events + pushed }

// Store returns the log's store.
func Store(l *Log) *store.DB { return l.db }
