package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// nsSM is the namespace of stream management (XEP-0198 §13).
const nsSM = "urn:xmpp:sm:3"

// ackEvery is how many stanzas a client sends before it asks for an
// acknowledgement, and receives before it gives one unasked.
const ackEvery = 10

const ackRequest = "<r xmlns='" + nsSM + "'/>"

func ack(h int64) string {
	return "<a xmlns='" + nsSM + "' h='" + strconv.FormatInt(h, 10) + "'/>"
}

// enable turns stream management on, resumable, and returns the id to resume with
// (XEP-0198 §3).
func (s *session) enable() (string, error) {
	if err := s.setDeadline(time.Now().Add(setupTimeout)); err != nil {
		return "", err
	}
	if err := s.sendXML("<enable xmlns='" + nsSM + "' resume='true'/>"); err != nil {
		return "", err
	}
	el, err := s.await("<enabled", "<failed")
	if err != nil {
		return "", err
	}
	id := attr(el, "id")
	if !bytes.HasPrefix(el, []byte("<enabled")) || id == "" {
		return "", fmt.Errorf("no resumable stream management: %.300s", el)
	}
	return id, s.setDeadline(time.Time{})
}

// startManaged is start on two managed streams.
func (p *pair) startManaged(window int, oneByOne bool, stop *atomic.Bool, wg *sync.WaitGroup) error {
	for _, s := range []*session{p.from, p.to} {
		if _, err := s.enable(); err != nil {
			return err
		}
	}
	if oneByOne {
		return errors.New("managed chat has no -write each")
	}
	w := newManagedWriter(p.from.message(p.target, body("closed loop ")), window)
	wg.Go(p.drainManaged)
	wg.Go(func() { p.echoManaged(w, stop) })
	p.sent.Add(int64(window))
	return p.from.send(w.next(window))
}

// managedWriter cuts what a sender writes out of one long text in which a request
// for an acknowledgement follows every ackEvery messages.
type managedWriter struct {
	text []byte
	unit int // length of a message
	at   int // messages since the last request, 0 to ackEvery-1
}

func newManagedWriter(message []byte, window int) *managedWriter {
	cycle := append(bytes.Repeat(message, ackEvery), ackRequest...)
	return &managedWriter{text: bytes.Repeat(cycle, window/ackEvery+2), unit: len(message)}
}

// next returns the bytes of the next n messages, at most the window, and of the
// requests between and right behind them.
func (w *managedWriter) next(n int) []byte {
	end := w.at + n
	out := w.text[w.at*w.unit : end*w.unit+end/ackEvery*len(ackRequest)]
	w.at = end % ackEvery
	return out
}

// echoManaged is echo of a client that acknowledges: once for every ackEvery
// messages received, and whenever the server asks. h counts messages only, as all
// that comes after <enabled/> is; a stray presence makes it smaller, never larger.
func (p *pair) echoManaged(w *managedWriter, stop *atomic.Bool) {
	messages, requests := newCounter("</message>"), newCounter("<r ")
	var received, told int64
	var out []byte
	for buf := make([]byte, 16<<10); ; {
		n, err := p.to.recv(buf)
		if err != nil {
			return
		}
		k := messages.count(buf[:n])
		received += int64(k)
		out = out[:0]
		for told+ackEvery <= received {
			told += ackEvery
			out = append(out, ack(told)...)
		}
		for range requests.count(buf[:n]) {
			out = append(out, ack(received)...)
		}
		if len(out) > 0 {
			if err := p.to.send(out); err != nil {
				return
			}
		}
		p.received.Store(received)
		if k == 0 || stop.Load() {
			continue
		}
		p.sent.Add(int64(k))
		if err := p.from.send(w.next(k)); err != nil {
			return
		}
	}
}

// drainManaged is drain of a client that acknowledges. It keeps what the server
// has acknowledged; the sender itself receives no stanzas but errors.
func (p *pair) drainManaged() {
	for {
		el, err := p.from.nextElement()
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(el, []byte("<a ")):
			if h, err := strconv.ParseInt(attr(el, "h"), 10, 64); err == nil {
				p.acked.Store(h)
			}
		case bytes.HasPrefix(el, []byte("<r")):
			if err := p.from.send([]byte(ack(p.strays.Load()))); err != nil {
				return
			}
		case bytes.HasPrefix(el, []byte("<message")):
			p.strays.Add(1)
		}
	}
}

// awaitAcks has both ends acknowledge and ask once more, and returns how many
// messages the server does not acknowledge, or acknowledges too many.
func awaitAcks(pairs []*pair) (int64, string) {
	for _, p := range pairs {
		_ = p.to.send([]byte(ack(p.received.Load()))) // one that fails is not acknowledged
		_ = p.from.send([]byte(ackRequest))
	}
	missing := func() (n int64) {
		for _, p := range pairs {
			n += max(p.sent.Load()-p.acked.Load(), p.acked.Load()-p.sent.Load())
		}
		return n
	}
	var last time.Time
	await(drainLimit, func() bool {
		if missing() == 0 {
			return true
		}
		if time.Since(last) > time.Second { // a server that waits for its disk may have answered early
			last = time.Now()
			for _, p := range pairs {
				_ = p.from.send([]byte(ackRequest))
			}
		}
		return false
	})
	n := missing()
	var behind []string
	for i, p := range pairs {
		if sent, acked := p.sent.Load(), p.acked.Load(); sent != acked && len(behind) < 3 {
			behind = append(behind, fmt.Sprintf("pair %d: %d of %d", i, acked, sent))
		}
	}
	return n, fmt.Sprintf("%d messages not acknowledged (%s)", n, strings.Join(behind, ", "))
}
