package upload_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/disco"
	"trivium/core/mod/modtest"
	"trivium/core/mod/upload"
	"trivium/core/stanza"
)

var romeo = jid.Must("romeo@example.org")

func start(t testing.TB, o upload.Options) (*modtest.Server, *upload.Module) {
	t.Helper()
	if o.URL == nil {
		o.URL = func(host string) string { return "https://" + host + "/upload" }
	}
	m := upload.New(o)
	return modtest.New(t, m, disco.New(nil, disco.Options{})), m
}

// put uploads a file of some octets without its octets.
func put(m *upload.Module, owner jid.JID, size int64) error {
	t, err := m.Begin(context.Background(), upload.File{Owner: owner, Name: "a", Size: size})
	if err != nil {
		return err
	}
	defer t.End()
	return t.Commit(context.Background(), size)
}

func request(c *modtest.Client, attrs string) *stanza.Element {
	c.Send(`<iq type='get' id='s' to='upload.example.org'><request xmlns='urn:xmpp:http:upload:0' ` + attrs + `/></iq>`)
	el, err := stanza.ParseElement(c.Next())
	if err != nil {
		panic(err)
	}
	return el
}

// XEP-0363 §3: every host has its service.
func TestItems(t *testing.T) {
	s, _ := start(t, upload.Options{})
	c := s.Connect("romeo@example.org/garden")
	for _, host := range []string{"example.org", "example.com"} {
		c.Send(`<iq type='get' id='1' to='` + host + `'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>`)
		c.Expect(`<iq type='result' id='1' from='` + host + `' to='romeo@example.org/garden'>
			<query xmlns='http://jabber.org/protocol/disco#items'><item jid='upload.` + host + `' name='HTTP File Upload'/></query></iq>`)
	}
}

// §7: the quota of a day, and when there is room again.
func TestQuota(t *testing.T) {
	s, m := start(t, upload.Options{MaxSize: 600, Quota: 1000})
	c := s.Connect("romeo@example.org/garden")
	for s.Now().Minute() > 30 { // so that half an hour later is the same hour of the clock
		s.Advance(time.Minute)
	}
	first := s.Now().Truncate(time.Hour)
	if err := put(m, romeo, 600); err != nil {
		t.Fatal(err)
	}
	s.Advance(2 * time.Hour)
	second := s.Now().Truncate(time.Hour)
	if err := put(m, romeo, 300); err != nil {
		t.Fatal(err)
	}
	if el := request(c, `filename='a' size='100'`); el.Attr("type") != "result" {
		t.Fatalf("what fits: %s", el)
	}
	for _, tt := range []struct {
		size int
		at   time.Time
	}{{101, first.Add(24 * time.Hour)}, {600, first.Add(24 * time.Hour)}} {
		el := request(c, fmt.Sprintf(`filename='a' size='%d'`, tt.size))
		e := el.Child("", "error")
		if e == nil || e.Attr("type") != "wait" || e.Child(stanza.NSStanzas, "resource-constraint") == nil {
			t.Fatalf("over the quota: %s", el)
		}
		if got, want := e.Child(upload.NS, "retry").Attr("stamp"), tt.at.UTC().Format("2006-01-02T15:04:05Z"); got != want {
			t.Errorf("%d octets: again at %s, want %s", tt.size, got, want)
		}
		if err := put(m, romeo, int64(tt.size)); err == nil { // nobody escapes by PUT
			t.Errorf("%d octets were taken", tt.size)
		}
	}
	if err := put(m, jid.Must("juliet@example.org"), 600); err != nil {
		t.Errorf("another's quota: %v", err)
	}
	s.Advance(first.Add(24 * time.Hour).Sub(s.Now()))
	if err := put(m, romeo, 600); err != nil {
		t.Errorf("a day later: %v", err)
	}
	if at, ok := upload.RetryAt(put(m, romeo, 400)); !ok || !at.Equal(second.Add(24*time.Hour)) {
		t.Errorf("again at %v, want %v", at, second.Add(24*time.Hour))
	}
}

