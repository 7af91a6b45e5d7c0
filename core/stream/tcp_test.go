package stream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/stanza"
	"trivium/core/wire"
)

const clientHeader = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" + NSStream +
	"' to='example.org' from='romeo@example.org' version='1.0' xml:lang='en'>"

// feed is a connection whose peer has sent these pieces, one with each read, and
// reads nothing.
type feed struct {
	net.Conn // nil
	pieces   [][]byte
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.pieces[0])
	if f.pieces[0] = f.pieces[0][n:]; len(f.pieces[0]) == 0 {
		f.pieces = f.pieces[1:]
	}
	return n, nil
}
func (f *feed) Write(p []byte) (int, error)      { return len(p), nil }
func (f *feed) Close() error                     { return nil }
func (f *feed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (f *feed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (f *feed) SetReadDeadline(time.Time) error  { return nil }
func (f *feed) SetWriteDeadline(time.Time) error { return nil }

// pieces cuts in into pieces of size octets.
func pieces(in string, size int) [][]byte {
	var out [][]byte
	for len(in) > 0 {
		n := min(size, len(in))
		out = append(out, []byte(in[:n]))
		in = in[n:]
	}
	return out
}

// told is how an event looks in tests.
func told(ev Event, err error) string {
	var e *Error
	switch {
	case errors.As(err, &e):
		return "error " + string(e.Condition)
	case err != nil:
		return "gone"
	case ev.Kind == Opened && ev.Header.Err != nil:
		return "opened, " + string(ev.Header.Err.Condition)
	case ev.Kind == Opened:
		return fmt.Sprintf("opened %q", *ev.Header)
	case ev.Kind == Closed:
		return "closed"
	}
	return "element " + string(ev.Raw)
}

// events reads all that a peer has sent.
func events(c *TCP) []string {
	var out []string
	for {
		ev, err := c.Read(nil)
		out = append(out, told(ev, err))
		if err != nil {
			return out
		}
	}
}

func TestTCPFraming(t *testing.T) {
	big := "<message><body>" + strings.Repeat("0123456789", 9_000) + "</body></message>"
	opened := fmt.Sprintf("opened %q", Header{From: "romeo@example.org", To: "example.org", Lang: "en", Version: "1.0", Content: stanza.NSClient})
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{
			"elements and white space", clientHeader + "<iq id='1'/>\n <message><body/></message></stream:stream>\n",
			[]string{opened, "element <iq id='1'/>", "element <message><body/></message>", "closed", "gone"},
		},
		{
			"larger than any buffer", clientHeader + big + "<a/>" + big + "</stream:stream>",
			[]string{opened, "element " + big, "element <a/>", "element " + big, "closed", "gone"},
		},
		{
			"a prefix of the header, RFC 6120 §4.8.4", strings.Replace(clientHeader, " to=", " xmlns:x='urn:x' to=", 1) + "<message><x:y/></message>",
			[]string{opened, "element <message xmlns='jabber:client' xmlns:x='urn:x'><x:y/></message>", "gone"},
		},
		{
			"a namespace that grows when it is spelled anew",
			clientHeader + `<message xmlns:x="urn:` + strings.Repeat("'", 1000) + `"><x:y/></message>`,
			[]string{opened, "element <message xmlns='jabber:client' xmlns:x=\"urn:" + strings.Repeat("&apos;", 1000) + "\"><x:y/></message>", "gone"},
		},
		{"a header that is an end, too", "<stream:stream xmlns:stream='" + NSStream + "'/>", []string{`opened {"" "" "" "" "" "" <nil>}`, "closed", "gone"}},
		{"RFC 6120 §4.9.3.10", strings.Replace(clientHeader, NSStream, "urn:x", 1), []string{"opened, invalid-namespace", "gone"}},
		{"RFC 6120 §4.9.3.1", "<stream:streams xmlns:stream='" + NSStream + "'>", []string{"opened, bad-format", "gone"}},
		{"RFC 6120 §4.8.5", "<stream xmlns='" + NSStream + "'>", []string{"opened, bad-namespace-prefix", "gone"}},
		{"RFC 6120 §4.9.3.13", clientHeader + "<a></b>", []string{opened, "error not-well-formed"}},
		{"RFC 6120 §11.1", clientHeader + "<!-- c -->", []string{opened, "error restricted-xml"}},
		{"RFC 6120 §4.9.3.14", clientHeader + "<a>" + strings.Repeat("x", 1<<18), []string{opened, "error policy-violation"}},
		{"cut short", clientHeader + "<a>", []string{opened, "gone"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{len(tt.in), 1, 7, 4096, readBufferSize, carryMax + 1} {
				if size == 1 && len(tt.in) > 1<<13 {
					continue
				}
				c := NewTCP(NewSocket(&feed{pieces: pieces(tt.in, size)}), wire.Limits{})
				got := events(c)
				if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
					t.Errorf("in pieces of %d:\n%.300q\nwant\n%.300q", size, got, tt.want)
				}
			}
		})
	}
}

