package hostile

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"trivium/test/harness"

	"trivium/httpapi/event"
	"trivium/httpapi/webhook"
)

// here logs somebody in who sees what comes.
func here(t *testing.T, p *programs, user string) *harness.Client {
	t.Helper()
	c := login(t, p.Server, "tcp", user, "here")
	must(t, c.Send("<presence/>"))
	alive(t, c)
	return c
}

// quiet checks that somebody has got no message, presence of others or request.
func quiet(t *testing.T, c *harness.Client) {
	t.Helper()
	alive(t, c)
	for _, n := range c.Drain() {
		if from := n.Attr("from"); !strings.HasPrefix(from, c.JID[:strings.IndexByte(c.JID, '/')]) {
			t.Errorf("%s got %s", c.JID, n)
		}
	}
}

const (
	asJSON, asXML, asCPIM, asLines = "application/json", "application/xml", "message/cpim", "application/x-ndjson"
	asForm                         = "multipart/form-data; boundary=b"
)

// A token speaks for whom it was made for, whatever road it takes.
func TestNobodyElsesVoice(t *testing.T) {
	p := startPrograms(t)
	juliet, romeo := here(t, p, "juliet"), here(t, p, "romeo")
	juliet.Drain()
	form := func(message string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"message\"\r\n\r\n" + message +
			"\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"evil\"\r\n\r\nevil\r\n--b--\r\n"
	}
	cpim := func(from string) string {
		return "From: " + from + "\r\nTo: <im:juliet@example.org>\r\n\r\nContent-Type: text/plain\r\n\r\nevil"
	}
	to := `"to":"juliet@example.org","body":"evil"`
	for _, scopes := range []string{
		"send:mallory@example.org read:mallory@example.org", "send:mallory@example.org/bot", "read:example.org", "admin:example.org", "admin:" + goodDomain,
		"send:" + evilDomain + " read:" + evilDomain, "send:m*@example.org", "send:*@" + evilDomain + " read:*@" + goodDomain,
	} {
		token := p.token(scopes)
		for _, from := range []string{
			"romeo@example.org", "romeo@example.org/here", "ROMEO@EXAMPLE.ORG", "juliet@example.org", "example.org", "someone@" + goodDomain, goodDomain,
			"nobody@example.org", "somebody@elsewhere.example", "mallory@example.org@example.org", "", "@example.org", "ｍallory@example.org/x@romeo",
		} {
			q, x := string(must2(json.Marshal(from))), strings.NewReplacer("'", "", "<", "").Replace(from)
			path := url.PathEscape(from)
			for _, a := range []struct{ method, path, media, body string }{
				{"POST", "/messages", asJSON, `{"from":` + q + `,` + to + `}`},
				{"POST", "/messages", asJSON, `{"from":"mallory@example.org",` + to + `,"from":` + q + `}`},
				{"POST", "/messages", asJSON, `{"from":"mallory@example.org",` + to + `,"FROM":` + q + `}`},
				{"POST", "/messages", asXML, `<message from='` + x + `' to='juliet@example.org' type='chat'><body>evil</body></message>`},
				{"POST", "/messages", asCPIM, cpim("<im:" + from + ">")},
				{"POST", "/messages", asCPIM, cpim("Mallory <im:mallory@example.org>\r\nFrom: <im:" + from + ">")},
				{"POST", "/messages", asForm, form(`{"from":` + q + `,` + to + `}`)},
				{"POST", "/messages/batch", asLines, `{"from":` + q + `,` + to + "}\n"},
				{"POST", "/stanzas", asXML, `<message from='` + x + `' to='juliet@example.org/here' type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`},
				{"POST", "/stanzas", asXML, `<iq from='` + x + `' to='juliet@example.org/here' type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='evil@example.org'/></query></iq>`},
				{"POST", "/stanzas", asXML, `<iq from='` + x + `' to='juliet@example.org/here' type='result' id='1'/>`},
				{"POST", "/stanzas", asXML, `<presence from='` + x + `' to='juliet@example.org/here'/>`},
				{"POST", "/stanzas", asXML, `<presence from='` + x + `' to='juliet@example.org' type='subscribed'/>`},
				{"POST", "/stanzas", asXML, `<presence from='` + x + `' to='juliet@example.org' type='probe'/>`},
				{"POST", "/iq", asJSON, `{"from":` + q + `,"to":"juliet@example.org/here","type":"set","payload":"<evil xmlns='evil'/>"}`},
				{"POST", "/iq", asJSON, `{"from":` + q + `,"type":"set","payload":"<query xmlns='jabber:iq:roster'><item jid='evil@example.org'/></query>"}`},
				{"POST", "/subscriptions", asJSON, `{"from":` + q + `,"to":"juliet@example.org","type":"subscribed"}`},
				{"PUT", "/presence/" + path, asJSON, `{"status":"evil"}`},
				{"PUT", "/presence/" + path + "%2Fevil", asJSON, `{"status":"evil"}`},
				{"DELETE", "/presence/" + path, "", ""},
				{"PUT", "/accounts/" + path + "/roster/evil@example.org", asJSON, `{}`},
				{"PUT", "/gateways/" + path, asJSON, `{"type":"sms"}`},
				{"POST", "/events/ack", asJSON, `{"host":` + q + `,"id":"evt_1"}`},
			} {
				mine := (from == "" || strings.HasPrefix(from, "ｍallory")) && strings.Contains(scopes, "send:m")
				if mine || strings.Contains(scopes, "admin:example.org") && strings.Contains(a.path, "/roster/") && strings.HasSuffix(strings.ToLower(from), "@example.org") {
					continue // its own voice, or its own host
				}
				if strings.HasSuffix(scopes, "admin:"+goodDomain) && strings.HasPrefix(a.path, "/gateways/") {
					continue
				}
				status, body := p.call(a.method, "/api/v1"+a.path, token, a.media, a.body)
				refused := status >= 400 && status < 500
				if a.path == "/messages/batch" {
					refused = status == 200 && !strings.Contains(body, `"status":202`) && strings.Contains(body, `"status":4`)
				}
				if !refused {
					t.Errorf("%s as %q: %s %s %.120s: %d %.200s", scopes, from, a.method, a.path, a.body, status, body)
				}
			}
		}
	}
	quiet(t, juliet)
	quiet(t, romeo)
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What a token may not read it does not see, by any list, stream or state.
func TestNobodyElsesEyes(t *testing.T) {
	p := startPrograms(t)
	juliet := p.token("send:juliet@example.org read:juliet@example.org")
	status, body := p.call("POST", "/api/v1/messages", juliet, asJSON, `{"to":"a@`+goodDomain+`","body":"canary","id":"canary1","track":true}`, "Idempotency-Key", "canary-key")
	if status != http.StatusAccepted {
		t.Fatal(status, body)
	}
	must(t, p.Core.Store.Sync(t.Context()))
	if _, body := p.call("GET", "/api/v1/events?after=start", juliet, "", ""); !strings.Contains(body, "canary") {
		t.Fatalf("juliet does not see her own: %s", body)
	}
	for _, scopes := range []string{
		"send:mallory@example.org read:mallory@example.org", "read:" + evilDomain + " send:" + evilDomain, "send:" + goodDomain, "read:a*@" + evilDomain, "admin:" + evilDomain,
	} {
		token := p.token(scopes)
		for _, path := range []string{
			"/events?after=start", "/events?after=start&host=" + goodDomain, "/events?after=start&jid=juliet@example.org", "/events?after=evt_1&host=" + goodDomain, "/messages/canary1",
			"/messages/canary1?from=juliet@example.org", "/accounts/juliet@example.org/archive", "/accounts/juliet@example.org/roster", "/accounts/juliet@example.org", "/presence/juliet@example.org",
			"/subscriptions?jid=juliet@example.org", "/gateways/" + goodDomain + "/registrations/juliet@example.org", "/tokens", "/audit", "/stats", "/accounts", "/webhooks", "/accounts/juliet@example.org/sessions",
		} {
			if status, body := p.call("GET", "/api/v1"+path, token, "", ""); strings.Contains(body, "canary") || strings.Contains(body, "juliet") || strings.Contains(body, "trv_") {
				t.Errorf("%s sees by %s: %d %.300s", scopes, path, status, body)
			}
		}
		// Her key is not his.
		status, body := p.call("POST", "/api/v1/messages", token, asJSON, `{"from":"juliet@example.org","to":"a@`+goodDomain+`","body":"canary","id":"canary1","track":true}`, "Idempotency-Key", "canary-key")
		if status != http.StatusForbidden || strings.Contains(body, "canary") {
			t.Errorf("%s by her key: %d %s", scopes, status, body)
		}
	}
}

// The answer to a request is that of whom was asked, however well somebody else knows
// the request.
func TestForgedAnswer(t *testing.T) {
	p := startPrograms(t)
	juliet, mallory := here(t, p, "juliet"), here(t, p, "mallory")
	juliet.Drain()
	token, evil := p.token("send:juliet@example.org"), p.token("send:"+evilDomain+" send:mallory@example.org")
	type result struct {
		status int
		body   string
	}
	answer := make(chan result, 1)
	go func() {
		status, body := p.call("POST", "/api/v1/iq", token, asJSON, `{"to":"juliet@example.org/here","type":"get","payload":"<who xmlns='urn:x'/>"}`)
		answer <- result{status, body}
	}()
	var id string
	for id == "" {
		n, err := juliet.Next()
		if err != nil {
			t.Fatal(err, <-answer)
		}
		if n.Name.Local == "iq" && n.Attr("type") == "get" {
			id = n.Attr("id")
		}
	}
	forged := `<iq type='result' to='juliet@example.org/rest' id='` + id + `'%s><forged xmlns='urn:x'/></iq>`
	must(t, mallory.Send(fmt.Sprintf(forged, "")))
	alive(t, mallory)
	for _, from := range []string{"mallory@example.org", evilDomain, "juliet@" + evilDomain, "juliet@example.org/here"} {
		p.call("POST", "/api/v1/stanzas", evil, asXML, fmt.Sprintf(forged, " from='"+from+"'"))
	}
	select {
	case r := <-answer:
		t.Fatalf("a forged answer was taken: %v", r)
	default:
	}
	must(t, juliet.Send(`<iq type='result' to='juliet@example.org/rest' id='`+id+`'><true xmlns='urn:x'/></iq>`))
	if r := <-answer; r.status != http.StatusOK || !strings.Contains(r.body, "true") || strings.Contains(r.body, "forged") {
		t.Errorf("%v", r)
	}
	must(t, juliet.Send(`<iq type='result' to='juliet@example.org/rest' id='`+id+`'><again xmlns='urn:x'/></iq>`)) // nobody waits
	alive(t, juliet)
}

// A webhook answers for the addresses of its gateway and for nobody else, and what it
// answers cannot break anything.
func TestWebhookThatLies(t *testing.T) {
	const iq = "application/xml"
	answers := []struct{ media, body string }{
		{asJSON, `{"reply":{"from":"romeo@example.org","body":"evil"}}`},
		{asJSON, `{"reply":{"from":"someone@` + goodDomain + `","body":"evil"}}`},
		{asJSON, `{"reply":{"from":"example.org","body":"evil"}}`},
		{asJSON, `{"reply":{"from":"juliet@example.org","to":"juliet@example.org","body":"evil"}}`},
		{asJSON, `{"messages":[{"from":"romeo@example.org","body":"evil"},{"from":"x@` + goodDomain + `","body":"evil"}]}`},
		{asXML, `<message from='romeo@example.org'><body>evil</body></message>`},
		{asXML, `<message from='x@` + goodDomain + `' type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`},
		{asXML, `<presence from='romeo@example.org' type='subscribed'/>`},
		{asXML, `<presence from='romeo@example.org' type='unsubscribed'/>`},
		{iq, `<iq type='set' id='1' from='juliet@example.org'><query xmlns='jabber:iq:roster'><item jid='evil@example.org' subscription='both'/></query></iq>`},
		{iq, `<iq type='get' id='1'><evil xmlns='evil'/></iq>`},
		{iq, `<iq type='result' id='1' from='example.org'/>`},
		{asCPIM, "From: <im:romeo@example.org>\r\nTo: <im:juliet@example.org>\r\n\r\nContent-Type: text/plain\r\n\r\nevil"},
		{asCPIM, "From: <im:x@" + goodDomain + ">\r\nTo: <im:juliet@example.org>\r\n\r\nContent-Type: text/plain\r\n\r\nevil"},
		{asXML, `<message><body>evil</body></message><message><body>evil</body></message>`},
		{asXML, `<!DOCTYPE a [<!ENTITY b "evil">]><message><body>&b;</body></message>`},
		{asXML, "<message><body>evil\x01</body></message>"},
		{asJSON, `{"reply":{"body":"evil","extensions":"</message><message from='romeo@example.org'><body>evil</body>"}}`},
		{asJSON, `{"reply":{"body":"evil\u0000"}}`},
		{asJSON, "\xff\xfe{evil"},
		{asJSON, strings.Repeat("[", 100000)},
		{asJSON, `{"reply":` + strings.Repeat(`{"reply":`, 5000)},
		{asJSON, `{"reply":{"body":"` + strings.Repeat("evil", 100000) + `"}}`},
		{"text/plain; charset=evil\x00", "\xc3"},
		{"multipart/mixed", "evil"},
		{asJSON, `{"error":{"condition":"evil"}}`},
		{asJSON, `{"error":{"condition":"gone","text":"\u0001evil"}}`},
	}
	var next atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(next.Add(1)) - 1
		if i >= len(answers) {
			w.Header().Set("Content-Type", asJSON)
			_, _ = w.Write([]byte(`{"reply":{"body":"the end"}}`))
			return
		}
		w.Header()["Content-Type"] = []string{strings.ReplaceAll(answers[i].media, "\x00", "")}
		_, _ = w.Write([]byte(answers[i].body))
	}))
	t.Cleanup(app.Close)
	p := startPrograms(t, webhook.Endpoint{
		Name: "evil", URL: app.URL + "/canary", Domains: []string{evilDomain}, AllowPrivate: true,
		Keys: []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmn"))}, Filter: event.Filter{Types: []event.Type{event.Message}},
	})
	juliet, romeo := here(t, p, "juliet"), here(t, p, "romeo")
	for i := range len(answers) + 1 {
		must(t, juliet.Send(fmt.Sprintf("<message to='x@%s' type='chat' id='%d'><body>hello</body></message>", evilDomain, i)))
	}
	for ended := false; !ended; {
		n, err := juliet.Next()
		must(t, err)
		from := n.Attr("from")
		if strings.HasPrefix(from, "juliet@example.org") && n.Name.Local == "presence" {
			continue
		}
		if from != "x@"+evilDomain || strings.Contains(n.String(), "evil</body>") {
			t.Errorf("juliet got %.300s", n)
		}
		body := n.Child(harness.NSClient, "body")
		ended = body != nil && body.Text == "the end"
	}
	quiet(t, romeo)
	if log := p.log.String(); strings.Contains(log, "canary") || strings.Contains(log, "whsec_") {
		t.Error("the log holds the URL or the key of a webhook")
	}
}

