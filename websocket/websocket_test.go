package websocket

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	gorilla "github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"trivium/core/stream"
	"trivium/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener hands out Sockets, as the server's listeners do.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stream.NewSocket(c), nil
}

// taking serves each connection on a goroutine of its own.
func taking(serve func(stream.Conn)) func(stream.Conn, func()) {
	return func(c stream.Conn, over func()) {
		go func() {
			defer over()
			serve(c)
		}()
	}
}

// server starts an HTTP server with the endpoint on a router.
func server(t testing.TB, secure bool, accept func(stream.Conn), opt Options) (*Handler, *httptest.Server) {
	t.Helper()
	h := New(taking(accept), opt)
	r := chi.NewRouter()
	r.Handle(Path, h)
	s := httptest.NewUnstartedServer(r)
	if secure {
		s.StartTLS() // makes the certificate
		pair := s.TLS.Certificates[0]
		pair.Leaf = s.Certificate()
		cfg := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			hello.Conn.(*stream.Socket).RememberLeaf(pair.Leaf)
			return &pair, nil
		}}
		s.Close()
		s = httptest.NewUnstartedServer(r)
		s.Listener = tls.NewListener(listener{s.Listener}, cfg)
		s.Start()
	} else {
		s.Listener = listener{s.Listener}
		s.Start()
	}
	t.Cleanup(func() { s.Close(); h.Close() })
	return h, s
}

