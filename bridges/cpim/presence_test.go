package cpim

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"trivium/bridges/cpim/message"
	"trivium/bridges/cpim/pidf"
	"trivium/core/jid"
	"trivium/core/stanza"
)

var (
	alice = jid.Must("alice@xmpp.example")
	bob   = jid.Must("bob@im.example")
)

// TestPresenceVectors runs the vectors of the mapping reference.
func TestPresenceVectors(t *testing.T) {
	var vectors []struct {
		Name, Dir string
		Input     []string
		Output    json.RawMessage
	}
	data, err := os.ReadFile("testdata/presence.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 11 {
		t.Fatalf("%d vectors, want 11", len(vectors))
	}
	var previous Watched // p06 goes on from p05
	document := ""
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			m := New(Options{})
			if v.Dir == "xmpp>pidf" {
				var want struct {
					Headers     []string `json:"cpim_headers"`
					ContentType string   `json:"content_type"`
					PIDF        string
				}
				if err := json.Unmarshal(v.Output, &want); err != nil {
					t.Fatal(err)
				}
				p, err := m.Presentity(alice)
				if err != nil {
					t.Fatal(err)
				}
				for _, in := range v.Input {
					if !p.Update(readStanza(t, in), noon) { // in the same moment
						t.Errorf("no change by %s", in)
					}
				}
				msg, err := p.Notification(p.Document(noon), bob, noon)
				if err != nil {
					t.Fatal(err)
				}
				b, err := msg.AppendTo(nil)
				if err != nil {
					t.Fatal(err)
				}
				head, _, _ := strings.Cut(strings.TrimPrefix(string(b), "Content-Type: Message/CPIM\r\n\r\n"), "\r\n\r\n")
				for _, h := range want.Headers {
					if !strings.Contains(head+"\r\n", h+"\r\n") {
						t.Errorf("no header %q in %q", h, head)
					}
				}
				if ct := msg.Content.Get("Content-Type"); want.ContentType != "" && ct != want.ContentType {
					t.Errorf("content type %q", ct)
				}
				sameXML(t, timestamps(t, strings.TrimPrefix(msg.Content.Body, "<?xml version='1.0' encoding='UTF-8'?>")), want.PIDF)
				return
			}
			var want []string
			if err := json.Unmarshal(v.Output, &want); err != nil {
				t.Fatal(err)
			}
			var w Watched
			switch v.Name {
			case "p06-no-change":
				w = previous
				document = strings.ReplaceAll(document, "</tuple>", "<timestamp>2026-03-01T12:00:00Z</timestamp></tuple>")
			case "p11-wrong-entity":
				document = `<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:mallory@im.example'><tuple id='a'><status><basic>open</basic></status></tuple></presence>`
			default:
				document = v.Input[0]
			}
			n, err := m.ReadNotification("From: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\n\r\nContent-Type: application/pidf+xml\r\n\r\n"+document, Envelope{})
			if len(want) == 1 && strings.HasPrefix(want[0], "FAIL ") {
				if got := "FAIL " + condition(err); got != want[0] {
					t.Errorf("got %s, want %s", got, want[0])
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			out := m.Notify(&w, n)
			if len(out) != len(want) {
				t.Fatalf("%v, want %d stanzas", out, len(want))
			}
			for i := range out {
				sameXML(t, string(out[i].AppendDocument(nil)), want[i])
			}
			previous = w
		})
	}
}

// timestamps replaces the timestamps by T1, T2 in ascending order.
func timestamps(t *testing.T, doc string) string {
	t.Helper()
	last := time.Time{}
	n := byte('0')
	return regexp.MustCompile(`<timestamp>[^<]*`).ReplaceAllStringFunc(doc, func(s string) string {
		at, err := time.Parse(time.RFC3339, strings.TrimPrefix(s, "<timestamp>"))
		if err != nil || !strings.HasSuffix(s, "Z") || !at.After(last) {
			t.Errorf("timestamp %s after %v: %v", s, last, err)
		}
		last = at
		n++
		return "<timestamp>T" + string(n)
	})
}

