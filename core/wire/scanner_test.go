package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const header = `<?xml version='1.0'?><stream:stream from='juliet@im.example.com' to='im.example.com' version='1.0' ` +
	`xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`

// event is one thing that a Scanner found, with all that it says about it.
type event struct {
	kind Kind
	raw  string
	el   string
}

// scan feeds in, cut after each of the given numbers of octets, and returns what
// was found and the error. It moves the buffer with each call.
func scan(t testing.TB, m Mode, l Limits, in string, cuts ...int) ([]event, *Error) {
	t.Helper()
	var s Scanner
	s.Reset(m, l)
	var events []event
	rest := in
	cuts = append(cuts, len(in))
	for _, cut := range cuts {
		for {
			data := []byte(rest[:cut-(len(in)-len(rest))])
			kind, n, err := s.Next(data)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("error %T is no *Error", err)
				}
				if _, _, again := s.Next(data); again != err {
					t.Fatalf("second error %v after %v", again, err)
				}
				return events, e
			}
			if n < 0 || n > len(data) {
				t.Fatalf("consumed %d of %d", n, len(data))
			}
			rest = rest[n:]
			if kind == KindMore {
				if idle := n == len(data); s.Idle() != idle {
					t.Fatalf("Idle %v with %d octets left", s.Idle(), len(data)-n)
				}
				break
			}
			ev := event{kind: kind}
			if el := s.Index(); el != nil && kind != KindTrailer {
				ev.raw = string(data[n-el.Len : n])
				ev.el = fmt.Sprintf("%+v", *el)
			}
			events = append(events, ev)
		}
	}
	return events, nil
}

func TestStream(t *testing.T) {
	in := header + "\n <message to='romeo@example.net'><body>Art thou &lt;not&gt; Romeo?</body></message>\r\n" +
		`<presence/><iq type="get" id='1'><q xmlns='a:b' xmlns:x="c:d"><x:y x:z='1' z='2'/></q>t<r/></iq></stream:stream > `
	events, err := scan(t, Stream, Limits{}, in)
	if err != nil {
		t.Fatal(err)
	}
	want := []event{
		{kind: KindHeader, raw: strings.TrimPrefix(header, "<?xml version='1.0'?>")},
		{kind: KindElement, raw: "<message to='romeo@example.net'><body>Art thou &lt;not&gt; Romeo?</body></message>"},
		{kind: KindElement, raw: "<presence/>"},
		{kind: KindElement, raw: `<iq type="get" id='1'><q xmlns='a:b' xmlns:x="c:d"><x:y x:z='1' z='2'/></q>t<r/></iq>`},
		{kind: KindTrailer},
	}
	if len(events) != len(want) {
		t.Fatalf("found %d, want %d: %v", len(events), len(want), events)
	}
	for k := range want {
		if events[k].kind != want[k].kind || events[k].raw != want[k].raw {
			t.Errorf("%d: found %v %q, want %v %q", k, events[k].kind, events[k].raw, want[k].kind, want[k].raw)
		}
	}
	// Cut once anywhere, and at every octet.
	all := make([]int, len(in))
	for k := range len(in) {
		all[k] = k
		got, err := scan(t, Stream, Limits{}, in, k)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(events) {
			t.Fatalf("cut at %d: %v %v", k, got, err)
		}
	}
	if got, err := scan(t, Stream, Limits{}, in, all...); err != nil || fmt.Sprint(got) != fmt.Sprint(events) {
		t.Fatalf("octet by octet: %v %v", got, err)
	}
}
