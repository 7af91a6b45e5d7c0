package event

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/store"
)

func openLog(tb testing.TB, o Options) *Log {
	tb.Helper()
	db, err := store.Open(context.Background(), store.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	o.Store = db
	l, err := NewLog(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

var juliet, romeo = jid.Must("juliet@example.org/balcony"), jid.Must("romeo@sms.example.org")

func note(host string, i int) *Event {
	return &Event{Type: Message, Host: host, From: juliet, To: romeo, Stanza: fmt.Appendf(nil,
		`<message xmlns='jabber:client' from='%s' to='%s' type='chat'><body>%d</body></message>`, juliet, romeo, i)}
}

// commit appends events and waits until they are committed.
func commit(tb testing.TB, l *Log, list ...*Event) {
	tb.Helper()
	var wg sync.WaitGroup
	for _, e := range list {
		wg.Add(1)
		rc := router.NewReceipt(func(err error) {
			if err != nil {
				tb.Error(err)
			}
			wg.Done()
		})
		if err := l.Append(e, rc); err != nil {
			tb.Fatal(err)
		}
		rc.Release(nil)
	}
	wg.Wait()
}

// listen opens a stream.
func listen(tb testing.TB, ctx context.Context, url, lastID string) *parser {
	tb.Helper()
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if lastID != "" {
		rq.Header.Set("Last-Event-ID", lastID)
	}
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	rs, err := (&http.Client{Transport: transport}).Do(rq)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { rs.Body.Close() })
	if typ := rs.Header.Get("Content-Type"); rs.StatusCode != http.StatusOK || typ != "text/event-stream" {
		tb.Fatalf("%s, %s", rs.Status, typ)
	}
	return newParser(rs.Body)
}

func expect(tb testing.TB, p *parser, name string, e *Event) {
	tb.Helper()
	got, err := p.next()
	if err != nil {
		tb.Fatal(err)
	}
	if got.name != name || e != nil && got.id != e.ID() {
		tb.Errorf("got %+v, want %s %v", got, name, e)
	}
}

// TestStream: from now on, resume, from the beginning, gap, stop.
func TestStream(t *testing.T) {
	l := openLog(t, Options{Tail: 4})
	stop := make(chan struct{})
	s := Stream{Log: l, Encoder: &Encoder{}, Stop: stop}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after := int64(FromNow)
		if r.URL.Query().Has("all") {
			after = 0
		}
		s.Serve(w, r, Filter{Hosts: []string{"sms.example.org"}}, JSON, after)
	}))
	defer srv.Close()
	counts := make(chan int, 16)
	l.OnFollow(func(host string, n int) {
		if host == "sms.example.org" {
			counts <- n
		}
	})

	old := note("sms.example.org", 0)
	commit(t, l, old)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := listen(t, ctx, srv.URL, "")
	if n := <-counts; n != 1 || l.Followers("sms.example.org") != 1 {
		t.Errorf("%d followers, told %d", l.Followers("sms.example.org"), n)
	}
	list := make([]*Event, 20)
	for i := range list {
		list[i] = note("sms.example.org", i)
	}
	commit(t, l, note("other.example.org", 1))
	commit(t, l, list[:10]...)
	for _, e := range list[:10] {
		expect(t, p, "message", e)
	}
	if p.retry != "2000" {
		t.Errorf("retry: %s", p.retry)
	}
	cancel()
	if n := <-counts; n != 0 || l.Followers("sms.example.org") != 0 {
		t.Errorf("%d followers, told %d", l.Followers("sms.example.org"), n)
	}

	// What came while nobody listened comes first; it is not in memory any more.
	commit(t, l, list[10:]...)
	p = listen(t, t.Context(), srv.URL, list[9].ID())
	for _, e := range list[10:] {
		expect(t, p, "message", e)
	}
	p = listen(t, t.Context(), srv.URL+"?all", "")
	expect(t, p, "message", old)
	expect(t, p, "message", list[0])

	// Ids that this log has not given: those of an older log, of a younger one, and
	// of none.
	for _, id := range []string{FormatID(7), FormatID(1 << 60), "1234"} {
		p = listen(t, t.Context(), srv.URL+"?all", id)
		got, err := p.next()
		var gap Gap
		if err != nil || got.name != "gap" || json.Unmarshal([]byte(got.data), &gap) != nil || gap.After != id {
			t.Errorf("%s: got %+v, %v", id, got, err)
		}
		if until, ok := ParseID(gap.Until); !ok || until > l.Last() {
			t.Errorf("%s: until %s", id, gap.Until)
		}
	}
	close(stop)
	for {
		if _, err := p.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream ended with %v", err)
			}
			break
		}
	}
}

