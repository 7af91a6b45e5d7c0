package httpapi

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/core/store"
)

const (
	readyTimeout = 2 * time.Second
	// readyFor is how long an answer of the store is believed, so that nobody can
	// keep it busy with questions.
	readyFor = time.Second
)

// Health answers the questions of a supervisor: is the process up, and should
// traffic be sent to it. It is safe for concurrent use.
type Health struct {
	db       *store.DB
	stopping atomic.Bool

	mu    sync.Mutex // held while the store is asked
	asked time.Time
	err   error
}

// NewHealth returns a Health for a server on db.
func NewHealth(db *store.DB) *Health { return &Health{db: db} }

// Stopping makes /readyz say no from now on: an orderly stop has begun.
func (h *Health) Stopping() { h.stopping.Store(true) }

// Mount registers /healthz and /readyz.
func (h *Health) Mount(r chi.Router) {
	get(r, "/healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok\n") })
	get(r, "/readyz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case h.stopping.Load():
			say(w, http.StatusServiceUnavailable, "shutting down\n")
		case h.store(r.Context()) != nil:
			say(w, http.StatusServiceUnavailable, "the store does not answer\n")
		default:
			say(w, http.StatusOK, "ok\n")
		}
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// store asks the writer for an empty commit, and a reader for a row.
func (h *Health) store(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.asked) < readyFor {
		return h.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	var n int
	err := h.db.Sync(ctx)
	if err == nil {
		err = h.db.QueryRow(ctx, "SELECT 1").Scan(&n)
	}
	h.asked, h.err = time.Now(), err
	return err
}
