package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"trivium/core/mod/modtest"
	"trivium/core/mod/ping"
	"trivium/core/stanza"
)

func TestPostStanza(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	const full = "juliet@example.org/balcony"
	for _, tt := range []struct{ name, token, in, want string }{
		{
			"message", r.romeo, `<message to='` + full + `' type='chat' id='1'><body>hi</body></message>`,
			`<message from='romeo@example.org' to='` + full + `' type='chat' id='1'><body>hi</body></message>`,
		},
		{
			"error", r.any, `<message from='a@bots.example.org' to='` + full + `' type='error' id='2'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`,
			`<message from='a@bots.example.org' to='` + full + `' type='error' id='2'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`,
		},
		{
			"presence", r.any, `<presence xmlns='jabber:client' from='a@bots.example.org/x' to='` + full + `'><show>away</show></presence>`,
			`<presence from='a@bots.example.org/x' to='` + full + `'><show>away</show></presence>`,
		},
		{
			"iq", r.any, `<iq from='bots.example.org' to='` + full + `' type='get' id='3'><ping xmlns='urn:xmpp:ping'/></iq>`,
			`<iq from='bots.example.org' to='` + full + `' type='get' id='3'><ping xmlns='urn:xmpp:ping'/></iq>`,
		},
		{
			"result", r.any, `<iq from='bots.example.org' to='` + full + `' type='result' id='4'/>`,
			`<iq from='bots.example.org' to='` + full + `' type='result' id='4'/>`,
		},
	} {
		rs, body := r.with(http.MethodPost, "/stanzas", tt.token, xmlType, tt.in)
		if rs.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %s %s", tt.name, rs.Status, body)
		}
		juliet.Expect(tt.want)
	}
	for _, tt := range []struct {
		name, token, ct, in string
		status              int
	}{
		{"JSON", r.romeo, jsonType, hello, 415},
		{"other sender", r.romeo, xmlType, `<presence from='canary@example.org' to='` + full + `'/>`, 403},
		{"other domain", r.any, xmlType, `<presence from='a@example.org' to='` + full + `'/>`, 403},
		{"no recipient", r.romeo, xmlType, `<presence/>`, 422},
		{"no stanza", r.romeo, xmlType, `<canary to='` + full + `'/>`, 422},
		{"iq without id", r.romeo, xmlType, `<iq to='` + full + `' type='get'><ping xmlns='urn:xmpp:ping'/></iq>`, 422},
		{"iq with two", r.romeo, xmlType, `<iq to='` + full + `' type='get' id='1'><a xmlns='u'/><b xmlns='u'/></iq>`, 422},
		{"iq without type", r.romeo, xmlType, `<iq to='` + full + `' id='1'/>`, 422},
		{"presence type", r.romeo, xmlType, `<presence to='` + full + `' type='canary'/>`, 422},
		{"error without", r.romeo, xmlType, `<message to='` + full + `' type='error'/>`, 422},
		{"two", r.romeo, xmlType, `<presence to='` + full + `'/><presence to='` + full + `'/>`, 422},
		{"not XML", r.romeo, xmlType, `canary`, 422},
	} {
		rs, body := r.with(http.MethodPost, "/stanzas", tt.token, tt.ct, tt.in)
		t.Log(tt.name)
		problemIn(t, rs, body, tt.status)
	}
	juliet.Quiet()
}

