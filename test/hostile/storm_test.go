package hostile

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivium/core/c2s"
	"trivium/core/jid"
	"trivium/core/mod"
	"trivium/core/mod/archive"
	"trivium/core/mod/offline"
	"trivium/test/harness"
)

var storms = flag.Int("storms", 3, "how many storms, each with another seed")

const (
	stormSenders  = 4
	stormMessages = 60 // of each sender
)

// Senders that lose their connections all the time write to a client that does the
// same, over all framings, with every kind of coming back. What the server has
// acknowledged arrives, in the order of its sender, and nothing twice that the
// client has acknowledged.
func TestStorm(t *testing.T) {
	for seed := range *storms {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			newStorm(t, uint64(seed)).run()
		})
	}
}

type storm struct {
	t      *testing.T
	seed   uint64
	s      *harness.Server
	to     string // what is written to
	state  bool   // chat states between the messages
	sent   atomic.Int32
	bounce atomic.Int32
}

func newStorm(t *testing.T, seed uint64) *storm {
	o := harness.Options{
		Sessions: c2s.Options{Strangers: -1},
		Modules:  mod.Options{Offline: offline.Options{Messages: 10 * stormSenders * stormMessages}},
	}
	st := &storm{t: t, seed: seed, to: "juliet@example.org", state: seed%2 == 1}
	if seed%3 == 0 {
		st.to += "/storm"
	}
	if seed%4 >= 2 {
		o.Modules.Archive.Default = archive.Always
	}
	for i := range stormSenders {
		o.Accounts = append(o.Accounts, fmt.Sprintf("sender%d@example.org", i))
	}
	st.s = start(t, o)
	return st
}

func (st *storm) run() {
	var wg sync.WaitGroup
	ready := make(chan struct{})
	for i := range stormSenders {
		wg.Go(func() {
			<-ready
			if err := st.send(i); err != nil {
				st.t.Errorf("sender %d: %v", i, err)
			}
			st.sent.Add(1)
		})
	}
	if err := st.receive(ready); err != nil {
		st.t.Errorf("receiver: %v", err)
	}
	wg.Wait()
	if n := st.bounce.Load(); n > 0 {
		st.t.Errorf("%d messages came back", n)
	}
}

// connect dials a framing that chance chooses.
func (st *storm) connect(r *rand.Rand) (harness.Conn, error) {
	return st.s.Dial(harness.Framings[r.IntN(len(harness.Framings))])
}

// send writes all messages of one sender, and returns when they are acknowledged.
func (st *storm) send(i int) error {
	r := rand.New(rand.NewPCG(st.seed, uint64(i)))
	conn, err := st.connect(r)
	if err != nil {
		return err
	}
	c := &harness.Client{Conn: conn, SM: harness.Management{Answer: true}}
	defer func() { c.Drop() }()
	for _, err := range []error{
		c.Start("example.org"), c.Authenticate(fmt.Sprintf("sender%d", i), "example.org", harness.Password), c.Bind("x"), c.Enable(""),
	} {
		if err != nil {
			return err
		}
	}
	for n := range stormMessages {
		if st.state {
			if err := c.Send("<message type='chat' to='" + st.to + "'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"); err != nil {
				return err
			}
		}
		if err := c.Send(fmt.Sprintf("<message type='chat' id='%d-%d' to='%s'><body>%d %d</body></message>", i, n, st.to, i, n)); err != nil {
			return err
		}
		switch r.IntN(12) {
		case 0, 1:
			if err := c.Sync(); err != nil {
				return fmt.Errorf("sync: %w", err)
			}
		case 2:
			if err := c.Send("<r xmlns='" + harness.NSSM + "'/>"); err != nil {
				return err
			}
		case 3, 4:
			old := c.Conn
			if r.IntN(2) == 0 {
				old.Drop()
			}
			conn, err := st.connect(r)
			if err != nil {
				return err
			}
			if err := c.Resume(conn); err != nil {
				return fmt.Errorf("resume: %w", err)
			}
			old.Drop()
		}
	}
	err = c.AwaitAck(c.SM.Sent)
	for _, n := range c.Drain() {
		if n.Is(harness.NSClient, "message") && n.Attr("type") == "error" {
			st.bounce.Add(1)
			st.t.Logf("came back: %s", n)
		}
	}
	return err
}