// dialogue returns our end of a pipe and the peer's.
func dialogue(t testing.TB) (*TCP, net.Conn) {
	ours, peer := net.Pipe()
	c := NewTCP(NewSocket(ours), wire.Limits{})
	t.Cleanup(func() { c.Abort(); peer.Close() })
	return c, peer
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Error(err)
	}
}

func TestSecureForgetsPlaintext(t *testing.T) {
	c, peer := dialogue(t)
	client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	go func() {
		// Injected in front of the handshake: RFC 6120 §5.4.3.3, rule 4.
		write(t, peer, clientHeader+"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><iq id='evil'/><unfinished")
		write(t, client, clientHeader)
		for _, octet := range "<iq id='own'/> <iq id='2'/>" {
			write(t, client, string(octet)) // a record each
		}
		write(t, client, "<iq id='3'/><message>"+strings.Repeat("x", 100_000)+"</message><iq id='4'/></stream:stream>")
	}()
	for _, want := range []string{"opened ", "element <starttls "} {
		if got := told(c.Read(nil)); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	if err := c.Secure(serverTLS(t)); err != nil {
		t.Fatal(err)
	}
	if i := c.Info(); !i.Secure || i.Implicit {
		t.Errorf("Info after STARTTLS: %+v", i)
	}
	idle := 0
	for _, want := range []string{"opened ", "element <iq id='own'/>", "element <iq id='2'/>", "element <iq id='3'/>", "element <message>x", "element <iq id='4'/>", "closed"} {
		if got := told(c.Read(func() { idle++ })); !strings.HasPrefix(got, want) {
			t.Fatalf("got %.100s, want %s", got, want)
		}
	}
	if idle == 0 {
		t.Error("idle was never called before waiting")
	}
}

func TestRestart(t *testing.T) {
	in := clientHeader + "<a/>" + clientHeader + "<b>" + strings.Repeat("x", 100) + "</b>"
	c := NewTCP(NewSocket(&feed{pieces: pieces(in, len(in))}), wire.Limits{})
	for _, want := range []string{"opened", "element <a/>"} {
		if got := told(c.Read(nil)); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	c.Limit(wire.Limits{Bytes: 200})
	c.Restart() // new limits, and what has been received counts
	for _, want := range []string{"opened", "element <b>"} {
		if got := told(c.Read(nil)); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	c.Limit(wire.Limits{Bytes: 20})
	c.Restart()
	c.data = []byte(clientHeader)
	if got := told(c.Read(nil)); got != "error policy-violation" {
		t.Errorf("got %s", got)
	}
}

// collect gathers what the peer is sent until its connection ends.
func collect(peer net.Conn) chan string {
	all := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(peer)
		all <- string(b)
	}()
	return all
}

// ends reads until the connection is over, as a session does, and returns how long
// that took.
func ends(c *TCP) time.Duration {
	start := time.Now()
	for {
		if _, err := c.Read(nil); err != nil {
			c.Abort()
			return time.Since(start)
		}
	}
}

func TestClose(t *testing.T) {
	const head, tail = "<?xml version='1.0'?><stream:stream ", "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
	for _, tt := range []struct {
		name  string
		open  bool   // we have sent our header
		peer  string // what the peer answers
		leave bool   // and whether it then closes the connection
		want  time.Duration
	}{
		{"the peer ends its side", true, "<message/></stream:stream>", false, 0},
		{"white space follows", true, "</stream:stream>\r\n", false, 0},
		{"the peer drops the connection", true, "", true, 0},
		{"the peer says nothing", true, "", false, closeTimeout},
		{"the peer talks on", true, "<a></b><c", false, closeTimeout},
		{"before our header, RFC 6120 §4.9.1.2", false, "", true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, peer := dialogue(t)
				if tt.open {
					if err := c.Open(Header{ID: "1", Version: "1.0"}); err != nil {
						t.Fatal(err)
					}
				}
				out := collect(peer)
				over := make(chan time.Duration)
				go func() { over <- ends(c) }()
				synctest.Wait()
				c.Close(Err(Conflict, ""))
				c.Close(Err(SystemShutdown, "")) // does not count
				if sent, err := c.Write(Batch{Data: []byte("<late/>"), Ends: []int{7}}, nil); sent || !errors.Is(err, net.ErrClosed) {
					t.Errorf("Write after Close: %v, %v", sent, err)
				}
				synctest.Wait()
				if tt.peer != "" {
					write(t, peer, tt.peer)
				}
				if tt.leave {
					peer.Close()
				}
				if d := <-over; d != tt.want {
					t.Errorf("the connection ended after %v, want %v", d, tt.want)
				}
				got := <-out
				if !strings.HasPrefix(got, head) || !strings.HasSuffix(got, tail) || strings.Count(got, "<stream:stream") != 1 || !strings.Contains(got, " id='") {
					t.Errorf("the peer got %s", got)
				}
			})
		})
	}
}

