package bosh

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"trivium/core/stream"
	"trivium/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taking serves each session on a goroutine of its own.
func taking(serve func(stream.Conn)) func(stream.Conn, func()) {
	return func(c stream.Conn, over func()) {
		go func() {
			defer over()
			serve(c)
		}()
	}
}

// batch makes a Batch of elements.
func batch(elements ...string) (b stream.Batch) {
	for _, e := range elements {
		b.Data = append(b.Data, e...)
		b.Ends = append(b.Ends, len(b.Data))
	}
	return b
}

const (
	features = `<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>`
	success  = `<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>`
	auth     = `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth>`
	hello    = `<message xmlns='jabber:client'><body>hello</body></message>`
	quiet    = `<message xmlns='jabber:client'><subject/></message>` // is not echoed
)

// peer is the session's side of a test: it answers a header with features, and
// each message that has a body with itself. It records what it read.
type peer struct {
	conn  stream.Conn
	limit wire.Limits // after a restart

	mu   sync.Mutex
	got  []string
	end  error
	gate chan struct{} // while not nil, nothing is read
}

func (p *peer) note(s string) {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if gate != nil {
		<-gate
	}
	p.mu.Lock()
	p.got = append(p.got, s)
	p.mu.Unlock()
}

// read returns what was read since the last call.
func (p *peer) read() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := strings.Join(p.got, " ")
	p.got = nil
	return s
}

// stall stops the session at what it reads next, until the result is called.
func (p *peer) stall() (resume func()) {
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.gate = nil
		p.mu.Unlock()
		close(gate)
	}
}

// send writes and waits until it has left.
func (p *peer) send(elements ...string) error {
	done := make(chan error, 1)
	sent, err := p.conn.Write(batch(elements...), func(err error) { done <- err })
	if err == nil && !sent {
		err = <-done
	}
	return err
}

func (p *peer) run() {
	var echo stream.Batch
	idle := func() {
		if len(echo.Ends) > 0 {
			_, _ = p.conn.Write(echo, nil)
			echo = stream.Batch{}
		}
	}
	for {
		ev, err := p.conn.Read(idle)
		var wrong *stream.Error
		switch {
		case errors.As(err, &wrong):
			p.note("error:" + string(wrong.Condition))
			p.conn.Close(wrong)
		case err != nil:
			p.mu.Lock()
			p.end = err
			p.mu.Unlock()
			return
		case ev.Kind == stream.Closed:
			p.note("closed")
			idle()
			p.conn.Close(nil)
		case ev.Kind == stream.Opened:
			h := ev.Header
			p.note(fmt.Sprintf("open(%s %s %s %s)", h.To, h.From, h.Lang, h.Version))
			if p.conn.Open(stream.Header{From: "example.com", ID: "ServerStreamID", Version: "1.0", Lang: "en"}) != nil {
				return
			}
			if h.To == "unknown.example" || h.To == "" {
				p.conn.Close(stream.Err(stream.HostUnknown, ""))
				continue
			}
			if p.send(features) != nil {
				return
			}
		case ev.Is("urn:ietf:params:xml:ns:xmpp-sasl", "auth"):
			p.note("auth")
			p.conn.Limit(p.limit)
			p.conn.Restart()
			if p.send(success) != nil {
				return
			}
		default:
			raw := string(ev.Raw)
			p.note(strings.TrimSuffix(strings.TrimPrefix(raw, "<message xmlns='jabber:client'>"), "</message>"))
			if ev.Is("jabber:client", "message") && strings.Contains(raw, "<body>") {
				echo.Data = append(echo.Data, strings.Replace(raw, " xmlns='jabber:client'", "", 1)...)
				echo.Ends = append(echo.Ends, len(echo.Data))
			}
		}
	}
}

// world is a Handler in a bubble with a false clock, and a client of it.
type world struct {
	t     *testing.T
	h     *Handler
	peers chan *peer
	peer  *peer // of the session that start made
	sid   string
	rid   uint64
	extra string // attributes for every request
}