// dial connects a client; the scheme is wss when a TLS configuration is given.
func dial(t testing.TB, s *httptest.Server, cfg *tls.Config) *gorilla.Conn {
	t.Helper()
	scheme := "ws://"
	if cfg != nil {
		scheme = "wss://"
	}
	d := gorilla.Dialer{Subprotocols: []string{"xmpp"}, TLSClientConfig: cfg}
	c, resp, err := d.Dial(scheme+s.Listener.Addr().String()+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "xmpp" { // RFC 7395 §3.1
		t.Fatalf("subprotocol %q", got)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t testing.TB, c *gorilla.Conn, text string) {
	t.Helper()
	if err := c.WriteMessage(gorilla.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// expect reads one text message.
func expect(t testing.TB, c *gorilla.Conn, want string) {
	t.Helper()
	typ, got, err := c.ReadMessage()
	if err != nil || typ != gorilla.TextMessage || string(got) != want {
		t.Fatalf("read %d %q, %v\nwant %q", typ, got, err, want)
	}
}

// expectClose reads the server's close frame.
func expectClose(t testing.TB, c *gorilla.Conn, code int) {
	t.Helper()
	_, got, err := c.ReadMessage()
	var end *gorilla.CloseError
	if !errors.As(err, &end) || end.Code != code {
		t.Fatalf("read %q, %v; want close frame %d", got, err, code)
	}
}

const (
	// RFC 7395 §3.4, with the attributes' spelling changed.
	open      = `<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="example.com" version="1.0" />`
	opened    = `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='example.com' id='++TR84Sm6A3hnt3Q065SnAbbk3Y=' version='1.0' xml:lang='en'/>`
	closing   = `<close xmlns="urn:ietf:params:xml:ns:xmpp-framing" />`
	closed    = `<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>`
	bareOpen  = `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' xml:lang='en'/>`
	features  = `<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>`
	features2 = `<stream:features xmlns:stream='http://etherx.jabber.org/streams'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>`
)

// streamError is an error as RFC 7395 §3.3.3 has it in a frame of its own.
func streamError(condition, text string) string {
	s := `<stream:error xmlns:stream='http://etherx.jabber.org/streams'><` + condition + ` xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>`
	if text != "" {
		s += `<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>` + text + `</text>`
	}
	return s + `</stream:error>`
}

// batch makes a Batch of elements.
func batch(elements ...string) (b stream.Batch) {
	for _, e := range elements {
		b.Data = append(b.Data, e...)
		b.Ends = append(b.Ends, len(b.Data))
	}
	return b
}

// echo answers a header with features, and each element with itself, in batches
// as they come. It restarts the stream after an <auth/>.
func echo(c stream.Conn) {
	var b stream.Batch
	var free sync.Mutex // locked while a write is under way
	flush := func() {
		if len(b.Data) == 0 {
			return
		}
		free.Lock()
		sent, err := c.Write(b, func(error) { free.Unlock() })
		if sent || err != nil {
			free.Unlock()
		}
		b.Data, b.Ends = b.Data[:0], b.Ends[:0]
	}
	for {
		ev, err := c.Read(flush)
		if err != nil {
			var wrong *stream.Error
			if errors.As(err, &wrong) {
				c.Close(wrong)
				continue
			}
			return
		}
		switch {
		case ev.Kind == stream.Closed:
			flush()
			c.Close(nil)
		case ev.Kind == stream.Opened:
			if c.Open(stream.Header{From: "example.com", ID: "++TR84Sm6A3hnt3Q065SnAbbk3Y=", Lang: "en", Version: "1.0"}) != nil {
				return
			}
			if ev.Header.Err != nil {
				c.Close(ev.Header.Err)
				continue
			}
			if _, err := c.Write(batch(features), nil); err != nil {
				return
			}
		case ev.Is("urn:ietf:params:xml:ns:xmpp-sasl", "auth"):
			if _, err := c.Write(batch(`<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>`), nil); err != nil {
				return
			}
			c.Limit(wire.Limits{})
			c.Restart()
		default:
			raw := bytes.Replace(ev.Raw, []byte(" xmlns='jabber:client'"), nil, 1)
			b.Data = append(b.Data, raw...)
			b.Ends = append(b.Ends, len(b.Data))
		}
	}
}

func TestConversation(t *testing.T) {
	for _, secure := range []bool{false, true} {
		_, s := server(t, secure, echo, Options{})
		var cfg *tls.Config
		if secure {
			cfg = &tls.Config{InsecureSkipVerify: true}
		}
		c := dial(t, s, cfg)
		send(t, c, open)
		expect(t, c, opened)
		expect(t, c, features2)
		// RFC 7395 §3.7
		send(t, c, `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth>`)
		expect(t, c, `<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>`)
		send(t, c, open)
		expect(t, c, opened)
		expect(t, c, features2)
		for _, size := range []int{1, 10, 85, 90, 125, 126, 1000, 65535, 65536, 200000} {
			m := `<message xmlns='jabber:client'><body>` + strings.Repeat("x", size) + `</body></message>`
			send(t, c, m)
			expect(t, c, m)
		}
		// RFC 7395 §3.6: close, close, close frame of the closing party, close frame.
		send(t, c, closing)
		expect(t, c, closed)
		if err := c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(1000, ""), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		expectClose(t, c, 1000)
		if n, err := c.NetConn().Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("after the closing handshake: %d octets, %v", n, err)
		}
	}
}

// A batch of elements is read before it is answered, and answered in one write.
func TestBatch(t *testing.T) {
	_, s := server(t, false, echo, Options{})
	c := dial(t, s, nil)
	send(t, c, open)
	expect(t, c, opened)
	expect(t, c, features2)
	var all bytes.Buffer
	const n = 50
	for range n {
		text := []byte(`<presence xmlns='jabber:client'/>`)
		frame := appendHeader(nil, gorilla.TextMessage, len(text))
		frame[1] |= 0x80 // masked, with a key of zeros
		all.Write(append(append(frame, 0, 0, 0, 0), text...))
	}
	if _, err := c.NetConn().Write(all.Bytes()); err != nil {
		t.Fatal(err)
	}
	for range n {
		expect(t, c, `<presence xmlns='jabber:client'/>`)
	}
}

// What a peer may not send, the stream error it gets and the close status.
func TestRefused(t *testing.T) {
	_, s := server(t, false, echo, Options{Limits: wire.Limits{Bytes: 10000}})
	const ns = `xmlns='urn:ietf:params:xml:ns:xmpp-framing'`
	for _, tt := range []struct {
		name, in  string
		condition string
		code      int
	}{
		{"white space keepalive, RFC 7395 §3.8", " ", "bad-format", 1000},
		{"white space before the element, §3.3.3", " <presence xmlns='jabber:client'/>", "bad-format", 1000},
		{"empty message", "", "bad-format", 1000},
		{"two elements, §3.3.3", "<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>", "not-well-formed", 1000},
		{"half an element", "<presence xmlns='jabber:client'>", "not-well-formed", 1000},
		{"text after the element", "<presence xmlns='jabber:client'/>x", "not-well-formed", 1000},
		{"unbound prefix", "<stream:features/>", "not-well-formed", 1000},
		{"invalid UTF-8, RFC 6455 §8.1", "<presence xmlns='jabber:client'>\xff</presence>", "not-well-formed", 1007},
		{"comment", "<!-- --><presence xmlns='jabber:client'/>", "restricted-xml", 1000},
		{"DTD", "<!DOCTYPE x><presence xmlns='jabber:client'/>", "restricted-xml", 1000},
		{"open in a wrong namespace, §3.3.2", "<open xmlns='jabber:client'/>", "invalid-namespace", 1000},
		{"close in a wrong namespace, §3.3.2", "<close xmlns='jabber:client'/>", "invalid-namespace", 1000},
		{"open in the open stream", "<open " + ns + "/>", "bad-format", 1000},
		{"too large", "<presence xmlns='jabber:client'>" + strings.Repeat("x", 11000) + "</presence>", "policy-violation", 1009},
		{"too large element, message just in the limit", "<presence xmlns='jabber:client'>" + strings.Repeat("x", 10001-43) + "</presence>", "policy-violation", 1008},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, s, nil)
			send(t, c, open)
			expect(t, c, opened)
			expect(t, c, features2)
			send(t, c, tt.in)
			expectRefusal(t, c, tt.condition, tt.code)
		})
	}
}

