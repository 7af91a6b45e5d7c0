package store

// QueueLen returns the entries that the queue holds, withdrawn ones included.
func QueueLen(db *DB) int {
	db.queue.mu.Lock()
	defer db.queue.mu.Unlock()
	return len(db.queue.entries)
}
