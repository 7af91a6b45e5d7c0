package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// sleeper is a session whose connection was cut: what its client remembers.
type sleeper struct {
	user string
	id   string // to resume with
	h    int64  // stanzas received
}

// hibernate logs an account in, enables stream management, becomes available, and
// cuts the connection without closing the stream.
func hibernate(ctx context.Context, ep endpoint, user string) (sleeper, error) {
	s, err := login(ctx, ep, roadTCP, user)
	if err != nil {
		return sleeper{}, err
	}
	h := sleeper{user: user}
	if h.id, err = s.enable(); err == nil {
		h.h, err = s.availableCounted()
	}
	return h, errors.Join(err, s.cut())
}

// availableCounted is available on a managed stream. It returns the stanzas
// received, and acknowledges them, so that the server has none to keep.
func (s *session) availableCounted() (int64, error) {
	if err := s.setDeadline(time.Now().Add(setupTimeout)); err != nil {
		return 0, err
	}
	const id = "sync"
	if err := s.sendXML("<presence/>"); err != nil {
		return 0, err
	}
	if err := s.sendXML("<iq type='get' id='" + id + "'><query xmlns='jabber:iq:roster'/></iq>"); err != nil {
		return 0, err
	}
	if err := s.sendXML(ackRequest); err != nil {
		return 0, err
	}
	var received int64
	rostered := false
	for {
		el, err := s.await("<iq", "<presence", "<message", "<a ")
		if err != nil {
			return 0, err
		}
		if !bytes.HasPrefix(el, []byte("<a ")) {
			received++
			rostered = rostered || attr(el, "id") == id
			continue
		}
		if rostered && attr(el, "h") == "2" { // all that was sent is handled
			break
		}
		if err := s.sendXML(ackRequest); err != nil {
			return 0, err
		}
	}
	if err := s.sendXML(ack(received)); err != nil {
		return 0, err
	}
	return received, s.setDeadline(time.Time{})
}

// cut ends the connection as a lost network does: without a word of XMPP, and
// with a reset instead of TCP's own farewell.
func (s *session) cut() error {
	var conn net.Conn
	switch l := s.link.(type) {
	case *tcpLink:
		conn = l.conn
	case *wsLink:
		conn = l.conn
	}
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("not on one TCP connection")
	}
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

// resume logs the account in and takes the session up again (XEP-0198 §5).
func (h sleeper) resume(ctx context.Context, ep endpoint) (*session, error) {
	s, err := connect(ctx, ep, roadTCP)
	if err != nil {
		return nil, err
	}
	if err := s.authenticated(ep, roadTCP, h.user); err != nil {
		return nil, errors.Join(err, s.close())
	}
	err = s.sendXML("<resume xmlns='" + nsSM + "' previd='" + h.id + "' h='" + strconv.FormatInt(h.h, 10) + "'/>")
	if err == nil {
		var el []byte
		if el, err = s.await("<resumed", "<failed"); err == nil && !bytes.HasPrefix(el, []byte("<resumed")) {
			err = fmt.Errorf("%s is not resumed: %.300s", h.user, el)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// runHibernated is runIdle for sessions whose connection is lost. Only a few are
// connected at a time, so that the growth is what hibernated sessions take.
func runHibernated(ctx context.Context, b *bench, s *server) (*outcome, error) {
	// Clean logins first, as many as heaps need to find their size.
	err := each(min(b.idle, 500), func(i int) error {
		session, err := login(ctx, s.ep, roadTCP, userName(chatFrom+i%(2*chatPairs)))
		if err != nil {
			return err
		}
		return errors.Join(session.available(), session.close())
	})
	if err != nil {
		return nil, err
	}
	rest := min(10*time.Second, 4*b.duration)
	if b.quick {
		rest = 200 * time.Millisecond
	}
	if err := pause(ctx, rest/2); err != nil {
		return nil, err
	}
	before, err := s.meter().pss()
	if err != nil {
		return nil, err
	}
	sleepers := make([]sleeper, b.idle)
	err = each(len(sleepers), func(i int) (err error) {
		sleepers[i], err = hibernate(ctx, s.ep, userName(idleFrom+i))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, rest); err != nil {
		return nil, err
	}
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	after, err := s.meter().pss()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, rest/2); err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	var alive atomic.Int64
	err = each(len(sleepers), func(i int) error { // the server must still know every one of them
		session, err := sleepers[i].resume(ctx, s.ep)
		if err != nil {
			b.log.Debug("not resumed", "server", s.name(), "err", err)
			return nil
		}
		alive.Add(1)
		return session.close()
	})
	if err != nil {
		return nil, err
	}
	n := int64(len(sleepers))
	return &outcome{
		Metrics: map[string]float64{
			"pss_kb":      float64(after-before) / 1e3 / float64(n),
			"base_mb":     float64(before) / 1e6,
			"cpu_percent": 100 * cpu.Seconds() / passed.Seconds(),
		},
		Sent: n, Received: alive.Load(), Errors: n - alive.Load(),
	}, nil
}
