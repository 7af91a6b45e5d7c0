package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
)

// relay is the floor under every figure: a process that pairs connections and
// copies bytes between them without looking at them. A pair is two connections
// whose first line is the same key; each direction is one goroutine that reads
// and writes, which is the least a Go server can do per message.
type relay struct {
	address string
}

func (*relay) name() string { return "relay" }

func (*relay) version(context.Context) (string, error) {
	return "byte relay (" + runtime.Version() + ")", nil
}

func (r *relay) prepare(context.Context, *bench, string, []string) (endpoint, error) {
	port, err := freePort()
	r.address = local(port)
	return endpoint{tcp: r.address, relay: true}, err
}

func (r *relay) command(setup) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	return exec.Command(exe, "relay", "-listen", r.address), nil
}

func (*relay) created(context.Context) error { return nil }

func (*relay) rest(_, _, _ string) []byte { return nil }

// relayBuffer is the copy buffer of one direction, in bytes.
const relayBuffer = 16 << 10

// runRelay serves until the listener fails.
func runRelay(l net.Listener) error {
	var mu sync.Mutex
	waiting := map[string]net.Conn{}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			key, err := readKey(conn)
			if err != nil {
				_ = conn.Close()
				return
			}
			mu.Lock()
			peer := waiting[key]
			if peer == nil {
				waiting[key] = conn
			} else {
				delete(waiting, key)
			}
			mu.Unlock()
			if peer == nil {
				return
			}
			go copyBytes(peer, conn)
			copyBytes(conn, peer)
		}()
	}
}

// readKey reads the first line byte by byte, so that nothing after it is taken.
func readKey(conn net.Conn) (string, error) {
	var key strings.Builder
	for one := make([]byte, 1); key.Len() < 64; {
		if _, err := conn.Read(one); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return key.String(), nil
		}
		key.WriteByte(one[0])
	}
	return "", bufio.ErrTooLong
}

// copyBytes is written out, and not io.Copy, so that the kernel's splice does
// not make the floor lower than anything that must see the bytes.
func copyBytes(dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, relayBuffer)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// dialRelay connects one end of pair i.
func dialRelay(ctx context.Context, ep endpoint, key string) (*tcpLink, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", ep.tcp)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "%s\n", key); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tcpLink{conn: conn}, nil
}