// A peer that has ended its side still gets all that we have for it.
func TestLastOctetsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := dialogue(t)
		go func() { write(t, peer, clientHeader+"</stream:stream>") }()
		if err := c.Open(Header{Version: "1.0"}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"opened", "closed"} {
			if got := told(c.Read(nil)); !strings.HasPrefix(got, want) {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		body := strings.Repeat("x", 1<<20)
		landed := make(chan error, 1)
		if sent, err := c.Write(Batch{Data: []byte(body), Ends: []int{len(body)}}, func(err error) { landed <- err }); sent || err != nil {
			t.Fatalf("Write: %v, %v; the peer has read nothing", sent, err)
		}
		c.Close(nil)
		over := make(chan time.Duration)
		go func() { over <- ends(c) }()
		time.Sleep(closeTimeout - time.Second)
		got, _ := io.ReadAll(peer)
		if !strings.HasSuffix(string(got), body+"</stream:stream>") {
			t.Errorf("the peer got %d octets of %d", len(got), len(body))
		}
		if err := <-landed; err != nil {
			t.Errorf("done(%v)", err)
		}
		if d := <-over; d != closeTimeout-time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}

// An error behind a restart comes in a stream of its own, RFC 6120 §4.9.1.2.
func TestCloseAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := dialogue(t)
		out := collect(peer)
		if err := c.Open(Header{Version: "1.0"}); err != nil {
			t.Fatal(err)
		}
		c.Limit(wire.Limits{})
		c.Restart()
		c.Close(Err(InvalidXML, ""))
		synctest.Wait()
		peer.Close()
		if got := <-out; strings.Count(got, "<stream:stream ") != 2 {
			t.Errorf("the peer got %s", got)
		}
		ends(c)
	})
}

// Nothing in clear may come into a handshake.
func TestCloseInHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := dialogue(t)
		out := collect(peer)
		secured := make(chan error)
		go func() { secured <- c.Secure(&tls.Config{}) }()
		synctest.Wait()
		c.Close(Err(ConnectionTimeout, ""))
		if err := <-secured; err == nil {
			t.Error("Secure succeeded")
		}
		if got := <-out; got != "" {
			t.Errorf("the peer got %q", got)
		}
		if err := c.Secure(&tls.Config{}); err == nil {
			t.Error("Secure after Close succeeded")
		}
	})
}

