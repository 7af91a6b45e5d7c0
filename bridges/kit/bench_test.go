package kit_test

import (
	"context"
	"testing"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// sink is a network that takes everything.
type sink struct{}

func (sink) Message(context.Context, *router.Packet) error                 { return nil }
func (sink) Presence(context.Context, *stanza.Stanza) error                { return nil }
func (sink) Subscription(context.Context, *stanza.Stanza) error            { return nil }
func (sink) IQ(context.Context, *stanza.Stanza) error                      { return nil }
func (sink) Register(context.Context, kit.Change, *kit.Registration) error { return nil }

// taking is a gateway for registered users, and a message of one.
func taking(tb testing.TB) (*kit.Gateway, *router.Packet) {
	tb.Helper()
	db, err := store.Open(context.Background(), store.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	d := telephone
	d.Registered, d.RefuseLong, d.Users = true, true, []string{"example.com", "example.org"}
	gw, err := kit.New(context.Background(), domain, d, sink{}, kit.Options{Router: router.New(router.Options{}), Store: db})
	if err != nil {
		tb.Fatal(err)
	}
	if err := gw.Enroll(context.Background(), jid.Must(juliet), nil); err != nil {
		tb.Fatal(err)
	}
	st := modtest.Parse(tb, `<message from='`+chamber+`' to='`+plus1+`' type='chat'><body>Art thou not Romeo, and a Montague?</body></message>`)
	return gw, &router.Packet{Stanza: st, Turn: new(router.Turn)}
}

func TestMessageAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates")
	}
	gw, p := taking(t)
	send := func() {
		if err := gw.Handle(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if n := testing.AllocsPerRun(1000, send); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkMessage(b *testing.B) {
	gw, p := taking(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := gw.Handle(context.Background(), p); err != nil {
			b.Fatal(err)
		}
	}
}

// The name that an address stands for leads back to it (XEP-0106 §3.4).
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"+1 555", "d'artagnan", `c:\net`, `\20x`, "juliet@capulet.lit", " x ", "Ａ", `\5c`, `\`} {
		f.Add(s)
	}
	gw, _ := taking(f)
	f.Fuzz(func(t *testing.T, name string) {
		j, err := gw.Address(name)
		if err != nil {
			t.Skip()
		}
		again, err := gw.Address(kit.Name(j))
		if err != nil || again != j {
			t.Errorf("%q is %s, which is called %q, which is %s (%v)", name, j, kit.Name(j), again, err)
		}
	})
}
