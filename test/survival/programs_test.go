package survival

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	hookDomain   = "hook.example.org"   // served by a webhook
	streamDomain = "stream.example.org" // by an event stream
	hookSecret   = "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"

	programSends = 120              // messages of one sender
	patience     = 30 * time.Second // for what should come at once
)

const programConfig = `webhooks:
  - {name: hook, url: "http://%s/", secrets: [%s], domains: [%s], allow_private: true, timeout: 5s}
gateways:
  - {domain: %s, type: sms}
`

// arrival is one sighting of a message by a program.
type arrival struct {
	event string // its id: the webhook-id, or that of the server-sent event
	id    string // the stanza's
	n     int
}

// books are what programs have sent and got. They are safe for concurrent use.
type books struct {
	mu       sync.Mutex
	accepted map[string]string    // "sender n" -> the id in the 202
	got      map[string][]arrival // conversation -> sightings, in order
	events   map[string]string    // event id -> what it held
	faults   []string
	total    int
	news     chan struct{} // closed and replaced when something is accepted or has come
}

func newBooks() *books {
	return &books{accepted: map[string]string{}, got: map[string][]arrival{}, events: map[string]string{}, news: make(chan struct{})}
}

// changed needs b.mu.
func (b *books) changed() {
	close(b.news)
	b.news = make(chan struct{})
}

func (b *books) fault(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, fmt.Sprintf(format, args...))
}

func (b *books) accept(key, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted[key] = id
	b.total++
	b.changed()
}

// take notes an event that holds a message. again: the event has come before, which
// only webhooks may see.
func (b *books) take(raw []byte, event string, mayRepeat bool) {
	var e struct {
		ID, Type string
		Data     struct{ ID, From, To, Body string }
	}
	if err := json.Unmarshal(raw, &e); err != nil || e.ID != event || e.Type != "message" {
		b.fault("event %q is %q: %v", event, raw, err)
		return
	}
	sender, number, _ := strings.Cut(e.Data.Body, " ")
	n, err := strconv.Atoi(number)
	from, _, _ := strings.Cut(e.Data.From, "@")
	if err != nil || from != sender {
		b.fault("event %s from %s says %q", event, e.Data.From, e.Data.Body)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	held := e.Data.ID + " " + e.Data.To + " " + e.Data.Body
	if before, again := b.events[event]; again {
		if before != held || !mayRepeat {
			b.faults = append(b.faults, fmt.Sprintf("event %s came twice, with %q and %q", event, before, held))
		}
		return
	}
	b.events[event] = held
	conversation := sender + " " + e.Data.To
	b.got[conversation] = append(b.got[conversation], arrival{event, e.Data.ID, n})
	b.changed()
}

// check returns what is wrong: messages that were accepted and have not come, that came
// out of order, or twice with different ids.
func (b *books) check() (lost, wrong []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := map[string]string{}
	for conversation, list := range b.got {
		sender, _, _ := strings.Cut(conversation, " ")
		last := 0
		for _, a := range list {
			key := sender + " " + strconv.Itoa(a.n)
			before, again := ids[key]
			switch {
			case again && before != a.id:
				wrong = append(wrong, fmt.Sprintf("%s came as %s and as %s", key, before, a.id))
			case again: // sent again after a crash, and to be recognised
			case a.n < last:
				wrong = append(wrong, fmt.Sprintf("out of order: %s after %d in %s", key, last, conversation))
			}
			ids[key], last = a.id, max(last, a.n)
		}
	}
	for key, id := range b.accepted {
		switch got, there := ids[key]; {
		case !there:
			lost = append(lost, key)
		case got != id:
			wrong = append(wrong, fmt.Sprintf("%s was accepted as %s and came as %s", key, id, got))
		}
	}
	return lost, append(wrong, b.faults...)
}

// settled waits until nothing that was accepted is missing.
func (b *books) settled() (lost, wrong []string) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		news := b.news
		b.mu.Unlock()
		if lost, wrong = b.check(); len(lost) == 0 {
			return lost, wrong
		}
		select {
		case <-news:
		case <-timeout.C:
			return b.check()
		}
	}
}

