package bosh

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/stream"
)

// XEP-0124 §14.2: payloads are forwarded, and requests answered, in the order of
// rid.
func TestOutOfOrder(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		first := w.body("", strings.Replace(quiet, "subject", "subject id='1'", 1))
		second := w.body("", strings.Replace(quiet, "subject", "subject id='2'", 1))
		y := w.post(second)
		y.held()
		w.sees("")
		x := w.post(first)
		w.sees("<subject id='1'/> <subject id='2'/>")
		x.reply().want(t, "")
		y.held()
	})
	// A missing request makes the one after it fail, not the session (§17.3).
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		first, second := w.body("", hello), w.body("", quiet)
		w.post(second).reply().want(t, "", "type", "error")
		w.sees("")
		x := w.post(first)
		y := w.post(second)
		w.sees("<body>hello</body> <subject/>")
		x.reply().want(t, hello)
		y.held()
	})
}

// XEP-0124 §14.2: a rid beyond the window ends the session.
func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		ahead uint64
		attrs string
		ok    bool
	}{
		{1, "", true},
		{2, "", true},
		{3, "", false},
		{3, "pause='10'", true}, // §11: one more to pause or terminate
		{4, "pause='10'", false},
		{1 << 40, "", false},
	} {
		bubble(t, Options{}, func(w *world) {
			w.start(usual)
			x := w.post(w.at(w.rid+tt.ahead, tt.attrs, ""))
			if tt.ok {
				x.held()
				return
			}
			x.reply().want(t, "", "type", "terminate", "condition", "item-not-found")
			w.gone()
		})
	}
}

// XEP-0124 §14.3: a repeated rid gets the response again and is not processed
// again.
func TestRetransmission(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		text := w.body("", hello)
		x := w.post(text)
		x.reply().want(t, hello)
		again := w.post(text)
		again.reply()
		if a, b := x.rec.Body.String(), again.rec.Body.String(); a != b {
			t.Errorf("repeated %s\nfirst was %s", b, a)
		}
		w.sees("<body>hello</body>")
		// Older than the window: not in the buffer any more.
		w.next("", hello).reply()
		w.next("", hello).reply()
		w.post(text).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
		w.gone()
	})
}

// XEP-0124 §14.3: a repetition takes the place of a request that is held.
func TestRepeatedWhileHeld(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		text := w.body("", "")
		x := w.post(text)
		x.held()
		y := w.post(text)
		x.reply().want(t, "", "type", "error")
		y.held()
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err != nil {
			t.Fatal(err)
		}
		y.reply().want(t, "<message xmlns='jabber:client'/>")
		// Not without limit.
		text = w.body("", "")
		for range repeatMax {
			w.post(text)
		}
		last := w.post(text)
		last.held()
		w.post(text).reply().want(t, "", "type", "terminate", "condition", "policy-violation")
		last.reply().want(t, "", "type", "terminate", "condition", "other-request")
		w.gone()
	})
}

// A broken connection does not lose what was to be said over it.
func TestBrokenConnection(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		text := w.body("", "")
		x := w.post(text)
		x.held()
		x.cancel()
		<-x.done
		left := false
		sent, err := w.peer.conn.Write(batch("<message/>"), func(err error) { left = err == nil })
		if sent || err != nil {
			t.Errorf("Write: %v, %v", sent, err)
		}
		synctest.Wait()
		if left {
			t.Error("left over a broken connection")
		}
		w.post(text).reply().want(t, "<message xmlns='jabber:client'/>")
		synctest.Wait()
		if !left {
			t.Error("has not left")
		}
	})
	// The client may go on with the next request instead.
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		x.cancel()
		<-x.done
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err != nil {
			t.Fatal(err)
		}
		w.next("", quiet).reply().want(t, "<message xmlns='jabber:client'/>")
	})
	// Or never come back.
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		x.cancel()
		<-x.done
		var lost error
		if _, err := w.peer.conn.Write(batch("<message/>"), func(err error) { lost = err }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(32 * time.Second)
		w.gone()
		if lost == nil {
			t.Error("Write was not told")
		}
	})
}

// XEP-0124 §11: too many requests at once.
func TestTooManyRequests(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		resume := w.peer.stall()
		x := w.next("", quiet)
		y := w.next("", quiet)
		x.held()
		y.held()
		w.next("", quiet).reply().want(t, "", "type", "terminate", "condition", "policy-violation")
		x.reply().want(t, "", "type", "terminate", "condition", "other-request")
		y.reply().want(t, "", "type", "terminate", "condition", "other-request")
		resume()
		w.gone()
	})
	// One more is allowed to terminate.
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		resume := w.peer.stall()
		x := w.next("", quiet)
		y := w.next("", quiet)
		z := w.next("type='terminate'", "")
		resume()
		x.reply().want(t, "", "type", "terminate") // §13: on the oldest
		y.reply().want(t, "")
		z.reply().want(t, "")
	})
}