// expectRefusal reads a stream error, <close/> and the close frame.
func expectRefusal(t *testing.T, c *gorilla.Conn, condition string, code int) {
	t.Helper()
	_, got, err := c.ReadMessage()
	want := strings.TrimSuffix(streamError(condition, ""), "</stream:error>")
	if !strings.HasPrefix(string(got), want) {
		t.Fatalf("read %q, %v; want %s...", got, err, want)
	}
	expect(t, c, closed)
	// Another than the expected code is a failure even when we answer it.
	_ = c.WriteMessage(gorilla.TextMessage, []byte(closing))
	expectClose(t, c, code)
}

// What may not be the first message (RFC 7395 §3.4, §3.5).
func TestRefusedOpening(t *testing.T) {
	_, s := server(t, false, echo, Options{})
	for _, tt := range []struct{ name, in, condition, header string }{
		{"another element", "<presence xmlns='jabber:client'/>", "bad-format", opened},
		{"wrong namespace", "<open xmlns='http://etherx.jabber.org/streams' to='example.com'/>", "invalid-namespace", opened},
		{"no namespace", "<open to='example.com'/>", "invalid-namespace", opened},
		{"header of TCP", "<stream:stream to='example.com' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>", "not-well-formed", bareOpen},
		{"other framing element", "<x xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", "bad-format", opened},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, s, nil)
			send(t, c, tt.in)
			expect(t, c, tt.header)
			expectRefusal(t, c, tt.condition, 1000)
		})
	}
	t.Run("close", func(t *testing.T) {
		c := dial(t, s, nil)
		send(t, c, closing)
		expect(t, c, closed)
	})
}