func bubble(t *testing.T, opt Options, f func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, peers: make(chan *peer, 8), rid: 1573741820}
		w.h = New(taking(func(c stream.Conn) {
			p := &peer{conn: c}
			w.peers <- p
			p.run()
		}), opt)
		f(w)
		w.h.Close()
		synctest.Wait()
	})
}

// exchange is a request under way.
type exchange struct {
	t      *testing.T
	rec    *httptest.ResponseRecorder
	cancel context.CancelFunc
	done   chan struct{}
}

// post sends octets and waits until nothing moves any more.
func (w *world) post(text string) *exchange {
	ctx, cancel := context.WithCancel(context.Background())
	x := &exchange{t: w.t, rec: httptest.NewRecorder(), cancel: cancel, done: make(chan struct{})}
	rq := httptest.NewRequestWithContext(ctx, "POST", Path, strings.NewReader(text))
	go func() {
		defer close(x.done)
		w.h.ServeHTTP(x.rec, rq)
	}()
	synctest.Wait()
	return x
}

func (x *exchange) answered() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// held fails the test if the request was answered.
func (x *exchange) held() {
	x.t.Helper()
	if x.answered() {
		x.t.Fatalf("not held: %s", x.rec.Body)
	}
}

// reply is a parsed <body/>.
type reply struct {
	attrs map[string]string // by "space local", or "local"
	inner string
}

// reply waits for the answer of a request.
func (x *exchange) reply() reply {
	x.t.Helper()
	<-x.done
	return parseReply(x.t, x.rec.Result(), x.rec.Body.String())
}

func parseReply(t *testing.T, rs *http.Response, text string) reply {
	t.Helper()
	if rs.StatusCode != 200 {
		t.Fatalf("status %d: %s", rs.StatusCode, text)
	}
	if got := rs.Header.Get("Content-Length"); got != fmt.Sprint(len(text)) {
		t.Errorf("Content-Length %s, have %d octets", got, len(text))
	}
	var v struct {
		XMLName xml.Name
		Attrs   []xml.Attr `xml:",any,attr"`
		Inner   string     `xml:",innerxml"`
	}
	if err := xml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if v.XMLName != (xml.Name{Space: NS, Local: "body"}) {
		t.Errorf("root element %v", v.XMLName)
	}
	r := reply{map[string]string{}, v.Inner}
	for _, a := range v.Attrs {
		name := a.Name.Local
		if a.Name.Space != "" {
			name = a.Name.Space + " " + name
		}
		if name == "xmlns" || a.Name.Space == "xmlns" {
			continue
		}
		r.attrs[name] = a.Value
	}
	return r
}

// want checks the payload and all attributes, given as name, value pairs.
func (r reply) want(t *testing.T, inner string, attrs ...string) {
	t.Helper()
	if r.inner != inner {
		t.Errorf("payload %q\nwant %q", r.inner, inner)
	}
	if len(attrs) != 2*len(r.attrs) {
		t.Errorf("attributes %v, want %v", r.attrs, attrs)
		return
	}
	for i := 0; i < len(attrs); i += 2 {
		if r.attrs[attrs[i]] != attrs[i+1] {
			t.Errorf("attribute %s is %q, want %q", attrs[i], r.attrs[attrs[i]], attrs[i+1])
		}
	}
}

// start makes a session; attrs are those of its request.
func (w *world) start(attrs string) reply {
	w.t.Helper()
	r := w.post(fmt.Sprintf("<body rid='%d' to='example.com' xml:lang='en' %s xmlns='http://jabber.org/protocol/httpbind'/>", w.rid, attrs)).reply()
	w.sid = r.attrs["sid"]
	w.peer = <-w.peers
	w.peer.read()
	return r
}

// usual are the attributes that clients of the field send.
const usual = "wait='60' hold='1' ver='1.6'"

// body makes a request with the next rid.
func (w *world) body(attrs, payload string) string {
	w.rid++
	return w.at(w.rid, attrs, payload)
}

