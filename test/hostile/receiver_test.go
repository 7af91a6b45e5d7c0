package hostile

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"trivium/httpapi/event"
	"trivium/httpapi/webhook"
	"trivium/test/harness"
)

// rawReceiver is a program that speaks TCP and nothing else: behave gets each connection
// when the head of a request has come.
func rawReceiver(t *testing.T, behave func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(harness.Patience))
				buf := make([]byte, 64<<10)
				if _, err := c.Read(buf); err == nil {
					behave(c)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/canary"
}

// Receivers that hang, trickle, flood and lie about lengths end with the time that an
// attempt has, hold nobody else up, and leave nothing behind.
func TestReceiversThatHang(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	wait := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) } // until the server has enough
	until := func(c net.Conn, piece string) {
		for {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
	slowly := func(c net.Conn, piece string) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text); wait(c) }
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	receivers := map[string]func(net.Conn){
		"silence":     wait,
		"closes":      func(net.Conn) {},
		"half a head": say("HTTP/1.1 200 OK\r\nX: "),
		"no body":     say(head + "Content-Length: 100\r\n\r\n"),
		"short body":  func(c net.Conn) { _, _ = io.WriteString(c, head+"Content-Length: 100\r\n\r\n{") },
		"trickle":     func(c net.Conn) { _, _ = io.WriteString(c, head+"\r\n"); slowly(c, " ") },
		"head trickles": func(c net.Conn) {
			_, _ = io.WriteString(c, head)
			slowly(c, "X: y\r\n")
		},
		"gigantic":      func(c net.Conn) { _, _ = io.WriteString(c, head+"\r\n"); until(c, strings.Repeat("x", 64<<10)) },
		"gigantic head": func(c net.Conn) { _, _ = io.WriteString(c, head); until(c, "X: "+strings.Repeat("x", 4<<10)+"\r\n") },
		"informs":       func(c net.Conn) { until(c, "HTTP/1.1 103 Early Hints\r\n\r\n") },
		"endless chunks": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
			until(c, "1\r\nx\r\n")
		},
		"gzip":            say(head + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"),
		"switches":        say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
		"redirects":       say("HTTP/1.1 307 Temporary Redirect\r\nLocation: " + elsewhere.URL + "\r\nContent-Length: 0\r\n\r\n"),
		"waits for ever":  say("HTTP/1.1 503 Busy\r\nRetry-After: 1000000000000\r\nContent-Length: 0\r\n\r\n"),
		"waits less":      say("HTTP/1.1 503 Busy\r\nRetry-After: -1\r\nContent-Length: 0\r\n\r\n"),
		"waits for words": say("HTTP/1.1 429 Busy\r\nRetry-After: Fri, 31 Dec 99999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"),
		"two answers":     say(head + "Content-Length: 2\r\n\r\n{}" + head + "Content-Length: 2\r\n\r\n{}"),
		"two lengths":     say(head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
	}
	key := []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmn"))}
	good := map[string]bool{"two answers": true, "gigantic": true, "gzip": true} // as far as they are read
	var hooks []webhook.Endpoint
	for name, behave := range receivers {
		timeout := 300 * time.Millisecond
		if good[name] {
			timeout = harness.Patience
		}
		hooks = append(hooks, webhook.Endpoint{
			Name: strings.ReplaceAll(name, " ", "-"), URL: rawReceiver(t, behave), Filter: event.Filter{Hosts: []string{goodDomain}},
			AllowPrivate: true, Keys: key, Timeout: timeout,
		})
	}
	honest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "heard")
	}))
	t.Cleanup(honest.Close)
	hooks = append(hooks, webhook.Endpoint{Name: "honest", URL: honest.URL, Domains: []string{goodDomain}, AllowPrivate: true, Keys: key})
	p := startPrograms(t, hooks...)
	juliet := here(t, p, "juliet")
	juliet.Drain()
	// All of them get each message, and one of them answers.
	for i := range 5 {
		must(t, juliet.Send(fmt.Sprintf("<message to='x@%s' type='chat' id='%d'><body>hello</body></message>", goodDomain, i)))
	}
	for heard := 0; heard < 5; {
		n, err := juliet.Next()
		must(t, err)
		if b := n.Child(harness.NSClient, "body"); b != nil && b.Text == "heard" && n.Attr("from") == "x@"+goodDomain {
			heard++
		}
	}
	for _, e := range hooks {
		trial, err := p.hooks.Try(t.Context(), e.Name)
		if err != nil || trial.OK != (e.Name == "honest" || good[strings.ReplaceAll(e.Name, "-", " ")]) || strings.Contains(trial.Error, "canary") || strings.Contains(trial.Error, "127.0.0.1") {
			t.Errorf("%s: %+v, %v", e.Name, trial, err)
		}
	}
	if log := p.log.String(); strings.Contains(log, "canary") {
		t.Error("the log holds the URL of a webhook")
	}
}