// process is the server that is up, for programs that outlive it.
type process struct {
	mu   sync.Mutex
	http string        // "": down
	next chan struct{} // closed when that changes
}

func (p *process) set(http string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.http = http
	if p.next != nil {
		close(p.next)
	}
	p.next = make(chan struct{})
}

// other waits for a server that is up and not the one that was, and returns it.
func (p *process) other(ctx context.Context, was string) (string, error) {
	for {
		p.mu.Lock()
		http, next := p.http, p.next
		p.mu.Unlock()
		if http != "" && http != was {
			return http, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// program sends with keys, each until it is accepted, whatever happens to the server.
func program(ctx context.Context, name, token string, rng *rand.Rand, p *process, b *books) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	at, err := p.other(ctx, "")
	if err != nil {
		return err
	}
	for n := 1; n <= programSends; n++ {
		to := []string{"a@" + hookDomain, "b@" + hookDomain, "a@" + streamDomain, "b@" + streamDomain}[rng.IntN(4)]
		body := fmt.Sprintf(`{"to":%q,"type":"chat","body":"%s %d"}`, to, name, n)
		for {
			id, retry, err := once(ctx, client, at, token, name+"-"+strconv.Itoa(n), body)
			if err == nil {
				b.accept(name+" "+strconv.Itoa(n), id)
				break
			}
			if !retry {
				return err
			}
			if at, err = p.other(ctx, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// once makes one attempt. retry: the server went down under it.
func once(ctx context.Context, client *http.Client, at, token, key, body string) (id string, retry bool, err error) {
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, at+"/api/v1/messages", strings.NewReader(body))
	if err != nil {
		return "", false, err
	}
	rq.Header.Set("Authorization", "Bearer "+token)
	rq.Header.Set("Content-Type", "application/json")
	rq.Header.Set("Idempotency-Key", key)
	rs, err := client.Do(rq)
	if err != nil {
		return "", true, err
	}
	defer rs.Body.Close()
	raw, err := io.ReadAll(rs.Body)
	if err != nil {
		return "", true, err
	}
	var accepted struct{ ID string }
	if err := json.Unmarshal(raw, &accepted); err != nil || rs.StatusCode != http.StatusAccepted || accepted.ID == "" {
		return "", false, fmt.Errorf("%s: %s: %s", key, rs.Status, raw)
	}
	return accepted.ID, false, nil
}

// receive is a webhook that sometimes fails, and sometimes has done its work and says
// that it has failed.
func receive(b *books, rng *rand.Rand) http.Handler {
	verify, _ := standardwebhooks.NewWebhook(hookSecret) // a constant
	var mu sync.Mutex
	chance := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n) == 0
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if chance(500) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err := verify.Verify(raw, r.Header); err != nil {
			b.fault("a post was not signed: %v", err)
		}
		b.take(raw, r.Header.Get("Webhook-Id"), true)
		if chance(500) {
			panic(http.ErrAbortHandler)
		}
	})
}

// follow reads the event stream of a gateway, and comes back where it was, until ctx
// ends.
func follow(ctx context.Context, token string, p *process, b *books) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	at, last := "", ""
	for {
		var err error
		if at, err = p.other(ctx, at); err != nil {
			return
		}
		rq, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/api/v1/events?host="+streamDomain, nil)
		if err != nil {
			b.fault("%v", err)
			return
		}
		rq.Header.Set("Authorization", "Bearer "+token)
		rq.Header.Set("Accept", "text/event-stream")
		if last != "" {
			rq.Header.Set("Last-Event-ID", last)
		}
		rs, err := client.Do(rq)
		if err != nil {
			continue // it went down again
		}
		if rs.StatusCode != http.StatusOK {
			b.fault("the stream: %s", rs.Status)
		}
		var id, kind string
		var data bytes.Buffer
		lines := bufio.NewScanner(rs.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "id":
				id = value
			case name == "event":
				kind = value
			case name == "data":
				data.WriteString(value)
			case name == "" && value == "": // the end of an event, or a comment
				if kind == "gap" {
					b.fault("a gap: %s", data.Bytes())
				} else if data.Len() > 0 {
					b.take(data.Bytes(), id, false)
				}
				if id != "" {
					last = id
				}
				id, kind = "", ""
				data.Reset()
			}
		}
		rs.Body.Close()
	}
}

