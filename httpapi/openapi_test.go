package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/admin"
	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/roster"
	files "trivium/core/mod/upload"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/delivery"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
	"trivium/httpapi/idempotency"
	"trivium/httpapi/message"
	"trivium/httpapi/upload"
	"trivium/httpapi/webhook"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

const published = "../docs/openapi.json"

func TestPublishedDocument(t *testing.T) {
	doc := whole(t).api.document
	if *update {
		if err := os.WriteFile(published, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, doc) {
		t.Error("docs/openapi.json is out of date: run go test ./httpapi -run TestPublishedDocument -update")
	}
}

// whole is a server that serves everything there is.
func whole(t testing.TB) *rest {
	t.Helper()
	ctx := context.Background()
	ops := new(admin.Registry)
	kept := archive.New(archive.Options{})
	shared := files.New(files.Options{URL: func(string) string { return "https://example.org/upload" }})
	return newRESTWith(t, func(r *rest) Options {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		var err error
		ops.Audit, err = admin.NewAudit(ctx, r.Store, admin.AuditOptions{})
		must(err)
		ops.Add(admin.Accounts(r.users, r.Host)...)
		ops.Add(admin.Sessions(r.users, r.Host)...)
		ops.Add(admin.Tokens(r.users, time.Now)...)
		r.events, err = event.NewLog(ctx, event.Options{Store: r.Store})
		must(err)
		r.hooks, err = webhook.New(ctx, nil, webhook.Options{Log: r.events, Router: r.Router, Store: r.Store, Watcher: event.NewRecorder(r.events)})
		must(err)
		stored, err := upload.New(ctx, shared, t.TempDir(), upload.Options{})
		must(err)
		t.Cleanup(func() { stored.Close() })
		r.gateways, err = gateway.New(ctx, gateway.Options{Router: r.Router, Store: r.Store, Log: r.events, Served: r.hooks.Up})
		must(err)
		db, err := store.Open(ctx, store.Options{})
		must(err)
		t.Cleanup(func() { db.Close() })
		answers, err := idempotency.New(ctx, db, idempotency.Options{})
		must(err)
		followed, err := delivery.New(ctx, db, delivery.Options{})
		must(err)
		return Options{
			Gateways: r.gateways,
			Messages: MessageOptions{
				Submit: r.Host.Submit, Idempotency: answers, Delivery: followed, Uploads: stored,
				Presences: &presences{held: map[jid.JID]*stanza.Stanza{}}, Subscriptions: subscribers{},
			},
			Hosts: []string{"example.org"}, Operations: ops, Version: "1", Ask: r.Host.Ask, Archive: kept, Uploads: stored,
			Events: &event.Stream{Log: r.events, Encoder: &event.Encoder{}}, Webhooks: r.hooks, Store: r.Store,
		}
	}, roster.New(roster.Options{}), kept, shared)
}

// check validates JSON against the schema of a Go type in the document.
func check(t *testing.T, schemas huma.Registry, typ reflect.Type, mode huma.ValidateMode, raw string) []error {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	res := &huma.ValidateResult{}
	huma.Validate(schemas, schemas.Schema(typ, true, ""), huma.NewPathBuffer(nil, 0), mode, v, res)
	return res.Errors
}

// What the schema of a request says is what the handler does, and what the
// handler answers is among the documented answers and fits their schema.
func TestDocumentIsTrue(t *testing.T) {
	r := newREST(t, Options{})
	r.online("juliet@example.org/balcony")
	doc, schemas := r.api.openAPI()
	responses := doc.Paths["/messages"].Post.Responses
	for _, tt := range []struct {
		body  string
		valid bool // by the schema
	}{
		{`{"to":"juliet@example.org","body":"hi"}`, true},
		{`{"to":"juliet@example.org","type":"normal","subject":"s","thread":"t","id":"1","lang":"en-GB","from":"romeo@example.org/x","extensions":"<a xmlns='b'/>"}`, true},
		{`{"body":"hi"}`, false},
		{`{"to":"","body":"hi"}`, false},
		{`{"to":"juliet@example.org","body":1}`, false},
		{`{"to":"juliet@example.org","body":"hi","type":"error"}`, false},
		{`{"to":"juliet@example.org","body":"hi","lang":"e_n"}`, false},
		{`{"to":"juliet@example.org","body":"hi","unknown":true}`, false},
	} {
		errs := check(t, schemas, reflect.TypeFor[message.Draft](), huma.ModeWriteToServer, tt.body)
		if (len(errs) == 0) != tt.valid {
			t.Errorf("schema on %s: %v", tt.body, errs)
		}
		rs, body := r.post(r.romeo, tt.body)
		if (rs.StatusCode == http.StatusAccepted) != tt.valid {
			t.Errorf("handler on %s: %s %s", tt.body, rs.Status, body)
		}
		answer := responses[strconv.Itoa(rs.StatusCode)]
		if answer == nil || answer.Content[rs.Header.Get("Content-Type")] == nil {
			t.Errorf("%s as %s is not documented", rs.Status, rs.Header.Get("Content-Type"))
			continue
		}
		typ := reflect.TypeFor[Problem]()
		if tt.valid {
			typ = reflect.TypeFor[Accepted]()
		}
		if errs := check(t, schemas, typ, huma.ModeReadFromServer, body); len(errs) > 0 {
			t.Errorf("%s does not fit its schema: %v", body, errs)
		}
	}
	// Every status that a stanza error can give is documented.
	for _, e := range statusOf {
		if responses[strconv.Itoa(e.status)] == nil {
			t.Errorf("%d (%s) is not documented", e.status, e.condition)
		}
	}
	// The examples are.
	for ct, media := range doc.Paths["/messages"].Post.RequestBody.Content {
		example, ok := media.Example.(string)
		if !ok {
			raw, err := json.Marshal(media.Example)
			if err != nil {
				t.Fatal(err)
			}
			example = string(raw)
		}
		if rs, body := r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, example); rs.StatusCode != http.StatusAccepted {
			t.Errorf("example of %s: %s %s", ct, rs.Status, body)
		}
	}
}

