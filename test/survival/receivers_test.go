package survival

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"trivium/test/harness"
)

// habit is what a receiver does while messages come.
type habit int

const (
	stays    habit = iota
	away           // is offline
	vanishes       // loses its connection early, and its session waits for it
	roams          // loses its connection again and again, and resumes over any framing
)

const (
	nsArchive  = "urn:xmpp:mam:2"
	nsRSM      = "http://jabber.org/protocol/rsm"
	nsForward  = "urn:xmpp:forward:0"
	nsStanzaID = "urn:xmpp:sid:0"
)

// receiver takes messages and writes down where it has seen them.
type receiver struct {
	name    string
	framing string
	managed bool // with stream management
	every   int  // messages between two acknowledgements; 0: none
	habit   habit
	rng     *rand.Rand

	c    *harness.Client // nil while offline
	last string          // id of the last message read in the archive
}

func (r *receiver) bare() string { return r.name + "@" + domain }

// login makes a session that is available.
func (r *receiver) login(srv *server) error {
	c, err := login(srv, r.framing, r.name, r.c)
	if err != nil {
		return err
	}
	r.c = c
	if r.managed {
		if err := r.c.Enable(""); err != nil {
			return err
		}
	}
	// XEP-0198 §4: an answer "SHOULD be sent as soon as possible". While it floods
	// the receiver acknowledges late.
	r.c.SM.Answer = true
	defer func() { r.c.SM.Answer = false }()
	if err := r.c.Send("<presence/>"); err != nil {
		return err
	}
	return r.c.Sync()
}

// leave ends the session in order.
func (r *receiver) leave() error {
	if r.managed {
		if err := r.c.Ack(); err != nil {
			return err
		}
	}
	if err := r.c.Close(); err != nil {
		return err
	}
	for {
		if _, err := r.c.Take(); errors.Is(err, harness.ErrEnd) {
			r.c.Drop()
			r.c = nil
			return nil
		} else if err != nil {
			return err
		}
	}
}

// listen reads until the server is gone.
func (r *receiver) listen(f *flood) error {
	got, leg := 0, r.rng.IntN(30)+5
	for {
		n, err := r.c.Take()
		if err != nil {
			r.c.Drop()
			if f.isDown() && !isRule(err) {
				return nil
			}
			return fmt.Errorf("%s, after %d messages: %w", r.name, got, err)
		}
		if n == nil || !n.Is(harness.NSClient, "message") {
			continue
		}
		if err := r.take(f.ledger, live, n); err != nil {
			return err
		}
		got++
		if r.every > 0 && got%r.every == 0 {
			_ = r.c.Ack() // a connection that is lost shows itself in Take
		}
		if leg--; leg > 0 {
			continue
		}
		switch r.habit {
		case vanishes:
			r.c.Drop()
			return nil
		case roams:
			leg = r.rng.IntN(30) + 5
			if err := roam(f, r.c, r.rng); err != nil {
				if f.isDown() && !isRule(err) {
					return nil
				}
				return fmt.Errorf("%s resumes after %d messages: %w", r.name, got, err)
			}
		}
	}
}

// roam loses the connection and resumes the session over another one.
func roam(f *flood, c *harness.Client, rng *rand.Rand) error {
	c.Drop()
	conn, err := f.srv.addr.Dial(harness.Framings[rng.IntN(len(harness.Framings))])
	if err != nil {
		return err
	}
	if err := c.Resume(conn); err != nil {
		conn.Drop()
		return err
	}
	return nil
}

// take writes a message down.
func (r *receiver) take(l *ledger, at place, n *harness.Node) error {
	if n.Attr("type") == "error" {
		return fmt.Errorf("%s was told %s", r.name, n)
	}
	id := ""
	for _, c := range n.Children {
		if c.Is(nsStanzaID, "stanza-id") && c.Attr("by") == r.bare() {
			id = c.Attr("id")
		}
	}
	return r.write(l, at, n, id)
}

