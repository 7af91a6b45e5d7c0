package c2s

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

// backend knows everybody, by the password "secret".
type backend struct{}

func (backend) Keys(context.Context, string, sasl.Hash) (sasl.Keys, bool, error) {
	return sasl.Keys{}, false, errors.New("no keys")
}

func (backend) CheckPlain(_ context.Context, _, password string) (bool, error) {
	return password == "secret", nil
}

// hooks is a module that counts sessions and answers pings.
type hooks struct {
	mu             sync.Mutex
	bound, unbound map[*router.Session]int
	stored         []string
}

func (h *hooks) Register(host *module.Host) error {
	host.Bound(func(_ context.Context, s *router.Session) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bound[s]++
		s.SetPresence(&router.Presence{})
	})
	host.Unbound(func(_ context.Context, _ *router.Turn, s *router.Session) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.unbound[s]++
	})
	host.NoSession(func(_ context.Context, p *module.Packet) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stored = append(h.stored, p.Stanza.ID)
		return module.ErrHandled
	})
	host.IQ(module.Server, stanza.Get, "urn:xmpp:ping", "ping", func(context.Context, *module.Request) (stanza.Payload, error) { return nil, nil })
	host.IQ(module.Server, stanza.Get, "urn:example:bug", "bug", func(context.Context, *module.Request) (stanza.Payload, error) { panic("a bug") })
	return nil
}

// world is a service at example.org; it runs inside a synctest bubble.
type world struct {
	*Service
	t      *testing.T
	router *router.Router
	hooks  *hooks
	end    func()
}

func start(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, hooks: &hooks{bound: map[*router.Session]int{}, unbound: map[*router.Session]int{}}}
	w.router = router.New(router.Options{})
	w.router.Serve("example.org", w.router.Local())
	host := module.NewHost(w.router, nil, slog.New(slog.DiscardHandler), time.Now, []string{"example.org"},
		func(context.Context, jid.JID) (bool, error) { return true, nil })
	if err := host.Build(w.hooks); err != nil {
		t.Fatal(err)
	}
	o.Hosts = []VirtualHost{{Domain: jid.Must("example.org"), Backend: backend{}}}
	w.Service = New(w.router, host, o)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	w.end = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		over, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.Shutdown(over)
		w.check()
	})
	return w
}

// check holds what is left when all sessions are over against what was there.
func (w *world) check() {
	w.t.Helper()
	for s, n := range w.hooks.bound {
		if n != 1 || w.hooks.unbound[s] != 1 {
			w.t.Errorf("%s: bound %d times, unbound %d times", s.JID, n, w.hooks.unbound[s])
		}
	}
	if n := w.router.Sessions(); n != 0 {
		w.t.Errorf("%d sessions are left", n)
	}
	if n := w.Stats.Streams.Load(); n != 0 {
		w.t.Errorf("%d streams are left", n)
	}
	if len(w.young)+len(w.bound)+len(w.from) != 0 {
		w.t.Errorf("left: %d young, %d bound, %d addresses", len(w.young), len(w.bound), len(w.from))
	}
}

// addressed is a pipe that comes from somewhere.
type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

// protected is a connection that somebody else protects, so that PLAIN is offered.
type protected struct{ *stream.TCP }

func (p protected) Info() stream.Info {
	i := p.TCP.Info()
	i.Secure, i.Implicit = true, true
	return i
}

// client is the other end of a stream.
type client struct {
	t    *testing.T
	conn net.Conn
	mu   sync.Mutex
	got  strings.Builder
	over bool // the server has closed the connection
	end  int  // how often the session said that it is over
}

// dial connects a client that reads what it is sent.
func (w *world) dial(address string) *client {
	c := w.connect(address)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.conn.Read(buf)
			c.mu.Lock()
			c.got.Write(buf[:n])
			c.over = err != nil
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	synctest.Wait()
	return c
}

func (w *world) connect(address string) *client {
	ours, theirs := net.Pipe()
	c := &client{t: w.t, conn: theirs}
	sock := stream.NewSocket(addressed{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))})
	w.Accept(protected{stream.NewTCP(sock, w.Before())}, true, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.end++
	})
	return c
}

// send writes, and waits until nothing moves any more.
func (c *client) send(s string) {
	_, _ = io.WriteString(c.conn, s) // a server that has gone shows in what was got
	synctest.Wait()
}

// take returns what has come since the last call.
func (c *client) take() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.got.String()
	c.got.Reset()
	return s
}