// receiver is the client that everybody writes to.
type receiver struct {
	*harness.Client
	st    *storm
	r     *rand.Rand
	did   []string          // what it has done, for the log
	got   map[[2]int]int    // how often a message came
	fair  map[[2]int]bool   // those that may come again: received, but not acknowledged when a session was given up
	open  [][2]int          // received, and the server may not know
	last  [stormSenders]int // number of the last one of each sender
	ids   map[string][2]int // by stanza-id
	mine  map[[2]int]string // and the other way round
	errs  []error
	raced bool
	asked int // requests for an acknowledgement that were answered
}

func (st *storm) receive(ready chan<- struct{}) (err error) {
	v := &receiver{
		Client: &harness.Client{}, st: st, r: rand.New(rand.NewPCG(st.seed, 99)),
		got: map[[2]int]int{}, fair: map[[2]int]bool{}, ids: map[string][2]int{}, mine: map[[2]int]string{},
	}
	for i := range v.last {
		v.last[i] = -1
	}
	defer func() {
		if v.Conn != nil {
			v.Drop()
		}
		if err != nil || len(v.errs) > 0 {
			err = errors.Join(append(v.errs, err, fmt.Errorf("after %s", strings.Join(v.did, " ")))...)
		}
	}()
	if err := v.begin(); err != nil {
		close(ready)
		return err
	}
	close(ready)
	for len(v.got) < stormSenders*stormMessages {
		n, err := v.next()
		if n != nil {
			v.take(n)
		}
		if err == nil {
			err = v.act()
		}
		if err != nil && v.raced {
			v.note("raced")
			v.raced = false
			v.Drop()
			err = v.comeBack()
		}
		if err != nil {
			return fmt.Errorf("%d of %d have come, %v are the last: %w", len(v.got), stormSenders*stormMessages, v.last, err)
		}
	}
	return nil
}

// next takes what came before or waits for more.
func (v *receiver) next() (*harness.Node, error) {
	if p := v.Drain(); len(p) > 0 {
		for _, n := range p {
			v.take(n)
		}
		return nil, nil
	}
	return v.Take()
}

func (v *receiver) note(what string) {
	v.did = append(v.did, fmt.Sprintf("%s@%d", what, len(v.got)))
}

// begin binds a new session.
func (v *receiver) begin() error {
	conn, err := v.st.connect(v.r)
	if err != nil {
		return err
	}
	v.Conn, v.SM = conn, harness.Management{}
	for _, f := range []func() error{
		func() error { return v.Start("example.org") },
		func() error { return v.Authenticate("juliet", "example.org", harness.Password) },
		func() error { return v.Bind("storm") },
		func() error { return v.Enable("") },
		func() error { return v.Send("<presence/>") },
	} {
		if err := f(); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
	}
	return nil
}

// take checks one element.
func (v *receiver) take(n *harness.Node) {
	if !n.Is(harness.NSClient, "message") {
		return
	}
	body := n.Child(harness.NSClient, "body")
	if body == nil {
		return
	}
	var key [2]int
	if _, err := fmt.Sscanf(body.Text, "%d %d", &key[0], &key[1]); err != nil || n.Attr("type") == "error" {
		v.errs = append(v.errs, fmt.Errorf("got %s", n))
		return
	}
	v.open = append(v.open, key)
	v.got[key]++
	if v.got[key] > 1 {
		if !v.fair[key] {
			v.errs = append(v.errs, fmt.Errorf("%v came again: %s", key, n))
			v.note(fmt.Sprintf("TWICE%v", key))
		}
	} else if key[1] != v.last[key[0]]+1 {
		v.errs = append(v.errs, fmt.Errorf("%v came behind %d: %s", key, v.last[key[0]], n))
		v.note(fmt.Sprintf("ORDER%v", key))
	}
	v.last[key[0]] = max(v.last[key[0]], key[1])
	if id := n.Child("urn:xmpp:sid:0", "stanza-id"); id != nil {
		text := id.Attr("id")
		if other, ok := v.ids[text]; ok && other != key {
			v.errs = append(v.errs, fmt.Errorf("%v and %v have one id", key, other))
		}
		if before, ok := v.mine[key]; ok && before != text {
			v.errs = append(v.errs, fmt.Errorf("%v has two ids, %s and %s", key, before, text))
		}
		v.ids[text], v.mine[key] = key, text
	}
}

