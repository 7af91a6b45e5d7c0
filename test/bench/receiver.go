package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// receiver is where webhooks are posted to: it reads requests and answers 204, at
// the least cost to the processors that it shares with the server.
type receiver struct {
	ln  net.Listener
	got atomic.Pointer[func()] // called for each request

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newReceiver() (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{ln: ln, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.ln.Addr().String() + "/" }

func (r *receiver) accept() {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.conns == nil {
			_ = c.Close()
		} else {
			r.conns[c] = true
			r.wg.Go(func() { r.serve(c) })
		}
		r.mu.Unlock()
	}
}

func (r *receiver) close() {
	_ = r.ln.Close()
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *receiver) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
	}()
	answer := []byte("HTTP/1.1 204 No Content\r\n\r\n")
	for br := bufio.NewReaderSize(c, 16<<10); ; {
		length, err := readPost(br)
		if err != nil {
			return
		}
		if _, err := br.Discard(length); err != nil {
			return
		}
		if got := r.got.Load(); got != nil {
			(*got)()
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// readPost reads the head of a request and returns the length of its body.
func readPost(br *bufio.Reader) (int, error) {
	length := -1
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name, value, _ := bytes.Cut(line, []byte(":")); {
		case first && !bytes.HasPrefix(line, []byte("POST ")):
			return 0, fmt.Errorf("not a POST: %.100q", line)
		case first:
		case len(line) == 0 && length < 0:
			return 0, fmt.Errorf("a POST without a length")
		case len(line) == 0:
			return length, nil
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
}