func (c *client) want(parts ...string) {
	c.t.Helper()
	got := c.take()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			c.t.Fatalf("got  %s\nwant %s", got, p)
		}
	}
}

// ended checks that the session has told once that it is over.
func (c *client) ended() {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != 1 || !c.over {
		c.t.Errorf("over was called %d times; the connection is closed: %v", c.end, c.over)
	}
}

const (
	header  = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>"
	nsError = " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
	goodbye = "</stream:stream>"
)

// login takes the stream to the point where it may bind.
func (c *client) login(user string) {
	c.t.Helper()
	c.send(header)
	c.want("<mechanism>PLAIN</mechanism>")
	c.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00secret")) + "</auth>")
	c.want("<success ")
	c.send(header)
	c.want("<bind ")
}

func (c *client) bind(resource string) {
	c.t.Helper()
	c.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource + "</resource></bind></iq>")
}

// join returns a client with a session.
func (w *world) join(user, resource string) *client {
	w.t.Helper()
	c := w.dial("192.0.2.1:1")
	c.login(user)
	c.bind(resource)
	c.want("<jid>" + user + "@example.org/" + resource + "</jid>")
	return c
}

func TestLoginTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{LoginTimeout: 10 * time.Second})
		silent, polite, slow := w.dial("192.0.2.1:1"), w.dial("192.0.2.1:2"), w.dial("192.0.2.1:3")
		slow.login("romeo") // and never binds
		juliet := w.join("juliet", "balcony")
		time.Sleep(9 * time.Second)
		if got := silent.take(); got != "" {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(3 * time.Second)
		// RFC 6120 §4.9.3.4, §4.9.1.2
		silent.want("<stream:stream ", "<connection-timeout"+nsError, goodbye)
		polite.want("<connection-timeout" + nsError)
		slow.want("<connection-timeout"+nsError, goodbye)
		polite.send(goodbye)
		polite.ended()
		time.Sleep(4 * time.Second)
		silent.ended()
		slow.ended()
		if got := juliet.take(); got != "" {
			t.Errorf("a bound session got %s", got)
		}
		w.end()
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{PingAfter: time.Minute, PingTimeout: 30 * time.Second})
		alive, dead := w.join("romeo", "a"), w.join("juliet", "b")
		for range 3 {
			time.Sleep(76 * time.Second) // PingAfter and a tick of the watch
			got := alive.take()
			id, _, ok := strings.Cut(strings.Join(strings.SplitAfterN(got, " id='", 2)[1:], ""), "'")
			// RFC 6120 §4.6.3, XEP-0199 §4.1
			if !ok || !strings.Contains(got, "<iq from='example.org' to='romeo@example.org/a' type='get'") || strings.Count(got, "<ping xmlns='urn:xmpp:ping'/>") != 1 {
				t.Fatalf("got %s", got)
			}
			alive.send("<iq type='result' id='" + id + "' to='example.org'/>")
		}
		dead.want("<ping xmlns='urn:xmpp:ping'/>", "<connection-timeout"+nsError, goodbye)
		dead.ended()
		w.end()
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		polite, rude, young := w.join("romeo", "a"), w.join("juliet", "b"), w.dial("192.0.2.1:9")
		go func() {
			time.Sleep(time.Millisecond)
			polite.send(goodbye)
			polite.ended() // at once: both sides have ended it
		}()
		begin := time.Now()
		w.end()
		if d := time.Since(begin); d != time.Second {
			t.Errorf("ended after %v; the grace is a second", d)
		}
		for _, c := range []*client{polite, rude, young} {
			c.want("<system-shutdown"+nsError, goodbye) // RFC 6120 §4.9.3.20
			c.ended()
		}
		late := w.dial("192.0.2.1:10")
		late.ended()
	})
}

func TestShutdownOfThePolite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		var all []*client
		for i := range 20 {
			all = append(all, w.join("romeo", fmt.Sprint(i)))
		}
		begin := time.Now()
		go func() {
			synctest.Wait()
			for _, c := range all {
				_, _ = io.WriteString(c.conn, goodbye)
			}
		}()
		w.end()
		if d := time.Since(begin); d != 0 {
			t.Errorf("waited %v for clients that had ended their streams", d)
		}
	})
}