// settle takes what has been read, and makes sure that the server knows what it was.
func (v *receiver) settle() error {
	for _, n := range v.Drain() {
		v.take(n)
	}
	if err := v.Ack(); err != nil {
		return err
	}
	done := len(v.open)
	if err := v.Sync(); err != nil {
		return err
	}
	v.open = v.open[done:]
	return nil
}

// act does something, or nothing. When it has been asked what it has received the
// client says so, or loses its connection.
func (v *receiver) act() error {
	if v.SM.Asked != v.asked {
		if v.asked = v.SM.Asked; v.r.IntN(4) > 0 {
			return v.Ack()
		}
		v.note("drop")
		v.Drop()
		return v.comeBack()
	}
	switch x := v.r.IntN(100); {
	case x < 25:
		return v.Ack()
	case x < 29: // the state of the client
		state := [...]string{"active", "inactive"}[v.r.IntN(2)]
		return v.Send("<" + state + " xmlns='urn:xmpp:csi:0'/>")
	case x < 33: // the connection breaks
		v.note("drop")
		v.Drop()
		return v.comeBack()
	case x < 36: // it hangs
		v.note("stall")
		old := v.Conn
		defer old.Drop()
		return v.comeBack()
	case x < 38: // it breaks, and messages come meanwhile
		v.note("away")
		v.Drop()
		v.wait()
		return v.comeBack()
	case x < 39 && !strings.Contains(v.st.to, "/"): // the client forgets its session
		// What is for a resource overtakes what waits until the client is available.
		v.note("rebind")
		if v.r.IntN(2) == 0 {
			if err := v.settle(); err != nil {
				return err
			}
		}
		for _, n := range v.Drain() {
			v.take(n)
		}
		for _, key := range v.open {
			v.fair[key] = true
		}
		v.open = v.open[:0]
		v.Drop()
		if v.r.IntN(2) == 0 {
			v.wait()
		}
		// What the server sent and the client never read is not received.
		return v.begin()
	case x < 40: // two streams want the session
		v.note("race")
		return v.race()
	}
	return nil
}

// wait waits until the server knows that the client is away, and something lies
// there for it.
func (v *receiver) wait() {
	full := jid.Must("juliet@example.org/storm")
	for end := time.Now().Add(time.Second); time.Now().Before(end); runtime.Gosched() {
		s := v.st.s.Core.Router.Session(full)
		if s == nil {
			return
		}
		if st := s.State(); st.Away && (st.Unacked > 20 || v.st.sent.Load() == stormSenders) {
			return
		}
	}
}

func (v *receiver) comeBack() error {
	conn, err := v.st.connect(v.r)
	if err != nil {
		return err
	}
	if err := v.Resume(conn); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	v.open = v.open[:0]
	return nil
}

// race has a second stream take the session away in the moment in which the first
// one does.
func (v *receiver) race() error {
	old := v.Conn
	defer old.Drop()
	conn, err := v.st.connect(v.r)
	if err != nil {
		return err
	}
	rival := &harness.Client{Conn: conn}
	defer rival.Drop()
	if err := errors.Join(rival.Start("example.org"), rival.Authenticate("juliet", "example.org", harness.Password)); err != nil {
		return err
	}
	// What the rival reads is lost, but its 'h' is that of before.
	resume := "<resume xmlns='" + harness.NSSM + "' previd='" + v.SM.ID + "' h='" + strconv.FormatUint(uint64(v.SM.Received), 10) + "'/>"
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_ = rival.Send(resume)
		_, _ = rival.Conn.Receive() // the answer: 'h' may not be true any more when the client goes on
	})
	v.raced = true // the rival may be the last to have the session
	return v.comeBack()
}
