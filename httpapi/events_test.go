package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
)

// happen appends events to the log and waits until they are there.
func (r *rest) happen(t *testing.T, list ...*event.Event) {
	t.Helper()
	for _, e := range list {
		if err := r.events.Append(e, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func messageEvent(host, from, to, body string) *event.Event {
	return event.Of(event.Message, host, stanza.New(stanza.Message, stanza.Chat, jid.Must(from), jid.Must(to), body, stanza.TextEl(stanza.NSClient, "body", body)))
}

// A page of events holds those that the token may read and the filter takes.
func TestEventPages(t *testing.T) {
	r := whole(t)
	r.happen(
		t,
		messageEvent("sms.example.org", "romeo@example.org/a", "+1@sms.example.org", "m1"),
		messageEvent("sms.example.org", "juliet@example.org/a", "+2@sms.example.org", "m2"),
		messageEvent("example.org", "nurse@example.net", "juliet@example.org", "m3"),
		&event.Event{Type: event.Registration, Host: "sms.example.org", From: jid.Must("romeo@example.org"), To: jid.Must("sms.example.org"), Data: []byte(`{"user":"romeo@example.org"}`)},
		messageEvent("irc.example.org", "romeo@example.org/a", "nick@irc.example.org", "m4"),
	)
	sms, romeo, all := r.scoped("read:sms.example.org"), r.scoped("read:romeo@example.org"), r.scoped("read:example.org read:sms.example.org read:irc.example.org")
	page := func(token, query string) (ids string, p EventPage) {
		t.Helper()
		rs, body := r.do(t, "GET", "/api/v1/events"+query, "", "Authorization", "Bearer "+token, "Accept", "application/json")
		if err := json.Unmarshal([]byte(body), &p); err != nil || rs.StatusCode != 200 {
			t.Fatalf("%s: %s %s", query, rs.Status, body)
		}
		for _, e := range p.Items {
			id, _ := e.Data.(map[string]any)["id"].(string)
			if id == "" {
				id = string(e.Type)
			}
			ids += id + " "
		}
		return ids, p
	}
	for _, tt := range []struct{ token, query, want string }{
		{all, "", "m1 m2 m3 registration m4 "},
		{sms, "", "m1 m2 registration "},
		{romeo, "", "m1 registration m4 "},
		{all, "?host=SMS.example.org", "m1 m2 registration "},
		{all, "?host=sms.example.org&host=irc.example.org&type=message", "m1 m2 m4 "},
		{all, "?jid=juliet@example.org", "m2 m3 "},
		{all, "?jid=%2B*@sms.example.org", "m1 m2 "},
		{all, "?room=nurse@example.net", "m3 "},
		{all, "?after=now", ""},
		{all, "?after=start&limit=2", "m1 m2 "},
		{romeo, "?host=example.org", ""},
	} {
		if got, _ := page(tt.token, tt.query); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.query, got, tt.want)
		}
	}
	_, p := page(all, "?limit=3")
	if got, p := page(all, "?after="+p.Next); got != "registration m4 " || p.Next == "" || p.Gap {
		t.Errorf("the next page is %q %+v", got, p)
	}
	if _, p := page(all, "?after=evt_1"); !p.Gap {
		t.Error("what is not kept is not missed")
	}
	for _, tt := range []struct {
		query  string
		status int
	}{{"?type=party", 400}, {"?host=a@b", 400}, {"?jid=a@b@c", 400}, {"?after=x", 400}, {"?after=", 400}, {"?format=yaml", 400}, {"?limit=501", 400}} {
		if rs, body := r.do(t, "GET", "/api/v1/events"+tt.query, "", "Authorization", "Bearer "+all, "Accept", "application/json"); rs.StatusCode != tt.status {
			t.Errorf("%s: %s %s", tt.query, rs.Status, body)
		}
	}
	if rs, body := r.do(t, "GET", "/api/v1/events", "", "Authorization", "Bearer "+r.scoped("admin:*"), "Accept", "application/json"); rs.StatusCode != 403 {
		t.Errorf("without a scope to read: %s %s", rs.Status, body)
	}
}

// A stream goes on where its reader was, and what a gateway has got is acknowledged.
func TestEventStream(t *testing.T) {
	r := whole(t)
	first := messageEvent("sms.example.org", "romeo@example.org/a", "+1@sms.example.org", "m1")
	r.happen(t, first, messageEvent("sms.example.org", "romeo@example.org/a", "+1@sms.example.org", "m2"))
	token := r.scoped("send:sms.example.org read:sms.example.org")
	acked := func() int64 {
		t.Helper()
		seq, err := r.events.Acked(t.Context(), gateway.Consumer("sms.example.org"))
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	// read returns the ids of n messages of a stream.
	read := func(n int, last string) (list []string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rq, err := http.NewRequestWithContext(ctx, "GET", r.http.URL+"/api/v1/events?host=sms.example.org", nil)
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Authorization", "Bearer "+token)
		rq.Header.Set("Accept", streamType)
		rq.Header.Set("Accept-Encoding", "gzip")
		if last != "" {
			rq.Header.Set("Last-Event-ID", last)
		}
		rs, err := r.http.Client().Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		defer rs.Body.Close()
		if rs.StatusCode != 200 || rs.Header.Get("Content-Type") != streamType || rs.Header.Get("Content-Encoding") != "" {
			t.Fatalf("%s %v", rs.Status, rs.Header)
		}
		lines := bufio.NewScanner(rs.Body)
		for len(list) < n && lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e struct{ Data struct{ ID string } }
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatal(err)
				}
				list = append(list, e.Data.ID)
			}
		}
		return list
	}
	// A gateway that names no place begins with what it has not acknowledged.
	if got := strings.Join(read(2, ""), " "); got != "m1 m2" || acked() != 0 {
		t.Errorf("the stream begins with %q, acknowledged %d", got, acked())
	}
	if got := strings.Join(read(1, first.ID()), " "); got != "m2" || acked() != first.Seq {
		t.Errorf("it goes on with %q, acknowledged %d", got, acked())
	}
	if got := strings.Join(read(1, ""), " "); got != "m2" {
		t.Errorf("what was acknowledged comes again: %q", got)
	}
	last := event.FormatID(r.events.Last())
	r.expect(
		t,
		expectation{"POST", "/events/ack", token, `{"host":"sms.example.org","id":"` + last + `"}`, 404, "no such event"}, // nobody serves the domain
		expectation{"POST", "/events/ack", r.any, `{"host":"bots.example.org","id":"` + last + `"}`, 204, ""},
		expectation{"POST", "/events/ack", r.any, `{"host":"sms.example.org","id":"` + last + `"}`, 403, ""},
		expectation{"POST", "/events/ack", r.any, `{"host":"bots.example.org","id":"evt_zzzzzzzzzzzz"}`, 404, ""},
		expectation{"POST", "/events/ack", r.any, `{"host":"bots.example.org","id":"1"}`, 422, "body.id"},
	)
}
