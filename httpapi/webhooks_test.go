package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"trivium/httpapi/webhook"
)

// Webhooks are made, shown, tried and removed; by a token of the gateway that they are
// bound to as well, which sees no others.
func TestWebhooks(t *testing.T) {
	r := whole(t)
	var got http.Header
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, rq *http.Request) { got = rq.Header.Clone() }))
	defer hook.Close()
	all, sms := r.scoped("admin:*"), r.scoped("send:sms.example.org read:sms.example.org")
	open := `{"url":"` + hook.URL + `","allow_private":true,"types":["message"]}`
	bound := `{"url":"https://192.0.2.10/","domains":["sms.example.org"]}` // RFC 5737: nowhere
	r.expect(
		t,
		expectation{"PUT", "/webhooks/app", r.romeo, open, 403, ""},
		expectation{"PUT", "/webhooks/app", sms, open, 403, ""},
		expectation{"PUT", "/webhooks/app", sms, `{"url":"` + hook.URL + `","allow_private":true,"domains":["sms.example.org"]}`, 403, ""},
		expectation{"PUT", "/webhooks/app", sms, `{"url":"https://192.0.2.10/","domains":["irc.example.org"]}`, 403, ""},
		expectation{"PUT", "/webhooks/app", sms, `{"url":"https://192.0.2.10/","watch":["example.org"]}`, 403, ""},
		expectation{"PUT", "/webhooks/app", sms, bound, 422, "body.url"}, // it may, but there is nothing
		expectation{"PUT", "/webhooks/app", all, `{"url":"ftp://example.org/"}`, 422, "body.url"},
		expectation{"PUT", "/webhooks/app", all, `{"url":"` + hook.URL + `"}`, 422, "body.url"},
		expectation{"PUT", "/webhooks/app", all, `{"url":"` + hook.URL + `","allow_private":true,"types":["party"]}`, 422, "body.types"},
		expectation{"PUT", "/webhooks/app", all, open, 201, `"secret":"whsec_`},
		expectation{"GET", "/webhooks/app", all, "", 200, `"types":["message"]`},
		expectation{"GET", "/webhooks/app", sms, "", 404, ""},
		expectation{"GET", "/webhooks", sms, "", 200, `{"items":[]}`},
		expectation{"GET", "/webhooks", all, "", 200, `"name":"app"`},
		expectation{"GET", "/webhooks/app/status", all, "", 200, `"state":"up"`},
		expectation{"GET", "/webhooks/app/deliveries", all, "", 200, `{"items":[]}`},
		expectation{"GET", "/webhooks/app/dead?limit=1", all, "", 200, `{"items":[]}`},
		expectation{"GET", "/webhooks/app/dead?after=%21", all, "", 400, "query.after"},
		expectation{"GET", "/webhooks/none/dead", all, "", 404, ""},
		expectation{"POST", "/webhooks/app/replay", all, `{}`, 200, `{"replayed":0}`},
		expectation{"POST", "/webhooks/app/replay", all, `{"ids":["1"]}`, 422, "body.ids"},
		expectation{"POST", "/webhooks/app/test", all, "", 200, `"ok":true`},
		expectation{"POST", "/webhooks/app/test", sms, "", 404, ""},
		expectation{"POST", "/webhooks/app/enable", all, "", 204, ""},
		expectation{"GET", "/audit?operation=webhook+put&limit=1", all, "", 200, `"outcome":"ok"`},
	)
	if !strings.HasPrefix(got.Get("Webhook-Id"), "evt_") || !strings.HasPrefix(got.Get("Webhook-Signature"), "v1,") {
		t.Errorf("the test was posted with %v", got)
	}
	rs, body := r.call("GET", "/api/v1/webhooks/app", all, "", "")
	var shown Webhook
	if err := json.Unmarshal([]byte(body), &shown); err != nil || len(shown.Keys) != 1 || shown.Keys[0].Scheme != webhook.HMAC || strings.Contains(body, "whsec_") {
		t.Errorf("%v: %s", err, body)
	}
	tag := rs.Header.Get("ETag")
	for _, tt := range []struct {
		method, name, value string
		status              int
	}{
		{"PUT", "If-None-Match", "*", 412},
		{"PUT", "If-Match", `"x"`, 412},
		{"PUT", "If-Match", tag, 200},
		{"DELETE", "If-Match", `"x"`, 412},
		{"DELETE", "If-Match", tag, 204},
		{"DELETE", "If-Match", tag, 404},
	} {
		body := ""
		if tt.method == "PUT" {
			body = open
		}
		rs, answer := r.do(t, tt.method, "/api/v1/webhooks/app", body, "Authorization", "Bearer "+all, "Content-Type", "application/json", tt.name, tt.value)
		if rs.StatusCode != tt.status {
			t.Errorf("%s with %s: %s: %s %s", tt.method, tt.name, tt.value, rs.Status, answer)
		}
		if rs.StatusCode == 200 && rs.Header.Get("ETag") != tag {
			t.Errorf("the same definition has another ETag: %v", rs.Header)
		}
	}
}

