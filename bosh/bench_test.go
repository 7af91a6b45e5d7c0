package bosh

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// client is an HTTP client that does next to nothing but system calls.
type client struct {
	net.Conn
	in  *bufio.Reader
	out []byte
	rid int
	sid string
}

func connect(tb testing.TB, addr string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return &client{Conn: c, in: bufio.NewReader(c), rid: 1573741820}
}

func (c *client) send(tb testing.TB, attrs string, payload []byte) {
	tb.Helper()
	c.rid++
	body := fmt.Sprintf("<body rid='%d' %s xmlns='http://jabber.org/protocol/httpbind'>%s</body>", c.rid, attrs, payload)
	c.out = fmt.Appendf(c.out[:0], "POST %s HTTP/1.1\r\nHost: example.com\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", Path, len(body), body)
	if _, err := c.Write(c.out); err != nil {
		tb.Fatal(err)
	}
}

// receive reads a response and returns the size of its body, of which it keeps
// the first octets.
func (c *client) receive(tb testing.TB) (size int, head string) {
	tb.Helper()
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			size, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	b, _ := c.in.Peek(min(size, 200))
	head = string(b)
	if _, err := c.in.Discard(size); err != nil {
		tb.Fatal(err)
	}
	return size, head
}

func (c *client) start(tb testing.TB) {
	tb.Helper()
	c.send(tb, "to='example.com' wait='60' hold='1' ver='1.6'", nil)
	_, head := c.receive(tb)
	_, rest, _ := strings.Cut(head, "sid='")
	c.sid, _, _ = strings.Cut(rest, "'")
}

// BenchmarkEcho sends messages with bodies of 100 octets, a window of them in
// each request, and gets them back in the response. The time includes the
// client's.
func BenchmarkEcho(b *testing.B) {
	for _, window := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(window), func(b *testing.B) {
			s, _ := site(b, false, Options{})
			c := connect(b, s.Listener.Addr().String())
			c.start(b)
			m := "<message to='juliet@example.com/balcony' type='chat' id='abcdefgh' xmlns='jabber:client'><body>" + strings.Repeat("x", 100) + "</body></message>"
			payload := bytes.Repeat([]byte(m), window)
			attrs := "sid='" + c.sid + "'"
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += window {
				c.send(b, attrs, payload)
				if size, head := c.receive(b); size < len(payload) {
					b.Fatal(head)
				}
			}
		})
	}
}

// BenchmarkIdle tells how much memory an idle session with a held request takes,
// heap and stacks, the client's end in this process included.
func BenchmarkIdle(b *testing.B) {
	const n = 500
	for b.Loop() {
		s, _ := site(b, false, Options{})
		addr := s.Listener.Addr().String()
		memory := func() uint64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapInuse + m.StackInuse
		}
		before := memory()
		conns := make([]net.Conn, n)
		for i := range conns {
			c := connect(b, addr)
			c.start(b)
			c.send(b, "sid='"+c.sid+"'", nil)
			conns[i] = c.Conn
		}
		b.ReportMetric(float64(memory()-before)/n, "B/session")
		for _, c := range conns {
			c.Close()
		}
	}
}
