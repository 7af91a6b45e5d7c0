package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"trivium/core/jid"
)

// expectation is one request and what is answered.
type expectation struct {
	method, path, token, body string
	status                    int
	part                      string // of the answer
}

// expect makes requests, one after the other, and checks what every answer has to be.
func (r *rest) expect(t *testing.T, list ...expectation) {
	t.Helper()
	for _, tt := range list {
		ct := ""
		if tt.body != "" {
			ct = jsonType
		}
		rs, body := r.call(tt.method, "/api/v1"+tt.path, tt.token, ct, tt.body)
		if rs.StatusCode != tt.status || !strings.Contains(body, tt.part) {
			t.Errorf("%s %s: %s %s, want %d %s", tt.method, tt.path, rs.Status, body, tt.status, tt.part)
		}
		if rs.Header.Get(requestHeader) == "" {
			t.Errorf("%s %s: no request id", tt.method, tt.path)
		}
		if rs.StatusCode < 400 || tt.method == http.MethodHead {
			continue
		}
		var p Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || rs.Header.Get("Content-Type") != problemType || p.Status != rs.StatusCode ||
			p.Instance != "urn:x-trivium:request:"+rs.Header.Get(requestHeader) {
			t.Errorf("%s %s: the problem document is %s %s (%v)", tt.method, tt.path, rs.Header.Get("Content-Type"), body, err)
		}
		if challenge := rs.Header.Get("WWW-Authenticate"); (rs.StatusCode == 401 || rs.StatusCode == 403) != (challenge != "") {
			t.Errorf("%s %s: %s, WWW-Authenticate %q", tt.method, tt.path, rs.Status, challenge)
		}
	}
}

// Accounts are those of hosts that the token administers.
func TestAccounts(t *testing.T) {
	r := whole(t)
	all, here, elsewhere := r.scoped("admin:*"), r.scoped("admin:example.org"), r.scoped("admin:example.com")
	const nurse = `{"jid":"Nurse@Example.org","password":"hunter2"}`
	r.expect(
		t,
		expectation{"POST", "/accounts", r.romeo, nurse, 403, ""},
		expectation{"POST", "/accounts", elsewhere, nurse, 403, ""},
		expectation{"POST", "/accounts", "", nurse, 401, ""},
		expectation{"POST", "/accounts", here, nurse, 201, `"jid":"nurse@example.org"`},
		expectation{"POST", "/accounts", here, nurse, 409, "exists already"},
		expectation{"POST", "/accounts", here, `{"jid":"nurse@example.org/x","password":"a"}`, 422, "body.jid"},
		expectation{"POST", "/accounts", here, `{"jid":"nurse@example.org"}`, 422, "password"},
		expectation{"POST", "/accounts", here, `{"jid":"a@example.org","password":"b","admin":true}`, 422, `"location":"body`},
		expectation{"POST", "/accounts", here, `{"jid":"a@example.org","password":null}`, 422, "body.password"},
		expectation{"POST", "/accounts", here, `{"JID":"a@example.org","password":"b"}`, 422, ""},
		expectation{"POST", "/accounts", here, `{"jid":"a@example.org","password":"a\u0007b"}`, 422, "not a valid password"},
		expectation{"POST", "/accounts", here, `{"jid":`, 400, ""},
		expectation{"POST", "/accounts", all, `{"jid":"a@elsewhere.example","password":"b"}`, 404, ""},
		expectation{"GET", "/accounts/nurse@example.org", here, "", 200, `{"jid":"nurse@example.org","sessions":0}`},
		expectation{"GET", "/accounts/nurse%40example.org", here, "", 200, `"nurse@example.org"`},
		expectation{"GET", "/accounts/romeo@example.org", r.romeo, "", 200, ""},
		expectation{"GET", "/accounts/nurse@example.org", r.romeo, "", 403, ""},
		expectation{"GET", "/accounts/nobody@example.org", here, "", 404, ""},
		expectation{"GET", "/accounts/nobody@elsewhere.example", all, "", 404, ""},
		expectation{"GET", "/accounts/example.org", all, "", 404, ""},
		expectation{"PUT", "/accounts/nurse@example.org/password", here, `{"password":"changed"}`, 204, ""},
		expectation{"PUT", "/accounts/nurse@example.org/password", r.romeo, `{"password":"changed"}`, 403, ""},
		expectation{"PUT", "/accounts/nobody@example.org/password", here, `{"password":"changed"}`, 404, ""},
		expectation{"GET", "/accounts?host=elsewhere.example", all, "", 404, ""},
		expectation{"GET", "/accounts?host=elsewhere.example", here, "", 403, ""},
		expectation{"GET", "/accounts?host=example.com", here, "", 403, ""},
		expectation{"GET", "/accounts", r.romeo, "", 403, ""},
		expectation{"GET", "/accounts?limit=0", all, "", 400, "query.limit"},
		expectation{"GET", "/accounts?limit=x", all, "", 400, "query.limit"},
		expectation{"GET", "/accounts?limit=1&limit=2", all, "", 400, "query.limit"},
		expectation{"GET", "/accounts?after=%21", all, "", 400, "query.after"},
		expectation{"GET", "/accounts?page=2", all, "", 400, "not known"},
		expectation{"DELETE", "/accounts/nurse@example.org", r.romeo, "", 403, ""},
		expectation{"DELETE", "/accounts/nurse@example.org", elsewhere, "", 403, ""},
		expectation{"PATCH", "/accounts/nurse@example.org", all, "", 405, ""},
	)
	if ok, err := r.users.Host("example.org").CheckPlain(t.Context(), "nurse", "changed"); err != nil || !ok {
		t.Errorf("the password was not changed: %v", err)
	}
	var names []string
	for after := ""; ; {
		var page Page[Account]
		rs, body := r.call("GET", "/api/v1/accounts?host=EXAMPLE.org&limit=2"+after, here, "", "")
		if err := json.Unmarshal([]byte(body), &page); err != nil || rs.StatusCode != 200 {
			t.Fatalf("%s %s", rs.Status, body)
		}
		for _, a := range page.Items {
			names = append(names, a.JID)
		}
		if page.Next == "" {
			break
		}
		after = "&after=" + page.Next
	}
	if got := strings.Join(names, " "); got != "juliet@example.org nurse@example.org romeo@example.org" {
		t.Errorf("listed %s", got)
	}
	r.expect(
		t,
		expectation{"DELETE", "/accounts/nurse@example.org", here, "", 204, ""},
		expectation{"DELETE", "/accounts/nurse@example.org", here, "", 404, ""},
		expectation{"GET", "/accounts/nurse@example.org", here, "", 404, ""},
		// What was done is in the audit log, what was refused too, and no password.
		expectation{"GET", "/audit?operation=user&limit=1", all, "", 200, `"operation":"user remove"`},
		expectation{"GET", "/audit?host=example.org", here, "", 200, `"password":"(hidden)"`},
		expectation{"GET", "/audit", here, "", 403, ""},
		expectation{"GET", "/audit?host=example.com", here, "", 403, ""},
		expectation{"GET", "/audit?since=yesterday", all, "", 400, "query.since"},
		expectation{"GET", "/stats", all, "", 200, `"stanzas_routed"`},
		expectation{"GET", "/stats", here, "", 200, `"hosts":[{"host":"example.org","accounts":2,`},
		expectation{"GET", "/stats", elsewhere, "", 200, `"hosts":[]`},
		expectation{"GET", "/stats", r.romeo, "", 403, ""},
	)
	if _, body := r.call("GET", "/api/v1/stats", here, "", ""); strings.Contains(body, "stanzas_routed") {
		t.Errorf("who administers a host is told %s", body)
	}
	if _, body := r.call("GET", "/api/v1/audit", all, "", ""); strings.Contains(body, "hunter2") {
		t.Errorf("the audit log holds %s", body)
	}
}