// A gateway is declared by who administers its domain, and replaced by its owner.
func TestGateways(t *testing.T) {
	r := whole(t)
	all, host := r.scoped("admin:*"), r.scoped("admin:sms.example.org")
	owner := r.scoped("send:sms.example.org")
	token, err := r.users.CheckToken(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/gateways/sms.example.org"
	r.expect(
		t,
		expectation{"PUT", path, owner, `{"type":"sms"}`, 403, ""},
		expectation{"PUT", "/gateways/example.org", all, `{"type":"sms"}`, 409, ""},
		expectation{"PUT", path, host, `{"type":"SMS"}`, 422, "body.type"},
		expectation{"PUT", path, host, `{"type":"sms","capabilities":{"max_length":-1}}`, 422, "max_length"},
		expectation{"PUT", path, host, `{"type":"sms","name":"Text messages","owner":"` + token.ID + `"}`, 201, `"source":"api"`},
		expectation{"GET", path, owner, "", 200, `"name":"Text messages"`},
		expectation{"GET", "/gateways", owner, "", 200, `"domain":"sms.example.org"`},
		expectation{"GET", "/gateways", r.romeo, "", 200, `{"items":[]}`},
		expectation{"GET", path, r.romeo, "", 404, ""},
		expectation{"GET", "/gateways/irc.example.org", all, "", 404, ""},
		expectation{"PUT", path, owner, `{"type":"sms","name":"Short messages"}`, 200, `"owner":"` + token.ID + `"`},
		expectation{"PUT", path, owner, `{"type":"sms","owner":"another"}`, 403, ""},
		expectation{"GET", path + "/status", owner, "", 200, `"registrations":0`},
		expectation{"GET", path + "/registrations", owner, "", 200, `{"items":[]}`},
		expectation{"GET", path + "/registrations/romeo@example.org", owner, "", 404, ""},
		expectation{"DELETE", path + "/registrations/romeo@example.org", owner, "", 404, ""},
		expectation{"PUT", path + "/contacts/%2B1@sms.example.org", owner, `{"name":"Ann","capabilities":{"max_length":160}}`, 200, `"max_length":160`},
		expectation{"PUT", path + "/contacts/romeo@example.org", owner, `{"name":"Ann"}`, 404, ""},
		expectation{"PUT", path + "/contacts/%2B1@sms.example.org", owner, `{"user":"a@b@c"}`, 422, "body.user"},
		expectation{"GET", path + "/contacts/%2B1@sms.example.org", owner, "", 200, `"own_capabilities":true`},
		expectation{"GET", path + "/contacts?user=romeo@example.org", owner, "", 200, `"items":[`},
		expectation{"GET", path + "/contacts?user=a@b@c", owner, "", 400, "query.user"},
		expectation{"DELETE", path + "/contacts/%2B1@sms.example.org", owner, "", 204, ""},
		expectation{"DELETE", path + "/contacts/%2B1@sms.example.org", owner, "", 404, ""},
		expectation{"GET", "/audit?operation=gateway+put&limit=1", all, "", 200, `"subject":"sms.example.org"`},
		expectation{"DELETE", path, owner, "", 204, ""},
		expectation{"GET", path, all, "", 404, ""},
	)
}

// Files are uploaded, listed and removed by who may speak for their owner.
func TestUploads(t *testing.T) {
	r := whole(t)
	rs, body := r.do(t, "POST", "/api/v1/uploads?name=rose.txt", "a rose", "Authorization", "Bearer "+r.romeo, "Content-Type", "text/plain")
	var up Upload
	if err := json.Unmarshal([]byte(body), &up); err != nil || rs.StatusCode != 201 || up.Owner != "romeo@example.org" || up.Size != 6 ||
		!strings.HasPrefix(up.URL, "https://example.org/upload/") || up.Type != "text/plain" {
		t.Fatalf("%s %s", rs.Status, body)
	}
	if got := rs.Header.Get("Location"); !strings.HasPrefix(got, "/api/v1/uploads/"+up.ID) {
		t.Errorf("Location %s", got)
	}
	r.expect(
		t,
		expectation{"GET", "/uploads", r.romeo, "", 200, up.ID},
		expectation{"GET", "/uploads?owner=romeo@example.org&limit=1", r.romeo, "", 200, up.ID},
		expectation{"GET", "/uploads?owner=juliet@example.org", r.romeo, "", 403, ""},
		expectation{"GET", "/uploads", r.any, "", 400, "query.owner"},
		expectation{"GET", "/uploads?after=%21", r.romeo, "", 400, "query.after"},
		expectation{"GET", "/uploads?after=MQ", r.romeo, "", 400, "query.after"},
		expectation{"GET", "/uploads/" + up.ID, r.romeo, "", 200, `"rose.txt"`},
		expectation{"GET", "/uploads/" + up.ID + "?owner=bots.example.org", r.any, "", 404, ""},
		expectation{"POST", "/uploads", r.romeo, "", 400, "query.name"},
		expectation{"DELETE", "/uploads/" + up.ID, r.romeo, "", 204, ""},
		expectation{"DELETE", "/uploads/" + up.ID, r.romeo, "", 404, ""},
	)
}
