package message

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
)

var (
	romeo  = jid.Must("romeo@example.net")
	juliet = jid.Must("juliet@example.com/balcony")
)

// FuzzDraft: whatever a program asks for, either it is refused, or another parser
// finds one message with exactly these fields in what is sent.
func FuzzDraft(f *testing.F) {
	f.Add(`{"body":"hi"}`)
	f.Add(`{"body":"<&>'\"\r\n\t\ud83c\udf39","subject":"]]>","thread":"t","id":"'","extensions":"<a xmlns='b'/>"}`)
	f.Add(`{"extensions":"</message><message>"}`)
	f.Add(`{"extensions":"<body>x</body><!-- -->"}`)
	f.Add(`{"body":"\ud800"}`)
	f.Add(`{"body":"\\ud800\u0000"}`)
	f.Fuzz(func(t *testing.T, in string) {
		var d Draft
		if err := Decode([]byte(in), &d); err != nil {
			var s *SyntaxError
			var fe *FieldError
			if !errors.As(err, &s) && !errors.As(err, &fe) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		// Decode has changed nothing: a second reading by the standard library gives
		// the same, and nothing was replaced.
		var again Draft
		if err := json.Unmarshal([]byte(in), &again); err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("%v: %+v, %+v", err, d, again)
		}
		st, err := d.Stanza(romeo, juliet, wire.Limits{})
		if err != nil {
			return
		}
		raw := string(st.AppendDocument(nil))
		if !utf8.ValidString(raw) {
			t.Fatalf("not UTF-8: %q", raw)
		}
		dec := xml.NewDecoder(strings.NewReader(raw))
		depth, roots := 0, 0
		texts := map[string][]string{}
		var path []string
		for {
			tok, err := dec.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v in %q", err, raw)
			}
			switch tok := tok.(type) {
			case xml.StartElement:
				if depth == 0 {
					roots++
					if tok.Name != (xml.Name{Space: stanza.NSClient, Local: "message"}) {
						t.Fatalf("root %v", tok.Name)
					}
				}
				if depth == 1 && tok.Name.Space == stanza.NSClient {
					texts[tok.Name.Local] = append(texts[tok.Name.Local], "")
				}
				path = append(path, tok.Name.Space+" "+tok.Name.Local)
				depth++
			case xml.EndElement:
				path = path[:len(path)-1]
				depth--
			case xml.CharData:
				if depth == 2 {
					if name, ok := strings.CutPrefix(path[1], stanza.NSClient+" "); ok {
						l := texts[name]
						l[len(l)-1] += string(tok)
					}
				}
			default:
				t.Fatalf("token %T in %q", tok, raw)
			}
		}
		if roots != 1 {
			t.Fatalf("%d roots in %q", roots, raw)
		}
		for name, want := range map[string]string{"body": d.Body, "subject": d.Subject, "thread": d.Thread} {
			if want == "" {
				continue
			}
			if got := texts[name]; len(got) == 0 || got[0] != want {
				t.Fatalf("%s %q, want %q in %q", name, got, want, raw)
			}
		}
		if d.ID != "" && st.ID != d.ID || st.From != romeo || st.To != juliet {
			t.Fatalf("%s for %+v", st, d)
		}
	})
}

// FuzzParse: XML that is taken is one message whose children stay what they were.
func FuzzParse(f *testing.F) {
	f.Add(`<message to='a@b'><body>hi</body></message>`)
	f.Add(`<?xml version='1.0'?><message xmlns='jabber:client' xmlns:p='q' p:r='s'><p:x/></message>`)
	f.Add(`<message xmlns:e='&#117;'><e:x xmlns=''/></message>`)
	f.Fuzz(func(t *testing.T, in string) {
		st, err := Parse([]byte(in), wire.Limits{})
		if err != nil {
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		again, err := stanza.ParseDocument(st.AppendDocument(nil))
		if err != nil {
			t.Fatalf("%v in %q", err, st.AppendDocument(nil))
		}
		if again.Payload() != st.Payload() || again.ID != st.ID || again.Type != st.Type || again.To != st.To || again.From != st.From {
			t.Fatalf("%s is read as %s", st, again)
		}
	})
}

// FuzzParseStanza is FuzzParse for all kinds, and what RFC 6120 §8.2.3 says of each.
func FuzzParseStanza(f *testing.F) {
	for _, in := range []string{
		`<presence to='a@b'><show>away</show></presence>`, `<iq type='get' id='1' to='a@b'><q xmlns='r'/></iq>`,
		`<iq type='error' id='1'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`,
		`<?xml version='1.0'?> <presence xmlns='' type='probe'/>`, `<message type='error'><error/></message>`,
	} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		st, err := ParseStanza([]byte(in), stanza.Any, wire.Limits{})
		if err != nil {
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		again, err := stanza.ParseDocument(st.AppendDocument(nil))
		if err != nil {
			t.Fatalf("%v in %q", err, st.AppendDocument(nil))
		}
		if again.Payload() != st.Payload() || again.Kind != st.Kind || again.ID != st.ID || again.Type != st.Type || again.To != st.To || again.From != st.From {
			t.Fatalf("%s is read as %s", st, again)
		}
		if st.Kind == stanza.IQ && (st.ID == "" || st.Len() != 1 && (st.Type == stanza.Get || st.Type == stanza.Set)) {
			t.Fatalf("took %s", st)
		}
	})
}

// FuzzFlat: the short way takes nothing that the long way refuses, and finds the
// same.
func FuzzFlat(f *testing.F) {
	f.Add(`{"to":"a@b","body":"hi"}`)
	f.Add(" {\t\"to\" : \"a\"\r\n, \"to\":\"b\" } \n")
	f.Add(`{"body":"\u0041"}`)
	f.Add(`{"Body":"x","":"y"}`)
	f.Add(`{"body":"x",}`)
	f.Add("{\"body\":\"\x00\xff\"}")
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, in string) {
		var short, long Draft
		if !short.flat(in) {
			return
		}
		if err := Decode([]byte(in), &long); err != nil || !reflect.DeepEqual(short, long) {
			t.Fatalf("%v: %+v, %+v", err, short, long)
		}
	})
}

func TestFlat(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Draft
		flat bool
	}{
		{
			`{"to":"a","body":"ü🌹","from":"b","type":"chat","subject":"s","thread":"t","id":"i","lang":"l","extensions":"<e/>"}`,
			Draft{To: "a", Body: "ü🌹", From: "b", Type: "chat", Subject: "s", Thread: "t", ID: "i", Lang: "l", Extensions: "<e/>"},
			true,
		},
		{`{"to":"a","body":"x\ny"}`, Draft{To: "a", Body: "x\ny"}, false},
		{`{"to":"a","body":null}`, Draft{To: "a"}, false},
		{`{}`, Draft{}, false},
	} {
		var short, long Draft
		if got := short.Flat([]byte(tt.in)); got != tt.flat {
			t.Errorf("%s: flat %v", tt.in, got)
		}
		if tt.flat && !reflect.DeepEqual(short, tt.want) {
			t.Errorf("%s: %+v", tt.in, short)
		}
		if err := Decode([]byte(tt.in), &long); err != nil || !reflect.DeepEqual(long, tt.want) {
			t.Errorf("%s: %v, %+v", tt.in, err, long)
		}
	}
}