func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{Strangers: 2})
		first, second := w.dial("192.0.2.1:1"), w.dial("[::ffff:192.0.2.1]:2") // one address in two notations
		third := w.dial("192.0.2.1:3")
		third.ended() // XEP-0205 §3.3
		other := w.dial("192.0.2.2:1")
		other.send(header)
		other.want("<stream:features>")
		// Who has bound is a stranger no more.
		first.login("romeo")
		first.bind("a")
		first.want("<jid>")
		fourth := w.dial("192.0.2.1:4")
		fourth.send(header)
		fourth.want("<stream:features>")
		w.dial("192.0.2.1:5").ended()
		// Nor is who has gone.
		second.conn.Close()
		synctest.Wait()
		sixth := w.dial("192.0.2.1:6")
		sixth.send(header)
		sixth.want("<stream:features>")
		w.end()
	})
}

func TestTune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{MaxSessions: 1})
		w.join("romeo", "a")
		c := w.dial("192.0.2.1:1")
		c.login("romeo")
		c.bind("b")
		c.want("<resource-constraint ") // RFC 6120 §7.6.2.1
		w.Tune(Options{MaxSessions: 2, Before: wire.Limits{Bytes: 300}})
		c.bind("b")
		c.want("<resource-constraint ") // it began before
		w.join("romeo", "c")
		long := w.dial("192.0.2.1:1")
		long.send(header + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + strings.Repeat("A", 400))
		long.want("<policy-violation ")
		w.end()
	})
}

// A flood is slowed down where it comes in.
func TestRate(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
	}{
		{"octets", Options{Rate: 100, Burst: 400}},
		{"stanzas", Options{Pace: 1, PaceBurst: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.o.PingAfter, tt.o.PingTimeout = 5*time.Second, time.Second
				w := start(t, tt.o)
				romeo, juliet := w.join("romeo", "a"), w.join("juliet", "b")
				ping := func(i int) string {
					return fmt.Sprintf("<iq type='get' id='%d' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>", i)
				}
				flood := ""
				for i := range 30 {
					flood += ping(i)
				}
				// A stanza that alone takes longer than a silent peer has.
				flood += "<message to='juliet@example.org/b' id='big'><body>" + strings.Repeat("x", 2000) + "</body></message>" + ping(30)
				go func() { _, _ = io.WriteString(romeo.conn, flood) }()
				begin := time.Now()
				juliet.send(ping(100))
				juliet.want("id='100'")
				if time.Since(begin) != 0 {
					t.Error("another session waits, too")
				}
				if got := strings.Count(romeo.take(), "type='result'"); got < 2 || got > 8 {
					t.Errorf("%d answers at once", got)
				}
				got := ""
				for i := 0; i < 60 && !strings.Contains(got, "type='result' id='30'"); i++ {
					time.Sleep(time.Second)
					if i%4 == 0 {
						juliet.send(ping(101))
					}
					got += romeo.take()
				}
				if !strings.Contains(got, "type='result' id='30'") || strings.Contains(got, "connection-timeout") {
					t.Errorf("after %v romeo got %s", time.Since(begin), got)
				}
				if d := time.Since(begin); d < 25*time.Second {
					t.Errorf("the flood took but %v", d)
				}
				juliet.want("id='big'")
				w.end()
			})
		})
	}
}

// Nobody who is being slowed down holds up the end.
func TestShutdownOfTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{Rate: 1, Burst: 10})
		romeo := w.join("romeo", "a")
		go func() { _, _ = io.WriteString(romeo.conn, "<presence id='"+strings.Repeat("x", 10_000)+"'/>") }()
		synctest.Wait()
		begin := time.Now()
		w.end()
		if d := time.Since(begin); d > time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}

func TestReplacedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		old := w.join("juliet", "balcony")
		fresh := w.join("juliet", "balcony")
		old.want("<conflict"+nsError, goodbye) // RFC 6120 §7.7.2.2
		romeo := w.join("romeo", "a")
		romeo.send("<message to='juliet@example.org/balcony' id='m'/>")
		fresh.want("id='m'")
		if got := old.take(); got != "" {
			t.Errorf("the old session got %s", got)
		}
		time.Sleep(4 * time.Second)
		old.ended()
		fresh.send("<iq type='get' id='1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
		fresh.want("type='result' id='1'")
		w.end()
	})
}

