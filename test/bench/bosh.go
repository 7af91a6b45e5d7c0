package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// boshLink is XEP-0124 1.11 with hold=1 over two persistent connections:
// request rid goes out on connection rid mod 2. Answers come in the order of the
// requests (XEP-0124 §8), so one reader takes them from the two in turn, and as
// hold=1 makes the server answer the older request when a newer one arrives, a
// connection is free again as soon as the other one is taken.
type boshLink struct {
	conns   [2]net.Conn
	readers [2]*bufio.Reader
	path    string
	host    string
	sid     string

	// owned by the receiving goroutine
	body    []byte // the last response's
	payload []byte // what recv has not yet handed out
	answer  uint64 // rid of the next answer

	mu      sync.Mutex
	rid     uint64 // of the next request
	held    int    // requests not yet answered, 0 to 2
	pending []byte // stanzas waiting for a free request
	request []byte // scratch
	closed  bool
}

func newBOSH(a, b net.Conn, host, path string) *boshLink {
	const first = 1_000_000
	return &boshLink{
		conns:   [2]net.Conn{a, b},
		readers: [2]*bufio.Reader{bufio.NewReaderSize(a, 16<<10), bufio.NewReaderSize(b, 16<<10)},
		path:    path, host: host, rid: first, answer: first,
	}
}

func (l *boshLink) open(domain string, restart bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if restart { // XEP-0206 §5
		return l.post(" xmpp:restart='true' to='"+domain+"' xmlns:xmpp='urn:xmpp:xbosh'", nil)
	}
	// XEP-0124 §7.1, XEP-0206 §3
	return l.post(" content='text/xml; charset=utf-8' hold='1' wait='60' ver='1.11' to='"+domain+
		"' xml:lang='en' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'", nil)
}

func (l *boshLink) pack(dst, stanza []byte) []byte { return append(dst, stanza...) }

func (l *boshLink) send(units []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, units...)
	return l.flush()
}

// flush sends what is pending, or an empty request, if one is free and of use.
// The caller holds mu.
func (l *boshLink) flush() error {
	if l.closed || l.sid == "" || l.held == 2 || (len(l.pending) == 0 && l.held > 0) {
		return nil
	}
	err := l.post("", l.pending)
	l.pending = l.pending[:0]
	return err
}

// post writes one request. The caller holds mu.
func (l *boshLink) post(attributes string, stanzas []byte) error {
	const head, tail = "<body xmlns='http://jabber.org/protocol/httpbind' rid='", "</body>"
	rid := strconv.FormatUint(l.rid, 10)
	if l.sid != "" {
		attributes = "' sid='" + l.sid + "'" + attributes + ">"
	} else {
		attributes = "'" + attributes + ">"
	}
	size := len(head) + len(rid) + len(attributes) + len(stanzas) + len(tail)
	b := append(l.request[:0], "POST "...)
	b = append(b, l.path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, l.host...)
	b = append(b, "\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(append(append(b, head...), rid...), attributes...)
	b = append(append(b, stanzas...), tail...)
	l.request = b
	_, err := l.conns[l.rid%2].Write(b)
	l.rid++
	l.held++
	return err
}

func (l *boshLink) recv(buf []byte) (int, error) {
	for len(l.payload) == 0 {
		if err := l.poll(); err != nil {
			return 0, err
		}
		if err := l.readAnswer(); err != nil {
			return 0, err
		}
	}
	n := copy(buf, l.payload)
	l.payload = l.payload[n:]
	return n, nil
}

func (l *boshLink) readAnswer() error {
	status, body, err := readHTTPResponse(l.readers[l.answer%2], l.body[:0])
	l.body = body
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("BOSH answer with status %d: %.200s", status, body)
	}
	body = bytes.TrimSpace(body)
	if i := bytes.Index(body, []byte("<body")); i > 0 {
		body = body[i:] // an XML declaration
	}
	if attr(body, "type") == "terminate" {
		return fmt.Errorf("%w: %.200s", errStreamClosed, body)
	}
	l.answer++
	l.payload = inner(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sid == "" {
		if l.sid = attr(body, "sid"); l.sid == "" {
			return fmt.Errorf("no sid in the session's first answer: %.200s", body)
		}
	}
	l.held--
	if len(l.pending) > 0 {
		return l.flush()
	}
	return nil
}

// poll sends an empty request when the server holds none. It is called only when
// there is nothing left to hand out: during set-up the caller answers what it was
// given, and an empty request would race with that answer.
func (l *boshLink) poll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held > 0 {
		return nil
	}
	return l.flush()
}

func (l *boshLink) setDeadline(t time.Time) error {
	if err := l.conns[0].SetDeadline(t); err != nil {
		return err
	}
	return l.conns[1].SetDeadline(t)
}

func (l *boshLink) close() error {
	_ = l.setDeadline(time.Now().Add(time.Second)) // frees a sender that holds mu
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.sid != "" && l.held < 2 {
		_ = l.post(" type='terminate'", []byte("<presence type='unavailable' xmlns='jabber:client'/>")) // XEP-0124 §13
	}
	err := l.conns[0].Close()
	if err2 := l.conns[1].Close(); err == nil {
		err = err2
	}
	return err
}