func TestIQ(t *testing.T) {
	r, _ := newSending(t, Options{}, new(ping.Module))
	answer := func(body string) IQAnswer {
		t.Helper()
		rs, out := r.with(http.MethodPost, "/iq", r.romeo, jsonType, body)
		var a IQAnswer
		if rs.StatusCode != http.StatusOK || json.Unmarshal([]byte(out), &a) != nil {
			t.Fatalf("%s: %s", rs.Status, out)
		}
		return a
	}
	const pong = `"type":"get","payload":"<ping xmlns='urn:xmpp:ping'/>"`
	if a := answer(`{"to":"example.org",` + pong + `}`); a.From != "example.org" || a.Type != "result" || a.Payload != "" {
		t.Errorf("%+v", a)
	}
	// A device answers.
	juliet := r.online("juliet@example.org/balcony")
	done := make(chan IQAnswer)
	go func() {
		done <- answer(`{"from":"romeo@example.org/api","to":"juliet@example.org/balcony","type":"get","payload":"<q xmlns='u'/>"}`)
	}()
	for {
		got := juliet.Take()
		if len(got) == 0 {
			continue
		}
		st := modtest.Parse(t, got[0])
		if d := modtest.Diff(`<iq from='romeo@example.org/api' to='juliet@example.org/balcony' type='get'><q xmlns='u'/></iq>`, got[0]); d != "" {
			t.Error(d)
		}
		juliet.Send(`<iq type='result' id='` + st.ID + `' to='romeo@example.org/api' xmlns:p='v'><q xmlns='u'><p:r/></q></iq>`)
		break
	}
	a := <-done
	if el, err := stanza.ParseElement(a.Payload); err != nil || !el.Is("u", "q") || el.Child("v", "r") == nil || a.From != "juliet@example.org/balcony" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, tt := range []struct {
		name, token, in string
		status          int
		condition       string
	}{
		{"unknown", r.romeo, `{"to":"example.org","type":"get","payload":"<canary xmlns='u'/>"}`, 404, "service-unavailable"},
		{"nobody", r.romeo, `{"to":"juliet@unreachable.example",` + pong + `}`, 404, "remote-server-not-found"},
		{"forged", r.romeo, `{"from":"juliet@example.org","to":"example.org",` + pong + `}`, 403, ""},
		{"two elements", r.romeo, `{"to":"example.org","type":"get","payload":"<a xmlns='u'/><b xmlns='u'/>"}`, 422, ""},
		{"way out", r.romeo, `{"to":"example.org","type":"get","payload":"<a xmlns='u'/></iq><iq type='get' id='canary'><a xmlns='u'/>"}`, 422, ""},
		{"text", r.romeo, `{"to":"example.org","type":"get","payload":"canary<a xmlns='u'/>"}`, 422, ""},
		{"type", r.romeo, `{"to":"example.org","type":"result","payload":"<a xmlns='u'/>"}`, 422, ""},
		{"address", r.romeo, `{"to":"@canary","type":"get","payload":"<a xmlns='u'/>"}`, 422, ""},
		{"too late", r.any, `{"from":"a@bots.example.org","to":"b@bots.example.org","timeout":0.1,` + pong + `}`, 504, ""},
	} {
		rs, body := r.with(http.MethodPost, "/iq", tt.token, jsonType, tt.in)
		t.Log(tt.name)
		if p := problemIn(t, rs, body, tt.status); p.Condition != tt.condition {
			t.Errorf("%s: %s", tt.name, body)
		}
	}
}

func TestSubscriptions(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	for _, typ := range []string{"subscribe", "subscribed", "unsubscribe", "unsubscribed"} {
		rs, body := r.with(http.MethodPost, "/subscriptions", r.any, jsonType,
			`{"from":"a@bots.example.org/x","to":"juliet@example.org/balcony","type":"`+typ+`","status":"it's me","id":"s"}`)
		if a := accepted(t, rs, body); a.To != "juliet@example.org" || a.ID != "s" {
			t.Error(body)
		}
		got := juliet.Take()
		if len(got) != 1 {
			t.Fatalf("%s: %q", typ, got)
		}
		if d := modtest.Diff(`<presence from='a@bots.example.org' to='juliet@example.org' type='`+typ+`' id='s'><status>it's me</status></presence>`, got[0]); d != "" {
			t.Error(d)
		}
	}
	for in, status := range map[string]int{
		`{"to":"juliet@example.org","type":"probe","from":"a@bots.example.org"}`:                           422,
		`{"to":"juliet@example.org","type":"subscribe","from":"canary@example.org"}`:                       403,
		`{"to":"juliet@example.org","type":"subscribe"}`:                                                   422,
		`{"to":"@canary","type":"subscribe","from":"a@bots.example.org"}`:                                  422,
		`{"to":"juliet@example.org","type":"subscribe","from":"a@bots.example.org","status":"\u0000"}`:     422,
		`{"to":"juliet@unreachable.example","type":"subscribe","from":"a@bots.example.org"}`:               404,
		`{"to":"juliet@example.org","type":"subscribe","from":"a@bots.example.org","extensions":"canary"}`: 422,
	} {
		rs, body := r.with(http.MethodPost, "/subscriptions", r.any, jsonType, in)
		t.Log(in)
		problemIn(t, rs, body, status)
	}
	juliet.Quiet()

	// Pages.
	var all []string
	for query := "?limit=30&jid=a@bots.example.org"; query != ""; {
		rs, body := r.with(http.MethodGet, "/subscriptions"+query, r.any, "", "")
		var page Page[Subscription]
		if rs.StatusCode != http.StatusOK || json.Unmarshal([]byte(body), &page) != nil {
			t.Fatalf("%s: %s", rs.Status, body)
		}
		for _, s := range page.Items {
			all = append(all, s.JID)
		}
		if query = ""; page.Next != "" {
			query = "?limit=30&jid=a@bots.example.org&after=" + url.QueryEscape(page.Next)
		}
	}
	if len(all) != 100 || all[99] != "c99@bots.example.org" {
		t.Errorf("%d: %q", len(all), all)
	}
	for query, status := range map[string]int{"": 400, "?jid=@": 400, "?jid=juliet@example.org": 403, "?jid=a@bots.example.org&after=!": 400} {
		rs, body := r.with(http.MethodGet, "/subscriptions"+query, r.any, "", "")
		problemIn(t, rs, body, status)
	}
}

