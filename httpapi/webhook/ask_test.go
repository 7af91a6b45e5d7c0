package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/stanza"
	"trivium/httpapi/event"
)

// answers returns a response with a body.
func answers(code int, media, body string) (*http.Response, error) {
	rs, _ := status(code, "Content-Type", media)
	rs.Body = io.NopCloser(strings.NewReader(body))
	return rs, nil
}

// asker runs f with an endpoint that answers requests at once.
func asker(t *testing.T, c *carrier, change func(*Endpoint), f func(s *modtest.Server, w *Service)) {
	t.Helper()
	bubbleWith(t, c, Options{}, func(e *Endpoint) {
		e.Sync = true
		if change != nil {
			change(e)
		}
	}, func(s *modtest.Server, w *Service, _ *modtest.Client) { f(s, w) })
}

func asking(t *testing.T, xml string) *event.Event {
	st := modtest.Parse(t, xml)
	typ := event.Message
	switch st.Kind {
	case stanza.IQ:
		typ = event.IQ
	case stanza.Presence:
		typ = event.Subscription
	}
	return event.Of(typ, st.To.Domain(), st)
}

const (
	version   = `<iq from='romeo@example.org/orchard' to='bot@gw.example.org' type='get' id='v1'><query xmlns='jabber:iq:version'/></iq>`
	subscribe = `<presence from='romeo@example.org' to='bot@gw.example.org' type='subscribe' id='s1'/>`
	greet     = `<message from='romeo@example.org/orchard' to='bot@gw.example.org' type='chat' id='m1'><body>hi</body></message>`
)