// The document is served, is OpenAPI 3.1 and loads nothing from elsewhere.
func TestServedDocument(t *testing.T) {
	r := newREST(t, Options{Version: "1.2.3"})
	rs, body := r.call(http.MethodGet, "/api/v1/openapi.json", "", "", "")
	if rs.StatusCode != http.StatusOK || rs.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s %s", rs.Status, rs.Header.Get("Content-Type"))
	}
	var d struct {
		OpenAPI string
		Info    struct{ Version string }
		Paths   map[string]map[string]struct{ Security []map[string][]string }
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	if d.OpenAPI != "3.1.0" || d.Info.Version != "1.2.3" || len(d.Paths) == 0 {
		t.Errorf("%+v", d)
	}
	for path, ops := range d.Paths {
		for method, op := range ops {
			if len(op.Security) != 1 {
				t.Errorf("%s %s is open to all", method, path)
			}
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	r := newREST(t, Options{})
	for _, tt := range []struct {
		method, path, allow string
		status              int
	}{
		{http.MethodGet, "/api/v1/messages", "POST", 405},
		{http.MethodDelete, "/api/v1/messages", "POST", 405},
		{http.MethodPost, "/api/v1/openapi.json", "GET, HEAD", 405},
		{http.MethodHead, "/api/v1/openapi.json", "", 200},
		{http.MethodGet, "/api/v1/nothing", "", 404},
	} {
		rs, body := r.call(tt.method, tt.path, r.romeo, "", "")
		if rs.StatusCode != tt.status || rs.Header.Get("Allow") != tt.allow || (rs.StatusCode >= 400) != (rs.Header.Get("Content-Type") == problemType) {
			t.Errorf("%s %s: %s, Allow %q: %s", tt.method, tt.path, rs.Status, rs.Header.Get("Allow"), body)
		}
	}
}

func TestCORS(t *testing.T) {
	preflight := func(r *rest, origin string) http.Header {
		rq, _ := http.NewRequest(http.MethodOptions, r.http.URL+"/api/v1/messages", nil)
		rq.Header.Set("Origin", origin)
		rq.Header.Set("Access-Control-Request-Method", "POST")
		rs, err := r.http.Client().Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		rs.Body.Close()
		return rs.Header
	}
	const page, other = "https://app.example", "https://other.example"
	for _, tt := range []struct {
		origins []string
		origin  string
		want    string
	}{
		{nil, page, ""},
		{[]string{page}, page, page},
		{[]string{page}, other, ""},
		{[]string{page}, "null", ""},
		{[]string{"*"}, other, "*"},
	} {
		h := preflight(newREST(t, Options{Origins: tt.origins}), tt.origin)
		if got := h.Get("Access-Control-Allow-Origin"); got != tt.want || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%v asked by %s: %v", tt.origins, tt.origin, h)
		}
	}
}

func TestRate(t *testing.T) {
	r := newREST(t, Options{Rate: 3})
	r.online("juliet@example.org/balcony")
	var last *http.Response
	for range 4 {
		last, _ = r.post(r.romeo, `{"to":"juliet@example.org","body":"hi"}`)
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v", last.Status, last.Header)
	}
	if rs, _ := r.post(r.any, `{"from":"bots.example.org","to":"juliet@example.org","body":"hi"}`); rs.StatusCode != http.StatusAccepted {
		t.Errorf("another token: %s", rs.Status)
	}
}
