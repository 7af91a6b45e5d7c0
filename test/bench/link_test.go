package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestReadHTTPResponse(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		status   int
		body     string
		fails    bool
	}{
		{"length", "HTTP/1.1 200 OK\r\ncontent-length:  5\r\nX: y\r\n\r\nhelloHTTP/1.1", 200, "hello", false},
		{"chunks", "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", 202, "abc0123456789", false},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", false},
		{"unknown length", "HTTP/1.1 200 OK\r\n\r\nx", 200, "", true},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", 0, "", true},
		{"not HTTP", "hello\r\n", 0, "", true},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body, err := readHTTPResponse(bufio.NewReader(strings.NewReader(tt.in)), nil)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if !tt.fails && (status != tt.status || string(body) != tt.body) {
				t.Errorf("got %d %q, want %d %q", status, body, tt.status, tt.body)
			}
		})
	}
}

// serverFrame builds an unmasked frame (RFC 6455 §5.1, §5.2).
func serverFrame(opcode byte, payload string) []byte {
	frame := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, byte(n))
	case n < 1<<16:
		frame = append(frame, 126, byte(n>>8), byte(n))
	default:
		frame = append(frame, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(frame, payload...)
}

func TestWebSocketReceivesAnyCut(t *testing.T) {
	long := "<message>" + strings.Repeat("x", 300) + "</message>"
	huge := "<message>" + strings.Repeat("y", 70_000) + "</message>"
	want := "<a/>" + long + "<b/>" + huge
	var wire []byte
	wire = append(wire, serverFrame(wsText, "<a/>")...)
	wire = append(wire, serverFrame(wsText, long)...)
	wire = append(wire, serverFrame(wsPing, "are you there")...)
	wire = append(wire, serverFrame(wsText, "<b/>")...)
	wire = append(wire, serverFrame(wsText, huge)...)
	wire = append(wire, serverFrame(wsClose, "")...)
	for _, step := range []int{1, 2, 3, 7, 100, 4096, len(wire)} {
		server, client := net.Pipe()
		l := &wsLink{conn: client, buf: make([]byte, 16<<10)}
		pong := make(chan []byte, 1)
		go func() {
			answer := make([]byte, 2+4+len("are you there"))
			_, _ = io.ReadFull(server, answer)
			pong <- answer
		}()
		go func() {
			for p := wire; len(p) > 0; {
				n := min(step, len(p))
				if _, err := server.Write(p[:n]); err != nil {
					return
				}
				p = p[n:]
			}
		}()
		var got []byte
		buf := make([]byte, 1000)
		for {
			n, err := l.recv(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				if !errors.Is(err, errStreamClosed) {
					t.Fatalf("step %d: %v", step, err)
				}
				break
			}
		}
		if string(got) != want {
			t.Fatalf("step %d: got %d bytes, want %d", step, len(got), len(want))
		}
		if answer := <-pong; answer[0] != 0x80|wsPong || answer[1] != 0x80|13 || !bytes.HasSuffix(answer, []byte("are you there")) {
			t.Errorf("step %d: the pong is %x", step, answer)
		}
		_ = client.Close()
		_ = server.Close()
	}
}

func TestWebSocketUpgrade(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		r, err := http.ReadRequest(bufio.NewReader(server))
		if err != nil || r.URL.Path != "/ws" || r.Header.Get("Sec-WebSocket-Protocol") != "xmpp" || r.Header.Get("Upgrade") != "websocket" {
			_, _ = server.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			return
		}
		// A server may send its first frame with the response.
		_, _ = server.Write(append([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"), serverFrame(wsText, "<open/>")...))
	}()
	l, err := dialWebSocket(client, "127.0.0.1", "/ws")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := l.recv(buf)
	if err != nil || string(buf[:n]) != "<open/>" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// boshServer answers as XEP-0124 says a server with hold=1 does: requests are
// taken in the order of their rid (§14.2), and one is answered when the next has
// come. It echoes stanzas in the next answer.
func boshServer(t *testing.T, conns [2]net.Conn, stop <-chan struct{}) {
	type request struct {
		conn net.Conn
		body []byte
	}
	requests := make(chan request)
	for _, conn := range conns {
		go func() {
			for br := bufio.NewReader(conn); ; {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				text, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				select {
				case requests <- request{conn, text}:
				case <-stop:
					return
				}
			}
		}()
	}
	answer := func(conn net.Conn, body string) {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	go func() {
		const ns = "<body xmlns='http://jabber.org/protocol/httpbind'"
		var held net.Conn
		var echo []byte
		waiting := map[int]request{}
		next := 0
		for {
			select {
			case r := <-requests:
				rid, err := strconv.Atoi(attr(r.body, "rid"))
				if err != nil || rid < next || rid > next+1 && next > 0 {
					t.Errorf("rid %d where %d is due (%v)", rid, next, err)
				}
				if attr(r.body, "sid") == "" {
					if attr(r.body, "hold") != "1" || attr(r.body, "to") != "localhost" {
						t.Errorf("session request: %s", r.body)
					}
					answer(r.conn, ns+" sid='s1'><stream:features/></body>")
					next = rid + 1
					continue
				}
				waiting[rid] = r
			case <-stop:
				return
			}
			for r, ok := waiting[next]; ok; r, ok = waiting[next] {
				delete(waiting, next)
				next++
				echo = append(echo, inner(r.body)...)
				if held != nil {
					answer(held, ns+">"+string(echo)+"</body>")
					echo = nil
				}
				held = r.conn
			}
		}
	}()
}

func TestBOSH(t *testing.T) {
	a, a2 := net.Pipe()
	c, c2 := net.Pipe()
	stop := make(chan struct{})
	defer close(stop)
	boshServer(t, [2]net.Conn{a2, c2}, stop)
	l := newBOSH(a, c, "127.0.0.1", "/http-bind")
	if err := l.setDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := l.open("localhost", false); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	n, err := l.recv(buf)
	if err != nil || string(buf[:n]) != "<stream:features/>" {
		t.Fatalf("first answer: %q, %v", buf[:n], err)
	}
	const messages = 50
	received := make(chan int)
	go func() {
		count := newCounter("</message>")
		total := 0
		for total < messages {
			n, err := l.recv(buf)
			if err != nil {
				t.Errorf("recv after %d: %v", total, err)
				break
			}
			total += count.count(buf[:n])
		}
		received <- total
	}()
	for range messages {
		if err := l.send([]byte("<message><body>x</body></message>")); err != nil {
			t.Fatal(err)
		}
	}
	// What is held back goes out with the next request, as further traffic would make it.
	for {
		select {
		case total := <-received:
			if total != messages {
				t.Errorf("received %d messages, want %d", total, messages)
			}
			_ = l.conns[0].Close()
			_ = l.conns[1].Close()
			return
		default:
			if err := l.send([]byte(" ")); err != nil {
				t.Fatal(err)
			}
		}
	}
}
