package event

import "trivium/core/store"

// Store returns the log's store.
func Store(l *Log) *store.DB { return l.db }