func TestPresence(t *testing.T) {
	r, _ := newSending(t, Options{})
	const at = "/presence/a@bots.example.org"
	state := func(path, want string) string {
		t.Helper()
		rs, body := r.with(http.MethodGet, path, r.any, "", "")
		if rs.StatusCode != http.StatusOK || body != want {
			t.Fatalf("%s: %s\nwant %s", rs.Status, body, want)
		}
		return rs.Header.Get("ETag")
	}
	state(at, `{"jid":"a@bots.example.org","available":false,"resources":[]}`)
	empty := state(at+"/x/y", `{"jid":"a@bots.example.org/x/y","available":false,"resources":[]}`)
	put := func(path, ct, body string, status int, header ...string) (string, string) {
		t.Helper()
		rs, out := r.with(http.MethodPut, path, r.any, ct, body, header...)
		if rs.StatusCode != status {
			t.Fatalf("%s: %s", rs.Status, out)
		}
		if status >= 400 {
			problemIn(t, rs, out, status)
		}
		return rs.Header.Get("ETag"), out
	}
	tag, out := put(at+"/x/y", jsonType, `{"show":"away","status":"out <b>","statuses":{"de":"weg"},"lang":"en","priority":5}`, 200, "If-Match", empty+`, "other"`)
	if want := `{"jid":"a@bots.example.org/x/y","available":true,"resources":[{"jid":"a@bots.example.org/x/y","show":"away","status":"out <b>","statuses":{"de":"weg"},"lang":"en","priority":5}]}`; out != want || tag == empty {
		t.Errorf("%s\nwant %s", out, want)
	}
	// RFC 9110 §13.1.1.
	put(at+"/x/y", jsonType, `{}`, 412, "If-Match", empty)
	put(at+"/x/y", jsonType, `{}`, 412, "If-None-Match", "*")
	next, _ := put(at+"/x/y", jsonType, `{"show":"dnd"}`, 200, "If-Match", tag)
	put(at+"/x/y", jsonType, `{}`, 412, "If-Match", tag)
	rs, _ := r.with(http.MethodGet, at+"/x/y", r.any, "", "", "If-None-Match", next)
	if rs.StatusCode != http.StatusNotModified {
		t.Error(rs.Status)
	}

	// As a document (RFC 3863), both ways.
	const head = `<?xml version='1.0' encoding='UTF-8'?><presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:a@bots.example.org'>`
	tuple := func(id, basic, more string) string {
		return `<tuple id='` + id + `'><status><basic>` + basic + `</basic></status>` + more + `</tuple>`
	}
	_, out = put(at, pidfType, head+tuple("ID-one", "open", `<note>here</note>`)+tuple("ID-two", "open", ``)+`</presence>`, 200)
	if want := `{"jid":"a@bots.example.org","available":true,"resources":[{"jid":"a@bots.example.org/one","status":"here"},{"jid":"a@bots.example.org/two"}]}`; out != want {
		t.Errorf("%s\nwant %s", out, want)
	}
	rs, doc := r.with(http.MethodGet, at, r.any, "", "", "Accept", pidfType)
	if rs.Header.Get("Content-Type") != pidfType || !strings.Contains(doc, "here") || strings.Contains(doc, "timestamp") {
		t.Errorf("%s: %s", rs.Status, doc)
	}
	docTag := rs.Header.Get("ETag")
	if rs, _ := r.with(http.MethodGet, at, r.any, "", "", "Accept", pidfType, "If-None-Match", docTag); rs.StatusCode != http.StatusNotModified {
		t.Error(rs.Status)
	}
	// What was told is what may be sent.
	_, out = put(at, pidfType, doc, 200, "If-Match", docTag, "Accept", pidfType)
	if out != doc {
		t.Errorf("%s\nwant %s", out, doc)
	}
	// Of a full address, its tuple.
	put(at+"/two", pidfType, head+tuple("ID-one", "open", ``)+tuple("ID-two", "closed", ``)+`</presence>`, 200)
	state(at, `{"jid":"a@bots.example.org","available":true,"resources":[{"jid":"a@bots.example.org/one","status":"here"}]}`)
	put(at+"/three", pidfType, head+tuple("ID-one", "open", ``)+tuple("ID-two", "open", ``)+`</presence>`, 422)
	put(at, pidfType, strings.Replace(head, "a@", "canary@", 1)+tuple("t", "open", ``)+`</presence>`, 400)
	put(at, pidfType, `canary`, 400)

	for in, status := range map[string]int{
		`{"show":"canary"}`: 422, `{"priority":128}`: 422, `{"priority":"canary"}`: 422, `{"status":"\u0000"}`: 422, `{"statuses":{"c_":"x"}}`: 422,
		`{"status":"x","lang":"en","statuses":{"EN":"y"}}`: 422, `{"lang":"?"}`: 422, `{"extensions":"canary"}`: 422, `{"extensions":"</presence><presence>"}`: 422,
		`{"available":false,"show":"away"}`: 422, `{"canary":1}`: 422, `canary`: 400, `[]`: 400,
	} {
		t.Log(in)
		put(at, jsonType, in, status)
	}
	put(at, "text/canary", `{}`, 415)
	put("/presence/canary@example.org", jsonType, `{}`, 403)
	put("/presence/@", jsonType, `{}`, 404)
	rs, body := r.with(http.MethodPut, at, r.any, jsonType, `{}`, "Accept", "image/png")
	problemIn(t, rs, body, 406)

	put(at+"/one", jsonType, `{"available":false}`, 200)
	state(at, `{"jid":"a@bots.example.org","available":false,"resources":[]}`)
	put(at+"/x", jsonType, `{"extensions":"<x xmlns='u'/>"}`, 200)
	for range 2 { // as often as one likes
		if rs, body := r.with(http.MethodDelete, at+"/x", r.any, "", ""); rs.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %s", rs.Status, body)
		}
	}
	rs, body = r.with(http.MethodDelete, at+"/x", r.romeo, "", "")
	problemIn(t, rs, body, 403)
	rs, body = r.with(http.MethodGet, at, r.romeo, "", "")
	problemIn(t, rs, body, 403)
	rs, body = r.with(http.MethodPut, "/presence/nobody@bots.example.org", r.any, jsonType, `{}`)
	if p := problemIn(t, rs, body, 404); p.Condition != "item-not-found" {
		t.Error(body)
	}
	state(fmt.Sprintf("/presence/%s", url.PathEscape("b@bots.example.org/x y")), `{"jid":"b@bots.example.org/x y","available":false,"resources":[]}`)
}

