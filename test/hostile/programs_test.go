package hostile

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/bridges/kit"
	"trivium/core"
	"trivium/core/admin"
	"trivium/core/agent"
	accounts "trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi"
	"trivium/httpapi/delivery"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
	"trivium/httpapi/idempotency"
	"trivium/httpapi/webhook"
	"trivium/test/harness"
)

// Gateway domains: one that the attacker runs, and one of somebody else.
const (
	evilDomain = "evil.example.org"
	goodDomain = "good.example.org"
)

// programs is a server with what programs use: REST, events, webhooks, gateways. It is
// wired as cmd/trivium does, with a log that can be read.
type programs struct {
	*harness.Server
	t      *testing.T
	log    *lockedBuffer
	events *event.Log
	hooks  *webhook.Service
	client *http.Client
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// voices are the addresses of accounts and gateways that have presence.
type voices struct {
	agents   *agent.Service
	gateways *gateway.Registry
	router   *router.Router
}

func (v voices) Set(ctx context.Context, j jid.JID, st *stanza.Stanza) error {
	if v.router.Hosts(j.Domain()) {
		return v.agents.Set(ctx, j, st)
	}
	if st == nil {
		st = stanza.New(stanza.Presence, stanza.Unavailable, j, jid.JID{}, "")
	}
	return v.gateways.SetPresence(ctx, st.Readdressed(j, st.To))
}

func (v voices) Get(ctx context.Context, j jid.JID) ([]*stanza.Stanza, error) {
	return v.agents.Get(ctx, j)
}

// noUploads is where nothing may be stored: nobody who may has sent a file.
type noUploads struct{ t *testing.T }

func (n noUploads) Store(_ context.Context, owner jid.JID, _, _ string, _ io.Reader) (string, int64, error) {
	n.t.Errorf("a file of %s was stored", owner)
	return "", 0, io.ErrClosedPipe
}

// startPrograms runs it with accounts mallory, juliet and romeo, and the two gateways.
func startPrograms(t *testing.T, hooks ...webhook.Endpoint) *programs {
	t.Helper()
	ctx := context.Background()
	p := &programs{Server: &harness.Server{}, t: t, log: &lockedBuffer{}, client: &http.Client{Transport: &http.Transport{}, Timeout: harness.Patience}}
	logger := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db, err := store.Open(ctx, store.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	p.Auth, err = accounts.New(db, accounts.Options{Iterations: 4096, Logger: logger})
	must(t, err)
	for _, name := range []string{"mallory", "juliet", "romeo"} {
		must(t, p.Auth.CreateAccount(ctx, jid.Must(name+"@example.org"), harness.Password))
	}
	features := mod.New(p.Auth, mod.Options{})
	agents := agent.New(agent.Options{})
	var gateways *gateway.Registry
	var followed *delivery.Tracker
	var answers *idempotency.Keeper
	submit := func(ctx context.Context, turn *router.Turn, st *stanza.Stanza, rc *router.Receipt) error {
		if ok, err := gateways.Send(ctx, turn, st, rc); ok {
			return err
		}
		return p.Core.Modules.Submit(ctx, turn, st, rc)
	}
	p.Core, err = core.New(core.Options{
		Hosts: []core.VirtualHost{{Domain: "example.org"}}, Store: db, Auth: p.Auth, Logger: logger,
		Modules: func(s *core.Server) []module.Module {
			p.events, err = event.NewLog(ctx, event.Options{Store: db, Logger: logger})
			must(t, err)
			recorder := event.NewRecorder(p.events)
			define := func(domain string) gateway.Define {
				return gateway.Define{Domain: domain, Definition: kit.Definition{Type: "sms", Presence: "assumed", Subscriptions: "accept"}}
			}
			gateways, err = gateway.New(ctx, gateway.Options{
				Router: s.Router, Store: db, Log: p.events, Logger: logger, Configured: []gateway.Define{define(evilDomain), define(goodDomain)},
				Sync: func(ctx context.Context, ev *event.Event) ([]*stanza.Stanza, bool, error) {
					return p.hooks.Ask(ctx, ev)
				},
			})
			must(t, err)
			p.hooks, err = webhook.New(ctx, hooks, webhook.Options{
				Log: p.events, Router: s.Router, Store: db, Logger: logger, Watcher: recorder, Submit: submit,
				Schedule: []time.Duration{time.Millisecond}, Grace: time.Second,
			})
			must(t, err)
			p.hooks.OnState(gateways.WebhookState)
			p.events.OnFollow(gateways.Followers)
			answers, err = idempotency.New(ctx, db, idempotency.Options{Logger: logger})
			must(t, err)
			followed, err = delivery.New(ctx, db, delivery.Options{Events: p.events, Logger: logger})
			must(t, err)
			return append([]module.Module{recorder, followed, gateways, agents}, features.Modules()...)
		},
	})
	must(t, err)
	ops := new(admin.Registry)
	ops.Audit, err = admin.NewAudit(ctx, db, admin.AuditOptions{Logger: logger})
	must(t, err)
	ops.Add(admin.Accounts(p.Auth, p.Core.Modules)...)
	ops.Add(admin.Sessions(p.Auth, p.Core.Modules)...)
	ops.Add(admin.Tokens(p.Auth, time.Now)...)
	stop := make(chan struct{})
	v := voices{agents, gateways, p.Core.Router}
	api, err := httpapi.New(httpapi.Options{
		Router: p.Core.Router, Auth: p.Auth, Hosts: []string{"example.org"}, Ask: p.Core.Modules.Ask, Archive: features.Archive, Store: db,
		Events: &event.Stream{Log: p.events, Encoder: &event.Encoder{}, Stop: stop}, Webhooks: p.hooks, Gateways: gateways, Operations: ops,
		Messages: httpapi.MessageOptions{Submit: submit, Idempotency: answers, Delivery: followed, Presences: v, Uploads: noUploads{t}},
		Timeout:  5 * time.Second, Logger: logger,
	})
	must(t, err)
	must(t, agents.Start(ctx))

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p.TCP, p.HTTP = tcp.Addr().String(), "http://"+web.Addr().String()
	mux := chi.NewRouter()
	mux.Route("/api/v1", api.Mount)
	srv := &http.Server{Handler: api.Direct("/api/v1", mux), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	run, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, job := range []func(){
		func() { _ = p.Core.ServeTCP(run, tcp, core.Mode{}) }, func() { _ = srv.Serve(web) }, func() { p.Core.Run(run, 2*time.Second) },
		func() { p.events.Run(run) }, func() { p.hooks.Run(run) }, func() { gateways.Run(run) },
	} {
		wg.Go(job)
	}
	t.Cleanup(func() {
		cancel()
		close(stop)
		p.client.CloseIdleConnections()
		srv.Close()
		wg.Wait()
	})
	return p
}

// token makes an API token.
func (p *programs) token(scopes string) string {
	p.t.Helper()
	parsed, err := accounts.ParseScopes(scopes)
	must(p.t, err)
	secret, _, err := p.Auth.AddToken(context.Background(), accounts.TokenSpec{Name: "hostile", Scopes: parsed})
	must(p.t, err)
	return secret
}

// call makes a request with a token; headers come in pairs.
func (p *programs) call(method, path, token, media, body string, headers ...string) (int, string) {
	p.t.Helper()
	rq, err := http.NewRequest(method, p.HTTP+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	rq.Header.Set("Accept", "application/json, application/x-ndjson")
	if token != "" {
		rq.Header.Set("Authorization", "Bearer "+token)
	}
	if media != "" {
		rq.Header.Set("Content-Type", media)
	}
	for i := 0; i < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	rs, err := p.client.Do(rq)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer rs.Body.Close()
	all, err := io.ReadAll(rs.Body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return rs.StatusCode, string(all)
}
