package httpapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"trivium/core/auth"
)

// stream opens the event stream, and returns what it says line by line; it is closed
// when the server ends it.
func (r *rest) stream(query, token string) <-chan string {
	r.t.Helper()
	rq, err := http.NewRequest(http.MethodGet, r.http.URL+"/api/v1/events"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+token)
	rq.Header.Set("Accept", streamType)
	rs, err := r.http.Client().Do(rq)
	if err != nil || rs.StatusCode != http.StatusOK {
		r.t.Fatal(rs, err)
	}
	r.t.Cleanup(func() { rs.Body.Close() })
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(rs.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

// A stream went on for as long as its reader liked, whatever became of the token.
func TestStreamEndsWithItsToken(t *testing.T) {
	r := whole(t)
	r.api.opts.Events.Heartbeat = 5 * time.Millisecond
	for _, how := range []string{"revoked", "expired"} {
		scopes, err := auth.ParseScopes("read:example.org")
		if err != nil {
			t.Fatal(err)
		}
		spec := auth.TokenSpec{Name: how, Scopes: scopes}
		if how == "expired" {
			spec.Expires = time.Now().Add(time.Second)
		}
		secret, token, err := r.users.AddToken(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		lines := r.stream("", secret)
		<-lines
		if how == "revoked" {
			if err := r.users.RevokeToken(t.Context(), token.ID); err != nil {
				t.Fatal(err)
			}
		}
		end := time.After(30 * time.Second)
		for open := true; open; {
			select {
			case _, open = <-lines:
			case <-end:
				t.Fatalf("the stream of a token that is %s goes on", how)
			}
		}
	}
}

// Whoever could read a gateway's host made the gateway seem up by looking on, and
// acknowledged its events by coming back.
func TestOnlookerIsNoGateway(t *testing.T) {
	r := whole(t)
	const host = "bots.example.org"
	for _, tt := range []struct {
		scopes, query string
		serves        int
	}{
		{"read:" + host, "?host=" + host, 0},
		{"read:" + host + " send:a@" + host, "?host=" + host, 0},
		{"read:a@" + host + " send:" + host, "?host=" + host, 0},
		{"read:" + host + " send:" + host, "?host=" + host + "&type=presence", 0},
		{"read:" + host + " send:" + host, "?host=" + host + "&jid=a@" + host, 0},
		{"read:example.org send:example.org", "?host=example.org", 0},
		{"read:" + host + " send:" + host, "?host=" + host, 1},
		{"read:" + host + " send:" + host, "?host=" + host + "&type=message", 1},
	} {
		counts := make(chan int, 10)
		r.events.OnFollow(func(_ string, n int) {
			select {
			case counts <- n:
			default:
			}
		})
		<-r.stream(tt.query, r.scoped(tt.scopes))
		if tt.serves == 1 {
			if n := <-counts; n < 1 {
				t.Errorf("%v: %d followers", tt, n)
			}
			r.http.CloseClientConnections()
			continue
		}
		// The stream has said something: it is counted, if it is at all, right before it
		// looks into the log.
		if n := r.events.Followers("bots.example.org") + r.events.Followers("example.org"); n != 0 {
			t.Errorf("%v: %d followers", tt, n)
		}
	}
}

// A token has so many streams and no more; what it has closed does not count.
func TestHeld(t *testing.T) {
	var h held
	var ends []func()
	for range 3 {
		end, ok := h.begin("a", 3)
		if !ok {
			t.Fatal("no room")
		}
		ends = append(ends, end)
	}
	if _, ok := h.begin("a", 3); ok {
		t.Error("a fourth one")
	}
	if end, ok := h.begin("b", 3); !ok {
		t.Error("no room for another token")
	} else {
		end()
	}
	for _, end := range ends {
		end()
	}
	if end, ok := h.begin("a", 1); !ok {
		t.Error("no room after the end")
	} else {
		end()
	}
	if len(h.n) != 0 {
		t.Errorf("%d tokens are left", len(h.n))
	}
}

// A token that ends made one that did not, and went on by that.
func TestTokenThatEnds(t *testing.T) {
	r := whole(t)
	scopes, err := auth.ParseScopes("admin:*")
	if err != nil {
		t.Fatal(err)
	}
	secret, own, err := r.users.AddToken(t.Context(), auth.TokenSpec{Name: "short", Scopes: scopes, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	_, long, err := r.users.AddToken(t.Context(), auth.TokenSpec{Name: "long", Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	r.expect(
		t,
		expectation{"POST", "/tokens", secret, `{"scopes":["read:example.org"]}`, 422, "body.expires_in"},
		expectation{"POST", "/tokens", secret, `{"scopes":["read:example.org"],"expires_in":3700}`, 422, "body.expires_in"},
		expectation{"POST", "/tokens", secret, `{"scopes":["read:example.org"],"expires_in":3000}`, 201, "trv_"},
		expectation{"POST", "/tokens/" + long.ID + "/rotate", secret, "", 403, ""},
		expectation{"POST", "/tokens/" + own.ID + "/rotate", secret, "", 200, "trv_"},
	)
}

// A token that may read an account spoke for it by the answers of a webhook.
func TestWebhookOfReader(t *testing.T) {
	r := whole(t)
	reader, both, all := r.scoped("read:romeo@example.org"), r.scoped("read:romeo@example.org send:romeo@example.org"), r.scoped("admin:*")
	hook := func(more string) string {
		return `{"url":"https://198.41.0.4/canary?key=canary","watch":["romeo@example.org"]` + more + `}`
	}
	r.expect(
		t,
		expectation{"PUT", "/webhooks/a", reader, hook(""), 403, ""},
		expectation{"PUT", "/webhooks/a", reader, hook(`,"silent":true`), 201, `"silent":true`},
		expectation{"PUT", "/webhooks/a", reader, hook(`,"silent":false`), 403, ""},
		expectation{"PUT", "/webhooks/b", both, hook(""), 201, `"silent":false`},
		expectation{"GET", "/webhooks/b", reader, "", 404, ""},
		expectation{"PUT", "/webhooks/b", reader, hook(`,"silent":true`), 403, ""},
		expectation{"DELETE", "/webhooks/b", reader, "", 404, ""},
		expectation{"PUT", "/webhooks/c", reader, hook(`,"silent":true,"domains":["bots.example.org"]`), 403, ""},
		expectation{"PUT", "/webhooks/c", reader, hook(`,"silent":true,"allow_private":true`), 403, ""},
		expectation{"PUT", "/webhooks/c", reader, `{"url":"https://198.41.0.4/","silent":true}`, 403, ""},
		expectation{"PUT", "/webhooks/c", reader, `{"url":"https://198.41.0.4/","silent":true,"hosts":["example.org"]}`, 403, ""},
		expectation{"PUT", "/webhooks/c", reader, `{"url":"https://198.41.0.4/","silent":true,"watch":["example.org"]}`, 403, ""},
		expectation{"PUT", "/webhooks/c", reader, `{"url":"https://198.41.0.4/","silent":true,"watch":["r*@example.org"]}`, 403, ""},
		expectation{"PUT", "/webhooks/c", reader, `{"url":"http://[::ffff:169.254.169.254]/","silent":true,"watch":["romeo@example.org"]}`, 422, "body.url"},
	)
	// One event is not posted any number of times.
	status := 0
	for i := range maxHooks + 1 {
		rs, _ := r.call("PUT", fmt.Sprintf("/api/v1/webhooks/many%d", i), reader, jsonType, hook(`,"silent":true`))
		if status = rs.StatusCode; status != http.StatusCreated {
			break
		}
	}
	if status != http.StatusConflict {
		t.Errorf("the last of many webhooks: %d", status)
	}
	// The address of a webhook may be a secret.
	if _, body := r.call("GET", "/api/v1/audit", all, "", ""); !strings.Contains(body, `"webhook put"`) || strings.Contains(body, "canary") {
		t.Errorf("the audit log holds %s", body)
	}
}

// Problem documents repeat nothing of a request, however much is wrong with it.
func TestProblemsRepeatNothing(t *testing.T) {
	r := whole(t)
	all := r.scoped("admin:* send:example.org read:example.org send:bots.example.org read:bots.example.org")
	many := map[string]any{"canary": 1}
	for i := range 3000 {
		many[fmt.Sprintf("canary%d", i)] = map[string]any{"canary": "canary"}
	}
	members, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	bodies := []string{
		string(members), `{"canary":"canary"}`, `"canary"`, `canary`, `["canary"]`, `{"url":"canary","name":"canary\u0000","jid":"canary@@","scopes":["canary"],"to":"@canary","type":"canary"}`,
		`{"scopes":[` + strings.Repeat(`"canary",`, 5000) + `"canary"]}`, `{"canary":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`,
		`{"watch":[` + strings.Repeat(`"canary@@",`, 900) + `"canary"],"url":"http://canary"}`, "\xff\xfecanary",
		`{"user":"@canary","payload":"<canary","from":"@canary","host":"@canary","id":"canary","ids":["canary"],"keys":["canary"],"password":"canary\u0001"}`,
	}
	for _, rt := range r.api.table {
		path := strings.NewReplacer(
			"{account}", "romeo@example.org", "{contact}", "%00canary", "{jid}", "@canary", "{domain}", "canary.example.org", "{user}", "canary", "{name}", "canary", "{id}", "canary",
		).Replace(rt.path)
		for _, query := range []string{"", "?canary=canary&limit=canary&after=canary&jid=@canary&host=@canary&type=canary&owner=@canary" + strings.Repeat("&canaries=1", 500)} {
			for _, body := range bodies {
				if rt.takes == nil {
					body = ""
				}
				rs, answer := r.with(rt.method, path+query, all, jsonType, body, "Accept", jsonType)
				if rs.StatusCode < 400 {
					continue // it is not asked to hide what it does
				}
				if strings.Contains(answer, "canary") || len(answer) > 8<<10 || rs.StatusCode >= 500 && rs.StatusCode != 501 {
					t.Errorf("%s %s %.60s: %s, %d octets: %.300s", rt.method, path+query[:min(len(query), 20)], body, rs.Status, len(answer), answer)
				}
				if rt.takes == nil {
					break
				}
			}
		}
	}
}
