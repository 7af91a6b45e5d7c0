package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

// zone is a Resolver without a network.
type zone map[string][]string

func (z zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range z[host] {
		list = append(list, netip.MustParseAddr(text))
	}
	if len(list) == 0 {
		return nil, errors.New("no such host")
	}
	return list, nil
}

var names = zone{
	"app.example": {"9.9.9.9", "2620:fe::fe"}, "inside.example": {"10.1.2.3"}, "mixed.example": {"9.9.9.9", "127.0.0.1"},
	"metadata.example": {"169.254.169.254"}, "mapped.example": {"::ffff:192.168.0.1"},
}

// watchers remembers who watches what.
type watchers map[string][]jid.Pattern

func (w watchers) Watch(owner string, list []jid.Pattern) { w[owner] = list }

// registry runs f with a Service that has one endpoint of the configuration, app.
func registry(t *testing.T, c *carrier, f func(s *modtest.Server, restart func() *Service, watched watchers)) {
	synctest.Test(t, func(t *testing.T) {
		s := modtest.New(t)
		watched := watchers{}
		stop := func() {}
		f(s, func() *Service {
			stop()
			var w *Service
			w, stop = start(t, s, Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}},
				Options{Transport: c, Resolver: names, Watcher: watched, Schedule: Schedule(), MaxEndpoints: 3})
			return w
		}, watched)
	})
}

func TestPut(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(200) }}
	ctx := context.Background()
	registry(t, c, func(_ *modtest.Server, restart func() *Service, watched watchers) {
		w := restart()
		e := Endpoint{
			Name: "sms", URL: "https://app.example/sms", Domains: []string{"sms.example.org"}, Watch: []jid.Pattern{jid.MustPattern("juliet@example.org")},
			Filter: event.Filter{
				Types: []event.Type{event.Message, event.IQ}, Hosts: []string{"SMS.example.org", "example.org"},
				JIDs: []jid.Pattern{jid.MustPattern("+49*@sms.example.org")}, Rooms: []jid.JID{jid.Must("room@rooms.example.org")},
			},
			Format: event.XML, Sync: true, Silent: true, AllowPrivate: true, Timeout: 3 * time.Second, GiveUpAfter: time.Hour, Concurrency: 7,
		}
		first, made, err := w.Put(ctx, e, NoVersion)
		if err != nil || !strings.HasPrefix(made, "whsec_") || first.Version != 1 || first.Fixed || len(first.Keys) != 1 || first.Keys[0].Scheme != HMAC {
			t.Fatalf("%+v, %q, %v", first, made, err)
		}
		want := e
		want.Filter.Hosts = []string{"sms.example.org", "example.org"}
		if !reflect.DeepEqual(first.Endpoint, want) {
			t.Errorf("put %+v, want %+v", first.Endpoint, want)
		}
		if len(watched["sms"]) != 1 {
			t.Errorf("watched: %v", watched)
		}
		for what, err := range map[string]error{
			"again as new":    second(w.Put(ctx, e, NoVersion)),
			"another version": second(w.Put(ctx, e, 7)),
		} {
			if !errors.Is(err, ErrVersion) {
				t.Errorf("%s: %v", what, err)
			}
		}
		// Rotation: the key it has by its id, and a new one of the other scheme.
		e.Keys = []string{first.Keys[0].ID, pairKey}
		next, made, err := w.Put(ctx, e, first.Version)
		if err != nil || made != "" || next.Version != 2 || len(next.Keys) != 2 || next.Keys[0] != first.Keys[0] || next.Keys[1].ID != pairPublic {
			t.Fatalf("%+v, %q, %v", next, made, err)
		}
		// It is all there after a restart, with the number of its version.
		w = restart()
		again, err := w.Endpoint("sms")
		if again.Status = next.Status; err != nil || !reflect.DeepEqual(again, next) {
			t.Errorf("after a restart %+v, want %+v (%v)", again, next, err)
		}
		if text := fmt.Sprintf("%+v", w.Endpoints()); strings.Contains(text, "whsec_") || strings.Contains(text, "whsk_") {
			t.Errorf("keys are shown: %s", text)
		}
		// No keys at all: those that it has.
		e.Keys = nil
		if next, made, err = w.Put(ctx, e, AnyVersion); err != nil || made != "" || len(next.Keys) != 2 {
			t.Errorf("%+v, %q, %v", next, made, err)
		}

		for what, err := range map[string]error{
			"fixed":        second(w.Put(ctx, Endpoint{Name: "app", URL: e.URL}, AnyVersion)),
			"fixed remove": w.Remove(ctx, "app", AnyVersion),
		} {
			if !errors.Is(err, ErrFixed) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := second(w.Put(ctx, Endpoint{Name: "third", URL: e.URL}, NoVersion)); err != nil {
			t.Error(err)
		}
		if err := second(w.Put(ctx, Endpoint{Name: "fourth", URL: e.URL}, NoVersion)); !errors.Is(err, ErrLimit) {
			t.Errorf("a fourth: %v", err)
		}
		if err := w.Remove(ctx, "sms", 1); !errors.Is(err, ErrVersion) {
			t.Errorf("remove of an old version: %v", err)
		}
		if err := w.Remove(ctx, "sms", next.Version); err != nil {
			t.Error(err)
		}
		if err := w.Remove(ctx, "sms", AnyVersion); !errors.Is(err, ErrUnknown) {
			t.Errorf("remove again: %v", err)
		}
		if len(watched["sms"]) != 0 {
			t.Errorf("watched: %v", watched)
		}
		if w = restart(); len(w.Endpoints()) != 2 {
			t.Errorf("after the removal: %+v", w.Endpoints())
		}
	})
}

