package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
	"trivium/httpapi/webhook"
)

// rest is a server of example.org with juliet and romeo, a REST interface and
// tokens.
type rest struct {
	*modtest.Server
	t     testing.TB
	api   *API
	http  *httptest.Server
	users *auth.Service
	romeo string // token of romeo@example.org
	any   string // token of the whole domain bots.example.org

	// Of whole.
	events   *event.Log
	hooks    *webhook.Service
	gateways *gateway.Registry
}

// domain is a gateway domain that takes nothing.
type domain struct{}

func (domain) Handle(context.Context, *module.Packet) error { return nil }

func newREST(t testing.TB, o Options, mods ...module.Module) *rest {
	t.Helper()
	return newRESTWith(t, func(*rest) Options { return o }, mods...)
}

// newRESTWith is newREST with options that need the server.
func newRESTWith(t testing.TB, options func(*rest) Options, mods ...module.Module) *rest {
	t.Helper()
	s := modtest.New(t, mods...)
	users, err := auth.New(s.Store, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, name := range []string{"romeo", "juliet"} {
		if err := users.CreateAccount(ctx, jid.Must(name+"@example.org"), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	s.Router.Serve("bots.example.org", domain{})
	r := &rest{Server: s, t: t, users: users}
	o := options(r)
	o.Router, o.Auth = s.Router, users
	if r.api, err = New(o); err != nil {
		t.Fatal(err)
	}
	mux := chi.NewRouter()
	mux.Route("/api/v1", r.api.Mount)
	r.http = httptest.NewServer(r.api.Direct("/api/v1", mux))
	t.Cleanup(r.http.Close)
	r.romeo = r.token("romeo@example.org")
	r.any = r.token("bots.example.org")
	return r
}

// scoped makes a token with scopes as they are written.
func (r *rest) scoped(scopes string) string {
	r.t.Helper()
	parsed, err := auth.ParseScopes(scopes)
	if err != nil {
		r.t.Fatal(err)
	}
	secret, _, err := r.users.AddToken(context.Background(), auth.TokenSpec{Name: scopes, Scopes: parsed})
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

func (r *rest) token(sendAs ...string) string {
	r.t.Helper()
	spec := auth.TokenSpec{Name: "test"}
	for _, a := range sendAs {
		spec.Scopes.SendAs = append(spec.Scopes.SendAs, jid.MustPattern(a))
	}
	secret, _, err := r.users.AddToken(context.Background(), spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

// call makes one request.
func (r *rest) call(method, path, token, contentType, body string) (*http.Response, string) {
	r.t.Helper()
	rq, err := http.NewRequest(method, r.http.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		rq.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		rq.Header.Set("Content-Type", contentType)
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

func (r *rest) post(token, body string) (*http.Response, string) {
	r.t.Helper()
	return r.call(http.MethodPost, "/api/v1/messages", token, "application/json", body)
}

func (r *rest) online(full string) *modtest.Client {
	c := r.Connect(full)
	c.Session.SetPresence(&module.Presence{Stanza: modtest.Parse(r.t, "<presence/>")})
	return c
}

func TestSendJSON(t *testing.T) {
	r := newREST(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	for _, tt := range []struct{ name, token, body, want string }{
		{
			"least", r.romeo, `{"to":"juliet@example.org","body":"hi"}`,
			`<message from='romeo@example.org' to='juliet@example.org' type='chat'><body>hi</body></message>`,
		},
		{
			"whole", r.romeo,
			`{"from":"romeo@example.org/orchard","to":"Juliet@Example.ORG/balcony","type":"normal","id":"i<1'","lang":"en-GB",
			  "subject":"a & b","body":"\ud83c\udf39 <\"rose\"> \\ud800\n","thread":"t","extensions":"<request xmlns='urn:xmpp:receipts'/><x xmlns='u' a='1'>y</x>"}`,
			`<message from='romeo@example.org/orchard' to='juliet@example.org/balcony' type='normal' id="i&lt;1'" xml:lang='en-GB'>` +
				"<subject>a &amp; b</subject><body>\U0001F339 &lt;\"rose\"&gt; \\ud800\n</body><thread>t</thread>" +
				`<request xmlns='urn:xmpp:receipts'/><x xmlns='u' a='1'>y</x></message>`,
		},
		{
			"domain token", r.any, `{"from":"clerk@bots.example.org","to":"juliet@example.org","body":"hi"}`,
			`<message from='clerk@bots.example.org' to='juliet@example.org' type='chat'><body>hi</body></message>`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs, body := r.post(tt.token, tt.body)
			if rs.StatusCode != http.StatusAccepted {
				t.Fatalf("%s: %s", rs.Status, body)
			}
			// 202 says that it has been written: no waiting.
			got := juliet.Take()
			if len(got) != 1 {
				t.Fatalf("got %q", got)
			}
			if d := modtest.Diff(tt.want, got[0]); d != "" {
				t.Errorf("%s\n got %s\nwant %s", d, got[0], tt.want)
			}
			var a Accepted
			if err := json.Unmarshal([]byte(body), &a); err != nil || a.Status != "accepted" {
				t.Fatalf("%v in %s", err, body)
			}
			if st := modtest.Parse(t, got[0]); st.ID != a.ID || a.ID == "" || st.To.String() != a.To {
				t.Errorf("answer %s for %s", body, got[0])
			}
		})
	}
}

func TestSendXML(t *testing.T) {
	r := newREST(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	const want = `<message from='romeo@example.org' to='juliet@example.org' type='chat'><body>hi</body><e xmlns='u'/></message>`
	for _, in := range []string{
		`<message to='juliet@example.org' type='chat'><body>hi</body><e xmlns='u'/></message>`,
		`<?xml version='1.0' encoding='utf-8'?>` + "\n" + `<message xmlns='jabber:client' from='romeo@example.org' to='juliet@example.org' type='chat'><body>hi</body><e xmlns='u'/></message>` + "\n",
		`<message to='juliet@example.org' type='chat' xmlns="jabber:client"><body>hi</body><e xmlns='&#117;'/></message>`,
	} {
		for _, ct := range []string{"application/xml", "text/xml; charset=UTF-8"} {
			rs, body := r.call(http.MethodPost, "/api/v1/messages", r.romeo, ct, in)
			if rs.StatusCode != http.StatusAccepted {
				t.Fatalf("%s: %s: %s", in, rs.Status, body)
			}
			juliet.Expect(want)
		}
	}
}

// Nothing of these reaches juliet, and no answer repeats what was sent.
func TestRefusals(t *testing.T) {
	const secretText = "canary"
	r := newREST(t, Options{MaxBody: 20000})
	juliet := r.online("juliet@example.org/balcony")
	const js, xml = "application/json", "application/xml"
	foreign := r.token("mallory@elsewhere.example")
	orphan := r.token("nobody@example.org")
	two := r.token("romeo@example.org", "juliet@example.org")
	for _, tt := range []struct {
		name, token, ct, body string
		status                int
		at                    string // location of the first fault
	}{
		{"no token", "", js, `{"to":"juliet@example.org","body":"canary"}`, 401, ""},
		{"unknown token", "trv_" + strings.Repeat("A", 43), js, `{`, 401, ""},
		{"not a token", "canary", js, `{`, 401, ""},
		{"no content type", r.romeo, "", `{"to":"juliet@example.org","body":"canary"}`, 415, ""},
		{"form", r.romeo, "application/x-www-form-urlencoded", `to=juliet%40example.org`, 415, ""},
		{"other charset", r.romeo, "application/json; charset=utf-16", `{}`, 415, ""},
		{"empty", r.romeo, js, ``, 400, ""},
		{"cut", r.romeo, js, `{"to":"juliet@example.org","body":"canary`, 400, ""},
		{"two values", r.romeo, js, `{"to":"juliet@example.org","body":"canary"}{}`, 400, ""},
		{"array", r.romeo, js, `["canary"]`, 400, ""},
		{"bad UTF-8", r.romeo, js, "{\"to\":\"juliet@example.org\",\"body\":\"canary\xff\"}", 400, ""},
		{"lone surrogate", r.romeo, js, `{"to":"juliet@example.org","body":"canary\udc00"}`, 400, ""},
		{"wrong halves", r.romeo, js, `{"to":"juliet@example.org","body":"\ud800canary"}`, 400, ""},
		{"wrong type", r.romeo, js, `{"to":["canary"],"body":"x"}`, 422, "body.to"},
		{"unknown member", r.romeo, js, `{"to":"juliet@example.org","canary":"x"}`, 422, "body"},
		{"no recipient", r.romeo, js, `{"body":"canary"}`, 422, "body.to"},
		{"bad recipient", r.romeo, js, `{"to":"can ary@example.org","body":"canary"}`, 422, "body.to"},
		{"bad sender", r.romeo, js, `{"from":"@canary","to":"juliet@example.org","body":"canary"}`, 422, "body.from"},
		{"bad type", r.romeo, js, `{"to":"juliet@example.org","type":"canary","body":"x"}`, 422, "body.type"},
		{"error type", r.romeo, js, `{"to":"juliet@example.org","type":"error","body":"x"}`, 422, "body.type"},
		{"nothing to say", r.romeo, js, `{"to":"juliet@example.org"}`, 422, "body.body"},
		{"NUL", r.romeo, js, `{"to":"juliet@example.org","body":"canary\u0000"}`, 422, "body.body"},
		{"control", r.romeo, js, `{"to":"juliet@example.org","subject":"canary\u000b","body":"x"}`, 422, "body.subject"},
		{"noncharacter", r.romeo, js, `{"to":"juliet@example.org","body":"x","id":"canary\uffff"}`, 422, "body.id"},
		{"bad language", r.romeo, js, `{"to":"juliet@example.org","body":"x","lang":"can_ary"}`, 422, "body.lang"},
		{"long thread", r.romeo, js, `{"to":"juliet@example.org","body":"x","thread":"` + strings.Repeat("canary", 200) + `"}`, 422, "body.thread"},
		{"open extension", r.romeo, js, `{"to":"juliet@example.org","extensions":"<canary xmlns='u'>"}`, 422, "body.extensions"},
		{"way out", r.romeo, js, `{"to":"juliet@example.org","extensions":"</message><message to='juliet@example.org'>"}`, 422, "body.extensions"},
		{"text outside", r.romeo, js, `{"to":"juliet@example.org","extensions":"canary"}`, 422, "body.extensions"},
		{"comment", r.romeo, js, `{"to":"juliet@example.org","extensions":"<!-- canary -->"}`, 422, "body.extensions"},
		{"unbound prefix", r.romeo, js, `{"to":"juliet@example.org","extensions":"<canary:x/>"}`, 422, "body.extensions"},
		{"too deep", r.romeo, js, `{"to":"juliet@example.org","extensions":"` + strings.Repeat("<a>", 500) + strings.Repeat("</a>", 500) + `"}`, 422, "body.extensions"},
		{"too large", r.romeo, js, `{"to":"juliet@example.org","body":"` + strings.Repeat("canary", 5000) + `"}`, 413, ""},
		{"other sender", r.romeo, js, `{"from":"canary@example.org","to":"juliet@example.org","body":"x"}`, 403, ""},
		{"look-alike sender", r.romeo, js, `{"from":"romeo@example.org.canary","to":"juliet@example.org","body":"x"}`, 403, ""},
		{"remote sender", foreign, js, `{"to":"juliet@example.org","body":"canary"}`, 403, ""},
		{"sender without account", orphan, js, `{"to":"juliet@example.org","body":"canary"}`, 403, ""},
		{"which sender", two, js, `{"to":"juliet@example.org","body":"canary"}`, 422, "body.from"},
		{"domain token alone", r.any, js, `{"to":"juliet@example.org","body":"canary"}`, 422, "body.from"},

		{"no XML", r.romeo, xml, `canary`, 422, "body"},
		{"an iq", r.romeo, xml, `<iq to='juliet@example.org' type='get' id='canary'/>`, 422, "body"},
		{"server namespace", r.romeo, xml, `<message xmlns='jabber:server' to='juliet@example.org'><body>canary</body></message>`, 422, "body"},
		{"prefixed", r.romeo, xml, `<c:message xmlns:c='jabber:client' to='juliet@example.org'><c:body>canary</c:body></c:message>`, 422, "body"},
		{"two messages", r.romeo, xml, `<message to='juliet@example.org'/><message to='juliet@example.org'/>`, 422, "body"},
		{"DTD", r.romeo, xml, `<!DOCTYPE message [<!ENTITY x "canary">]><message to='juliet@example.org'><body>&x;</body></message>`, 422, "body"},
		{"entity", r.romeo, xml, `<message to='juliet@example.org'><body>&canary;</body></message>`, 422, "body"},
		{"UTF-16", r.romeo, xml, `<?xml version='1.0' encoding='UTF-16'?><message to='juliet@example.org'/>`, 422, "body"},
		{"XML without to", r.romeo, xml, `<message><body>canary</body></message>`, 422, "body.to"},
		{"XML bad to", r.romeo, xml, `<message to='@canary'><body>x</body></message>`, 422, "body.to"},
		{"XML bad from", r.romeo, xml, `<message from='@canary' to='juliet@example.org'><body>x</body></message>`, 422, "body.from"},
		{"XML other sender", r.romeo, xml, `<message from='canary@example.org' to='juliet@example.org'><body>x</body></message>`, 403, ""},
		{"XML error", r.romeo, xml, `<message to='juliet@example.org' type='error'><body>canary</body></message>`, 422, "body.type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs, body := r.call(http.MethodPost, "/api/v1/messages", tt.token, tt.ct, tt.body)
			if rs.StatusCode != tt.status {
				t.Fatalf("%s, want %d: %s", rs.Status, tt.status, body)
			}
			// RFC 9457 §3: the media type and the members.
			if ct := rs.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type %q", ct)
			}
			var p Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			// RFC 9457 §4.2.1: about:blank goes with the status' phrase.
			if p.Type != "about:blank" || p.Title != http.StatusText(tt.status) || p.Status != tt.status {
				t.Errorf("problem %s", body)
			}
			if strings.Contains(body, secretText) {
				t.Errorf("the answer repeats what was sent: %s", body)
			}
			if tt.at != "" && (len(p.Errors) == 0 || p.Errors[0].Location != tt.at) {
				t.Errorf("want a fault at %s: %s", tt.at, body)
			}
			// RFC 6750 §3: with every token that does not do.
			if got := rs.Header.Get("WWW-Authenticate"); (got != "") != (tt.status == 401 || tt.status == 403) {
				t.Errorf("WWW-Authenticate %q", got)
			}
			juliet.Quiet()
		})
	}
}

// What is refused on its way comes back with its condition (RFC 6120 §8.3.3).
func TestStanzaErrors(t *testing.T) {
	r := newREST(t, Options{}, refuse{})
	for _, e := range statusOf {
		rs, body := r.post(r.romeo, `{"to":"juliet@example.org","subject":"`+string(e.condition)+`"}`)
		var p Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if rs.StatusCode != e.status || p.Status != e.status || p.Condition != string(e.condition) || p.Title != p.Condition {
			t.Errorf("%s: %s %s", e.condition, rs.Status, body)
		}
		if want := "urn:ietf:params:xml:ns:xmpp-stanzas#" + string(e.condition); p.Type != want {
			t.Errorf("type %q, want %q", p.Type, want)
		}
		if (rs.StatusCode == 503) != (rs.Header.Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", rs.Status, rs.Header.Get("Retry-After"))
		}
	}
	if rs, body := r.post(r.romeo, `{"to":"juliet@unreachable.example","body":"x"}`); rs.StatusCode != 404 || !strings.Contains(body, "remote-server-not-found") {
		t.Errorf("%s: %s", rs.Status, body)
	}
}

// refuse refuses every message with the condition in its subject.
type refuse struct{}

func (refuse) Register(h *module.Host) error {
	h.Inbound(module.Guard, stanza.Message, func(_ context.Context, p *module.Packet) error {
		c, _ := p.Stanza.Child(stanza.NSClient, "subject")
		return &stanza.Error{Condition: stanza.Condition(c.Element().Text())}
	})
	return nil
}
