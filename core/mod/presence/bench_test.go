package presence_test

import (
	"fmt"
	"testing"

	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/module"
	"trivium/core/stanza"
)

// BenchmarkBroadcast is one presence change with 20 online contacts, up to what
// the connections are given to write.
func BenchmarkBroadcast(b *testing.B) {
	const contacts = 20
	var friends []string
	for i := range contacts {
		friends = append(friends, fmt.Sprintf("friend%d@example.org", i))
	}
	s := modtest.New(b, presence.New(mutual("juliet@example.com", friends...), presence.Options{}))
	for _, f := range friends {
		c := s.Connect(f + "/x")
		c.Send(`<presence/>`)
		c.Discard()
	}
	juliet := s.Connect(balcony)
	juliet.Discard()
	juliet.Send(`<presence/>`)
	var turn module.Turn
	changes := [2]*stanza.Stanza{
		modtest.Parse(b, `<presence><show>away</show><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>`),
		modtest.Parse(b, `<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>`),
	}
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		st := changes[i&1]
		st.From = juliet.JID
		p := module.Packet{Stanza: st, Session: juliet.Session, Turn: &turn}
		if err := s.Host.Announce(ctx, &p); err != nil {
			b.Fatal(err)
		}
		turn.Flush()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(contacts+1), "ns/delivery")
}