// XEP-0124 §11: too frequent requests.
func TestTooFrequent(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		time.Sleep(time.Second)
		w.next("", "").reply().want(t, "", "type", "terminate", "condition", "policy-violation")
		x.reply().want(t, "", "type", "terminate", "condition", "other-request")
	})
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		for range 5 {
			time.Sleep(2 * time.Second)
			w.next("", "").held()
		}
	})
	bubble(t, Options{Polling: -1}, func(w *world) {
		if got, ok := w.start(usual).attrs["polling"]; ok {
			t.Errorf("polling='%s'", got)
		}
		for range 5 {
			w.next("", "").held()
		}
	})
}

// XEP-0124 §12: a polling session is answered at once.
func TestPolling(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start("wait='60' hold='0' ver='1.6'")
		w.next("", hello).reply().want(t, hello)
		for range 3 {
			time.Sleep(2 * time.Second)
			w.next("", "").reply().want(t, "")
		}
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		w.next("", "").reply().want(t, "<message xmlns='jabber:client'/>")
		w.next("", "").reply().want(t, "") // the one before had a payload
		time.Sleep(time.Second)
		w.next("", "").reply().want(t, "", "type", "terminate", "condition", "policy-violation")
		w.gone()
	})
}

// XEP-0124 §10: sessions end for inactivity, and only for that.
func TestInactivity(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		time.Sleep(29 * time.Second)
		x := w.next("", "")
		time.Sleep(59 * time.Second)
		x.held()
		time.Sleep(30 * time.Second) // answered after one second, 29 ago
		text := w.body("", quiet)
		y := w.post(text)
		y.held()
		y.cancel()
		time.Sleep(32 * time.Second)
		w.gone()
		w.post(text).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
		w.h.mu.Lock()
		if n := len(w.h.sessions); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		w.h.mu.Unlock()
	})
}

// XEP-0124 §10: pauses.
func TestPause(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		y := w.next("pause='100'", quiet)
		x.reply().want(t, "")
		y.reply().want(t, "")
		w.sees("<subject/>")
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(99 * time.Second)
		w.next("", "").reply().want(t, "<message xmlns='jabber:client'/>")
		time.Sleep(32 * time.Second) // the period is the usual one again
		w.gone()
	})
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.next("pause='5'", "").reply().want(t, "")
		time.Sleep(7 * time.Second)
		w.gone()
	})
	// Longer than 'maxpause': not a pause.
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.next("pause='121'", "").held()
	})
	// The response holds no payload even if there is some.
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.next("pause='60'", hello).reply().want(t, "")
		w.next("", "").reply().want(t, hello)
	})
}

// XEP-0124 §13
func TestTerminate(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		y := w.next("type='terminate'", "<presence type='unavailable'\n            xmlns='jabber:client'/>")
		x.reply().want(t, "", "type", "terminate")
		y.reply().want(t, "")
		w.sees("<presence type='unavailable'\n            xmlns='jabber:client'/> closed")
		w.gone()
		w.next("", "").reply().want(t, "", "type", "terminate", "condition", "item-not-found")
	})
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		text := w.body("type='terminate'", hello)
		w.post(text).reply().want(t, hello, "type", "terminate")
		w.post(text).reply().want(t, hello, "type", "terminate") // §14.3
		time.Sleep(35 * time.Second)
		w.post(text).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
	})
}

// The session ends its side while no request is there to tell.
func TestCloseUnasked(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		w.peer.conn.Close(stream.Err(stream.SystemShutdown, ""))
		time.Sleep(10 * time.Second)
		w.gone() // within closeTimeout
		w.next("", "").reply().want(t, "", "type", "terminate", "condition", "system-shutdown")
	})
}

func TestAbort(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		w.peer.conn.Abort()
		x.reply().want(t, "", "type", "terminate", "condition", "remote-connection-failed")
		w.gone()
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err == nil {
			t.Error("Write after Abort")
		}
	})
}

// XEP-0124 §15, with the keys of its examples 19, 20, 22.
func TestKeys(t *testing.T) {
	const (
		k3 = "ca393b51b682f61f98e7877d61146407f3d0a770"
		k2 = "bfb06a6f113cd6fd3838ab9d300fdb4fe3da2f7d"
		k1 = "6f825e81f4532b2c5fa2d12457d8a1f22e8f838e"
		n1 = "113f58a37245ec9637266cf2fb6e48bfeaf7964e"
	)
	start := func(w *world) { w.start(usual + " newkey='" + k3 + "'") }
	bubble(t, Options{}, func(w *world) {
		start(w)
		w.next("key='"+strings.ToUpper(k2)+"'", hello).reply().want(t, hello)
		w.next("key='"+k1+"' newkey='"+n1+"'", hello).reply().want(t, hello)
		w.next("key='"+k1+"'", hello).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
	})
	for _, attrs := range []string{"", "key='" + k1 + "'", "key='" + k3 + "'", "newkey='" + n1 + "'"} {
		bubble(t, Options{}, func(w *world) {
			start(w)
			w.next(attrs, hello).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
			w.sees("")
			w.gone()
		})
	}
	// Somebody who knows the rid but not the key gets no response by repeating it.
	bubble(t, Options{}, func(w *world) {
		start(w)
		w.next("key='"+k2+"'", hello).reply().want(t, hello)
		w.post(w.at(w.rid, "", hello)).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
	})
	// Out of order, keys are compared in order.
	bubble(t, Options{}, func(w *world) {
		start(w)
		first, second := w.body("key='"+k2+"'", quiet), w.body("key='"+k1+"'", quiet)
		y := w.post(second)
		w.post(first).reply().want(t, "")
		y.held()
	})
}

