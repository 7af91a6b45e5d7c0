package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/delivery"
	"trivium/httpapi/idempotency"
)

// shelf is Uploads in memory.
type shelf struct {
	mu   sync.Mutex
	held []string // owner, name, type, content
	err  error
}

func (f *shelf) Store(_ context.Context, owner jid.JID, name, contentType string, r io.Reader) (string, int64, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return "", 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return "", 0, f.err
	}
	f.held = append(f.held, fmt.Sprintf("%s %s %s %s", owner, name, contentType, all))
	return fmt.Sprintf("https://files.example.org/%d", len(f.held)), int64(len(all)), nil
}

// presences are Presences in memory.
type presences struct {
	mu   sync.Mutex
	held map[jid.JID]*stanza.Stanza
}

func (p *presences) Set(_ context.Context, j jid.JID, st *stanza.Stanza) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.Local() == "nobody" {
		return stanza.Err(stanza.ItemNotFound, "there is no such account")
	}
	if st == nil {
		delete(p.held, j)
		return nil
	}
	p.held[j] = st.Readdressed(j, jid.JID{})
	return nil
}

func (p *presences) Get(_ context.Context, j jid.JID) ([]*stanza.Stanza, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*stanza.Stanza
	for at, st := range p.held {
		if at == j || j.IsBare() && at.Bare() == j {
			list = append(list, st)
		}
	}
	return list, nil
}

// subscribers are Subscriptions of which there are a hundred.
type subscribers struct{}

func (subscribers) List(_ context.Context, owner jid.JID, after string, limit int) (list []Subscription, next string, err error) {
	for i := range 100 {
		j := fmt.Sprintf("c%02d@%s", i, owner.Domain())
		if j > after && len(list) < limit {
			list = append(list, Subscription{JID: j, State: "both"})
		}
	}
	if n := len(list); n > 0 && list[n-1].JID < "c99" {
		next = list[n-1].JID
	}
	return list, next, nil
}

// newSending is newREST with everything on the way of stanzas.
func newSending(t testing.TB, o Options, mods ...module.Module) (*rest, *store.DB) {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return newSendingOn(t, db, o, mods...), db
}

func newSendingOn(t testing.TB, db *store.DB, o Options, mods ...module.Module) *rest {
	t.Helper()
	var err error
	if o.Messages.Idempotency, err = idempotency.New(context.Background(), db, idempotency.Options{}); err != nil {
		t.Fatal(err)
	}
	if o.Messages.Delivery, err = delivery.New(context.Background(), db, delivery.Options{}); err != nil {
		t.Fatal(err)
	}
	if o.Messages.Uploads == nil {
		o.Messages.Uploads = new(shelf)
	}
	o.Messages.Presences, o.Messages.Subscriptions = &presences{held: map[jid.JID]*stanza.Stanza{}}, subscribers{}
	var r *rest
	o.Messages.Submit = func(ctx context.Context, turn *router.Turn, st *stanza.Stanza, rc *router.Receipt) error {
		return r.Host.Submit(ctx, turn, st, rc)
	}
	o.Ask = func(ctx context.Context, st *stanza.Stanza) (*stanza.Stanza, error) { return r.Host.Ask(ctx, st) }
	r = newREST(t, o, append(mods, o.Messages.Delivery)...)
	return r
}

// with makes a request with further headers.
func (r *rest) with(method, path, token, contentType, body string, header ...string) (*http.Response, string) {
	r.t.Helper()
	rq, err := http.NewRequest(method, r.http.URL+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		rq.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		rq.Header.Add(header[i], header[i+1])
	}
	rs, err := r.http.Client().Do(rq)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rs.Body.Close()
	all, err := io.ReadAll(rs.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return rs, string(all)
}

// problemIn reads a problem document and checks what all have in common.
func problemIn(t *testing.T, rs *http.Response, body string, status int) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || rs.StatusCode != status || p.Status != status ||
		rs.Header.Get("Content-Type") != "application/problem+json" || strings.Contains(body, "canary") {
		t.Fatalf("%s, want %d: %v in %s", rs.Status, status, err, body)
	}
	return p
}

func accepted(t *testing.T, rs *http.Response, body string) Accepted {
	t.Helper()
	var a Accepted
	if err := json.Unmarshal([]byte(body), &a); err != nil || rs.StatusCode != http.StatusAccepted {
		t.Fatalf("%s: %v in %s", rs.Status, err, body)
	}
	return a
}

