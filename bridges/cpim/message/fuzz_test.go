package message

import (
	"errors"
	"testing"
)

// FuzzParse: what strict reading accepts, lenient reading accepts; what either
// accepts can be written, and reads back strictly as the same message.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("From: \"a\\\"\"<im:a@x>\r\nTo: <im:b@y>\r\nNS: p<urn:x>\r\np.q:;lang=en;x=\"y z\" v\\\r\nRequire: p.q,X\r\nSubject: \\ud83d\\ude00\\n\r\n\r\nContent-Type: a/b\r\n\r\n\x00")
	f.Add("From: B, A <sip:é@x>;gr=1\nTo: <im:b@y>\nCC: <im:c@z>\nNS: <urn:x>\nX:;lang=?? y\nContent-Type: text/plain\n\nhi")
	f.Add("Content-Type: text/cpim\r\nContent-Transfer-Encoding: base64\r\n\r\nRnJvbTogPGltOmFAeD4NCg==")
	f.Fuzz(func(t *testing.T, in string) {
		strict, strictErr := Parse(in, Options{Strict: true})
		lenient, err := Parse(in, Options{})
		var typed *Error
		for _, e := range []error{strictErr, err} {
			if e != nil && !errors.As(e, &typed) {
				t.Fatalf("error is a %T: %v", e, e)
			}
		}
		for _, m := range []*Message{strict, lenient} {
			if m == nil {
				continue
			}
			undeclared := false
			for _, r := range m.Require {
				undeclared = undeclared || r.Space == ""
			}
			if undeclared {
				continue // cannot be written, and has to be refused by who reads it
			}
			roundTrip(t, m)
		}
	})
}

// FuzzEscape: any text survives being a value, and a value is one line.
func FuzzEscape(f *testing.F) {
	f.Add("a\\b\n\x00\u00e9\U0001F600")
	f.Fuzz(func(t *testing.T, text string) {
		v := Escape(text)
		if got := unescape(v); got != text {
			t.Fatalf("%q became %q", text, got)
		}
		for i := range len(v) {
			if v[i] < ' ' || v[i] == 0x7f {
				t.Fatalf("%q holds a control character", v)
			}
		}
	})
}
