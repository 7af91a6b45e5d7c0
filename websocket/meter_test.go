package websocket

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gorilla "github.com/gorilla/websocket"
)

// clientFrame is a client's frame (RFC 6455 §5.2) whose masking key is zero.
func clientFrame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return string(b) + "\x00\x00\x00\x00" + payload
}

// RFC 6455 §10.4: frames are bounded where the size of messages does not.
func TestFrameFloods(t *testing.T) {
	const presence = "<presence xmlns='jabber:client'/>"
	for _, secure := range []bool{false, true} {
		_, s := server(t, secure, echo, Options{})
		var cfg *tls.Config
		if secure {
			cfg = &tls.Config{InsecureSkipVerify: true}
		}
		begin := func(t *testing.T) *gorilla.Conn {
			c := dial(t, s, cfg)
			send(t, c, open)
			expect(t, c, opened)
			expect(t, c, features2)
			return c
		}
		write := func(t *testing.T, c *gorilla.Conn, in string) {
			t.Helper()
			if _, err := c.NetConn().Write([]byte(in)); err != nil {
				t.Fatal(err)
			}
		}
		fragmented := func(n int) string { // n frames, all but two of them empty
			return clientFrame(0x01, presence[:5]) + strings.Repeat(clientFrame(0x00, ""), n-2) + clientFrame(0x80, presence[5:])
		}
		t.Run("fragments", func(t *testing.T) {
			c := begin(t)
			for range 2 {
				write(t, c, fragmented(fragmentsMax))
				expect(t, c, presence)
			}
			write(t, c, fragmented(fragmentsMax+1))
			expectRefusal(t, c, "policy-violation", 1008)
		})
		t.Run("endless", func(t *testing.T) {
			c := begin(t)
			write(t, c, clientFrame(0x01, "")+strings.Repeat(clientFrame(0x00, ""), 3*fragmentsMax))
			expectRefusal(t, c, "policy-violation", 1008)
		})
		for name, first := range map[string]byte{"pings": 0x89, "pongs": 0x8a} {
			t.Run(name, func(t *testing.T) {
				c := begin(t)
				write(t, c, strings.Repeat(clientFrame(first, ""), controlsMax)+clientFrame(0x81, presence))
				expect(t, c, presence)
				write(t, c, clientFrame(first, ""))
				expectRefusal(t, c, "policy-violation", 1008)
			})
		}
	}
}

// Control frames are counted in time, so that keepalives never add up.
func TestControlRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ping := []byte(clientFrame(0x89, "x"))
		var m meter
		for range 5 {
			for range controlsMax {
				if m.scan(ping); m.err != nil {
					t.Fatal(m.err)
				}
			}
			time.Sleep(controlsTime)
		}
		for range 10 * controlsMax {
			if m.scan(ping); m.err != nil {
				t.Fatal(m.err)
			}
			time.Sleep(controlsTime / controlsMax)
		}
		m = meter{}
		for range controlsMax {
			m.scan(ping)
		}
		time.Sleep(controlsTime - 1)
		if n := m.scan(ping); n != 0 || !errors.Is(m.err, errControls) {
			t.Errorf("%d, %v", n, m.err)
		}
	})
}

// However the octets come, the meter stops in front of the same frame.
func TestMeterPieces(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 65535, 65536, 70000}
	var in strings.Builder
	for i := range fragmentsMax {
		first := byte(0)
		if i == 0 {
			first = 1
		}
		size := 0
		if i%100 == 7 {
			size = sizes[i/100%len(sizes)]
		}
		// Octets that would be frames of their own to one who lost the thread.
		in.WriteString(clientFrame(first, strings.Repeat("\x81", size)))
		if i%50 == 0 {
			in.WriteString(clientFrame(0x89, "\x01"))
		}
	}
	good := in.Len()
	in.WriteString(clientFrame(0, "") + clientFrame(0x80, "end"))
	all := []byte(in.String())
	for _, limit := range []int{1, 2, 7, 128, 4096, len(all)} {
		var m meter
		rnd := rand.New(rand.NewPCG(1, uint64(limit)))
		at := 0
		for at < len(all) && m.err == nil {
			n := min(1+rnd.IntN(limit), len(all)-at)
			if limit == len(all) {
				n = len(all)
			}
			at += m.scan(all[at : at+n])
		}
		if at != good || !errors.Is(m.err, errFragments) {
			t.Errorf("pieces of up to %d: stopped at %d of %d, %v; want %d", limit, at, len(all), m.err, good)
		}
	}
}

func BenchmarkMeter(b *testing.B) {
	in := []byte(clientFrame(0x81, strings.Repeat("x", 200)))
	var m meter
	b.ReportAllocs()
	for b.Loop() {
		m.scan(in)
	}
}