// Requests to somebody who does not answer are bounded, for each token.
func TestAsksAreBounded(t *testing.T) {
	silent := make(chan struct{})
	asked := make(chan struct{}, maxAsks)
	r := newREST(t, Options{Ask: func(ctx context.Context, st *stanza.Stanza) (*stanza.Stanza, error) {
		if st.To.Local() == "juliet" {
			return st.Result(nil), nil
		}
		asked <- struct{}{}
		select {
		case <-silent:
		case <-ctx.Done():
		}
		return nil, context.DeadlineExceeded
	}})
	other := r.token("romeo@example.org")
	token, err := r.users.CheckToken(t.Context(), r.romeo)
	if err != nil {
		t.Fatal(err)
	}
	for range maxAsks - 1 { // as if they had come by as many connections
		end, _ := r.api.asks.begin(token.ID, maxAsks)
		defer end()
	}
	ask := func(token, to string) int {
		rs, _ := r.call(http.MethodPost, "/api/v1/iq", token, jsonType, `{"to":"`+to+`","type":"get","payload":"<ping xmlns='urn:xmpp:ping'/>"}`)
		return rs.StatusCode
	}
	done := make(chan int)
	go func() { done <- ask(r.romeo, "a@bots.example.org") }()
	<-asked
	if got := ask(r.romeo, "juliet@example.org"); got != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", got)
	}
	if got := ask(other, "juliet@example.org"); got != http.StatusOK {
		t.Errorf("another token: %d", got)
	}
	close(silent)
	if got := <-done; got != http.StatusGatewayTimeout {
		t.Errorf("no answer: %d", got)
	}
	if got := ask(r.romeo, "juliet@example.org"); got != http.StatusOK {
		t.Errorf("after that: %d", got)
	}
}
