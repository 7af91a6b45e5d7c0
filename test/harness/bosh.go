package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ended is how BOSH says that a session is over (XEP-0124 §17). It is an ErrEnd.
type Ended struct {
	Condition string // "" when the session ended in order
}

func (e *Ended) Error() string        { return "the session has ended: " + e.Condition }
func (e *Ended) Is(target error) bool { return target == ErrEnd }

// boshConn is the framing of XEP-0124 and XEP-0206, with hold 1: one request is
// always on its way, a second one when there is something to say.
type boshConn struct {
	url  string
	http *http.Client
	ctx  context.Context
	drop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	change   chan struct{} // closed and replaced whenever something below changes
	sid      string
	rid      int64 // of the last request
	inFlight int
	requests int // as many may be in flight
	out      []string
	attrs    string // of the next request's body
	bodies   map[int64]*Node
	next     int64 // the answer that is due
	in       []*Node
	end      error
}

func dialBOSH(url string) (Conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	rid := rand.Int64N(1 << 40)
	c := &boshConn{
		url: url + "/http-bind", http: &http.Client{Transport: &http.Transport{}}, ctx: ctx, drop: cancel,
		change: make(chan struct{}), rid: rid, next: rid + 1, requests: 1, bodies: map[int64]*Node{},
	}
	return c, nil
}

// changed wakes who waits; mu is held.
func (c *boshConn) changed() {
	close(c.change)
	c.change = make(chan struct{})
}

// await waits until ok, which is called with mu held, and returns with mu held.
func (c *boshConn) await(ok func() bool) error {
	timeout := time.NewTimer(Patience)
	defer timeout.Stop()
	c.mu.Lock()
	for !ok() {
		ch := c.change
		c.mu.Unlock()
		select {
		case <-ch:
			c.mu.Lock()
		case <-timeout.C:
			c.mu.Lock()
			return errors.New("nothing came in time")
		}
	}
	return nil
}

func (c *boshConn) Open(to, lang string) error {
	c.mu.Lock()
	first := c.sid == ""
	if !first { // XEP-0206 §5
		c.attrs = langAttr(lang) + " to='" + escape(to) + "' xmpp:restart='true' xmlns:xmpp='" + NSXBOSH + "'"
		c.changed()
		c.mu.Unlock()
		return nil
	}
	c.rid++
	c.inFlight++
	body := "<body content='text/xml; charset=utf-8' hold='1' wait='20' ver='1.11' rid='" + strconv.FormatInt(c.rid, 10) +
		"' to='" + escape(to) + "'" + langAttr(lang) + " xmpp:version='1.0' xmlns='" + NSBOSH + "' xmlns:xmpp='" + NSXBOSH + "'/>" // XEP-0124 §7.1, XEP-0206 §2
	rid := c.rid
	c.mu.Unlock()
	c.post(rid, body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sid == "" {
		if c.end == nil {
			return errors.New("no session was made")
		}
		return nil // Receive tells why
	}
	c.wg.Go(c.pump)
	return nil
}

// pump sends requests: what there is to say, or an empty one for the server to
// answer.
func (c *boshConn) pump() {
	for {
		c.mu.Lock()
		busy := len(c.out) > 0 || c.attrs != ""
		ready := c.end == nil && (busy && c.inFlight < c.requests || c.inFlight == 0)
		if !ready {
			ch, over := c.change, c.end != nil
			c.mu.Unlock()
			if over {
				return
			}
			select {
			case <-ch:
			case <-c.ctx.Done():
				return
			}
			continue
		}
		c.rid++
		c.inFlight++
		rid, payload, attrs := c.rid, c.out, c.attrs
		c.attrs = ""
		if strings.Contains(attrs, "restart") { // XEP-0206 §5: a restart comes alone
			payload = nil
		} else {
			c.out = nil
		}
		body := "<body rid='" + strconv.FormatInt(rid, 10) + "' sid='" + escape(c.sid) + "' xmlns='" + NSBOSH + "'" + attrs + ">" +
			strings.Join(payload, "") + "</body>"
		c.mu.Unlock()
		c.wg.Go(func() { c.post(rid, body) })
	}
}

// post makes one request and hands its answer in.
func (c *boshConn) post(rid int64, body string) {
	n, err := c.exchange(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed()
	c.inFlight--
	if err != nil {
		if c.end == nil {
			c.end = err
		}
		return
	}
	c.bodies[rid] = n
	// Answers come on several connections: they count in the order of requests.
	for n := c.bodies[c.next]; n != nil; n = c.bodies[c.next] {
		delete(c.bodies, c.next)
		c.next++
		if sid := n.Attr("sid"); sid != "" && c.sid == "" {
			c.sid = sid
			if r, err := strconv.Atoi(n.Attr("requests")); err == nil {
				c.requests = r
			}
		}
		c.in = append(c.in, n.Children...)
		if n.Attr("type") == "terminate" && (c.end == nil || vague(c.end)) {
			c.end = &Ended{n.Attr("condition")}
		}
	}
}

// vague tells whether an end only says that another request knows more (XEP-0124
// §17.2).
func vague(end error) bool {
	e, ok := end.(*Ended)
	return ok && (e.Condition == "other-request" || e.Condition == "item-not-found")
}

func (c *boshConn) exchange(body string) (*Node, error) {
	rq, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	rq.Header.Set("Content-Type", "text/xml; charset=utf-8")
	res, err := c.http.Do(rq)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("bosh: %s", res.Status)
	}
	n, err := parseDocument(res.Body)
	if err != nil {
		return nil, err
	}
	if !n.Is(NSBOSH, "body") {
		return nil, fmt.Errorf("bosh: the answer is %s", n)
	}
	return n, nil
}

func (c *boshConn) Send(element string) error { return c.SendRaw(standalone(element)) }

func (c *boshConn) SendRaw(octets string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return c.end
	}
	c.out = append(c.out, octets)
	c.changed()
	return nil
}

func (c *boshConn) Receive() (*Node, error) {
	err := c.await(func() bool { return len(c.in) > 0 || c.end != nil && (c.inFlight == 0 || !vague(c.end)) })
	defer c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if len(c.in) == 0 {
		return nil, c.end
	}
	n := c.in[0]
	c.in = c.in[1:]
	return n, nil
}

func (c *boshConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.attrs = " type='terminate'" // XEP-0124 §13
		c.changed()
	}
	return nil
}

func (c *boshConn) Drop() {
	c.drop()
	c.wg.Wait()
	c.http.CloseIdleConnections()
}