// at makes a request.
func (w *world) at(rid uint64, attrs, payload string) string {
	return fmt.Sprintf("<body rid='%d' sid='%s' %s xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'>%s</body>", rid, w.sid, attrs+w.extra, payload)
}

// next posts the request with the next rid.
func (w *world) next(attrs, payload string) *exchange { return w.post(w.body(attrs, payload)) }

// sees checks what the session has read.
func (w *world) sees(want string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.peer.read(); got != want {
		w.t.Errorf("session read %q, want %q", got, want)
	}
}

// gone checks that the session's connection has ended.
func (w *world) gone() {
	w.t.Helper()
	synctest.Wait()
	w.peer.mu.Lock()
	defer w.peer.mu.Unlock()
	if w.peer.end == nil {
		w.t.Error("the session goes on")
	}
}

// The examples of XEP-0124 §7 and XEP-0206 §3, §4.
func TestCreation(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		x := w.post(`<body content='text/xml; charset=utf-8'
      from='user@example.com'
      hold='1'
      rid='1573741820'
      to='example.com'
      route='xmpp:example.com:9999'
      wait='60'
      ver='1.6'
      ack='1'
      xml:lang='en'
      xmpp:version='1.0'
      xmlns='http://jabber.org/protocol/httpbind'
      xmlns:xmpp='urn:xmpp:xbosh'/>`)
		r := x.reply()
		sid := r.attrs["sid"]
		if len(sid) < 22 { // 128 bits in base64
			t.Errorf("sid %q", sid)
		}
		r.want(t, features, "sid", sid, "wait", "60", "requests", "2", "hold", "1", "inactivity", "30", "maxpause", "120",
			"polling", "2", "ver", "1.6", "ack", "1573741820", "from", "example.com", "authid", "ServerStreamID",
			NSXMPP+" restartlogic", "true", NSXMPP+" version", "1.0")
		if got := x.rec.Header().Get("Content-Type"); got != "text/xml; charset=utf-8" {
			t.Errorf("Content-Type %q", got)
		}
		if !strings.Contains(x.rec.Body.String(), "xmlns:stream='http://etherx.jabber.org/streams'") { // XEP-0206 §2
			t.Error("the prefix stream is not declared on <body/>")
		}
		w.peer = <-w.peers
		w.sees("open(example.com user@example.com en 1.0)")
		if i := w.peer.conn.Info(); i.Secure || !i.Implicit || i.Remote.String() != "192.0.2.1:1234" {
			t.Errorf("%+v", i)
		}
	})
}

// What is agreed on in the creation of a session (XEP-0124 §7.2).
func TestAgreement(t *testing.T) {
	for _, tt := range []struct{ attrs, name, want string }{
		{"wait='300'", "wait", "60"},
		{"wait='20'", "wait", "20"},
		{"", "wait", "60"},
		{"hold='5'", "hold", "1"},
		{"hold='5'", "requests", "2"},
		{"hold='0'", "requests", "1"},
		{"hold='0'", "inactivity", "62"}, // §12: greater by more than 'polling'
		{"wait='0' hold='1'", "hold", "0"},
		{"ver='1.6'", "ver", "1.6"},
		{"ver='1.11'", "ver", "1.11"},
		{"ver='1.12'", "ver", "1.11"},
		{"ver='2.0'", "ver", "1.11"},
		{"ver='1.9'", "ver", "1.9"}, // numbers, not decimals
		{"", "ver", ""},
		{"ack='1'", "ack", "1573741820"},
		{"", "ack", ""},
		{"", "stream", ""}, // §16.2: not supported
		{"", "accept", ""},
	} {
		bubble(t, Options{}, func(w *world) {
			if got := w.start(tt.attrs).attrs[tt.name]; got != tt.want {
				t.Errorf("%s: %s='%s', want '%s'", tt.attrs, tt.name, got, tt.want)
			}
		})
	}
}