// What was accepted by REST reaches the programs behind gateways, by webhook and by
// event stream, through SIGKILL: nothing is lost, in each conversation it comes in
// order, and what comes again comes with the id that it had. Every message is sent
// with an Idempotency-Key until it is accepted.
func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	chosen := *seed
	if chosen == 0 {
		chosen = uint64(time.Now().UnixNano())
	}
	t.Logf("-survival.seed %d", chosen)
	rng := rand.New(rand.NewPCG(chosen, 1))
	own := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())) }
	names := []string{"paris", "tybalt", "benvolio", "mercutio"}
	srv := newServer(t, "4MiB", names, names)

	b, p := newBooks(), &process{}
	p.set("")
	hook, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	receiver := &http.Server{Handler: receive(b, own())}
	config, err := os.OpenFile(srv.config(), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(config, programConfig, hook.Addr(), hookSecret, hookDomain, streamDomain)
		err = errors.Join(err, config.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	streamToken := strings.TrimSpace(srv.admin(t, "token", "add", streamDomain))

	ctx, cancel := context.WithCancel(t.Context())
	var senders, others sync.WaitGroup
	defer others.Wait()
	defer senders.Wait()
	defer cancel()
	others.Go(func() { _ = receiver.Serve(hook) })
	defer receiver.Close()
	srv.start(t)
	p.set(srv.addr.HTTP)
	others.Go(func() { follow(ctx, streamToken, p, b) })
	failed := make(chan error, len(names))
	done := make(chan struct{})
	for _, name := range names {
		rng := own()
		senders.Go(func() {
			if err := program(ctx, name, srv.tokens[name], rng, p, b); err != nil {
				failed <- err
			}
		})
	}
	go func() { senders.Wait(); close(done) }()

	kills := min(*rounds, 12)
	for kill := 1; kill <= kills; kill++ {
		all := len(names) * programSends
		if !b.reached(all*kill/(kills+1)+rng.IntN(10), done) {
			break
		}
		p.set("")
		srv.kill()
		<-srv.gone
		srv.start(t)
		p.set(srv.addr.HTTP)
	}
	select {
	case <-done:
	case <-time.After(2 * patience):
		t.Errorf("the senders are not done\n%s", srv.log)
	}
	select {
	case err := <-failed:
		t.Errorf("%v\n%s", err, srv.log)
	default:
	}
	lost, wrong := b.settled()
	for _, key := range lost[:min(len(lost), 20)] {
		t.Errorf("lost: %s", key)
	}
	for _, fault := range wrong[:min(len(wrong), 20)] {
		t.Error(fault)
	}
	if b.total != len(names)*programSends {
		t.Errorf("%d accepted", b.total)
	}
	if t.Failed() {
		t.Logf("the server said at last:\n%s", srv.log)
	}
	t.Logf("%d kills, %d accepted, %d events; %s", kills, b.total, len(b.events), b.repeats())
}

// reached waits until so many messages are accepted; false: that will not be.
func (b *books) reached(n int, done <-chan struct{}) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		total, news := b.total, b.news
		b.mu.Unlock()
		if total >= n {
			return true
		}
		select {
		case <-news:
		case <-done:
			return false
		case <-timeout.C:
			return false
		}
	}
}

// repeats counts the events that were the same message once more.
func (b *books) repeats() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen, n := map[string]bool{}, 0
	for _, held := range b.events {
		if seen[held] {
			n++
		}
		seen[held] = true
	}
	return fmt.Sprintf("%d messages twice, with their ids", n)
}