func second(_ Info, _ string, err error) error { return err }

// Targets are refused in words when an endpoint is made: the host is looked up.
func TestPutRefuses(t *testing.T) {
	ctx := context.Background()
	registry(t, &carrier{}, func(_ *modtest.Server, restart func() *Service, _ watchers) {
		w := restart()
		good := Endpoint{Name: "a", URL: "https://app.example/"}
		for name, tt := range map[string]struct {
			change func(*Endpoint)
			field  string
		}{
			"loopback":           {func(e *Endpoint) { e.URL = "http://127.0.0.1:5280/" }, "url"},
			"loopback v6":        {func(e *Endpoint) { e.URL = "http://[::1]/" }, "url"},
			"mapped":             {func(e *Endpoint) { e.URL = "http://[::ffff:10.0.0.1]/" }, "url"},
			"name inside":        {func(e *Endpoint) { e.URL = "http://inside.example/" }, "url"},
			"one of two inside":  {func(e *Endpoint) { e.URL = "http://mixed.example/" }, "url"},
			"mapped name":        {func(e *Endpoint) { e.URL = "http://mapped.example/" }, "url"},
			"metadata":           {func(e *Endpoint) { e.URL = "http://metadata.example/" }, "url"},
			"metadata, private":  {func(e *Endpoint) { e.URL, e.AllowPrivate = "http://metadata.example/", true }, "url"},
			"no such name":       {func(e *Endpoint) { e.URL = "http://nowhere.example/" }, "url"},
			"scheme":             {func(e *Endpoint) { e.URL = "gopher://app.example/" }, "url"},
			"credentials":        {func(e *Endpoint) { e.URL = "https://a:b@app.example/" }, "url"},
			"name":               {func(e *Endpoint) { e.Name = "a b" }, "name"},
			"key":                {func(e *Endpoint) { e.Keys = []string{"whsec_x"} }, "keys"},
			"somebody's key id":  {func(e *Endpoint) { e.Keys = []string{pairPublic} }, "keys"},
			"too many keys":      {func(e *Endpoint) { e.Keys = slices.Repeat([]string{secret}, 9) }, "keys"},
			"virtual host":       {func(e *Endpoint) { e.Domains = []string{"example.org"} }, "domains"},
			"another's domain":   {func(e *Endpoint) { e.Domains = []string{"GW.example.org"} }, "domains"},
			"no domain":          {func(e *Endpoint) { e.Domains = []string{"a b"} }, "domains"},
			"watch elsewhere":    {func(e *Endpoint) { e.Watch = []jid.Pattern{jid.MustPattern("a@elsewhere.example")} }, "watch"},
			"format":             {func(e *Endpoint) { e.Format = "yaml" }, "format"},
			"type":               {func(e *Endpoint) { e.Filter.Types = []event.Type{"x"} }, "types"},
			"host of the filter": {func(e *Endpoint) { e.Filter.Hosts = []string{"a b"} }, "hosts"},
		} {
			e := good
			tt.change(&e)
			_, _, err := w.Put(ctx, e, AnyVersion)
			var field *message.FieldError
			if !errors.As(err, &field) || field.Field != tt.field || strings.Contains(err.Error(), "10.1.2.3") {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, url := range []string{"http://inside.example/", "http://127.0.0.1/", "http://mapped.example/"} {
			e := good
			e.URL, e.AllowPrivate = url, true
			if _, _, err := w.Put(ctx, e, AnyVersion); err != nil {
				t.Errorf("%s when private is allowed: %v", url, err)
			}
		}
	})
}

// An endpoint that is made while the server runs gets events at once; when it is
// removed, nothing of it stays.
func TestPutWhileRunning(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(500) }}
	ctx := context.Background()
	registry(t, c, func(s *modtest.Server, restart func() *Service, _ watchers) {
		w := restart()
		if _, _, err := w.Put(ctx, Endpoint{Name: "all", URL: "https://app.example/all"}, NoVersion); err != nil {
			t.Fatal(err)
		}
		romeo := s.Connect("romeo@example.org/orchard")
		romeo.Send(hello)
		time.Sleep(time.Second)
		if c.count() != 2 || c.ids[0] != c.ids[1] {
			t.Fatalf("posted %v", c.ids)
		}
		if n := rows(t, s.Store, waiting); n != 2 {
			t.Errorf("%d rows, want one for each endpoint", n)
		}
		if err := w.Remove(ctx, "all", AnyVersion); err != nil {
			t.Fatal(err)
		}
		romeo.Send(hello)
		time.Sleep(time.Minute)
		if n := rows(t, s.Store, waiting+" AND endpoint <> 1"); n != 0 {
			t.Errorf("%d rows of what was removed", n)
		}
		if n := rows(t, s.Store, "webhook_endpoint"); n != 1 {
			t.Errorf("%d endpoints", n)
		}
	})
}

