package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/message"
)

// writer is a ResponseWriter that forgets.
type writer struct {
	header http.Header
	status int
}

func (w *writer) Header() http.Header         { return w.header }
func (w *writer) Write(b []byte) (int, error) { return len(b), nil }
func (w *writer) WriteHeader(code int)        { w.status = code }

// SetReadDeadline is what a connection has: to find none would cost more.
func (w *writer) SetReadDeadline(time.Time) error { return nil }

const draft = `{"to":"juliet@example.org","body":"` + "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" + `"}`

func run(b *testing.B, r *rest, h http.Handler) {
	juliet := r.online("juliet@example.org/balcony")
	b.ReportAllocs()
	for b.Loop() {
		rq := httptest.NewRequest(http.MethodPost, "/api/v1/messages", strings.NewReader(draft))
		rq.Header.Set("Content-Type", "application/json")
		rq.Header.Set("Authorization", "Bearer "+r.romeo)
		w := &writer{header: http.Header{}}
		h.ServeHTTP(w, rq)
		if w.status != http.StatusAccepted {
			b.Fatal(w.status)
		}
		juliet.Take()
	}
}

// sendOne sends a message as a request does, without reading one.
func sendOne(a *API, r *http.Request, st *stanza.Stanza) *Problem {
	rq := request{API: a, r: r}
	return rq.send(r.Context(), &letter{st: st}, nil).wait(r.Context())
}

// BenchmarkPost is one message to a user who is online, without the socket: the
// plain handler, and the same work in a handler of huma's.
func BenchmarkPost(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		r := newREST(b, Options{})
		mux := chi.NewRouter()
		mux.Route("/api/v1", r.api.Mount)
		run(b, r, mux)
	})
	b.Run("direct", func(b *testing.B) {
		r := newREST(b, Options{})
		run(b, r, r.api.Direct("/api/v1", http.NotFoundHandler()))
	})
	b.Run("huma", func(b *testing.B) {
		r := newREST(b, Options{})
		mux := chi.NewRouter()
		c := huma.DefaultConfig("x", "1")
		c.DocsPath, c.CreateHooks = "", nil
		api := humachi.New(mux, c)
		type input struct {
			Authorization string `header:"Authorization"`
			Body          message.Draft
		}
		type output struct{ Body Accepted }
		huma.Register(api, huma.Operation{
			Method: http.MethodPost, Path: "/api/v1/messages", DefaultStatus: http.StatusAccepted,
		}, func(ctx context.Context, in *input) (*output, error) {
			token, err := r.users.CheckToken(ctx, strings.TrimPrefix(in.Authorization, "Bearer "))
			if err != nil {
				return nil, huma.Error401Unauthorized("")
			}
			to, err := message.Address("to", in.Body.To)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity("")
			}
			from, err := defaultSender(&token)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity("")
			}
			st, err := in.Body.Stanza(from, to, r.api.opts.Limits)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity("")
			}
			rq := (&http.Request{}).WithContext(ctx)
			if err := r.api.maySend(&writer{header: http.Header{}}, rq, &token, from); err != nil {
				return nil, huma.Error403Forbidden("")
			}
			if p := sendOne(r.api, rq, st); p != nil {
				return nil, huma.Error500InternalServerError("")
			}
			return &output{Accepted{ID: st.ID, To: to.String(), Status: "accepted"}}, nil
		})
		run(b, r, mux)
	})
}

// BenchmarkParts tells where the time of a request goes.
func BenchmarkParts(b *testing.B) {
	r := newREST(b, Options{})
	ctx := context.Background()
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.users.CheckToken(ctx, r.romeo); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var s Submission
			if err := decodeSubmission([]byte(draft), &s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stanza", func(b *testing.B) {
		b.ReportAllocs()
		d := message.Draft{Body: strings.Repeat("0123456789", 10)}
		for b.Loop() {
			if _, err := d.Stanza(stanzaFrom, stanzaTo, r.api.opts.Limits); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("send", func(b *testing.B) {
		b.ReportAllocs()
		juliet := r.online("juliet@example.org/balcony")
		rq := httptest.NewRequest(http.MethodPost, "/", nil)
		st := stanza.New(stanza.Message, stanza.Chat, stanzaFrom, stanzaTo, "id", stanza.TextEl(stanza.NSClient, "body", "hi"))
		for b.Loop() {
			if p := sendOne(r.api, rq, st); p != nil {
				b.Fatal(p)
			}
			juliet.Take()
		}
	})
	b.Run("answer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(&Accepted{ID: "F6QJ3GMSMSZFQR7GNS5GBCKHB4", To: "juliet@example.org", Status: "accepted"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

var (
	stanzaFrom = jid.Must("romeo@example.org")
	stanzaTo   = jid.Must("juliet@example.org")
)

// BenchmarkKey is BenchmarkPost by many at once, plain and with an Idempotency-Key:
// then the answer is committed before it is given.
func BenchmarkKey(b *testing.B) {
	for _, name := range []string{"plain", "key"} {
		b.Run(name, func(b *testing.B) {
			db, err := store.Open(context.Background(), store.Options{Path: filepath.Join(b.TempDir(), "db")})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			r := newSendingOn(b, db, Options{})
			mux := chi.NewRouter()
			mux.Route("/api/v1", r.api.Mount)
			h := r.api.Direct("/api/v1", mux)
			juliet := r.online("juliet@example.org/balcony")
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(64)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					rq := httptest.NewRequest(http.MethodPost, "/api/v1/messages", strings.NewReader(draft))
					rq.Header.Set("Content-Type", "application/json")
					rq.Header.Set("Authorization", "Bearer "+r.romeo)
					if name == "key" {
						rq.Header["Idempotency-Key"] = []string{"key-" + strconv.FormatInt(i, 10)}
					}
					w := &writer{header: http.Header{}}
					h.ServeHTTP(w, rq)
					if w.status != http.StatusAccepted {
						b.Error(w.status)
					}
					if i%64 == 0 {
						juliet.Take()
					}
				}
			})
		})
	}
}