// XEP-0124 §9.1
func TestRequestAck(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual + " ack='1'")
		x := w.next("", "")
		y := w.next("", quiet)
		x.reply().want(t, "", "ack", fmt.Sprint(w.rid))
		if _, err := w.peer.conn.Write(batch("<message/>"), nil); err != nil {
			t.Fatal(err)
		}
		y.reply().want(t, "<message xmlns='jabber:client'/>") // not its own rid
	})
}

// XEP-0124 §9.2
func TestReport(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual + " ack='1'")
		w.next("", hello).reply().want(t, hello)
		missed := w.rid
		time.Sleep(852 * time.Millisecond)
		w.next(fmt.Sprintf("ack='%d'", missed-1), "").reply().want(t, "", "report", fmt.Sprint(missed), "time", "852")
		w.post(w.at(missed, "", hello)).reply().want(t, hello)
		// A response that may still be on its way is not reported.
		w.next("", hello).reply()
		w.next(fmt.Sprintf("ack='%d'", w.rid-2), "").held()
	})
	// What is acknowledged is not kept.
	bubble(t, Options{}, func(w *world) {
		w.start(usual + " ack='1'")
		text := w.body("", hello)
		w.post(text).reply().want(t, hello)
		w.next(fmt.Sprintf("ack='%d'", w.rid), "").held()
		w.post(text).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
	})
}

// XEP-0124 §16: multiple streams are not offered.
func TestMultipleStreams(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		// §16.3: extra attributes are ignored, the request is an empty one.
		w.next("to='example.com' route='xmpp:example.com:9999' xml:lang='en'", "").held()
		w.sees("")
	})
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		// §16.4: no such stream
		w.next("stream='secondStreamName'", hello).reply().want(t, "", "type", "terminate", "condition", "item-not-found")
		w.sees("")
	})
}

// XEP-0124 §17.1: statuses for clients without 'ver'.
func TestLegacyClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		attrs  string
		body   string
		ahead  uint64
		status int
	}{
		{"bad-request", "", "text", 1, 400},
		{"item-not-found", "", "", 5, 404},
		{"policy-violation", "", strings.Repeat("<x>", 100) + strings.Repeat("</x>", 100), 1, 403},
	} {
		bubble(t, Options{}, func(w *world) {
			w.start("wait='60' hold='1'")
			x := w.post(w.at(w.rid+tt.ahead, tt.attrs, tt.body))
			<-x.done
			if x.rec.Code != tt.status || x.rec.Body.Len() != 0 {
				t.Errorf("%s: status %d, %q", tt.name, x.rec.Code, x.rec.Body)
			}
			w.gone()
		})
	}
}

// A client that pumps while its session does not read is not answered.
func TestBackpressure(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		resume := w.peer.stall()
		x := w.next("", quiet)
		y := w.next("", quiet)
		time.Sleep(30 * time.Second)
		x.held()
		y.held()
		resume()
		x.reply().want(t, "")
		y.held()
	})
}

// Write keeps what is written while nobody asks, in order.
func TestWriteUnasked(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		var order []int
		for i := range 3 {
			sent, err := w.peer.conn.Write(batch(fmt.Sprintf("<message id='%d'/>", i)), func(err error) {
				if err == nil {
					order = append(order, i)
				}
			})
			if sent || err != nil {
				t.Errorf("Write: %v, %v", sent, err)
			}
		}
		w.next("", "").reply().want(t, "<message xmlns='jabber:client' id='0'/><message xmlns='jabber:client' id='1'/><message xmlns='jabber:client' id='2'/>")
		synctest.Wait()
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("left: %v", order)
		}
	})
}

func TestHandlerClose(t *testing.T) {
	bubble(t, Options{}, func(w *world) {
		w.start(usual)
		x := w.next("", "")
		w.h.Close()
		x.reply().want(t, "", "type", "terminate", "condition", "system-shutdown")
		w.gone()
		w.post("<body rid='1' to='example.com' ver='1.6' xmlns='"+NS+"'/>").reply().want(t, "", "type", "terminate", "condition", "system-shutdown")
	})
}
