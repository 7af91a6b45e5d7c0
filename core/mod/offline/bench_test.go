package offline_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"trivium/core/mod/modtest"
	"trivium/core/mod/offline"
	"trivium/core/mod/presence"
	"trivium/core/module"
	"trivium/core/store"
)

// cpu is what the process has used so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const (
	benchAccounts = 40
	benchBody     = `<body>O blessed, blessed night! I am afeard. Being in night, all this is but a dream, too flattering-sweet to be substantial.</body>`
)

func benchServer(b *testing.B) (*modtest.Server, *offline.Module) {
	o := modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db"), QueueMax: 1 << 20}}
	m := offline.New(offline.Options{Messages: 1 << 20, Bytes: 1 << 30})
	return modtest.NewWith(b, o, m, presence.New(nobody{}, presence.Options{})), m
}

// fill stores n messages for the accounts in turn, and waits until they are safe.
func fill(b *testing.B, s *modtest.Server, n int) {
	romeo := s.Connect(orchard)
	defer romeo.Close()
	safe := make(chan struct{})
	rc := module.NewReceipt(func(error) { close(safe) })
	for i := range n {
		romeo.SendStanza(modtest.Parse(b, fmt.Sprintf(`<message to='juliet%d@example.com' type='chat' id='m%d'>`+benchBody+`</message>`, i%benchAccounts, i)), rc)
	}
	rc.Release(nil)
	<-safe
}

// BenchmarkStore is one message to an absent account, from the sender's parsed
// stanza to the synced commit; cpu-ns/op counts all goroutines.
func BenchmarkStore(b *testing.B) {
	s, _ := benchServer(b)
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	fill(b, s, b.N)
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkDeliver is one waiting message at login, until it has been deleted.
func BenchmarkDeliver(b *testing.B) {
	s, m := benchServer(b)
	fill(b, s, b.N)
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	for i := range benchAccounts {
		c := s.Connect(fmt.Sprintf("juliet%d@example.com/x", i))
		c.Discard()
		c.Send(`<presence/>`)
	}
	m.Wait()
	sync1(b, s)
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if n := m.Stats.Delivered.Load(); n != int64(b.N) {
		b.Errorf("%d messages were delivered, want %d", n, b.N)
	}
}

// BenchmarkPark is one message that is parked while a session gets it: given up
// before its write has begun, or deleted once it is safe.
func BenchmarkPark(b *testing.B) {
	st := outgoing(b, 0)
	b.Run("early", func(b *testing.B) {
		s, m := benchServer(b)
		release := block(b, s)
		defer release()
		m.Park(juliets, st, func(error) {}) // the box is known
		b.ReportAllocs()
		for b.Loop() {
			m.Park(juliets, st, func(error) {}).Drop()
		}
	})
	b.Run("late", func(b *testing.B) {
		s, m := benchServer(b)
		const window = 64
		var list [window]module.Parked
		b.ReportAllocs()
		before := cpu(b)
		b.ResetTimer()
		for i := range b.N {
			p := &list[i%window]
			if *p != nil {
				(*p).Drop()
			}
			*p = m.Park(juliets, st, func(error) {})
			if *p == nil {
				b.Fatal("not parked")
			}
			if i%window == window-1 {
				sync1(b, s)
			}
		}
		sync1(b, s)
		b.StopTimer()
		b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	})
}
