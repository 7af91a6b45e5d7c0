package message

import (
	"testing"
	"time"

	"trivium/bridges/cpim/entity"
)

// typical is a chat message with names, a date and a subject.
const typical = "Content-Type: Message/CPIM\r\n\r\nFrom: Alice Liddell <im:alice@xmpp.example>\r\nTo: Bob <im:bob@im.example>\r\n" +
	"DateTime: 2026-03-01T12:00:00Z\r\nSubject:;lang=cs Oběd\r\n\r\nContent-Type: text/plain; charset=utf-8\r\nContent-ID: <7d0e2a9b@xmpp.example>\r\n" +
	"Content-Language: en\r\n\r\nTram 22\r\nor walk?"

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		if _, err := Parse(typical, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	m := &Message{
		From: Address{"Alice Liddell", "im:alice@xmpp.example"}, To: []Address{{"Bob", "im:bob@im.example"}},
		DateTime: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Subjects: []Subject{{"cs", "Oběd"}},
		Content: *entity.New("text/plain; charset=utf-8", "Tram 22\r\nor walk?").Add("Content-ID", "<7d0e2a9b@xmpp.example>").Add("Content-Language", "en"),
	}
	buf, err := m.AppendTo(nil)
	if err != nil || string(buf) != typical {
		b.Fatalf("%v, %q", err, buf)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		buf, _ = m.AppendTo(buf[:0])
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m, err := Parse(typical, Options{})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(1000, func() { buf, _ = m.AppendTo(buf[:0]) }); n != 0 {
		t.Errorf("AppendTo: %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = Parse(typical, Options{}) }); n > 2 {
		t.Errorf("Parse: %v allocations, want at most 2", n)
	}
}