func (r *receiver) write(l *ledger, at place, n *harness.Node, id string) error {
	body := n.Child(harness.NSClient, "body")
	if body == nil {
		return fmt.Errorf("%s got a message without a body: %s", r.name, n)
	}
	from, rest, _ := strings.Cut(body.Text, " ")
	number, _, _ := strings.Cut(rest, " ")
	k, err := strconv.Atoi(number)
	if err != nil || !strings.HasPrefix(n.Attr("from"), from+"@") {
		return fmt.Errorf("%s got a message that nobody sent: %s", r.name, n)
	}
	l.saw(r.name, at, message{from, k}, id)
	return nil
}

// collect comes back after the server did, and reads what was kept: what is
// delivered now, and the archive. It stays online.
func (r *receiver) collect(srv *server, l *ledger) error {
	if err := r.login(srv); err != nil {
		if r.c != nil {
			_, why := r.record(l)
			err = errors.Join(err, why)
		}
		return fmt.Errorf("%s comes back: %w", r.name, err)
	}
	r.c.SM.Answer = true
	defer func() { r.c.SM.Answer = false }()
	deadline := time.Now().Add(harness.Patience)
	for silent := 0; silent < 2; silent++ {
		news, err := r.record(l)
		if err != nil {
			return err
		}
		// What is late is lost; nothing else waits here.
		late := !l.archived(r.name) && len(l.missing(r.name)) > 0 && time.Now().Before(deadline)
		if news || late {
			silent = 0
		}
		if r.managed {
			if err := r.c.Ack(); err != nil {
				return err
			}
		}
		if err := r.c.Sync(); err != nil {
			_, why := r.record(l) // what it has got it has got
			return fmt.Errorf("%s collects: %w", r.name, errors.Join(err, why))
		}
	}
	if err := r.readArchive(l); err != nil {
		return fmt.Errorf("the archive of %s: %w", r.name, err)
	}
	return nil
}

// record writes down what has been delivered since the server came back.
func (r *receiver) record(l *ledger) (news bool, err error) {
	for _, n := range r.c.Drain() {
		switch {
		case n.Is(harness.NSClient, "message"):
			news = true
			if err := r.take(l, stored, n); err != nil {
				return true, err
			}
		case n.Is(harness.NSStream, "error"):
			err = fmt.Errorf("its stream ended with %s", n)
		}
	}
	return news, err
}

// readArchive reads what the archive has got since the last time (XEP-0313 §4,
// XEP-0059 §2).
func (r *receiver) readArchive(l *ledger) error {
	for page := 1; ; page++ {
		after := ""
		if r.last != "" {
			after = "<after>" + r.last + "</after>"
		}
		answer, err := r.c.Request("<iq type='set' id='mam" + strconv.Itoa(page) + "'><query xmlns='" + nsArchive + "' queryid='q'>" +
			"<set xmlns='" + nsRSM + "'><max>20</max>" + after + "</set></query></iq>")
		if err != nil {
			return err
		}
		fin := answer.Child(nsArchive, "fin")
		if fin == nil {
			return fmt.Errorf("no <fin/> in %s", answer)
		}
		for _, n := range r.c.Drain() {
			result := n.Child(nsArchive, "result")
			if result == nil {
				if n.Is(harness.NSClient, "message") {
					if err := r.take(l, stored, n); err != nil {
						return err
					}
				}
				continue
			}
			r.last = result.Attr("id")
			if err := r.write(l, archive, result.Child(nsForward, "forwarded").Child(harness.NSClient, "message"), r.last); err != nil {
				return err
			}
		}
		if fin.Attr("complete") == "true" {
			return nil
		}
		if last := fin.Child(nsRSM, "set").Child(nsRSM, "last"); last == nil || last.Text != r.last {
			return fmt.Errorf("the page ends with %q, says %s", r.last, fin)
		}
	}
}