const hello = `{"to":"juliet@example.org","body":"hi"}`

// draft-ietf-httpapi-idempotency-key-header-07 §2.
func TestIdempotency(t *testing.T) {
	r, db := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	key := []string{"Idempotency-Key", `"k 1"`}
	rs, first := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, key...)
	a := accepted(t, rs, first)
	if got := juliet.Take(); len(got) != 1 || modtest.Parse(t, got[0]).ID != a.ID {
		t.Fatalf("%q", got)
	}
	if rs.Header.Get("Idempotent-Replayed") != "" {
		t.Error("the first answer is called a replay")
	}
	rs, again := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, key...)
	if rs.StatusCode != http.StatusAccepted || again != first || rs.Header.Get("Idempotent-Replayed") != "true" || rs.Header.Get("Content-Type") != jsonType {
		t.Errorf("%s: %s", rs.Status, again)
	}
	juliet.Quiet()

	// Another request under the key.
	for _, tt := range [][3]string{
		{"/messages", jsonType, strings.Replace(hello, "hi", "canary", 1)},
		{"/messages", xmlType, hello},
		{"/stanzas", xmlType, hello},
	} {
		rs, body := r.with(http.MethodPost, tt[0], r.romeo, tt[1], tt[2], key...)
		if p := problemIn(t, rs, body, 422); p.Type != typeReused {
			t.Errorf("%q: %s", tt, body)
		}
	}
	// The key of another token is another key.
	other := r.token("romeo@example.org")
	rs, body := r.with(http.MethodPost, "/messages", other, jsonType, hello, key...)
	if b := accepted(t, rs, body); b.ID == a.ID || len(juliet.Take()) != 1 {
		t.Errorf("%s", body)
	}
	// Not a key.
	for _, bad := range []string{``, `""`, `"a`, `a b`, `"ü"`, strings.Repeat("a", 256)} {
		rs, body := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", bad)
		problemIn(t, rs, body, 400)
	}
	juliet.Quiet()

	// What was wrong with the request itself uses no key up.
	rs, body = r.with(http.MethodPost, "/messages", r.romeo, jsonType, `{"to":"juliet@example.org"}`, "Idempotency-Key", "k2")
	problemIn(t, rs, body, 422)
	rs, body = r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k2")
	id := accepted(t, rs, body).ID
	juliet.Take()
	// The caller's own id stays.
	rs, body = r.with(http.MethodPost, "/messages", r.romeo, jsonType, strings.Replace(hello, "{", `{"id":"mine",`, 1), "Idempotency-Key", "k3")
	if b := accepted(t, rs, body); b.ID != "mine" || id == "mine" || len(juliet.Take()) != 1 {
		t.Error(body)
	}

	// After a restart all is as it was.
	s := newSendingOn(t, db, Options{})
	t2 := s.online("juliet@example.org/balcony")
	// The token is another one there, with another id: ask the keeper itself.
	keeper := s.api.opts.Messages.Idempotency
	token, err := r.users.CheckToken(context.Background(), r.romeo)
	if err != nil {
		t.Fatal(err)
	}
	_, stored, err := keeper.Begin(context.Background(), token.ID, "k 1", idempotency.FingerprintOf("POST", "/api/v1/messages", jsonType, []byte(hello)))
	if err != nil || stored == nil || string(stored.Body) != first {
		t.Errorf("%v, %v", stored, err)
	}
	t2.Quiet()
	// And whether the messages were accepted is known, by the answers.
	for _, tt := range []struct {
		token, id string
		want      int
	}{{s.romeo, id, 200}, {s.romeo, "mine", 200}, {s.any, id, 404}, {s.romeo, strings.Repeat("A", len(id)), 404}, {s.romeo, id[1:], 404}} {
		rs, body := s.call(http.MethodGet, "/api/v1/messages/"+tt.id, tt.token, "", "")
		if rs.StatusCode != tt.want || tt.want == 200 && (!strings.Contains(body, `"status":"accepted"`) || !strings.Contains(body, `"to":"juliet@example.org"`)) {
			t.Errorf("%s: %s %s", tt.id, rs.Status, body)
		}
	}
}

