package hostile

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"trivium/test/harness"
)

// A user who asks a gateway for ever more is stopped; others are not.
func TestUserFloodsGateway(t *testing.T) {
	p := startPrograms(t)
	program := p.token("send:" + goodDomain + " read:" + goodDomain)
	// Somebody follows the gateway, takes everything and answers nothing.
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.HTTP+"/api/v1/events?host="+goodDomain, nil)
	must(t, err)
	rq.Header.Set("Authorization", "Bearer "+program)
	rq.Header.Set("Accept", "text/event-stream")
	rs, err := (&http.Client{Transport: p.client.Transport}).Do(rq)
	must(t, err)
	t.Cleanup(func() { rs.Body.Close() })
	buf := make([]byte, 1)
	_, err = rs.Body.Read(buf)
	must(t, err)

	mallory, romeo := here(t, p, "mallory"), here(t, p, "romeo")
	mallory.Drain()
	refused := func(kind, condition string) (n int) {
		alive(t, mallory)
		for _, st := range mallory.Drain() {
			if e := st.Child(harness.NSClient, "error"); st.Name.Local == kind && e != nil {
				if e.Child(harness.NSStanzas, condition) == nil {
					t.Errorf("refused by %.300s", st)
				}
				n++
			}
		}
		return n
	}
	for i := range 200 {
		must(t, mallory.Send(fmt.Sprintf("<iq type='get' to='a@%s' id='q%d'><query xmlns='urn:x'/></iq>", goodDomain, i)))
	}
	if n := refused("iq", "resource-constraint"); n != 200-64 {
		t.Errorf("%d of 200 requests to a silent gateway were refused", n)
	}
	must(t, mallory.Send(fmt.Sprintf("<iq type='get' to='a@%s' id='q0'><query xmlns='urn:x'/></iq>", goodDomain))) // under way
	if n := refused("iq", "conflict"); n != 1 {
		t.Errorf("an id that is under way: %d", n)
	}
	const most = 1000 // contacts in a roster, of whatever gateway
	for i := range most + 50 {
		must(t, mallory.Send(fmt.Sprintf("<presence type='subscribe' to='a%d@%s'/>", i, goodDomain)))
		if i%100 == 0 {
			alive(t, mallory)
		}
	}
	if n := refused("presence", "resource-constraint"); n < 50 || n > 60 {
		t.Errorf("%d of %d contacts were refused", n, most+50)
	}
	if n := request(t, romeo, "<iq type='get' to='"+goodDomain+"' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"); n.Attr("type") != "result" {
		t.Error(n)
	}
	must(t, romeo.Send("<iq type='get' to='a@"+goodDomain+"' id='r'><query xmlns='urn:x'/></iq>"))
	alive(t, romeo)
	for _, n := range romeo.Drain() {
		if n.Attr("id") == "r" {
			t.Errorf("romeo's request was refused: %s", n)
		}
	}
	// Answers that nobody waits for, or twice, do not arrive.
	for _, a := range []struct {
		id   string
		want int
	}{{"r", http.StatusAccepted}, {"r", 0}, {"none", 0}, {"q0", 0}} {
		status, body := p.call("POST", "/api/v1/stanzas", program, asXML, "<iq type='result' id='"+a.id+"' from='a@"+goodDomain+"' to='"+romeo.JID+"'><x xmlns='urn:x'/></iq>")
		if a.want == 0 && status < 400 || a.want != 0 && status != a.want {
			t.Errorf("an answer to %s: %d %s", a.id, status, body)
		}
	}
	alive(t, romeo)
	answers := 0
	for _, n := range romeo.Drain() {
		if n.Name.Local == "iq" && n.Attr("type") == "result" && strings.HasSuffix(n.Attr("from"), goodDomain) {
			answers++
		}
	}
	if answers != 1 {
		t.Errorf("romeo got %d answers", answers)
	}
}

// Gateways cannot take what is in use, and odd domains are one gateway each.
func TestOddGateways(t *testing.T) {
	p := startPrograms(t)
	all, one := p.token("admin:*"), p.token("admin:sms.example.org")
	for _, tt := range []struct {
		domain string
		status int
	}{
		{"example.org", 409},
		{"EXAMPLE.org", 409},
		{"ｅxample.org", 409},
		{"example.org.", 409},
		{goodDomain, 409},
		{evilDomain, 409},
		{"a b", 404},
		{"", 404},
		{"a@example.com", 404},
		{"a/b", 404},
		{strings.Repeat("a", 1100), 404},
		{"\x00", 404},
		{"\xff", 404},
		{"*", 404},
		{"BÜCHER.example", 201},
		{"bücher.example", 200},
		{"xn--bcher-kva.example", 200},
		{"127.0.0.1", 201},
		{"[::1]", 201},
		{"sms.example.org", 201},
	} {
		status, body := p.call("PUT", "/api/v1/gateways/"+url.PathEscape(tt.domain), all, asJSON, `{"type":"sms"}`)
		if status != tt.status && !(tt.status == 404 && status == 405 && tt.domain == "") {
			t.Errorf("%q: %d, want %d: %.200s", tt.domain, status, tt.status, body)
		}
	}
	for _, domain := range []string{"other.example.org", "example.org", "a.sms.example.org", goodDomain} {
		if status, body := p.call("PUT", "/api/v1/gateways/"+domain, one, asJSON, `{"type":"sms"}`); status != 403 {
			t.Errorf("%s by a token of another domain: %d %s", domain, status, body)
		}
	}
	alive(t, here(t, p, "juliet")) // of the host that is none
}