// Frames that break RFC 6455 end in status 1002 (or 1003 for data that is not text).
func TestRefusedFrames(t *testing.T) {
	_, s := server(t, false, echo, Options{})
	zero := "\x00\x00\x00\x00"
	for _, tt := range []struct {
		name, in string
		code     int
	}{
		{"not masked, §5.1", "\x81\x01<", 1002},
		{"RSV1, §5.2", "\xc1\x81" + zero + "<", 1002},
		{"RSV2, §5.2", "\xa1\x81" + zero + "<", 1002},
		{"RSV3, §5.2", "\x91\x81" + zero + "<", 1002},
		{"reserved data opcode, §5.2", "\x83\x81" + zero + "<", 1002},
		{"reserved control opcode, §5.2", "\x8b\x80" + zero, 1002},
		{"fragmented ping, §5.5", "\x09\x80" + zero, 1002},
		{"long ping, §5.5", "\x89\xfe\x00\x7e" + zero + strings.Repeat("x", 126), 1002},
		{"continuation of nothing, §5.4", "\x80\x81" + zero + "<", 1002},
		{"new message in a fragmented one, §5.4", "\x01\x81" + zero + "<" + "\x81\x81" + zero + "<", 1002},
		{"binary, RFC 7395 §3.2", "\x82\x81" + zero + "<", 1003},
		{"length with the high bit, §5.2", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + zero, 1009},
		{"length of 4 GiB", "\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00" + zero, 1009},
		{"bad close status, §7.4", "\x88\x82" + zero + "\x03\xed", 1002},
		{"half a close status, §5.5.1", "\x88\x81" + zero + "\x03", 1002},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, s, nil)
			send(t, c, open)
			expect(t, c, opened)
			expect(t, c, features2)
			if _, err := c.NetConn().Write([]byte(tt.in)); err != nil {
				t.Fatal(err)
			}
			condition := "bad-format"
			if tt.code == 1009 {
				condition = "policy-violation"
			}
			expectRefusal(t, c, condition, tt.code)
		})
	}
}

// Fragments and control frames between them do not change a message.
func TestFragments(t *testing.T) {
	_, s := server(t, false, echo, Options{})
	c := dial(t, s, nil)
	pong := ""
	c.SetPongHandler(func(p string) error { pong = p; return nil })
	zero := "\x00\x00\x00\x00"
	frag := func(first byte, text string) string {
		return string([]byte{first, 0x80 | byte(len(text))}) + zero + text
	}
	send(t, c, open)
	expect(t, c, opened)
	expect(t, c, features2)
	in := frag(1, "<presence ") + frag(0x89, "hello") + frag(0, "") + frag(0, "xmlns='jabber:client'") + frag(0x80, "/>")
	if _, err := c.NetConn().Write([]byte(in)); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "<presence xmlns='jabber:client'/>")
	if pong != "hello" { // RFC 6455 §5.5.3
		t.Errorf("pong %q", pong)
	}
}

// A message may have an XML declaration (RFC 7395 §3.3.3), white space behind
// the element, and namespaces spelled with references.
func TestAccepted(t *testing.T) {
	_, s := server(t, false, echo, Options{})
	c := dial(t, s, nil)
	send(t, c, `<?xml version='1.0' encoding='UTF-8'?>`+open)
	expect(t, c, opened)
	expect(t, c, features2)
	for _, tt := range []struct{ in, want string }{
		{"<?xml version='1.0'?><presence xmlns='jabber:client'/>", "<presence xmlns='jabber:client'/>"},
		{"<presence xmlns='jabber:client'/> \r\n\t", "<presence xmlns='jabber:client'/>"},
		{"<presence xmlns='jabber:&#99;lient'/>", "<presence xmlns='jabber:client'/>"},
		{"<x xmlns='urn:example'>\u00e4\U0001F600</x>", "<x xmlns='urn:example'>\u00e4\U0001F600</x>"},
	} {
		send(t, c, tt.in)
		expect(t, c, tt.want)
	}
}

// RFC 7395 §3.6: without <close/> the stream is implicitly closed; the session
// gets no Closed event and may be resumed.
func TestImplicitClose(t *testing.T) {
	type end struct {
		ev  stream.Event
		err error
	}
	ends := make(chan end, 1)
	_, s := server(t, false, func(c stream.Conn) {
		if _, err := c.Read(nil); err != nil {
			t.Error(err)
		}
		ev, err := c.Read(nil)
		ends <- end{ev, err}
	}, Options{})
	for _, frame := range []bool{true, false} {
		c := dial(t, s, nil)
		send(t, c, open)
		if frame {
			if err := c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(1001, ""), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			expectClose(t, c, 1001) // RFC 6455 §5.5.1: the status is echoed
		} else {
			c.Close()
		}
		if e := <-ends; e.err != io.EOF || e.ev.Kind != 0 {
			t.Errorf("close frame %v: %v, %v", frame, e.ev.Kind, e.err)
		}
	}
}