// A refusal that would come again is kept, one that may pass is not.
func TestIdempotentRefusals(t *testing.T) {
	for _, e := range statusOf {
		r, _ := newSending(t, Options{}, refuse{})
		body := `{"to":"juliet@example.org","subject":"` + string(e.condition) + `"}`
		rs, first := r.with(http.MethodPost, "/messages", r.romeo, jsonType, body, "Idempotency-Key", "k")
		p := problemIn(t, rs, first, e.status)
		rs, second := r.with(http.MethodPost, "/messages", r.romeo, jsonType, body, "Idempotency-Key", "k")
		q := problemIn(t, rs, second, e.status)
		q.Instance, p.Instance = "", ""
		if fmt.Sprint(p) != fmt.Sprint(q) {
			t.Errorf("%s: %+v, then %+v", e.condition, p, q)
		}
		replayed := rs.Header.Get("Idempotent-Replayed") == "true"
		if want := e.status < 500 && p.ErrorType != "wait"; replayed != want {
			t.Errorf("%s: replayed %v, want %v", e.condition, replayed, want)
		}
	}
}

// While the first request with a key waits, others are refused; when it has been
// given up, its end is still kept.
func TestIdempotentLate(t *testing.T) {
	k := keeper{make(chan error, 1)}
	r, db := newSending(t, Options{Timeout: 20 * time.Millisecond}, k)
	rs, body := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k")
	problemIn(t, rs, body, 504)
	rs, body = r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k")
	if p := problemIn(t, rs, body, 409); p.Type != typeUnderWay {
		t.Error(body)
	}
	k.commit <- nil
	for { // until the receipt has come through
		rs, body = r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k")
		if rs.StatusCode != http.StatusConflict {
			break
		}
	}
	if err := db.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	a := accepted(t, rs, body)
	if rs.Header.Get("Idempotent-Replayed") != "true" || r.Router.Routed.Load() != 1 {
		t.Errorf("%s, %d routed", body, r.Router.Routed.Load())
	}
	rs, body = r.with(http.MethodGet, "/messages/"+a.ID, r.romeo, "", "")
	if rs.StatusCode != http.StatusOK || !strings.Contains(body, `"status":"accepted"`) {
		t.Errorf("%s: %s", rs.Status, body)
	}
}

// Of many requests with one key at once, one sends.
func TestIdempotentRace(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	var wg sync.WaitGroup
	var ids sync.Map
	var told atomic.Int64
	for range 8 {
		wg.Go(func() {
			for i := range 10 {
				rs, body := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", fmt.Sprint("k", i))
				switch rs.StatusCode {
				case http.StatusAccepted:
					told.Add(1)
					ids.Store(body, true)
				case http.StatusConflict:
				default:
					t.Errorf("%s: %s", rs.Status, body)
				}
			}
		})
	}
	wg.Wait()
	if n := len(juliet.Take()); n != 10 {
		t.Errorf("%d messages", n)
	}
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 10 || told.Load() < 10 {
		t.Errorf("%d different answers, %d in all", n, told.Load())
	}
}

func TestNoKeeper(t *testing.T) {
	r := newREST(t, Options{})
	rs, body := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k")
	problemIn(t, rs, body, 501)
	rs, body = r.with(http.MethodPost, "/messages/batch", r.romeo, ndjsonType, hello, "Idempotency-Key", "k")
	problemIn(t, rs, body, 501)
}