func TestAppendStandalone(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		// RFC 7395 §3.3.3: a stanza declares its namespace.
		{"<message/>", "<message xmlns='jabber:client'/>"},
		{"<message to='a'><body>x</body></message>", "<message xmlns='jabber:client' to='a'><body>x</body></message>"},
		{"<presence>x</presence>", "<presence xmlns='jabber:client'>x</presence>"},
		{"<iq type='get'/>", "<iq xmlns='jabber:client' type='get'/>"},
		// RFC 7395 §3.4, §3.5: so does what belongs to the stream.
		{"<stream:features/>", "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>"},
		{"<stream:error><conflict/></stream:error>", "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><conflict/></stream:error>"},
		// Anything else has done so.
		{"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"},
		{"<messages xmlns='urn:x'/>", "<messages xmlns='urn:x'/>"},
		{"<iqs xmlns='urn:x'/>", "<iqs xmlns='urn:x'/>"},
	} {
		if got := string(AppendStandalone([]byte("-"), []byte(tt.in), "jabber:client")); got != "-"+tt.want {
			t.Errorf("%s\ngot  %s\nwant -%s", tt.in, got, tt.want)
		}
	}
}

func TestErrorXML(t *testing.T) {
	for _, tt := range []struct {
		e    Error
		want string
	}{
		// RFC 6120 §4.9.2
		{Error{Condition: HostUnknown}, "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"},
		// §4.9.3.19: the other host is the condition's text.
		{Error{Condition: SeeOtherHost, Host: "[2001:41D0::1]:9999"}, "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:41D0::1]:9999</see-other-host></stream:error>"},
		// §4.9.4: the text comes before an application's condition.
		{
			Error{Condition: NotWellFormed, Text: "a < b", App: "<x xmlns='urn:x'/>", Cause: io.EOF},
			"<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b</text><x xmlns='urn:x'/></stream:error>",
		},
	} {
		if got := string(tt.e.AppendXML(nil)); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// FuzzTCP: however the octets are cut, the same events come; and every element
// stands alone, so that it may be forwarded on a stream with another header.
func FuzzTCP(f *testing.F) {
	for _, in := range []string{
		"<message to='a'/>", " <iq/>\n<iq>", "<x:a/>", "<a x:b=''><stream:c/></a>", "</stream:stream> ", "<a>&#60;</a><b", "<?xml?>",
		"<message xmlns:x='&#117;'/>", "<a xmlns=''><b/></a>", "<stream:stream/>", "x", "<m xmlns='&lt;&#10;'><x:y xmlns:z='urn:x'/></m>",
	} {
		f.Add(in, uint16(3), uint16(40))
	}
	const head = "<stream:stream xmlns='jabber:client' xmlns:stream='" + NSStream + "' xmlns:x='urn:x' version='1.0'>"
	limits := wire.Limits{Bytes: 2048}
	f.Fuzz(func(t *testing.T, in string, first, second uint16) {
		if len(in) > 1<<14 {
			return
		}
		in = head + in
		read := func(cut [][]byte) []string {
			return events(NewTCP(NewSocket(&feed{pieces: cut}), limits))
		}
		want := read(pieces(in, len(in)))
		a, b := int(first)%(len(in)+1), int(second)%(len(in)+1)
		a, b = min(a, b), max(a, b)
		three := append(append(pieces(in[:a], len(in)), pieces(in[a:b], len(in))...), pieces(in[b:], len(in))...)
		for _, cut := range [][][]byte{three, pieces(in, 1+int(first)%97)} {
			if got := read(cut); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%q cut otherwise:\n%q\nwant\n%q", in, got, want)
			}
		}
		for _, ev := range want {
			raw, ok := strings.CutPrefix(ev, "element ")
			if !ok {
				continue
			}
			// As on another stream: the default namespace and "stream" are all there is.
			other := "<stream:stream xmlns='jabber:client' xmlns:stream='" + NSStream + "'>" + raw
			c := NewTCP(NewSocket(&feed{pieces: pieces(other, len(other))}), wire.Limits{Bytes: 1 << 20, NSDecls: 1 << 10, NSName: 1 << 14})
			if got := events(c); len(got) < 2 || got[1] != ev {
				t.Fatalf("%q does not stand alone: %q", raw, got)
			}
		}
	})
}
