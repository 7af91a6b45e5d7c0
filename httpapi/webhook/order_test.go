package webhook

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/mod/modtest"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

// whims is an endpoint that takes its time and answers by chance, and remembers what
// it has seen of each conversation.
type whims struct {
	t  *testing.T
	mu sync.Mutex
	*rand.Rand
	well  bool                // it only takes from now on
	busy  map[string]string   // conversation -> id under way
	ended map[string]bool     // ids that were taken or refused for good
	order map[string][]string // conversation -> ids in the order of their first post
	taken map[string]int
	posts int
}

func (w *whims) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var ev Event
	if err := message.DecodeLoose(body, &ev); err != nil {
		return nil, err
	}
	if ev.Type == event.Test {
		return status(200)
	}
	talk, id := ev.Data.From+" "+ev.Data.To, r.Header.Get("webhook-id")
	w.mu.Lock()
	w.posts++
	if other := w.busy[talk]; other != "" {
		w.t.Errorf("%s is posted while %s is", id, other)
	}
	w.busy[talk] = id
	for _, other := range w.order[talk] {
		// A replayed one goes before newer ones that wait.
		if number(other) < number(id) && !w.ended[other] {
			w.t.Errorf("%s is posted while %s waits", id, other)
		}
	}
	if !slices.Contains(w.order[talk], id) {
		w.order[talk] = append(w.order[talk], id)
	}
	wait, chance := time.Duration(w.IntN(2000))*time.Millisecond, w.IntN(20)
	well := w.well
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.busy, talk)
		w.mu.Unlock()
	}()
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !well {
		switch chance {
		case 0, 1:
			return status(500)
		case 2:
			return nil, errors.New("connection reset")
		case 3:
			return status(429)
		case 4:
			return status(503, "Retry-After", "20")
		case 5:
			w.ended[id] = true
			return status(400)
		}
	}
	w.ended[id] = true
	w.taken[id]++
	return status(204)
}

func number(id string) int64 {
	n, _ := event.ParseID(id)
	return n
}

// Whatever an endpoint answers, however long it takes and however often the server is
// restarted in between: events of a conversation are posted in their order, one at a
// time, each until it is taken or given up, and none is lost. Dead letters that are
// replayed arrive too.
func TestOrderModel(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { orderModel(t, seed) })
		})
	}
}

func orderModel(t *testing.T, seed uint64) {
	chance := rand.New(rand.NewPCG(seed, 1))
	app := &whims{
		t: t, Rand: rand.New(rand.NewPCG(seed, 2)), busy: map[string]string{}, ended: map[string]bool{},
		order: map[string][]string{}, taken: map[string]int{},
	}
	s := modtest.New(t)
	e := Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}, Concurrency: 1 + chance.IntN(5)}
	o := Options{Transport: app, Schedule: Schedule(), Grace: time.Second}
	w, stop := start(t, s, e, o)
	romeo := online(t, s, "romeo@example.org/orchard")
	const events = 300
	for i := range events {
		romeo.Send(fmt.Sprintf(`<message to='bot%d@gw.example.org' id='%d'><body>hi</body></message>`, chance.IntN(12), i))
		switch chance.IntN(30) {
		case 0:
			time.Sleep(time.Duration(chance.IntN(300)) * time.Second)
		case 1:
			stop()
			w, stop = start(t, s, e, o)
		case 2:
			if _, err := w.ReplayRange(t.Context(), "app", 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(80 * time.Hour)
	app.mu.Lock()
	app.well = true
	app.mu.Unlock()
	synctest.Wait()
	if st := w.Status()[0]; st.Pending != 0 {
		t.Fatalf("status %+v", st)
	}
	n, err := w.ReplayRange(t.Context(), "app", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	if d := rows(t, s.Store, dead); d != 0 {
		t.Errorf("%d of %d replayed are dead", d, n)
	}
	for talk, ids := range app.order {
		if !slices.IsSortedFunc(ids, func(a, b string) int { return int(number(a) - number(b)) }) {
			t.Errorf("%s was posted as %v", talk, ids)
		}
	}
	if len(app.taken) != events {
		t.Errorf("%d of %d events were taken in %d posts", len(app.taken), events, app.posts)
	}
	romeo.Take() // bounces of what was given up for a time
}

// Events that were given up go before newer ones of their conversation when they are
// replayed, but not before one that is under way.
func TestReplayedGoFirst(t *testing.T) {
	l := &lane{}
	for _, n := range []int64{5, 6, 9} {
		l.insert(&item{seq: n})
	}
	l.insert(&item{seq: 3})
	l.busy = true
	l.insert(&item{seq: 1})
	l.insert(&item{seq: 7})
	var got []string
	for _, it := range l.queue {
		got = append(got, fmt.Sprint(it.seq))
	}
	if s := strings.Join(got, " "); s != "3 1 5 6 7 9" {
		t.Errorf("the lane is %s", s)
	}
}