// Every route takes every method, odd paths, odd bodies and odd types; nothing of them
// is the server's fault, breaks it, or gets into its log.
func TestEveryRoute(t *testing.T) {
	p := startPrograms(t)
	token := p.token("admin:example.org send:mallory@example.org read:mallory@example.org send:" + evilDomain + " read:" + evilDomain)
	_, raw := p.call("GET", "/api/v1/openapi.json", "", "", "")
	var doc struct{ Paths map[string]map[string]any }
	must(t, json.Unmarshal([]byte(raw), &doc))
	if len(doc.Paths) < 30 {
		t.Fatalf("%d paths", len(doc.Paths))
	}
	odd := []string{
		"%00", "%2F", "%2E%2E%2F", "canary%0D%0ASet-Cookie:x", "%FF%FE", "mallory@example.org%00", "*@*.*", "*%2A*@" + evilDomain, "%E2%80%AE@example.org", "a@%5B::1%5D",
		"127.0.0.1", "upload.example.org", "example.org", "xn--caf-dma.example", "caf%C3%A9.example", strings.Repeat("a", 3000), "%F0%9F%92%A9@example.org", "a@b@c/d@e", "MALLORY@EXAMPLE.ORG/%C2%A0",
	}
	bodies := []struct{ media, body string }{
		{"", ""}, {asJSON, `{"canary":"canary"}`}, {asJSON, "\x00"}, {asXML, "<canary"}, {asCPIM, "canary"}, {asForm, "--b\r\n"}, {asLines, "canary\n"}, {"canary/canary; q", "canary"}, {"application/json; charset=utf-16", "{}"},
	}
	last := 0
	for path := range doc.Paths {
		for i, o := range odd {
			at := path
			for strings.Contains(at, "{") {
				at = at[:strings.IndexByte(at, '{')] + o + at[strings.IndexByte(at, '}')+1:]
			}
			if i > 0 && at == path {
				break
			}
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CANARY"} {
				b := bodies[last%len(bodies)]
				last++
				if method == "POST" && strings.HasSuffix(path, "/tokens") {
					continue // makes what it may make
				}
				status, body := p.call(method, "/api/v1"+at, token, b.media, b.body, "Idempotency-Key", "canary"+fmt.Sprint(last), "Last-Event-ID", "canary", "If-Match", `"canary`, "Traceparent", "canary", "Content-Encoding", []string{"", "gzip", "identity", "br"}[last%4])
				if status >= 500 && status != http.StatusNotImplemented {
					t.Errorf("%s %.80s %s: %d %.200s", method, at, b.media, status, body)
				}
				if status >= 400 && strings.Contains(body, "canary") {
					t.Errorf("%s %.80s repeats: %.300s", method, at, body)
				}
			}
		}
	}
	log := p.log.String()
	for _, word := range []string{"panicked", "level=ERROR", "trv_", "canary"} {
		if i := strings.Index(log, word); i >= 0 {
			t.Errorf("the log holds %q: %.400s", word, log[max(0, i-200):])
		}
	}
}