func TestServerCloses(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  *stream.Error
		want []string
		code int
	}{
		{"in order", nil, []string{closed}, 1000},
		// RFC 7395 §3.6.1
		{
			"see-other-uri", &stream.Error{Condition: stream.SeeOtherHost, Host: "wss://otherendpoint.example/xmpp-bind"},
			[]string{`<close xmlns='urn:ietf:params:xml:ns:xmpp-framing' see-other-uri='wss://otherendpoint.example/xmpp-bind'/>`},
			1000,
		},
		{"shutdown", stream.Err(stream.SystemShutdown, ""), []string{streamError("system-shutdown", ""), closed}, 1001},
		{"our fault", stream.Err(stream.InternalServerError, "a<b"), []string{streamError("internal-server-error", "a&lt;b"), closed}, 1011},
	} {
		t.Run(tt.name, func(t *testing.T) {
			over := make(chan error, 1)
			_, s := server(t, false, func(c stream.Conn) {
				if _, err := c.Read(nil); err != nil {
					t.Error(err)
				}
				_ = c.Open(stream.Header{From: "example.com", ID: "++TR84Sm6A3hnt3Q065SnAbbk3Y=", Lang: "en", Version: "1.0"})
				go c.Close(tt.err)
				_, err := c.Read(nil)
				over <- err
			}, Options{})
			c := dial(t, s, nil)
			send(t, c, open)
			expect(t, c, opened)
			for _, want := range tt.want {
				expect(t, c, want)
			}
			send(t, c, `<presence xmlns='jabber:client'/>`) // on its way when we closed
			send(t, c, closing)
			expectClose(t, c, tt.code)
			if err := <-over; err != io.EOF {
				t.Errorf("Read after Close: %v", err)
			}
		})
	}
}