// A contact is put into the roster and taken out, as a client of the account would,
// and versions are heeded.
func TestRoster(t *testing.T) {
	r := whole(t)
	reads, here := r.scoped("read:romeo@example.org"), r.scoped("admin:example.org")
	const path = "/accounts/romeo@example.org/roster"
	const benvolio = `"jid":"benvolio@example.net","name":"Ben","groups":["Montague"],"subscription":"none","pending":false,"approved":false}`
	r.expect(
		t,
		expectation{"GET", path, reads, "", 200, `{"items":[]}`},
		expectation{"GET", path, r.any, "", 403, ""},
		expectation{"GET", "/accounts/nobody@example.org/roster", here, "", 404, ""},
		expectation{"PUT", path + "/benvolio@example.net", reads, `{"name":"Ben"}`, 403, ""},
		expectation{"PUT", path + "/benvolio@example.net", r.romeo, `{"name":"Ben","groups":["Montague"]}`, 201, benvolio},
		expectation{"PUT", path + "/benvolio@example.net", r.romeo, `{"name":"Ben","groups":["Montague"]}`, 200, benvolio},
		expectation{"PUT", path + "/benvolio@example.net", r.romeo, `{"name":"Ben","groups":["a","a"]}`, 422, "body.groups"},
		expectation{"PUT", path + "/gateway.example%2Fregistered", r.romeo, `{}`, 422, "bad-request"},
		expectation{"PUT", path + "/gateway.example", r.romeo, `{}`, 201, `"gateway.example"`},
		expectation{"PUT", path + "/no@one@at%20all", r.romeo, `{}`, 404, ""},
		expectation{"GET", path, reads, "", 200, benvolio},
		expectation{"GET", path + "?limit=1", reads, "", 200, `"next"`},
		expectation{"GET", path + "/benvolio@example.net", reads, "", 200, benvolio},
		expectation{"GET", path + "/mercutio@example.net", reads, "", 404, ""},
		expectation{"DELETE", path + "/mercutio@example.net", here, "", 404, ""},
		expectation{"DELETE", path + "/gateway.example", here, "", 204, ""},
	)
	rs, _ := r.call("GET", "/api/v1"+path+"/benvolio@example.net", reads, "", "")
	tag := rs.Header.Get("ETag")
	conditional := func(method, name, value, body string) int {
		t.Helper()
		rq, err := http.NewRequest(method, r.http.URL+"/api/v1"+path+"/benvolio@example.net", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Authorization", "Bearer "+here)
		rq.Header.Set("Content-Type", jsonType)
		rq.Header.Set(name, value)
		rs, err := r.http.Client().Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		rs.Body.Close()
		return rs.StatusCode
	}
	// RFC 9110 §13.1.
	for _, tt := range []struct {
		method, name, value, body string
		status                    int
	}{
		{"GET", "If-None-Match", tag, "", 304},
		{"GET", "If-None-Match", "W/" + tag, "", 304},
		{"GET", "If-None-Match", strings.TrimSuffix(tag, `"`) + `-gzip"`, "", 304},
		{"GET", "If-None-Match", `"other"`, "", 200},
		{"PUT", "If-None-Match", "*", `{}`, 412},
		{"PUT", "If-Match", `"other"`, `{}`, 412},
		{"PUT", "If-Match", "W/" + tag, `{}`, 412}, // weak ones never match strongly
		{"DELETE", "If-Match", `"other"`, "", 412},
		{"PUT", "If-Match", `"other", ` + tag, `{"name":"B."}`, 200},
		{"PUT", "If-Match", tag, `{"name":"C."}`, 412}, // it has another by now
		{"DELETE", "If-Match", "*", "", 204},
		{"PUT", "If-Match", "*", `{}`, 412},
		{"PUT", "If-None-Match", "*", `{}`, 201},
	} {
		if got := conditional(tt.method, tt.name, tt.value, tt.body); got != tt.status {
			t.Errorf("%s with %s: %s: %d, want %d", tt.method, tt.name, tt.value, got, tt.status)
		}
	}
}

// Archives are for those who may read what is the account's: to administer its host
// is not enough. Pages lead forwards and backwards.
func TestArchive(t *testing.T) {
	r := whole(t)
	r.online("juliet@example.org/balcony")
	for i := range 5 {
		if rs, body := r.post(r.romeo, fmt.Sprintf(`{"to":"juliet@example.org","body":"m%d"}`, i)); rs.StatusCode != 202 {
			t.Fatalf("%s %s", rs.Status, body)
		}
	}
	reads := r.scoped("read:juliet@example.org")
	const path = "/accounts/juliet@example.org/archive"
	page := func(query string) (bodies string, p ArchivePage) {
		t.Helper()
		rs, body := r.call("GET", "/api/v1"+path+query, reads, "", "")
		if err := json.Unmarshal([]byte(body), &p); err != nil || rs.StatusCode != 200 {
			t.Fatalf("%s: %s %s", query, rs.Status, body)
		}
		for _, it := range p.Items {
			bodies += it.Message.Body + " "
			if it.Sent || it.Message.From != "romeo@example.org" {
				t.Errorf("%+v", it)
			}
		}
		return bodies, p
	}
	got, p := page("?limit=2")
	if got != "m0 m1 " || p.Next == "" || p.Previous != "" {
		t.Errorf("the first page is %q %+v", got, p)
	}
	if got, p = page("?limit=2&after=" + p.Next); got != "m2 m3 " || p.Next == "" || p.Previous == "" {
		t.Errorf("the second page is %q %+v", got, p)
	}
	if got, _ = page("?limit=2&before=" + p.Previous); got != "m0 m1 " {
		t.Errorf("the page before is %q", got)
	}
	if got, p = page("?limit=2&before="); got != "m3 m4 " || p.Next != "" || p.Previous == "" {
		t.Errorf("the last page is %q %+v", got, p)
	}
	if got, _ = page("?limit=2&after=" + p.Items[0].ID + "&before="); got != "m4 " {
		t.Errorf("behind the fourth: %q", got)
	}
	if got, _ = page("?with=nurse@example.org"); got != "" {
		t.Errorf("of another conversation: %q", got)
	}
	if got, _ = page("?with=romeo@example.org&start=2000-01-01T00:00:00Z"); got != "m0 m1 m2 m3 m4 " {
		t.Errorf("of the conversation: %q", got)
	}
	r.expect(
		t,
		expectation{"GET", path, r.romeo, "", 403, ""},
		expectation{"GET", path, r.scoped("admin:*"), "", 403, ""},
		expectation{"GET", "/accounts/nobody@example.org/archive", r.scoped("read:example.org"), "", 404, ""},
		expectation{"GET", path + "?after=123", reads, "", 404, "item-not-found"},
		expectation{"GET", path + "?with=no@one@at", reads, "", 400, "query.with"},
		expectation{"GET", path + "?start=now", reads, "", 400, "query.start"},
		expectation{"GET", path + "?q=love", reads, "", 501, "feature-not-implemented"},
	)
	if ok, err := r.users.Exists(t.Context(), jid.Must("juliet@example.org")); err != nil || !ok {
		t.Fatal(err)
	}
}
