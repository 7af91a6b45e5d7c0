package webhook

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
)

// The environment that makes the test binary a server to be killed.
const (
	childStore = "TRIVIUM_TEST_WEBHOOK_STORE"
	childURL   = "TRIVIUM_TEST_WEBHOOK_URL"
)

// child serves: each line of standard input is a recipient and a body, and is
// repeated on standard output when its message is safe.
func child(path, url string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return err
	}
	r := router.New(router.Options{})
	log, err := event.NewLog(ctx, event.Options{Store: db})
	if err != nil {
		return err
	}
	s, err := New(ctx, []Endpoint{{
		Name: "app", URL: url, Keys: []string{secret}, Domains: []string{"gw.example.org"}, AllowPrivate: true,
	}}, Options{Log: log, Router: r, Store: db, Schedule: []time.Duration{time.Millisecond, 10 * time.Millisecond}})
	if err != nil {
		return err
	}
	serve(r, s)
	go s.Run(ctx)
	var out sync.Mutex
	var t router.Turn
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		line := in.Text()
		to, body, _ := strings.Cut(line, " ")
		st := stanza.New(stanza.Message, stanza.Chat, jid.Must("romeo@example.org/orchard"), jid.Must(to), body,
			stanza.TextEl(stanza.NSClient, "body", body))
		rc := router.NewReceipt(func(err error) {
			if err == nil {
				out.Lock()
				fmt.Println(line)
				out.Unlock()
			}
		})
		err := r.Send(ctx, &t, st, rc)
		rc.Release(err)
	}
	select {} // until killed
}

// What was acknowledged is posted, in order, however often the server is killed.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	const kills, batch, bots = 4, 300, 3
	var mu sync.Mutex
	posted := map[string]map[string]bool{} // recipient -> bodies
	last := map[string]int{}               // recipient -> number of the last new body
	ids := map[string]string{}             // webhook-id -> body
	app := newApp(t, func(w http.ResponseWriter, r request) {
		mu.Lock()
		defer mu.Unlock()
		d, id := r.Event.Data, r.Header.Get("webhook-id")
		if body, again := ids[id]; again && body != d.Body {
			t.Errorf("%s was %q and is %q", id, body, d.Body)
		}
		ids[id] = d.Body
		if posted[d.To] == nil {
			posted[d.To] = map[string]bool{}
		}
		if posted[d.To][d.Body] {
			return // a repetition
		}
		posted[d.To][d.Body] = true
		var n int
		fmt.Sscan(d.Body, &n)
		if n < last[d.To] {
			t.Errorf("%s: %d came after %d", d.To, n, last[d.To])
		}
		last[d.To] = n
	})
	path := filepath.Join(t.TempDir(), "store.db")
	acknowledged := map[string][]string{}
	next := 0
	for round := range kills + 1 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childStore+"="+path, childURL+"="+app.URL)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first := next
		next += batch
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			for i := first; i < first+batch; i++ {
				if _, err := fmt.Fprintf(in, "bot%d@gw.example.org %d\n", i%bots, i); err != nil {
					return // killed
				}
			}
		}()
		lines := bufio.NewScanner(out)
		for n := 1; lines.Scan(); n++ {
			to, body, ok := strings.Cut(lines.Text(), " ")
			if !ok {
				t.Fatalf("child said %q", lines.Text())
			}
			acknowledged[to] = append(acknowledged[to], body)
			if round < kills && n == batch/3 || round == kills && n == batch {
				break
			}
		}
		if round == kills { // the last one may finish
			missing := func() (list []string) {
				mu.Lock()
				defer mu.Unlock()
				for to, bodies := range acknowledged {
					for _, b := range bodies {
						if !posted[to][b] {
							list = append(list, to+" "+b)
						}
					}
				}
				return list
			}
			for deadline := time.Now().Add(30 * time.Second); len(missing()) > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("lost: %v", missing())
					break
				}
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		<-fed
	}
}