// Another URL begins anew: it is not gone, and what waits is posted at once. So does
// an operator's word.
func TestGoneAndBack(t *testing.T) {
	for name, back := range map[string]func(*Service, Endpoint) error{
		"url": func(w *Service, e Endpoint) error {
			e.URL += "/2"
			return second(w.Put(context.Background(), e, AnyVersion))
		},
		"enable": func(w *Service, e Endpoint) error { return w.Enable(context.Background(), e.Name) },
	} {
		code := 410
		c := &carrier{}
		c.answer = func(*http.Request, int) (*http.Response, error) { return status(code) }
		registry(t, c, func(s *modtest.Server, restart func() *Service, _ watchers) {
			w := restart()
			type change struct {
				host string
				up   bool
			}
			told := make(chan change, 100)
			w.OnState(func(host string, up bool) { told <- change{host, up} })
			e := Endpoint{Name: "hook", URL: "https://app.example/hook", Filter: event.Filter{Hosts: []string{"gw2.example.org"}}}
			if err := second(w.Put(context.Background(), e, NoVersion)); err != nil {
				t.Fatal(err)
			}
			if got := <-told; got != (change{"gw2.example.org", true}) {
				t.Errorf("told %+v", got)
			}
			ev := event.Of(event.Message, "gw2.example.org", modtest.Parse(t, greet))
			if err := w.opts.Log.Append(ev, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if has, up := w.Up("gw2.example.org"); has || up || <-told != (change{"gw2.example.org", false}) {
				t.Errorf("%s: Up when gone: %v, %v", name, has, up)
			}
			w = restart()
			w.OnState(func(host string, up bool) { told <- change{host, up} })
			c.mu.Lock()
			code = 200
			c.mu.Unlock()
			time.Sleep(time.Hour)
			if got := <-told; got.up {
				t.Errorf("%s: told %+v after the restart", name, got)
			}
			if c.count() != 1 {
				t.Errorf("%s: %d posts to what is gone", name, c.count())
			}
			if err := back(w, e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if has, up := w.Up("gw2.example.org"); !has || !up || c.count() != 2 {
				t.Errorf("%s: Up %v, %v, %d posts", name, has, up, c.count())
			}
			if got := <-told; got != (change{"gw2.example.org", true}) {
				t.Errorf("%s: told %+v", name, got)
			}
		})
	}
}

// The breaker: five failures open it, the users of Up are told, and what waits is
// posted when a probe comes through.
func TestBreaker(t *testing.T) {
	code := 503
	c := &carrier{}
	c.answer = func(*http.Request, int) (*http.Response, error) { return status(code) }
	var told []bool
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		w.OnState(func(host string, up bool) {
			if host != "gw.example.org" {
				t.Errorf("told of %s", host)
			}
			told = append(told, up)
		})
		for i := range 4 {
			romeo.Send(fmt.Sprintf(`<message to='bot%d@gw.example.org'><body>hi</body></message>`, i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if st := w.Status()[0]; st.Breaker != "closed" || st.State != "up" || c.count() != 4 {
			t.Fatalf("after four failures: %+v", st)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := w.Status()[0]; st.Breaker != "open" || st.State != "down" || c.count() != 5 {
			t.Fatalf("after the fifth: %d posts, %+v", c.count(), st)
		}
		romeo.Send(hello)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if c.count() != 5 {
			t.Errorf("%d posts while it is left alone", c.count())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if c.count() != 6 { // one probe, which failed
			t.Errorf("%d posts after a minute", c.count())
		}
		c.mu.Lock()
		code = 200
		c.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.Breaker != "closed" || st.State != "up" || st.Pending != 0 || c.count() != 11 {
			t.Errorf("when it is back: %d posts, %+v", c.count(), st)
		}
		if !slices.Equal(told, []bool{false, true}) {
			t.Errorf("told %v", told)
		}
	})
}

// TestServiceTakes: what Takes says of a domain before an event comes.
func TestServiceTakes(t *testing.T) {
	registry(t, &carrier{}, func(s *modtest.Server, restart func() *Service, _ watchers) {
		w := restart()
		if !w.Takes("gw.example.org", event.IQ) || w.Takes("other.example.org", event.IQ) {
			t.Error("of an endpoint without types")
		}
		put := func(c Endpoint) {
			c.Name, c.URL, c.Domains = "more", "https://app.example/more", []string{"sms.example.org"}
			if _, _, err := w.Put(context.Background(), c, AnyVersion); err != nil {
				t.Fatal(err)
			}
		}
		put(Endpoint{Filter: event.Filter{Types: []event.Type{event.Message}}})
		if !w.Takes("sms.example.org", event.Message) || w.Takes("sms.example.org", event.IQ) {
			t.Error("of an endpoint for messages")
		}
		put(Endpoint{Sync: true})
		if w.Takes("sms.example.org", event.IQ) || !w.Takes("sms.example.org", event.Presence) {
			t.Error("of an endpoint that answers requests at once")
		}
	})
}
