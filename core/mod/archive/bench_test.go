package archive_test

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
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

const benchBody = `<body>O blessed, blessed night! I am afeard. Being in night, all this is but a dream, too flattering-sweet to be substantial.</body>`

// fill archives n messages for the accounts in turn and waits until they are safe.
func fill(b *testing.B, s *modtest.Server, accounts, n int) {
	ctx := b.Context()
	stanzas := make([]*stanza.Stanza, accounts)
	for i := range stanzas {
		stanzas[i] = modtest.Parse(b, fmt.Sprintf(`<message to='juliet%d@example.com' from='romeo@example.net/orchard' type='chat' id='m12345678'>`+benchBody+`</message>`, i))
	}
	safe := make(chan error)
	rc := module.NewReceipt(func(err error) { safe <- err })
	var t module.Turn
	for i := range n {
		_ = s.Router.Send(ctx, &t, stanzas[i*7%accounts], rc) // nobody is there; that is not the archive's concern
		if i%20000 == 19999 {
			if err := s.Store.Sync(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	go rc.Release(nil)
	if err := <-safe; err != nil {
		b.Fatal(err)
	}
}

// taker takes every message over, so that none is refused for want of a session.
type taker struct{}

func (taker) Register(h *module.Host) error {
	h.NoSession(func(context.Context, *module.Packet) error { return module.ErrHandled })
	return nil
}

// BenchmarkInsert is one row: from the parsed stanza to the synced commit;
// cpu-ns/op counts all goroutines.
func BenchmarkInsert(b *testing.B) {
	for _, accounts := range []int{40, 5000} {
		b.Run(fmt.Sprintf("accounts=%d", accounts), func(b *testing.B) {
			m := archive.New(archive.Options{Waiting: 1 << 20, WaitingBytes: 1 << 30})
			s := modtest.NewWith(b, modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db")}}, m, taker{})
			fill(b, s, accounts, 5*accounts)
			b.ReportAllocs()
			before := cpu(b)
			b.ResetTimer()
			fill(b, s, accounts, b.N)
			b.StopTimer()
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkChat is a message between two accounts that are here, with both archives
// and the receipt that says that both have it.
func BenchmarkChat(b *testing.B) {
	for _, policy := range []archive.Policy{archive.Never, archive.Always} {
		b.Run(string(policy), func(b *testing.B) {
			m := archive.New(archive.Options{Default: policy, Waiting: 1 << 20, WaitingBytes: 1 << 30})
			s := modtest.NewWith(b, modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db")}}, modules(m)...)
			const pairs = 64
			var from []*modtest.Client
			var stanzas []*stanza.Stanza
			for i := range pairs {
				to := s.Connect(fmt.Sprintf("juliet%d@example.com/x", i))
				to.Discard()
				to.Send(`<presence/>`)
				from = append(from, s.Connect(fmt.Sprintf("romeo%d@example.com/x", i)))
				from[i].Discard()
				stanzas = append(stanzas, modtest.Parse(b, `<message to='`+to.JID.String()+`' type='chat' id='m12345678'>`+benchBody+`</message>`))
			}
			safe := make(chan error)
			rc := module.NewReceipt(func(err error) { safe <- err })
			b.ReportAllocs()
			before := cpu(b)
			b.ResetTimer()
			for i := range b.N {
				from[i%pairs].SendStanza(stanzas[i%pairs].Copy(), rc)
				if i%20000 == 19999 {
					if err := s.Store.Sync(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			go rc.Release(nil)
			if err := <-safe; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkPage is a page of 50 messages, from the parsed iq to octets for the
// connection.
func BenchmarkPage(b *testing.B) {
	const accounts, messages = 200, 100_000
	m := archive.New(archive.Options{Waiting: 1 << 20, WaitingBytes: 1 << 30})
	s := modtest.NewWith(b, modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db")}}, m, taker{})
	fill(b, s, accounts, messages)
	for _, bb := range []struct{ name, query string }{
		{"first", ``},
		{"last", set(`<before/>`)},
		{"with", `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>` + field("with", "romeo@example.net") + `</x>`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var clients []*modtest.Client
			for i := range accounts {
				c := s.Connect(fmt.Sprintf("juliet%d@example.com/chamber", i))
				c.Discard()
				clients = append(clients, c)
				defer c.Close()
			}
			iq := modtest.Parse(b, `<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2'>`+bb.query+`</query></iq>`)
			clients[0].SendStanza(iq, nil)
			b.ReportAllocs()
			before := cpu(b)
			b.ResetTimer()
			for i := range b.N {
				c := clients[i%accounts]
				q := iq.Readdressed(c.JID, jid.JID{})
				c.SendStanza(q, nil)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
	if n := m.Stats.Results.Load(); n%50 != 0 || n == 0 {
		b.Errorf("%d results", n)
	}
}

// BenchmarkSearch is the first search of an account, for each message that it has
// then, and one of those that follow.
func BenchmarkSearch(b *testing.B) {
	const accounts = 20
	m := archive.New(archive.Options{FullText: true, Waiting: 1 << 20, WaitingBytes: 1 << 30})
	s := modtest.NewWith(b, modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db")}}, m, taker{})
	search := func(i int) {
		c := s.Connect(fmt.Sprintf("juliet%d@example.com/chamber", i))
		defer c.Close()
		c.Discard()
		c.SendStanza(modtest.Parse(b, `<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>`+
			`<field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>`+text("blessed")+`</x>`+set(`<max>10</max><before/>`)+`</query></iq>`), nil)
	}
	b.Run("first", func(b *testing.B) {
		fill(b, s, accounts, b.N)
		before := cpu(b)
		b.ResetTimer()
		for i := range accounts {
			search(i)
		}
		b.StopTimer()
		b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	})
	b.Run("next", func(b *testing.B) {
		before := cpu(b)
		b.ResetTimer()
		for i := range b.N {
			search(i % accounts)
		}
		b.StopTimer()
		b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	})
}