// TestFormats reads the same events in each format, the second time from what was
// kept of the first.
func TestFormats(t *testing.T) {
	l := openLog(t, Options{})
	stop := make(chan struct{})
	s := Stream{Log: l, Encoder: &Encoder{}, Stop: stop}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Serve(w, r, Filter{}, Format(r.URL.Query().Get("format")), 0)
	}))
	defer srv.Close()
	defer close(stop)
	e := note("sms.example.org", 1)
	commit(t, l, e)
	for _, f := range slices.Concat(Formats, Formats) {
		got, err := listen(t, t.Context(), srv.URL+"?format="+string(f), "").next()
		if err != nil {
			t.Fatal(err)
		}
		_, want, err := s.Encoder.Encode(e, f)
		if err != nil || got.data != lines(want) {
			t.Errorf("%s: %q, want %q, %v", f, got.data, want, err)
		}
	}
}

// pipeWriter is an answer over a pipe, on which deadlines work.
type pipeWriter struct {
	net.Conn
	header http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }
func (w *pipeWriter) WriteHeader(int)     {}
func (w *pipeWriter) Flush()              {}

// bubble runs f with a stream and its reader's end of a pipe, under a clock of
// their own. The stream ends when the reader's end is closed or f returns.
func bubble(t *testing.T, f func(t *testing.T, l *Log, reader net.Conn, ended <-chan struct{}), with ...func(*Stream)) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		l, err := NewLog(t.Context(), Options{Store: db})
		if err != nil {
			t.Fatal(err)
		}
		here, there := net.Pipe()
		defer here.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer there.Close()
			rq := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
			s := Stream{Log: l, Encoder: &Encoder{}}
			for _, set := range with {
				set(&s)
			}
			s.Serve(&pipeWriter{there, http.Header{}}, rq, Filter{Hosts: []string{"sms.example.org"}}, XML, FromNow)
		}()
		f(t, l, here, ended)
		cancel()
		<-ended
	})
}

// TestHeartbeat: a comment each 15 seconds, which moves the id over what is left
// out, even if there is much of it.
func TestHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, l *Log, reader net.Conn, _ <-chan struct{}) {
		r := bufio.NewReader(reader)
		read := func(want string) {
			t.Helper()
			for line := range strings.Lines(want) {
				if got, err := r.ReadString('\n'); err != nil || got != line {
					t.Fatalf("got %q, %v, want %q", got, err, line)
				}
			}
		}
		read("retry: 2000\nid: " + FormatID(l.Last()) + "\n\n")
		start := time.Now()
		for i := range 20 {
			time.Sleep(time.Second)
			commit(t, l, note("other.example.org", i))
		}
		// The fifteenth event comes at the same moment: it may or may not be past.
		if line, err := r.ReadString('\n'); err != nil || line != ":\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "id: evt_") {
			t.Fatalf("got %q, %v", line, err)
		}
		read("\n")
		read(":\nid: " + FormatID(l.Last()) + "\n\n:\n\n")
		if took := time.Since(start); took != 45*time.Second {
			t.Errorf("three beats took %v", took)
		}
	})
}

// TestSlowReader: who does not read is cut off after 20 seconds.
func TestSlowReader(t *testing.T) {
	bubble(t, func(t *testing.T, l *Log, _ net.Conn, ended <-chan struct{}) {
		start := time.Now()
		commit(t, l, note("sms.example.org", 1))
		<-ended
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("cut off after %v", took)
		}
		if n := l.Followers("sms.example.org"); n != 0 {
			t.Errorf("%d followers", n)
		}
	})
}

// TestNotAllowedAnyMore: a stream ends at the heartbeat after its reader's token was
// revoked, whether or not there is something to tell.
func TestNotAllowedAnyMore(t *testing.T) {
	for _, busy := range []bool{false, true} {
		var revoked atomic.Bool
		bubble(t, func(t *testing.T, l *Log, reader net.Conn, ended <-chan struct{}) {
			start := time.Now()
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			for i := 0; ; i++ {
				if i == 20 {
					revoked.Store(true)
				}
				if busy {
					commit(t, l, note("sms.example.org", i))
				}
				select {
				case <-ended:
					if took := time.Since(start); took < 20*time.Second || took > 35*time.Second {
						t.Errorf("busy %v: it ended after %v", busy, took)
					}
					return
				case <-time.After(time.Second):
				}
			}
		}, func(s *Stream) { s.Allowed = func(context.Context) bool { return !revoked.Load() } })
	}
}

// TestFollowersThatServe: who may not speak for a host and follows it is no program
// of that host.
func TestFollowersThatServe(t *testing.T) {
	bubble(t, func(t *testing.T, l *Log, reader net.Conn, _ <-chan struct{}) {
		if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := l.Followers("sms.example.org"); n != 0 {
			t.Errorf("%d followers", n)
		}
	}, func(s *Stream) { s.Serving = []string{} })
}
