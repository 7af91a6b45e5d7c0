package websocket

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	gorilla "github.com/gorilla/websocket"

	"trivium/core/stream"
	"trivium/core/wire"
)

// road opens a stream over one framing, without what a client library would cost.
type road struct {
	name  string
	serve func(tb testing.TB, accept func(stream.Conn)) (addr string)
	open  string // sent after connecting
	ready string // what the answer ends with
	frame func(element string) []byte
}

func roads() []road {
	request := "GET " + Path + " HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
	return []road{
		{
			name: "tcp",
			serve: func(tb testing.TB, accept func(stream.Conn)) string {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					tb.Fatal(err)
				}
				tb.Cleanup(func() { l.Close() })
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						conn := stream.NewTCP(stream.NewSocket(c), wire.Limits{})
						go func() {
							accept(conn)
							conn.Abort()
						}()
					}
				}()
				return l.Addr().String()
			},
			open:  "<stream:stream to='example.com' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
			ready: "</stream:features>",
			frame: func(e string) []byte { return []byte(e) },
		},
		{
			name: "websocket",
			serve: func(tb testing.TB, accept func(stream.Conn)) string {
				_, s := server(tb, false, accept, Options{})
				return s.Listener.Addr().String()
			},
			open:  request + string(masked(open)),
			ready: "</stream:features>",
			frame: masked,
		},
	}
}

// masked is a client's frame, with a key of zeros.
func masked(text string) []byte {
	b := appendHeader(nil, gorilla.TextMessage, len(text))
	b[1] |= 0x80
	return append(append(b, 0, 0, 0, 0), text...)
}

func (r *road) connect(tb testing.TB, addr string) (net.Conn, *bufio.Reader) {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	// The request is answered before frames may follow.
	in := bufio.NewReaderSize(c, 16<<10)
	if head, rest, ok := strings.Cut(r.open, "\r\n\r\n"); ok {
		fmt.Fprintf(c, "%s\r\n\r\n", head)
		if rs, err := http.ReadResponse(in, nil); err != nil || rs.StatusCode != 101 {
			tb.Fatal(rs, err)
		}
		io.WriteString(c, rest)
	} else {
		io.WriteString(c, r.open)
	}
	var got []byte
	for !bytes.HasSuffix(got, []byte(r.ready)) {
		b, err := in.ReadByte()
		if err != nil {
			tb.Fatal(err)
		}
		got = append(got, b)
	}
	return c, in
}

// BenchmarkEcho sends windows of 32 messages with bodies of 100 octets and reads
// them back, so that "websocket" beside "tcp" shows what the framing costs. The
// time includes the client's, which is next to nothing but system calls.
func BenchmarkEcho(b *testing.B) {
	const window = 32
	for _, r := range roads() {
		b.Run(r.name, func(b *testing.B) {
			addr := r.serve(b, echo)
			c, in := r.connect(b, addr)
			m := "<message to='juliet@example.com/balcony' type='chat' id='abcdefgh' xmlns='jabber:client'><body>" + strings.Repeat("x", 100) + "</body></message>"
			out := bytes.Repeat(r.frame(m), window)
			if _, err := c.Write(out); err != nil {
				b.Fatal(err)
			}
			size := 0 // of an answer: counted once
			for n := 0; n < window; n++ {
				s := 0
				for tail := ""; !strings.HasSuffix(tail, "</message>"); s++ {
					x, err := in.ReadByte()
					if err != nil {
						b.Fatal(err)
					}
					if tail += string(x); len(tail) > 10 {
						tail = tail[1:]
					}
				}
				size += s
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += window {
				if _, err := c.Write(out); err != nil {
					b.Fatal(err)
				}
				if _, err := in.Discard(size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdle tells how much memory an idle connection takes, heap and stacks,
// the client's end in this process included.
func BenchmarkIdle(b *testing.B) {
	const n = 1000
	for _, r := range roads() {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				addr := r.serve(b, echo)
				r.connect(b, addr)
				memory := func() uint64 {
					runtime.GC()
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return m.HeapInuse + m.StackInuse
				}
				before := memory()
				var conns sync.Map
				for i := range n {
					c, _ := r.connect(b, addr)
					conns.Store(i, c)
				}
				b.ReportMetric(float64(memory()-before)/n, "B/conn")
				conns.Range(func(_, c any) bool { c.(net.Conn).Close(); return true })
			}
		})
	}
}