// The login of XEP-0206 §5.
func TestLogin(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.next("", auth).reply().want(t, success)
		w.next("to='example.com' xml:lang='en' xmpp:restart='true'", hello).reply().want(t, features)
		w.sees("auth open(example.com  en 1.0)") // §5: the payload of a restart request is ignored
		w.next("", hello).reply().want(t, hello)
		// XEP-0124 §8: a request is held until there is something to say.
		x := w.next("", "")
		time.Sleep(30 * time.Second)
		x.held()
		if _, err := w.peer.conn.Write(batch("<presence/>", "<iq type='get' id='1'/>"), nil); err != nil {
			t.Fatal(err)
		}
		x.reply().want(t, "<presence xmlns='jabber:client'/><iq xmlns='jabber:client' type='get' id='1'/>")
		// §8: or until the waiting time is over.
		start := time.Now()
		w.next("", "").reply().want(t, "")
		if d := time.Since(start); d != time.Minute-waitMargin {
			t.Errorf("held for %v", d)
		}
		// §8: not more requests than 'hold' are held.
		x = w.next("", "")
		y := w.next("", quiet)
		x.reply().want(t, "")
		y.held()
	})
}

// A stream error ends the session (XEP-0206 §6).
func TestStreamError(t *testing.T) {
	bubble(t, Options{Limits: wire.Limits{Bytes: 10000}}, func(w *world) {
		w.start(usual)
		r := w.next("", "<message xmlns='jabber:client'>"+strings.Repeat("x", 10000)+"</message>").reply()
		r.want(t, "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>element too large</text></stream:error>",
			"type", "terminate", "condition", "remote-stream-error")
		w.gone()
		w.next("", "").reply().want(t, "", "type", "terminate", "condition", "item-not-found")
	})
	// What waits goes before it.
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err != nil {
			t.Fatal(err)
		}
		w.peer.conn.Close(stream.Err(stream.Conflict, ""))
		w.next("", "").reply().want(t, "<message xmlns='jabber:client'/><stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
			"type", "terminate", "condition", "remote-stream-error")
	})
	for _, tt := range []struct {
		err  *stream.Error
		want []string
	}{
		{stream.Err(stream.SystemShutdown, ""), []string{"", "type", "terminate", "condition", "system-shutdown"}},
		{
			&stream.Error{Condition: stream.SeeOtherHost, Host: "https://secure.jabber.org/xmppcm"},
			[]string{"<uri>https://secure.jabber.org/xmppcm</uri>", "type", "terminate", "condition", "see-other-uri"},
		},
		{nil, []string{"", "type", "terminate"}},
	} {
		bubble(t, Options{}, func(w *world) {
			w.start(usual)
			x := w.next("", "")
			x.held()
			w.peer.conn.Close(tt.err)
			x.reply().want(t, tt.want[0], tt.want[1:]...)
		})
	}
}

// Errors at the creation of a session (XEP-0124 §17.2).
func TestCreationErrors(t *testing.T) {
	for _, tt := range []struct{ in, condition string }{
		{"<body rid='1' to='unknown.example' ver='1.6' xmlns='" + NS + "'/>", "host-unknown"},
		{"<body rid='1' ver='1.6' xmlns='" + NS + "'/>", "improper-addressing"},
		{"<body to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='0' to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='-1' to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='9007199254740992' to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"}, // §14.1
		{"<body rid='1' wait='x' to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='1' content='x' to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='1' content='text/xml; charset=utf-16' to='example.com' ver='1.6' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='1' to='example.com' ver='1.6' type='terminate' xmlns='" + NS + "'/>", "bad-request"},
		{"<body rid='1' sid='nosuch' xmlns='" + NS + "'/>", "item-not-found"},
		{"", "bad-request"},
		{"<body rid='1' ver='1.6' xmlns='" + NS + "'>", "bad-request"},
		{"<body rid='1' ver='1.6' xmlns='" + NS + "'/><body/>", "bad-request"},
		{"<body rid='1' xmlns='jabber:client'/>", "bad-request"},
		{"<stream rid='1' xmlns='" + NS + "'/>", "bad-request"},
	} {
		bubble(t, Options{}, func(w *world) {
			r := w.post(tt.in).reply()
			if r.attrs["type"] != "terminate" || r.attrs["condition"] != tt.condition || r.attrs["sid"] != "" {
				t.Errorf("%s: %v", tt.in, r.attrs)
			}
			w.h.mu.Lock()
			if n := len(w.h.sessions); n != 0 {
				t.Errorf("%s: %d sessions are left", tt.in, n)
			}
			w.h.mu.Unlock()
		})
	}
}

