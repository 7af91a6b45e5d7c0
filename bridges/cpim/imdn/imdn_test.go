package imdn

import (
	"strings"
	"testing"
	"time"
)

// example is the delivery notification among the examples of RFC 5438.
const example = `<?xml version="1.0" encoding="UTF-8"?>
<imdn xmlns="urn:ietf:params:xml:ns:imdn">
 <message-id>34jk324j</message-id>
 <datetime>2008-04-04T12:16:49-05:00</datetime>
 <recipient-uri>im:bob@example.com</recipient-uri>
 <original-recipient-uri>im:bob@example.com</original-recipient-uri>
 <delivery-notification>
  <status>
   <delivered/>
  </status>
 </delivery-notification>
</imdn>`

func TestNotification(t *testing.T) {
	want := Notification{"34jk324j", time.Date(2008, 4, 4, 17, 16, 49, 0, time.UTC), "im:bob@example.com", "im:bob@example.com", Delivery, "delivered"}
	n, err := Parse(example)
	if err != nil || n != want {
		t.Errorf("%+v, %v", n, err)
	}
	n.MessageID, n.Kind, n.Status = `a<&"`, Display, "displayed"
	b, err := n.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(string(b)); err != nil || again != n {
		t.Errorf("%s: %+v, %v", b, again, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "other root": strings.ReplaceAll(example, "imdn", "xmdn"), "no id": strings.Replace(example, "34jk324j", "", 1),
		"no status": strings.Replace(example, "<delivered/>", "", 1), "DTD": "<!DOCTYPE imdn>" + example, "large": example + strings.Repeat(" ", maxBytes),
	} {
		if n, err := Parse(bad); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
	for name, spoil := range map[string]func(*Notification){
		"id": func(n *Notification) { n.MessageID = "" }, "time": func(n *Notification) { n.DateTime = time.Time{} },
		"kind": func(n *Notification) { n.Kind = "x" }, "status": func(n *Notification) { n.Status = "a/><b" }, "recipient": func(n *Notification) { n.Recipient = "" },
	} {
		n := want
		spoil(&n)
		if b, err := n.AppendTo(nil); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
}

func TestComposing(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Composing
		ok   bool
	}{
		{`<?xml version="1.0"?><isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"><state>active</state><contenttype>text/plain</contenttype><refresh>90</refresh></isComposing>`, Composing{true, 90 * time.Second}, true},
		{`<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"><state>idle</state><refresh>90</refresh></isComposing>`, Composing{}, true},
		{`<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"><state>dreaming</state></isComposing>`, Composing{}, true},
		{`<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"><state>active</state><refresh>-1</refresh></isComposing>`, Composing{Active: true}, true},
		{`<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"/>`, Composing{}, false},
		{`<isComposing><state>active</state></isComposing>`, Composing{}, false},
		{`active`, Composing{}, false},
	} {
		got, err := ParseComposing(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
	for _, c := range []Composing{{}, {Active: true}, {Active: true, Refresh: 2 * time.Minute}} {
		if got, err := ParseComposing(string(c.AppendTo(nil))); err != nil || got != c {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
	}
}

// FuzzParse: what is read can be written and read again.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add(`<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"><state>active</state><refresh>90</refresh></isComposing>`)
	f.Fuzz(func(t *testing.T, in string) {
		if c, err := ParseComposing(in); err == nil {
			if again, err := ParseComposing(string(c.AppendTo(nil))); err != nil || again != c {
				t.Fatalf("%q: %+v became %+v, %v", in, c, again, err)
			}
		}
		n, err := Parse(in)
		if err != nil {
			return
		}
		b, err := n.AppendTo(nil)
		if err != nil {
			return // something is missing that reading does without
		}
		if again, err := Parse(string(b)); err != nil || again != n {
			t.Fatalf("%q: %+v became %+v, %v", in, n, again, err)
		}
	})
}