func TestTupleID(t *testing.T) {
	for _, tt := range []struct{ resource, id string }{
		{"balcony", "ID-balcony"},
		{"42", "ID-42"},
		{"Psi+ dev", "IDX-a1pmiap0chinc"},
		{"büro", "IDX-cb1rosjf"},
		{"a/b", "IDX-c4nm4"},
		{"ID-x", "ID-ID-x"},
		{"IDX-c4nm4", "ID-IDX-c4nm4"},
	} {
		if got := TupleID(tt.resource); got != tt.id || !pidf.IsNCName(got) {
			t.Errorf("TupleID(%q) = %q, want %q", tt.resource, got, tt.id)
		}
		if got := Resource(tt.id); got != tt.resource {
			t.Errorf("Resource(%q) = %q, want %q", tt.id, got, tt.resource)
		}
	}
	for id, want := range map[string]string{"t2": "t2", "ID-": "ID-", "IDX-": "IDX-", "IDX-!": "IDX-!", "IDX-A1PMIAP0CHINC": "IDX-A1PMIAP0CHINC"} {
		if got := Resource(id); got != want {
			t.Errorf("Resource(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestPriorities(t *testing.T) {
	for p, q := range map[int]int{0: 0, 1: 7, 2: 15, 5: 39, 13: 102, 50: 393, 63: 496, 64: 503, 100: 787, 126: 992, 127: 1000} {
		if got := ToPriority(p); got != q {
			t.Errorf("ToPriority(%d) = %d, want %d", p, got, q)
		}
	}
	for q, p := range map[int]int{0: 0, 1: 1, 7: 1, 8: 2, 15: 2, 16: 3, 100: 13, 500: 64, 800: 102, 992: 126, 999: 126, 1000: 127} {
		if got := FromPriority(q); got != p {
			t.Errorf("FromPriority(%d) = %d, want %d", q, got, p)
		}
	}
	for p := range 128 {
		if got := FromPriority(ToPriority(p)); got != p {
			t.Errorf("%d became %d", p, got)
		}
	}
}

func presence(t *testing.T, attrs, inner string) *stanza.Stanza {
	t.Helper()
	return readStanza(t, "<presence xmlns='jabber:client' "+attrs+">"+inner+"</presence>")
}

// ids returns the tuples of a document with their basic status.
func ids(p *pidf.Presence) string {
	var b strings.Builder
	for _, t := range p.Tuples {
		b.WriteString(t.ID + ":" + string(t.Basic) + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestPresentity(t *testing.T) {
	p, err := New(Options{}).Presentity(alice)
	if err != nil {
		t.Fatal(err)
	}
	check := func(at time.Duration, want string) {
		t.Helper()
		if got := ids(p.Document(noon.Add(at))); got != want {
			t.Errorf("after %v: %s, want %s", at, got, want)
		}
	}
	check(0, "ID-none:closed") // RFC 3922 §6.3.2: never without tuples
	p.Update(presence(t, "from='alice@xmpp.example/b'", ""), noon)
	p.Update(presence(t, "from='alice@xmpp.example/a'", ""), noon)
	check(time.Second, "ID-a:open ID-b:open")
	if p.Update(presence(t, "from='alice@xmpp.example/a'", "<c xmlns='urn:x'/>"), noon) {
		t.Error("a change of an extension changed the document")
	}
	for _, other := range []string{"from='bob@im.example/a'", "from='alice@xmpp.example/a' type='error'", "from='alice@xmpp.example' type='subscribe'"} {
		if p.Update(presence(t, other, ""), noon) {
			t.Errorf("%s changed the document", other)
		}
	}
	p.Update(presence(t, "from='alice@xmpp.example/b' type='unavailable'", "<priority>5</priority><show>away</show>"), noon.Add(time.Minute))
	check(time.Minute+59*time.Second, "ID-a:open ID-b:closed")
	check(2*time.Minute, "ID-a:open")
	p.Update(presence(t, "from='alice@xmpp.example' type='unavailable'", "<status>bye</status>"), noon.Add(3*time.Minute))
	check(3*time.Minute, "ID-a:closed")
	check(time.Hour, "ID-a:closed") // the last one stays
	if d := p.Document(noon); len(d.Tuples[0].Notes) != 1 || d.Tuples[0].Notes[0].Text != "bye" {
		t.Errorf("%+v", d)
	}
	p.Update(presence(t, "from='alice@xmpp.example/c'", ""), noon.Add(2*time.Hour))
	check(2*time.Hour, "ID-c:open")
	if _, err := New(Options{}).Presentity(jid.Must("xmpp.example")); condition(err) != "jid-malformed" {
		t.Errorf("a host: %v", err)
	}
}

func TestPresentityTimestampsIncrease(t *testing.T) {
	p, err := New(Options{}).Presentity(alice)
	if err != nil {
		t.Fatal(err)
	}
	last := p.Document(noon).Newest()
	for _, inner := range []string{"", "<show>away</show>", "", "<show>dnd</show>"} {
		p.Update(presence(t, "from='alice@xmpp.example/a'", inner), noon.Add(-time.Hour)) // a clock that went back
		newest := p.Document(noon).Newest()
		if !newest.After(last) {
			t.Errorf("%v is not after %v", newest, last)
		}
		last = newest
	}
}

func notify(t *testing.T, m *Mapper, w *Watched, inner string) string {
	t.Helper()
	doc, err := m.ReadPresence(`<presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:r='urn:ietf:params:xml:ns:pidf:rpid' xmlns:im='urn:ietf:params:xml:ns:pidf:im' entity='PRES:bob@IM.example'>`+inner+`</presence>`, bob)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, st := range m.Notify(w, Notification{From: bob, To: alice, Document: doc}) {
		if st.To != alice || st.From.Bare() != bob {
			t.Errorf("addressed %s", st)
		}
		b.WriteString(st.From.Resource() + ":" + st.Type + ":" + st.Payload() + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestWatched(t *testing.T) {
	m := New(Options{})
	var w Watched
	const desk = `<tuple id='desk'><status><basic>open</basic></status></tuple>`
	for _, step := range []struct{ name, doc, want string }{
		{"first", desk, "desk::"},
		{"again", desk, ""},
		{"second resource", desk + `<tuple id='ID-phone'><status><basic>open</basic><im:im>away</im:im></status></tuple>`, "phone::<show>away</show>"},
		{"the same resource twice", desk + `<tuple id='ID-phone'><status><basic>open</basic><im:im>away</im:im></status></tuple><tuple id='phone'><status><basic>closed</basic></status></tuple>`, ""},
		{"one has gone", desk, "phone:unavailable:"},
		{"nothing usable", `<tuple><status><basic>open</basic></status></tuple>`, ""},
		{"a note but no tuple", `<note>x</note>`, ""},
		{"all gone", ``, ":unavailable: desk:unavailable:"},
		{"still gone", ``, ""},
		{"back", desk, "desk::"},
		{"closed", strings.Replace(desk, "open", "closed", 1), "desk:unavailable:"},
		{"closed and gone", `<tuple id='x'><status><basic>closed</basic></status></tuple>`, "x:unavailable:"},
		{"an id that is no resource", `<tuple id='IDX-00'><status><basic>open</basic></status></tuple>`, ""},
	} {
		if got := notify(t, m, &w, step.doc); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

func TestStaleDocuments(t *testing.T) {
	m := New(Options{})
	var w Watched
	at := func(basic, stamp string) string {
		return `<tuple id='a'><status><basic>` + basic + `</basic></status><timestamp>` + stamp + `</timestamp></tuple>`
	}
	if got := notify(t, m, &w, at("open", "2026-03-01T12:00:00Z")); got != "a::" {
		t.Errorf("first: %q", got)
	}
	if got := notify(t, m, &w, at("closed", "2026-03-01T11:59:59Z")); got != "" {
		t.Errorf("older: %q", got)
	}
	if got := notify(t, m, &w, at("closed", "2026-03-01T13:00:00.001+01:00")); got != "a:unavailable:" {
		t.Errorf("newer: %q", got)
	}
}

func TestShowPrecedence(t *testing.T) {
	for _, tt := range []struct {
		status, tuple, want string
		rpid                bool
	}{
		{`<show xmlns='jabber:client'>xa</show><im:im>busy</im:im>`, ``, "xa", true},
		{`<show xmlns='jabber:client'>busy</show><im:im>busy</im:im>`, ``, "dnd", true},
		{`<im:im>chat</im:im>`, ``, "chat", true},
		{`<im:im>out</im:im>`, `<r:activities><r:playing/><r:meeting/></r:activities>`, "dnd", true},
		{``, `<r:activities><r:vacation/></r:activities>`, "xa", true},
		{``, `<r:activities><r:away/></r:activities>`, "away", true},
		{``, `<r:activities><r:away/></r:activities>`, "", false},
		{``, `<r:activities><r:sleeping/></r:activities>`, "", true},
	} {
		got := notify(t, New(Options{RPID: tt.rpid}), new(Watched), `<tuple id='a'><status><basic>open</basic>`+tt.status+`</status>`+tt.tuple+`</tuple>`)
		want := "a::"
		if tt.want != "" {
			want += "<show>" + tt.want + "</show>"
		}
		if got != want {
			t.Errorf("%s %s: %q, want %q", tt.status, tt.tuple, got, want)
		}
	}
}

func TestNotificationRefused(t *testing.T) {
	const head = "From: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\n\r\nContent-Type: "
	doc := `<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:bob@im.example'/>`
	for _, tt := range []struct {
		in, want string
		env      Envelope
	}{
		{head + "application/pidf+xml; charset=UTF-8\r\n\r\n" + doc, "", Envelope{}},
		{head + "application/pidf+xml; charset=UTF-8\r\n\r\n" + doc, "", Envelope{From: bob, To: alice}},
		{head + "application/pidf+xml; charset=UTF-8\r\n\r\n" + doc, "forbidden", Envelope{From: alice}},
		{head + "application/pidf+xml; charset=UTF-16\r\n\r\n" + doc, "not-acceptable", Envelope{}},
		{head + "text/xml\r\n\r\n" + doc, "not-acceptable", Envelope{}},
		{head + "application/pidf+xml\r\n\r\n" + doc[1:], "bad-request", Envelope{}},
		{head + "application/pidf+xml\r\n\r\n" + strings.Replace(doc, "pres:bob", "tel:+4", 1), "bad-request", Envelope{}},
		{head + "application/pidf+xml\r\n\r\n" + strings.Replace(doc, "/>", "><note>"+strings.Repeat("x", 70000)+"</note></presence>", 1), "policy-violation", Envelope{}},
	} {
		_, err := New(Options{}).ReadNotification(tt.in, tt.env)
		if got := condition(err); got != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%.200q: %v, want %s", tt.in, err, tt.want)
		}
	}
}

// TestPresenceRoundTrip: what one gateway sends, another gives back.
func TestPresenceRoundTrip(t *testing.T) {
	m := New(Options{Strict: true})
	p, err := m.Presentity(alice)
	if err != nil {
		t.Fatal(err)
	}
	in := []string{
		`<presence xmlns='jabber:client' from='alice@xmpp.example/Psi+ dev' to='bob@im.example'><show>xa</show><status xml:lang='cs'>čaj &lt;</status><priority>13</priority></presence>`,
		`<presence xmlns='jabber:client' from='alice@xmpp.example/büro' to='bob@im.example'><show>chat</show></presence>`,
	}
	for _, s := range in {
		p.Update(readStanza(t, s), noon)
	}
	msg, err := p.Notification(p.Document(noon), bob, noon)
	if err != nil {
		t.Fatal(err)
	}
	b, err := msg.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := message.Parse(string(b), message.Options{Strict: true}); err != nil {
		t.Fatal(err)
	}
	n, err := m.ReadNotification(string(b), Envelope{From: alice, To: bob})
	if err != nil {
		t.Fatal(err)
	}
	out := m.Notify(new(Watched), n)
	if len(out) != len(in) {
		t.Fatalf("%v", out)
	}
	for i := range in {
		sameXML(t, string(out[i].AppendDocument(nil)), in[i])
	}
}