// What a <body/> may not hold (XEP-0124 §6).
func TestBadBodies(t *testing.T) {
	for _, tt := range []struct{ payload, condition string }{
		{"text", "bad-request"},
		{"<!-- comment -->", "bad-request"},
		{"<?pi?>", "bad-request"},
		{"<message>", "bad-request"},
		{"&amp;", "bad-request"},
		{"<x:message/>", "bad-request"},
		{"<message>&entity;</message>", "bad-request"},
		{"<message>\xff</message>", "bad-request"},
		{"<message>\x01</message>", "bad-request"},
		{"<message>" + strings.Repeat("<x>", 200) + strings.Repeat("</x>", 200) + "</message>", "policy-violation"},
		{strings.Repeat("x", 600<<10), "policy-violation"},
	} {
		bubble(t, Options{}, func(w *world) {
			w.start(usual)
			w.next("", tt.payload).reply().want(t, "", "type", "terminate", "condition", tt.condition)
			w.sees("")
		})
	}
}

// Namespaces of payloads.
func TestPayloads(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		// XEP-0124 §8, example 6
		{
			"<body rid='%d' sid='%s' xmlns='http://jabber.org/protocol/httpbind'>\n  <message to='contact@example.com'\n           xmlns='jabber:client'>\n    <x/>\n  </message>\n  <message to='friend@example.com'\n           xmlns='jabber:client'>\n    <x/>\n  </message>\n</body>",
			"<message to='contact@example.com'\n           xmlns='jabber:client'>\n    <x/>\n   <message to='friend@example.com'\n           xmlns='jabber:client'>\n    <x/>\n  ",
		},
		{"<body rid='%d' sid='%s' xmlns='http://jabber.org/protocol/httpbind'><message><x/></message></body>", "<x/>"},
		{"<body rid='%d' sid='%s' xmlns='http://jabber.org/protocol/httpbind'><x/></body>", "<x xmlns='jabber:client'/>"},
		{"<b:body rid='%d' sid='%s' xmlns:b='http://jabber.org/protocol/httpbind' xmlns='jabber:client'><message><x/></message></b:body>", "<x/>"},
		{
			"<body rid='%d' sid='%s' xmlns='http://jabber.org/protocol/httpbind' xmlns:json='http://json.org/'><json:json>{}</json:json></body>",
			"<json:json xmlns='http://jabber.org/protocol/httpbind' xmlns:json='http://json.org/'>{}</json:json>",
		},
		{
			"<body rid='%d' sid='%s' xmlns='http://jabber.org/protocol/httpbind' xmlns:json='http://json.org/'><message><json:json/></message></body>",
			"<message xmlns='jabber:client' xmlns:json='http://json.org/'><json:json/>",
		},
		{"<body rid='%d' sid='%s' xmlns='http://jabber.org/protocol/httpbind'><message xmlns='jabber:&#99;lient'><x/></message></body>", "<x/>"},
	} {
		bubble(t, Options{}, func(w *world) {
			w.start(usual)
			w.rid++
			w.post(fmt.Sprintf(tt.body, w.rid, w.sid))
			synctest.Wait()
			if got := w.peer.read(); got != tt.want {
				t.Errorf("%s\nread %q\nwant %q", tt.body, got, tt.want)
			}
		})
	}
}

// A stanza where a restart is due, and a restart where none is.
func TestRestartRules(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.next("", auth).reply().want(t, success)
		w.next("", hello).reply()
		w.sees("auth error:bad-format")
	})
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.next("xmpp:restart='1'", "").reply()
		w.sees("error:bad-format")
	})
}
