package event

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"trivium/core/store"
)

// cpu returns the CPU time this process has used, in microseconds.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	us := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return us(u.Utime) + us(u.Stime)
}

func durableLog(b *testing.B) *Log {
	b.Helper()
	db, err := store.Open(context.Background(), store.Options{Path: filepath.Join(b.TempDir(), "log.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	l, err := NewLog(context.Background(), Options{Store: db})
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// BenchmarkAppend is one event in a synced store, without readers.
func BenchmarkAppend(b *testing.B) {
	l := durableLog(b)
	slots := make(chan struct{}, 256)
	l.Consume(release(slots))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		slots <- struct{}{}
		if err := l.Append(note("sms.example.org", i), nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.db.Sync(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-µs/event")
}

// release is a consumer that bounds what is under way.
type release chan struct{}

func (r release) Want(*Event) (Wish, error) {
	return Wish{Done: func(error) { <-r }}, nil
}

// sink is the answer of a stream without network.
type sink struct {
	header http.Header
	octets *atomic.Int64
}

func (s sink) Header() http.Header              { return s.header }
func (s sink) WriteHeader(int)                  {}
func (s sink) Flush()                           {}
func (s sink) SetWriteDeadline(time.Time) error { return nil }
func (s sink) Write(b []byte) (int, error)      { s.octets.Add(int64(len(b))); return len(b), nil }

// BenchmarkFanout is one event to 100 streams: the encoder and the streams alone,
// and with HTTP over loopback, whose readers' CPU counts as well. Events come at
// a rate (paced) or as fast as they are committed.
func BenchmarkFanout(b *testing.B) {
	const streams = 100
	for _, network := range []bool{false, true} {
		for _, rate := range []int{0, 2000, 200} {
			b.Run(fmt.Sprintf("network=%t/rate=%d", network, rate), func(b *testing.B) {
				l := durableLog(b)
				stop := make(chan struct{})
				s := Stream{Log: l, Encoder: &Encoder{}, Stop: stop}
				var got atomic.Int64
				var wg sync.WaitGroup
				f := Filter{Hosts: []string{"sms.example.org"}, Types: []Type{Message}}
				if network {
					srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Serve(w, r, f, JSON, FromNow) }))
					defer srv.Close()
					for range streams {
						wg.Go(func() { drain(b, srv.Listener.Addr().String(), &got) })
					}
				} else {
					for range streams {
						wg.Go(func() {
							rq := httptest.NewRequest(http.MethodGet, "/", nil)
							s.Serve(sink{http.Header{}, &got}, rq, f, JSON, FromNow)
						})
					}
				}
				for l.Followers("sms.example.org") < streams {
					time.Sleep(time.Millisecond)
				}
				slots := make(chan struct{}, 256)
				l.Consume(release(slots))
				shortest := note("sms.example.org", 0)
				shortest.Seq, shortest.Time = l.Last(), time.Unix(0, 0).UTC()
				octets, err := (&entry{Event: shortest}).frame(s.Encoder, JSON)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				before, began := cpu(b), time.Now()
				for i := range b.N {
					if rate > 0 {
						time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
					}
					slots <- struct{}{}
					if err := l.Append(note("sms.example.org", i%10), nil); err != nil {
						b.Fatal(err)
					}
				}
				// Everything has arrived when that many octets have.
				for got.Load() < int64(b.N)*streams*int64(len(octets)) {
					time.Sleep(time.Millisecond)
				}
				b.StopTimer()
				b.ReportMetric((cpu(b)-before)/float64(b.N)/streams, "cpu-µs/event/stream")
				b.ReportMetric(float64(b.N)*streams/b.Elapsed().Seconds(), "events/s")
				close(stop)
				wg.Wait()
			})
		}
	}
}

// drain reads a stream as cheaply as can be.
func drain(b *testing.B, address string, got *atomic.Int64) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		b.Error(err)
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		got.Add(int64(n))
		if err != nil {
			return
		}
	}
}
