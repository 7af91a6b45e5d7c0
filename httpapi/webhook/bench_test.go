package webhook

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"trivium/core/mod/modtest"
	"trivium/core/store"
)

// BenchmarkDelivery is one message from a session through the outbox of a synced
// store and over loopback HTTP, among a thousand conversations.
func BenchmarkDelivery(b *testing.B) {
	done := make(chan struct{}, 1<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { done <- struct{}{} }))
	defer srv.Close()
	s := modtest.NewWith(b, modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db")}})
	_, stop := start(b, s, Endpoint{URL: srv.URL, Domains: []string{"gw.example.org"}}, Options{MaxPending: 1 << 30})
	defer stop()
	romeo := s.Connect("romeo@example.org/orchard")
	b.ReportAllocs()
	b.ResetTimer()
	const window = 2000
	for i := range b.N {
		romeo.Send(fmt.Sprintf(`<message to='bot%d@gw.example.org' type='chat'><body>0123456789</body></message>`, i%1000))
		if i >= window {
			<-done
		}
	}
	for range min(b.N, window) {
		<-done
	}
}