// What is deleted has been uploaded all the same; files that are kept are counted.
func TestFileCount(t *testing.T) {
	s, m := start(t, upload.Options{Files: 3, Quota: 1000, MaxSize: 100})
	for range 3 {
		if err := put(m, romeo, 100); err != nil {
			t.Fatal(err)
		}
	}
	var e *stanza.Error
	if err := put(m, romeo, 1); !errors.As(err, &e) || e.Condition != stanza.ResourceConstraint {
		t.Errorf("a fourth file: %v", err)
	}
	for range 7 {
		list, _, err := m.List(t.Context(), romeo, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Delete(t.Context(), romeo, list[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := put(m, romeo, 100); err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := m.List(t.Context(), romeo, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(t.Context(), romeo, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, ok := upload.RetryAt(put(m, romeo, 1)); !ok {
		t.Error("deleting gives back what the day allows")
	}
	s.Advance(25 * time.Hour)
	if err := put(m, romeo, 1); err != nil {
		t.Error(err)
	}
}

// Slots are not counted, so uploads are, from their beginning.
func TestManySlotsAtOnce(t *testing.T) {
	_, m := start(t, upload.Options{MaxSize: 400, Quota: 1000, Parallel: 4})
	var all []*upload.Transfer
	var slots []*upload.Slot
	for range 50 {
		slot, err := m.Slot(t.Context(), upload.File{Owner: romeo, Name: "a", Size: 400})
		if err != nil {
			t.Fatal(err)
		}
		slots = append(slots, slot)
	}
	for _, s := range slots {
		if tr, err := m.Begin(t.Context(), s.File); err == nil {
			all = append(all, tr)
		}
	}
	if len(all) != 2 {
		t.Fatalf("%d uploads of 400 octets began, where 1000 are allowed", len(all))
	}
	if tr, err := m.Begin(t.Context(), upload.File{Owner: romeo, Name: "b", Size: -1}); err != nil || tr.Room() != 200 {
		t.Errorf("room for the rest: %v", err)
	} else {
		tr.End()
	}
	if _, err := m.Begin(t.Context(), all[0].File()); !errors.Is(err, upload.ErrUsed) {
		t.Errorf("the same slot twice: %v", err)
	}
	all[0].End()
	all[0].End() // does nothing
	tr, err := m.Begin(t.Context(), slots[10].File)
	if err != nil {
		t.Fatalf("room that was given back: %v", err)
	}
	for _, tr := range []*upload.Transfer{tr, all[1]} {
		if err := tr.Commit(t.Context(), 400); err != nil {
			t.Error(err)
		}
		tr.End()
	}
	for range 4 {
		if _, err := m.Begin(t.Context(), upload.File{Owner: romeo, Name: "c", Size: 10}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Begin(t.Context(), upload.File{Owner: romeo, Name: "c", Size: 10}); err == nil {
		t.Error("a fifth upload at a time")
	}
}

// Only accounts of this server get slots: not those of others, not passing ones.
func TestStrangers(t *testing.T) {
	s, m := start(t, upload.Options{})
	s.Missing("ghost@example.org")
	ghost := s.Connect("ghost@example.org/1")
	if el := request(ghost, `filename='a' size='1'`); el.Attr("type") != "error" || el.Child("", "error").Child(stanza.NSStanzas, "forbidden") == nil {
		t.Errorf("no account: %s", el)
	}
	p := s.Peer("montague.example")
	p.Send(`<iq type='get' id='s' from='romeo@montague.example/x' to='upload.example.org'><request xmlns='urn:xmpp:http:upload:0' filename='a' size='1'/></iq>`)
	if got := p.Next(); !strings.Contains(got, "<forbidden ") {
		t.Errorf("from elsewhere: %s", got)
	}
	if err := put(m, jid.Must("ghost@example.org"), 1); err == nil {
		t.Error("an upload without an account")
	}
	// Users of gateways are vouched for by the program that uploads for them.
	if err := put(m, jid.Must("+49@sms.example"), 1); err != nil {
		t.Error(err)
	}
}

// Without an address there are no slots.
func TestNoAddress(t *testing.T) {
	s, m := start(t, upload.Options{URL: func(string) string { return "" }})
	if el := request(s.Connect("romeo@example.org/1"), `filename='a' size='1'`); !strings.Contains(el.String(), "<service-unavailable ") {
		t.Errorf("%s", el)
	}
	if err := put(m, romeo, 1); err == nil {
		t.Error("an upload that nobody could fetch")
	}
}

func TestRequests(t *testing.T) {
	s, _ := start(t, upload.Options{MaxSize: 1000})
	c := s.Connect("romeo@example.org/garden")
	long := strings.Repeat("x", 300)
	for attrs, want := range map[string]string{
		`filename='a' size='1000'`:                                          "",
		`filename='a' size=' +7 '`:                                          "", // xs:positiveInteger
		`filename='a' size='1001'`:                                          "not-acceptable",
		`filename='a' size='99999999999999999999'`:                          "bad-request",
		`filename='a' size='-1'`:                                            "bad-request",
		`filename='a' size='1e3'`:                                           "bad-request",
		`filename='a'`:                                                      "bad-request",
		`filename='' size='1'`:                                              "bad-request",
		`filename='a' size='1' content-type='` + long + `/x'`:               "bad-request",
		`filename='a' size='1' content-type='a/b&#10;c: d'`:                 "bad-request",
		`filename='` + long + `.tar.gz' size='1' content-type='text/plain'`: "",
	} {
		el := request(c, attrs)
		got := ""
		if e := el.Child("", "error"); e != nil {
			for _, c := range e.Children(stanza.NSStanzas, "") {
				if c.Local != "text" {
					got = c.Local
				}
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", attrs, got, want)
		}
		if strings.Contains(attrs, "tar.gz") && !strings.HasSuffix(el.Child(upload.NS, "slot").Child(upload.NS, "get").Attr("url"), "x.gz") {
			t.Errorf("the ending is lost: %s", el)
		}
	}
}

// §6.3: the time of an ephemeral file goes with the slot.
func TestEphemeralSlot(t *testing.T) {
	s, m := start(t, upload.Options{})
	c := s.Connect("romeo@example.org/garden")
	until := s.Now().Add(time.Hour).UTC().Truncate(time.Second)
	c.Send(`<iq type='get' id='s' to='upload.example.org'><request xmlns='urn:xmpp:http:upload:0' filename='a.jpg' size='5' content-type='image/jpeg'>
		<ephemeral xmlns='urn:xmpp:http:upload:purpose:0' expire-before='` + until.Format(time.RFC3339) + `'/></request></iq>`)
	el, err := stanza.ParseElement(c.Next())
	if err != nil {
		t.Fatal(err)
	}
	u := el.Child(upload.NS, "slot").Child(upload.NS, "put").Attr("url")
	rest, token, _ := strings.Cut(strings.TrimPrefix(u, "https://example.org/upload/"), "?slot=")
	id, name, _ := strings.Cut(rest, "/")
	slot, err := m.Open(id, name, token)
	if err != nil {
		t.Fatal(err)
	}
	want := upload.File{ID: id, Owner: romeo, Name: "a.jpg", Type: "image/jpeg", Size: 5, Expires: until}
	if slot.File != want {
		t.Errorf("got %+v, want %+v", slot.File, want)
	}
}

// Two servers with different keys do not take each other's slots.
func TestKeys(t *testing.T) {
	_, a := start(t, upload.Options{})
	_, b := start(t, upload.Options{})
	slot, err := a.Slot(t.Context(), upload.File{Owner: romeo, Name: "a", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(slot.ID, slot.Name, slot.Token); err != nil {
		t.Error(err)
	}
	if _, err := b.Open(slot.ID, slot.Name, slot.Token); !errors.Is(err, upload.ErrSlot) {
		t.Error(err)
	}
}

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"très cool.jpg":                    "très cool.jpg",
		"../../etc/passwd":                 ".._.._etc_passwd",
		`C:\Windows\a.exe`:                 "C:_Windows_a.exe",
		"a\x00b\r\nc":                      "abc",
		"gpj.\u202eexe":                    "gpj.exe",
		"  a  ":                            "a",
		"..":                               "file",
		"":                                 "file",
		"\xff\xfe":                         "file",
		strings.Repeat("é", 200):           strings.Repeat("é", 90),
		strings.Repeat("a.", 200):          strings.Repeat("a.", 90),
		strings.Repeat("日", 100) + ".jpeg": strings.Repeat("日", 58) + ".jpeg",
	} {
		if got := upload.CleanName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A clean name is one segment of a path, and clean.
func FuzzCleanName(f *testing.F) {
	f.Add("../a/b.c")
	f.Add(strings.Repeat("a ", 200) + ".\u202ejpg")
	f.Add(" . ")
	f.Fuzz(func(t *testing.T, in string) {
		out := upload.CleanName(in)
		if out == "" || len(out) > 180 || strings.ContainsAny(out, "/\\\x00\r\n") || out == "." || out == ".." {
			t.Errorf("%q: %q", in, out)
		}
		if again := upload.CleanName(out); again != out {
			t.Errorf("%q: %q, then %q", in, out, again)
		}
	})
}

// Nothing but what was signed opens a slot.
func FuzzOpen(f *testing.F) {
	_, m := start(f, upload.Options{})
	slot, err := m.Slot(f.Context(), upload.File{Owner: romeo, Name: "a.txt", Type: "text/plain", Size: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slot.ID, "a.txt", slot.Token)
	f.Add(slot.ID, "a.txt", ".")
	f.Add("", "", "A.A")
	f.Fuzz(func(t *testing.T, id, name, token string) {
		got, err := m.Open(id, name, token)
		if same := id == slot.ID && name == slot.Name && token == slot.Token; same != (err == nil) {
			t.Errorf("%q %q %q: %+v, %v", id, name, token, got, err)
		}
	})
}

// A file that is deleted while it is brought to its place is deleted after that.
func TestDeletedOnItsWay(t *testing.T) {
	_, m := start(t, upload.Options{})
	tr, err := m.Begin(t.Context(), upload.File{Owner: romeo, Name: "a", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	id := tr.File().ID
	if err := m.Delete(t.Context(), romeo, id); err != nil {
		t.Fatal(err)
	}
	if ids, err := m.Condemned(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("too early: %q, %v", ids, err)
	}
	tr.End()
	ids, err := m.Condemned(t.Context())
	if err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("%q, %v", ids, err)
	}
	if err := m.Unlinked(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if ids, err = m.Condemned(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("again: %q, %v", ids, err)
	}
}