// A bug of ours ends the session that met it, and no other.
func TestPanicInAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		romeo, juliet := w.join("romeo", "a"), w.join("juliet", "b")
		romeo.send("<iq type='get' id='1' to='example.org'><bug xmlns='urn:example:bug'/></iq>")
		romeo.want("<internal-server-error"+nsError, goodbye) // RFC 6120 §4.9.3.8
		time.Sleep(4 * time.Second)
		romeo.ended()
		juliet.send("<iq type='get' id='2' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
		juliet.want("type='result' id='2'")
		w.end()
	})
}

func TestRefusedResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{Conflict: router.ConflictRefuse})
		old := w.join("juliet", "balcony")
		c := w.dial("192.0.2.1:1")
		c.login("juliet")
		c.bind("balcony")
		c.want("type='error' id='b'", "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>")
		c.bind("chamber") // RFC 6120 §7.7.2.2: it may try again
		c.want("<jid>juliet@example.org/chamber</jid>")
		if got := old.take(); got != "" {
			t.Errorf("the old session got %s", got)
		}
		w.end()
	})
}

// What a client had not read when another took its place comes to that one, and
// what it had is not told twice.
func TestUnreadMessagesOfAReplacedSession(t *testing.T) {
	for _, resumes := range []bool{false, true} {
		t.Run(fmt.Sprintf("reads on %v", resumes), func(t *testing.T) { testUnread(t, resumes) })
	}
}

func testUnread(t *testing.T, resumes bool) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		old := w.connect("192.0.2.1:1")
		old.conn = &stopped{Conn: old.conn}
		go old.conn.(*stopped).run(old)
		synctest.Wait()
		old.login("juliet")
		old.bind("balcony")
		old.want("<jid>")
		old.conn.(*stopped).stop()
		romeo := w.join("romeo", "a")
		for i := range 3 {
			romeo.send(fmt.Sprintf("<message to='juliet@example.org/balcony' id='m%d'/>", i))
		}
		if resumes {
			old.send(goodbye) // and then reads what there is
		}
		fresh := w.join("juliet", "balcony")
		if resumes {
			_ = old.conn.SetReadDeadline(time.Time{})
			go old.conn.(*stopped).run(old)
		}
		time.Sleep(4 * time.Second) // otherwise the old connection does not end in time
		got, before := fresh.take(), old.take()
		if resumes != strings.Contains(before, "id='m0'") {
			t.Errorf("the old session got %s", before)
		}
		for i := range 3 {
			if n := strings.Count(got+before+strings.Join(w.hooks.stored, " "), fmt.Sprintf("m%d", i)); n != 1 {
				t.Errorf("message %d came %d times", i, n)
			}
		}
		old.conn.Close()
		w.end()
	})
}

// stopped is a client's end of a pipe that may stop reading.
type stopped struct {
	net.Conn
	mu   sync.Mutex
	over bool
}

func (s *stopped) stop() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	_ = s.SetReadDeadline(time.Now())
	synctest.Wait()
}

func (s *stopped) run(c *client) {
	buf := make([]byte, 4096)
	for {
		n, err := s.Conn.Read(buf)
		c.mu.Lock()
		c.got.Write(buf[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// RFC 6120 §4.9.1.1: who receives a stream error closes the stream.
func TestStreamErrorOfTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		c := w.join("romeo", "a")
		c.send("<stream:error><undefined-condition" + nsError + "</stream:error>" + goodbye)
		if got := c.take(); got != goodbye {
			t.Errorf("got %s", got)
		}
		c.ended()
		w.end()
	})
}

// A client that asks and leaves in one breath gets its answer.
func TestAnswerBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		c := w.join("romeo", "a")
		c.send("<iq type='get' id='1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>" + goodbye)
		if got := c.take(); got != "<iq from='example.org' to='romeo@example.org/a' type='result' id='1'/>"+goodbye {
			t.Errorf("got %s", got)
		}
		c.ended()
		w.end()
	})
}

// The session is over when the connection breaks, whatever it was at.
func TestBrokenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		steps := []func(*client){
			func(*client) {},
			func(c *client) { c.send("<stream:str") },
			func(c *client) { c.send(header) },
			func(c *client) { c.send(header + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>") },
			func(c *client) { c.login("romeo") },
			func(c *client) { c.login("romeo"); c.bind("a") },
			func(c *client) { c.login("romeo"); c.bind("b"); c.send("<message><bo") },
		}
		for _, step := range steps {
			c := w.dial("192.0.2.1:1")
			step(c)
			c.conn.Close()
			c.ended()
		}
		w.check()
		w.end()
	})
}