func TestHandshake(t *testing.T) {
	_, s := server(t, false, echo, Options{Origins: []string{"https://chat.example.org", "https://*.example.com"}})
	for _, tt := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"good", http.Header{}, 101},
		{"no subprotocol, RFC 7395 §3.1", http.Header{"Sec-Websocket-Protocol": nil}, 400},
		{"another subprotocol", http.Header{"Sec-Websocket-Protocol": {"chat"}}, 400},
		{"xmpp among others", http.Header{"Sec-Websocket-Protocol": {"chat, xmpp"}}, 101},
		{"xmpp in a second header", http.Header{"Sec-Websocket-Protocol": {"chat", "xmpp"}}, 101},
		{"no upgrade", http.Header{"Upgrade": nil}, 426},
		{"other version, RFC 6455 §4.4", http.Header{"Sec-Websocket-Version": {"8"}}, 426},
		{"no key", http.Header{"Sec-Websocket-Key": nil}, 400},
		{"origin", http.Header{"Origin": {"https://chat.example.org"}}, 101},
		{"origin by pattern", http.Header{"Origin": {"https://a.b.example.com"}}, 101},
		{"foreign origin, RFC 6455 §10.2", http.Header{"Origin": {"https://example.net"}}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// RFC 7395 §3.1
			h := http.Header{
				"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
				"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"xmpp"},
			}
			for k, v := range tt.header {
				if h[k] = v; v == nil {
					delete(h, k)
				}
			}
			rq, _ := http.NewRequest("GET", s.URL+Path, nil)
			rq.Header = h
			rs, err := http.DefaultTransport.RoundTrip(rq)
			if err != nil {
				t.Fatal(err)
			}
			defer rs.Body.Close()
			if rs.StatusCode != tt.status {
				t.Errorf("status %d, want %d", rs.StatusCode, tt.status)
			}
			switch rs.StatusCode {
			case 101:
				if got := rs.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 7395 §3.1
					t.Errorf("accept %q", got)
				}
			case 426:
				if rs.Header.Get("Upgrade") != "websocket" || rs.Header.Get("Sec-WebSocket-Version") != "13" {
					t.Errorf("headers %v", rs.Header)
				}
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestInfoAndBinding(t *testing.T) {
	type seen struct {
		info              stream.Info
		exporter, endp    []byte
		errExp, errUnique error
	}
	seens := make(chan seen, 1)
	accept := func(c stream.Conn) {
		var s seen
		s.info = c.Info()
		b := c.(stream.Binder)
		s.exporter, s.errExp = b.ChannelBinding("tls-exporter")
		s.endp, _ = b.ChannelBinding("tls-server-end-point")
		_, s.errUnique = b.ChannelBinding("tls-unique")
		seens <- s
	}
	_, srv := server(t, true, accept, Options{})
	c := dial(t, srv, &tls.Config{InsecureSkipVerify: true})
	got := <-seens
	cs := c.NetConn().(*tls.Conn).ConnectionState()
	want, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32) // RFC 9266 §2
	if err != nil || got.errExp != nil || !bytes.Equal(got.exporter, want) {
		t.Errorf("tls-exporter %x, %v; want %x, %v", got.exporter, got.errExp, want, err)
	}
	if len(got.endp) == 0 || got.errUnique == nil {
		t.Errorf("tls-server-end-point %x, tls-unique %v", got.endp, got.errUnique)
	}
	if i := got.info; !i.Secure || !i.Implicit || i.Remote.String() != c.LocalAddr().String() || i.Local.String() != c.RemoteAddr().String() {
		t.Errorf("%+v", i)
	}
	_, srv = server(t, false, accept, Options{})
	dial(t, srv, nil)
	if got := <-seens; got.info.Secure || !got.info.Implicit || got.errExp == nil { // RFC 7395 §3.9
		t.Errorf("in clear: %+v", got)
	}
	_, srv = server(t, false, accept, Options{Secure: func(*http.Request) bool { return true }})
	dial(t, srv, nil)
	if got := <-seens; !got.info.Secure {
		t.Errorf("vouched for: %+v", got)
	}
}

// Write never waits: a peer that does not read gets its octets later, and done
// tells when.
func TestSlowPeer(t *testing.T) {
	const size = 1 << 20
	body := strings.Repeat("x", size)
	m := `<message><body>` + body + `</body></message>`
	began := make(chan bool)
	release := make(chan struct{})
	finished := make(chan error, 1)
	_, s := server(t, false, func(c stream.Conn) {
		if _, err := c.Read(nil); err != nil {
			t.Error(err)
		}
		_ = c.Open(stream.Header{Version: "1.0"})
		big := batch(m, m, m, m, m, m, m, m, m, m, m, m, m, m, m, m)
		sent, err := c.Write(big, func(err error) { finished <- err })
		if err != nil {
			t.Error(err)
		}
		began <- sent
		<-release
	}, Options{})
	c := dial(t, s, nil)
	send(t, c, open)
	if sent := <-began; sent {
		t.Fatal("16 MiB left at once")
	}
	expect(t, c, `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0'/>`)
	for range 16 {
		expect(t, c, `<message xmlns='jabber:client'><body>`+body+`</body></message>`)
	}
	if err := <-finished; err != nil {
		t.Error(err)
	}
	close(release)
}

// A connection of another kind than Socket works too.
func TestForeignConn(t *testing.T) {
	h := New(taking(echo), Options{})
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.Close(); h.Close() })
	c := dial(t, s, nil)
	send(t, c, open)
	expect(t, c, opened)
	expect(t, c, features2)
	s2 := httptest.NewTLSServer(h)
	t.Cleanup(s2.Close)
	c = dial(t, s2, &tls.Config{InsecureSkipVerify: true})
	send(t, c, open)
	expect(t, c, opened)
	expect(t, c, features2)
	send(t, c, `<presence xmlns='jabber:client'/>`)
	expect(t, c, `<presence xmlns='jabber:client'/>`)
}
