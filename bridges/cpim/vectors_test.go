package cpim

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// readStanza reads one stanza from a document.
func readStanza(t testing.TB, xml string) *stanza.Stanza {
	t.Helper()
	st, err := stanza.ParseDocument([]byte(xml))
	if err != nil {
		t.Fatalf("%v: %s", err, xml)
	}
	return st
}

// sameXML compares two elements as XML: attribute order, prefixes and quotes do
// not count, nor does white space between elements.
func sameXML(t testing.TB, got, want string) {
	t.Helper()
	g, err := stanza.ParseElement(got)
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	w, err := stanza.ParseElement(want)
	if err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if !equal(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func equal(a, b *stanza.Element) bool {
	if a.Space != b.Space || a.Local != b.Local || len(a.Attrs) != len(b.Attrs) || len(a.Nodes) != len(b.Nodes) {
		return false
	}
	for _, x := range a.Attrs {
		found := false
		for _, y := range b.Attrs {
			found = found || x == y
		}
		if !found {
			return false
		}
	}
	for i := range a.Nodes {
		x, y := a.Nodes[i], b.Nodes[i]
		if (x.El == nil) != (y.El == nil) || x.El == nil && x.Text != y.Text || x.El != nil && !equal(x.El, y.El) {
			return false
		}
	}
	return true
}

// condition returns the condition of a stanza error.
func condition(err error) string {
	var se *stanza.Error
	if errors.As(err, &se) {
		return string(se.Condition)
	}
	return ""
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestMessageVectors runs the vectors of the mapping reference.
func TestMessageVectors(t *testing.T) {
	var vectors []struct{ Name, Dir, Stanza, CPIM, Result, Note string }
	data, err := os.ReadFile("testdata/messages.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 19 {
		t.Fatalf("%d vectors, want 19", len(vectors))
	}
	// What the gateway knows of the people in the vectors, as their notes tell.
	names := map[string]map[string]string{
		"m02-subject-lang-multiline": {"alice@xmpp.example": "Alice Liddell", "bob@im.example": "Bob"},
		"m03-header-escapes":         {"alice@xmpp.example": `Liddell, "Al" \o/`},
	}
	ids := map[string]Meta{"m02-subject-lang-multiline": {Received: noon, StanzaID: "7d0e2a9b"}}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			o := Options{Name: func(j jid.JID) string { return names[v.Name][j.String()] }}
			if v.Dir == "xmpp>cpim" {
				b, err := New(o).AppendMessage(nil, readStanza(t, v.Stanza), ids[v.Name])
				if err != nil || string(b) != v.CPIM {
					t.Errorf("%v\ngot  %q\nwant %q", err, b, v.CPIM)
				}
				return
			}
			for _, strict := range []bool{true, false} {
				want := v.Result
				switch {
				case v.Name == "c03-no-blank-line" && strict:
					want = "FAIL bad-request" // what strict reading is about
				case v.Name == "c14-bare-lf" && !strict:
					want = "<message xmlns='jabber:client' from='bob@im.example' to='alice@xmpp.example'><body>ok</body></message>"
				}
				o.Strict = strict
				sts, err := New(o).ReadMessage(v.CPIM, Envelope{}, noon)
				if cond, fail := strings.CutPrefix(want, "FAIL "); fail {
					if condition(err) != cond || sts != nil {
						t.Errorf("strict %v: %v, %v, want %s", strict, sts, err, want)
					}
					continue
				}
				if err != nil || len(sts) != 1 {
					t.Errorf("strict %v: %v, %v", strict, sts, err)
					continue
				}
				sameXML(t, string(sts[0].AppendDocument(nil)), want)
			}
		})
	}
}