// The response's body answers the stanza: RFC 6120 §8.2.3 for requests.
func TestAsk(t *testing.T) {
	const back = ` from='bot@gw.example.org' to='romeo@example.org/orchard'`
	for _, tt := range []struct {
		name, ask   string
		code        int
		media, body string
		want        string // "" for none
		refused     stanza.Condition
	}{
		{
			name: "result", ask: version, code: 200, media: "application/json", body: `{"result":"<query xmlns='jabber:iq:version'><name>Bot</name></query>"}`,
			want: `<iq` + back + ` type='result' id='v1'><query xmlns='jabber:iq:version'><name>Bot</name></query></iq>`,
		},
		{name: "empty result", ask: version, code: 200, media: "application/json", body: `{"result":""}`, want: `<iq` + back + ` type='result' id='v1'/>`},
		{name: "nothing", ask: version, code: 204, want: `<iq` + back + ` type='result' id='v1'/>`},
		{
			name: "error", ask: version, code: 200, media: "application/json", body: `{"error":{"condition":"item-not-found","text":"no"}}`,
			want: `<iq` + back + ` type='error' id='v1'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
				<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error></iq>`,
		},
		{
			name: "error with type", ask: version, code: 200, media: "application/json", body: `{"error":{"condition":"not-allowed","type":"auth"}}`,
			want: `<iq` + back + ` type='error' id='v1'><error type='auth'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`,
		},
		{
			name: "stanza", ask: version, code: 200, media: "application/xml", body: `<iq type='result' id='other'><query xmlns='jabber:iq:version'><name>X</name></query></iq>`,
			want: `<iq` + back + ` type='result' id='v1'><query xmlns='jabber:iq:version'><name>X</name></query></iq>`,
		},
		{
			name: "message refused", ask: greet, code: 200, media: "application/json", body: `{"error":{"condition":"gone"}}`,
			want: `<message` + back + ` type='error' id='m1'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`,
		},
		{
			name: "message as text", ask: greet, code: 200, media: "text/plain; charset=utf-8", body: "hello\n",
			want: `<message` + back + ` type='chat' id='*'><body>hello</body></message>`,
		},
		{
			name: "message as stanza", ask: greet, code: 200, media: "text/xml", body: `<message xmlns='jabber:client' from='other@gw.example.org' type='chat' id='x'><body>hello</body></message>`,
			want: `<message from='other@gw.example.org' to='romeo@example.org/orchard' type='chat' id='x'><body>hello</body></message>`,
		},
		{
			name: "presence as stanza", ask: greet, code: 200, media: "application/xml", body: `<presence><show>away</show></presence>`,
			want: `<presence` + back + ` id='*'><show>away</show></presence>`,
		},
		{
			name: "message/cpim", ask: greet, code: 200, media: "message/cpim",
			body: "From: <im:bot@gw.example.org>\r\nTo: <im:romeo@example.org>\r\n\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello",
			want: `<message from='bot@gw.example.org' to='romeo@example.org' id='*'><body>hello</body></message>`,
		},
		{name: "message unanswered", ask: greet, code: 204},
		{
			name: "subscription approved", ask: subscribe, code: 200, media: "application/xml", body: `<presence type='subscribed'/>`,
			want: `<presence from='bot@gw.example.org' to='romeo@example.org' type='subscribed' id='*'/>`,
		},
		{name: "chat to presence", ask: subscribe, code: 200, media: "application/json", body: `{"reply":{"body":"You said: "}}`},
		{name: "text to presence", ask: subscribe, code: 200, media: "text/plain", body: `You said: `},

		{name: "forged", ask: greet, code: 200, media: "application/xml", body: `<message from='juliet@example.org' type='chat'><body>x</body></message>`, refused: stanza.UndefinedCondition},
		{name: "request as answer", ask: version, code: 200, media: "application/xml", body: `<iq type='get' id='v1'><query xmlns='jabber:iq:roster'/></iq>`, refused: stanza.UndefinedCondition},
		{name: "two elements", ask: version, code: 200, media: "application/json", body: `{"result":"<a xmlns='u'/><b xmlns='u'/>"}`, refused: stanza.UndefinedCondition},
		{name: "way out", ask: version, code: 200, media: "application/json", body: `{"result":"</iq><iq>"}`, refused: stanza.UndefinedCondition},
		{name: "unknown condition", ask: version, code: 200, media: "application/json", body: `{"error":{"condition":"bad"}}`, refused: stanza.UndefinedCondition},
		{name: "no stanza", ask: version, code: 200, media: "application/xml", body: `<a/>`, refused: stanza.UndefinedCondition},
		{name: "not XML", ask: version, code: 200, media: "application/xml", body: `<iq`, refused: stanza.UndefinedCondition},
		{name: "not found", ask: version, code: 404, refused: stanza.ItemNotFound},
		{name: "forbidden", ask: version, code: 403, refused: stanza.Forbidden},
		{name: "unable", ask: version, code: 501, refused: stanza.FeatureNotImplemented},
		{name: "broken", ask: version, code: 500, refused: stanza.InternalServerError},
		{name: "away", ask: version, code: 503, refused: stanza.RemoteServerTimeout},
		{name: "gone", ask: version, code: 410, refused: stanza.ServiceUnavailable},
		{name: "redirect", ask: version, code: 302, refused: stanza.UndefinedCondition},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return answers(tt.code, tt.media, tt.body) }}
			asker(t, c, nil, func(_ *modtest.Server, w *Service) {
				list, ok, err := w.Ask(context.Background(), asking(t, tt.ask))
				if !ok || c.count() != 1 {
					t.Fatalf("asked %v, %d posts", ok, c.count())
				}
				var refused *stanza.Error
				if errors.As(err, &refused); err != nil && refused == nil {
					t.Fatalf("error %v", err)
				}
				switch {
				case tt.refused != "":
					if refused == nil || refused.Condition != tt.refused {
						t.Errorf("refused with %v, want %s", err, tt.refused)
					}
				case err != nil:
					t.Error(err)
				case tt.want == "":
					if len(list) > 0 {
						t.Errorf("answered %s", list[0])
					}
				case len(list) != 1:
					t.Errorf("%d answers", len(list))
				default:
					if d := modtest.Diff(tt.want, list[0].String()); d != "" {
						t.Errorf("%s: %s", d, list[0])
					}
				}
				if st := w.Status()[0]; tt.code == 410 && st.State != "gone" || st.Asked != 1 {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

// A registration takes place unless the answer has an error, which the user sees.
func TestAskRegistration(t *testing.T) {
	for name, tt := range map[string]struct {
		media, body string
		want        stanza.Error
	}{
		"taken":             {},
		"taken in words":    {media: "text/plain", body: "ok"},
		"taken by JSON":     {media: "application/json", body: `{"ok":true}`},
		"with a message":    {media: "application/json", body: `{"reply":{"body":"Welcome"}}`},
		"refused":           {media: "application/json", body: `{"error":{"condition":"not-authorized","type":"auth","text":"wrong PIN"}}`, want: stanza.Error{Condition: stanza.NotAuthorized, Type: stanza.Auth, Text: "wrong PIN"}},
		"refused shortly":   {media: "application/json; charset=utf-8", body: `{"error":{"condition":"internal-server-error"},"reply":{"body":"x"}}`, want: stanza.Error{Condition: stanza.InternalServerError}},
		"unknown condition": {media: "application/json", body: `{"error":{"condition":"wrong-pin"}}`, want: stanza.Error{Condition: stanza.UndefinedCondition, Text: "the gateway's answer cannot be used"}},
		"not JSON":          {media: "application/json", body: `{"error":`, want: stanza.Error{Condition: stanza.UndefinedCondition, Text: "the gateway's answer cannot be used"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return answers(200, tt.media, tt.body) }}
			asker(t, c, nil, func(_ *modtest.Server, w *Service) {
				list, ok, err := w.Ask(context.Background(), &event.Event{
					Type: event.Registration, Host: "gw.example.org", From: jid.Must("romeo@example.org"), To: jid.Must("gw.example.org"),
					Data: []byte(`{"change":"registered","domain":"gw.example.org","user":"romeo@example.org","fields":{"pin":"0000"}}`),
				})
				var got stanza.Error
				if told := (*stanza.Error)(nil); errors.As(err, &told) {
					got = *told
				} else if err != nil {
					t.Fatal(err)
				}
				if !ok || len(list) > 0 || got.Condition != tt.want.Condition || got.Text != tt.want.Text || tt.want.Type != "" && got.Type != tt.want.Type {
					t.Errorf("%v, %v, %+v, want %+v", list, ok, got, tt.want)
				}
			})
		})
	}
}

// RFC 6120 §8.3.3.17: who gives no answer in time, cannot be reached or is known to be
// down is a remote server that timed out.
func TestAskInVain(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return nil, errors.New("connection refused") }}
	asker(t, c, nil, func(_ *modtest.Server, w *Service) {
		var refused *stanza.Error
		for n := 1; n <= 8; n++ {
			_, ok, err := w.Ask(context.Background(), asking(t, version))
			if !ok || !errors.As(err, &refused) || refused.Condition != stanza.RemoteServerTimeout {
				t.Fatalf("%v, %v", ok, err)
			}
			if want := min(n, 5); c.count() != want { // the breaker opens
				t.Errorf("%d posts after %d questions", c.count(), n)
			}
		}
		if has, up := w.Up("gw.example.org"); !has || up {
			t.Errorf("Up: %v, %v", has, up)
		}
		// Nothing waits, and still it is noticed that the endpoint is back.
		c.mu.Lock()
		c.answer = func(*http.Request, int) (*http.Response, error) { return status(204) }
		c.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if has, up := w.Up("gw.example.org"); !has || !up {
			t.Errorf("Up when it is back: %v, %v", has, up)
		}
	})
	slow := &slowly{}
	asker(t, nil, nil, func(s *modtest.Server, w *Service) {
		e := w.find("app")
		d := *e.def.Load()
		d.transport = slow
		e.def.Store(&d)
		began := time.Now()
		_, ok, err := w.Ask(context.Background(), asking(t, version))
		var refused *stanza.Error
		if !ok || !errors.As(err, &refused) || refused.Condition != stanza.RemoteServerTimeout || time.Since(began) != 10*time.Second {
			t.Errorf("%v, %v after %v", ok, err, time.Since(began))
		}
	})
}

// slowly answers never.
type slowly struct{}

func (*slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Who is not asked: endpoints without Sync, and events that the filter does not take.
// What is asked does not go through the outbox as well.
func TestAskNobody(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(204) }}
	for name, change := range map[string]func(*Endpoint){
		"not sync":    func(e *Endpoint) { e.Sync = false },
		"other types": func(e *Endpoint) { e.Filter.Types = []event.Type{event.Message} },
	} {
		asker(t, c, change, func(_ *modtest.Server, w *Service) {
			if _, ok, err := w.Ask(context.Background(), asking(t, version)); ok || err != nil {
				t.Errorf("%s: %v, %v", name, ok, err)
			}
		})
	}
	asker(t, c, nil, func(s *modtest.Server, w *Service) {
		ev := asking(t, version)
		ev.Host = "elsewhere.example.org"
		if _, ok, _ := w.Ask(context.Background(), ev); ok {
			t.Error("asked about another host")
		}
		if err := w.opts.Log.Append(asking(t, version), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := rows(t, s.Store, "webhook_delivery"); n != 0 || c.count() != 0 {
			t.Errorf("%d rows, %d posts", n, c.count())
		}
	})
}
