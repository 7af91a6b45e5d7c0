package metrics

import (
	"context"
	"io"
	"net/http/httptest"
	"regexp"
	"testing"

	"trivium/core/c2s"
	"trivium/core/mod/modtest"
	"trivium/httpapi"
	"trivium/httpapi/webhook"
)

func TestCollect(t *testing.T) {
	s := modtest.New(t)
	clients, rest := new(c2s.Stats), new(httpapi.Stats)
	state := []webhook.Status{{Name: "app", State: "up", Pending: 4, Delivered: 5, Failed: 6, Dead: 7, Dropped: 8}, {Name: "other", State: "down"}}
	m, err := Collect(Sources{Router: s.Router, Clients: clients, Store: s.Store, REST: rest, Webhooks: func() []webhook.Status { return state }})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Shutdown(context.Background())
	// A second one does not disturb the first: nothing is global.
	again, err := Collect(Sources{Router: s.Router})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Shutdown(context.Background())

	romeo := s.Connect("romeo@example.org/orchard")
	romeo.Send(`<message to='juliet@example.org/none' type='chat'/>`)
	clients.Logins.Add(2)
	clients.LoginsBad.Add(3)
	clients.Stanzas.Add(9)
	rest.Accepted.Add(10)
	rest.Refused.Add(11)
	if err := s.Store.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	page := scrape(t, m)
	for _, want := range []string{
		`trivium_sessions 1`,
		`trivium_stanzas_routed_total 1`,
		`trivium_client_stanzas_total 9`,
		`trivium_client_logins_total\{result="ok"\} 2`,
		`trivium_client_logins_total\{result="failed"\} 3`,
		`trivium_store_waiting 0`,
		`trivium_store_operations_total\{result="ok"\} [1-9][0-9]*`,
		`trivium_rest_messages_total\{result="ok"\} 10`,
		`trivium_rest_messages_total\{result="refused"\} 11`,
		`trivium_webhook_pending\{webhook="app"\} 4`,
		`trivium_webhook_posts_total\{result="ok",webhook="app"\} 5`,
		`trivium_webhook_posts_total\{result="failed",webhook="app"\} 6`,
		`trivium_webhook_dead_total\{webhook="app"\} 7`,
		`trivium_webhook_dropped_total\{webhook="app"\} 8`,
		`trivium_webhook_up(_ratio)?\{webhook="app"\} 1`,
		`trivium_webhook_up(_ratio)?\{webhook="other"\} 0`,
		`go_goroutine_count [1-9][0-9]*`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(page) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	romeo.Close()
	if page := scrape(t, m); !regexp.MustCompile(`(?m)^trivium_sessions 0$`).MatchString(page) {
		t.Error("the session has ended, its count has not")
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, b)
	}
	return string(b)
}