// An answer that cannot be stored is not given: the request may come again, and then
// what it sends has the same id, so that the recipient can tell.
func TestAnswerNotStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := store.Open(context.Background(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	r := newSendingOn(t, db, Options{})
	juliet := r.online("juliet@example.org/balcony")
	db.Close() // as a crash would, after the message has been delivered
	rs, body := r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k")
	problemIn(t, rs, body, 503)
	if rs.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	first := juliet.Take()
	if len(first) != 1 {
		t.Fatalf("%q", first)
	}
	if db, err = store.Open(context.Background(), store.Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if r.api.opts.Messages.Idempotency, err = idempotency.New(context.Background(), db, idempotency.Options{}); err != nil {
		t.Fatal(err)
	}
	r.api.opts.Messages.Delivery = nil
	for range 2 {
		rs, body = r.with(http.MethodPost, "/messages", r.romeo, jsonType, hello, "Idempotency-Key", "k")
		if a := accepted(t, rs, body); a.ID != modtest.Parse(t, first[0]).ID {
			t.Errorf("%s after %s", body, first[0])
		}
	}
	if again := juliet.Take(); len(again) != 1 || again[0] != first[0] {
		t.Errorf("%q after %q", again, first)
	}
}

func TestDeliveryStatus(t *testing.T) {
	r, db := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	get := func(id, token, query string, status int) delivery.Status {
		t.Helper()
		rs, body := r.with(http.MethodGet, "/messages/"+id+query, token, "", "")
		var s delivery.Status
		if rs.StatusCode != status || status == http.StatusOK && json.Unmarshal([]byte(body), &s) != nil {
			t.Fatalf("%s: %s", rs.Status, body)
		}
		return s
	}
	for _, tt := range []struct {
		name, body string
		durable    bool
	}{
		{"plain", hello, false},
		{"track", strings.Replace(hello, "{", `{"track":true,`, 1), true},
		{"receipt", strings.Replace(hello, "{", `{"receipt_request":true,`, 1), true},
	} {
		rs, body := r.post(r.romeo, tt.body)
		id := accepted(t, rs, body).ID
		got := juliet.Take()
		if want := tt.name == "receipt"; len(got) != 1 || strings.Contains(got[0], "urn:xmpp:receipts") != want || strings.Contains(got[0], "track") {
			t.Fatalf("%q", got)
		}
		if s := get(id, r.romeo, "", 200); s.State != "accepted" || s.From != "romeo@example.org" || s.To != "juliet@example.org" || s.Accepted == nil {
			t.Errorf("%+v", s)
		}
		juliet.Send(`<message to='romeo@example.org' type='chat'><received xmlns='urn:xmpp:receipts' id='` + id + `'/></message>`)
		if s := get(id, r.romeo, "", 200); s.State != "delivered" || s.Delivered == nil {
			t.Errorf("%+v", s)
		}
		juliet.Take() // without offline storage the receipt comes back
		if err := db.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		fresh, err := delivery.New(context.Background(), db, delivery.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, ok, err := fresh.Find(context.Background(), id, func(jid.JID) bool { return true })
		if err != nil || ok != tt.durable || ok && s.State != "delivered" {
			t.Errorf("%s: %+v, %v, %v", tt.name, s, ok, err)
		}
		// Whose it is.
		get(id, r.any, "", 404)
		get(id, r.romeo, "?from=romeo@example.org", 200)
		get(id, r.romeo, "?from=juliet@example.org", 404)
	}
	get("unknown", r.romeo, "", 404)
	// An id may have anything in it.
	rs, body := r.post(r.romeo, `{"to":"juliet@example.org","body":"x","id":"a/b?c"}`)
	accepted(t, rs, body)
	if s := get("a%2Fb%3Fc", r.romeo, "", 200); s.ID != "a/b?c" {
		t.Errorf("%+v", s)
	}
	// What was refused at once has failed.
	rs, body = r.post(r.romeo, `{"to":"juliet@unreachable.example","body":"x","id":"lost"}`)
	problemIn(t, rs, body, 404)
	if s := get("lost", r.romeo, "", 200); s.State != "failed" || s.Condition != "remote-server-not-found" {
		t.Errorf("%+v", s)
	}
}

// Clients see each field as its extension.
func TestSendExtras(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	rs, body := r.post(r.romeo, `{"to":"juliet@example.org","reactions":{"id":"744f6e18","emojis":["👋"]}}`)
	accepted(t, rs, body)
	juliet.Expect(`<message from='romeo@example.org' to='juliet@example.org' type='chat'>` +
		`<reactions id='744f6e18' xmlns='urn:xmpp:reactions:0'><reaction>👋</reaction></reactions><store xmlns='urn:xmpp:hints'/></message>`)
	for in, at := range map[string]string{
		`{"to":"juliet@example.org","reactions":{"id":"x","emojis":["👋","👋"]}}`: "body.reactions.emojis[1]",
		`{"to":"juliet@example.org","reactions":{"id":1}}`:                      "body.reactions.id",
		`{"to":"juliet@example.org","marker":"displayed"}`:                      "body.marker",
		`{"to":"juliet@example.org","body":"x","track":"canary"}`:               "body.track",
	} {
		rs, body := r.post(r.romeo, in)
		if p := problemIn(t, rs, body, 422); len(p.Errors) != 1 || p.Errors[0].Location != at {
			t.Errorf("%s: %s", in, body)
		}
	}
	juliet.Quiet()
}

const object = "From: Romeo <im:romeo@example.org>\r\nTo: <im:juliet@example.org>\r\nSubject: greeting\r\n\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-ID: <one@example.org>\r\n\r\nhi"

func TestSendCPIM(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	nurse := r.online("nurse@example.com/x")
	rs, body := r.call(http.MethodPost, "/api/v1/messages", r.romeo, "message/cpim", object)
	if a := accepted(t, rs, body); a.ID != "one@example.org" || a.To != "juliet@example.org" {
		t.Error(body)
	}
	juliet.Expect(`<message from='romeo@example.org' to='juliet@example.org' type='chat' id='one@example.org'><subject>greeting</subject><body>hi</body></message>`)

	// Several recipients are several messages.
	two := strings.Replace(object, "To: <im:juliet@example.org>", "To: <im:juliet@example.org>\r\nTo: <im:nurse@example.com>", 1)
	two = strings.Replace(two, "Content-ID: <one@example.org>\r\n", "", 1)
	for _, header := range [][]string{nil, {"Idempotency-Key", "k"}, {"Idempotency-Key", "k"}} {
		rs, body = r.with(http.MethodPost, "/messages", r.romeo, "message/cpim", two, header...)
		var list Results
		if err := json.Unmarshal([]byte(body), &list); err != nil || rs.StatusCode != http.StatusAccepted || len(list.Results) != 2 {
			t.Fatalf("%s: %s", rs.Status, body)
		}
		if a, b := list.Results[0], list.Results[1]; a.Status != 202 || b.Status != 202 || a.To != "juliet@example.org" || b.To != "nurse@example.com" || a.ID == b.ID {
			t.Error(body)
		}
	}
	if a, b := len(juliet.Take()), len(nurse.Take()); a != 2 || b != 2 {
		t.Errorf("%d and %d messages", a, b)
	}
	// One of two.
	rs, body = r.call(http.MethodPost, "/api/v1/messages", r.romeo, "message/cpim", strings.Replace(two, "nurse@example.com", "nurse@unreachable.example", 1))
	var list Results
	if err := json.Unmarshal([]byte(body), &list); err != nil || rs.StatusCode != http.StatusMultiStatus || len(list.Results) != 2 {
		t.Fatalf("%s: %s", rs.Status, body)
	}
	if p := list.Results[1].Problem; list.Results[0].Status != 202 || p == nil || p.Condition != "remote-server-not-found" || list.Results[1].Status != 404 {
		t.Error(body)
	}
	juliet.Take()

	// RFC 3922 §4.2, in words.
	for _, tt := range []struct {
		name, from, to string
		status         int
		word           string
	}{
		{"sender", "im:romeo@example.org", "im:canary@example.org", 403, "may not send"},
		{"not CPIM", object, "canary", 400, "RFC 3862"},
		{"no address", "im:juliet@example.org", "http://canary.example/", 422, "im: URI"},
		{"HTML", "text/plain; charset=utf-8", "text/canary", 422, "plain text"},
		{"charset", "charset=utf-8", "charset=canary", 422, "us-ascii"},
		{"require", "Subject: greeting", "NS: c <u:canary>\r\nRequire: c.canary\r\nc.canary: x", 501, "requires"},
	} {
		in := strings.Replace(object, tt.from, tt.to, 1)
		if in == object {
			t.Fatal(tt.name)
		}
		rs, body := r.call(http.MethodPost, "/api/v1/messages", r.romeo, "message/cpim", in)
		if p := problemIn(t, rs, body, tt.status); !strings.Contains(p.Detail, tt.word) {
			t.Errorf("%s: %s", tt.name, body)
		}
	}
	juliet.Quiet()
}

// form makes a multipart/form-data body. Parts: name, file name, type, content.
func form(t *testing.T, parts ...[4]string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		disposition := `form-data; name="` + p[0] + `"`
		if p[1] != "" {
			disposition += `; filename="` + p[1] + `"`
		}
		h.Set("Content-Disposition", disposition)
		if p[2] != "" {
			h.Set("Content-Type", p[2])
		}
		part, err := w.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, p[3]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

func TestSendFiles(t *testing.T) {
	store := new(shelf)
	r, _ := newSending(t, Options{Messages: MessageOptions{Uploads: store}})
	juliet := r.online("juliet@example.org/balcony")
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return base64.StdEncoding.EncodeToString(h[:])
	}
	media := func(begin, end, n int, name, typ, content string) string {
		return fmt.Sprintf(`<reference xmlns='urn:xmpp:reference:0' type='data' begin='%d' end='%d'><media-sharing xmlns='urn:xmpp:sims:1'>`+
			`<file xmlns='urn:xmpp:jingle:apps:file-transfer:5'><media-type>%s</media-type><name>%s</name><size>%d</size>`+
			`<hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>%s</hash></file>`+
			`<sources><reference xmlns='urn:xmpp:reference:0' type='data' uri='https://files.example.org/%d'/></sources></media-sharing></reference>`,
			begin, end, typ, name, len(content), sum(content), n)
	}
	msg := [4]string{"message", "", "application/json", `{"to":"juliet@example.org"}`}
	rose := [4]string{"file", "rose.png", "image/png", "rose"}

	ct, body := form(t, msg, rose)
	rs, answer := r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, body)
	accepted(t, rs, answer)
	juliet.Expect(`<message from='romeo@example.org' to='juliet@example.org' type='chat'><body>https://files.example.org/1</body>` +
		`<x xmlns='jabber:x:oob'><url>https://files.example.org/1</url></x>` + media(0, 27, 1, "rose.png", "image/png", "rose") + `</message>`)

	ct, body = form(t, [4]string{"message", "", "", `{"to":"juliet@example.org","body":"🌹:"}`}, rose, [4]string{"x", "b.txt", "text/plain", ""})
	rs, answer = r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, body)
	accepted(t, rs, answer)
	juliet.Expect(`<message from='romeo@example.org' to='juliet@example.org' type='chat'><body>` + "🌹:\nhttps://files.example.org/2\nhttps://files.example.org/3</body>" +
		media(3, 30, 2, "rose.png", "image/png", "rose") + strings.Replace(media(31, 58, 3, "b.txt", "text/plain", ""), "<size>0</size>", "", 1) + `</message>`)
	if want := []string{
		"romeo@example.org rose.png image/png rose", "romeo@example.org rose.png image/png rose", "romeo@example.org b.txt text/plain ",
	}; !slices.Equal(store.held, want) {
		t.Errorf("held %q", store.held)
	}

	// Nothing is stored, or nothing is sent.
	stored := len(store.held)
	many := slices.Repeat([][4]string{rose}, 17)
	for _, tt := range []struct {
		name   string
		token  string
		parts  [][4]string
		status int
	}{
		{"no message", r.romeo, [][4]string{rose}, 422},
		{"message last", r.romeo, [][4]string{rose, msg}, 422},
		{"nothing", r.romeo, nil, 422},
		{"other sender", r.any, [][4]string{{"message", "", "", `{"from":"canary@example.org","to":"juliet@example.org"}`}, rose}, 403},
		{"no recipient", r.romeo, [][4]string{{"message", "", "", `{"body":"canary"}`}, rose}, 422},
		{"not JSON", r.romeo, [][4]string{{"message", "", "", `canary`}, rose}, 400},
		{"XML", r.romeo, [][4]string{{"message", "", "application/xml", `<message/>`}, rose}, 415},
		{"a field", r.romeo, [][4]string{msg, {"canary", "", "", "canary"}}, 422},
		{"too large", r.romeo, [][4]string{{"message", "", "", strings.Repeat(" ", 1<<18) + msg[3]}, rose}, 413},
	} {
		ct, body := form(t, tt.parts...)
		rs, answer := r.call(http.MethodPost, "/api/v1/messages", tt.token, ct, body)
		t.Log(tt.name)
		problemIn(t, rs, answer, tt.status)
	}
	if len(store.held) != stored {
		t.Errorf("stored %q", store.held[stored:])
	}
	ct, body = form(t, append([][4]string{msg}, many...)...)
	rs, answer = r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, body)
	problemIn(t, rs, answer, 422)
	ct, body = form(t, msg, rose)
	rs, answer = r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, body[:len(body)-40]) // cut
	problemIn(t, rs, answer, 400)
	store.err = stanza.Err(stanza.Forbidden, "not you")
	rs, answer = r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, body)
	problemIn(t, rs, answer, 403)
	store.err = errors.New("canary")
	rs, answer = r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, body)
	problemIn(t, rs, answer, 500)
	juliet.Quiet()

	none := newREST(t, Options{})
	rs, answer = none.call(http.MethodPost, "/api/v1/messages", none.romeo, ct, body)
	problemIn(t, rs, answer, 501)
}
