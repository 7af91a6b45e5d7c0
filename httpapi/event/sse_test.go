package event

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// served is one event as a reader gets it.
type served struct{ id, name, data string }

// parser reads an event stream as WHATWG HTML §9.2.6, "Interpreting an event
// stream", says.
type parser struct {
	r          *bufio.Reader
	id         string // the last event ID buffer
	name, data string
	skipLF     bool
	retry      string
	comments   int
}

func newParser(r io.Reader) *parser { return &parser{r: bufio.NewReader(r)} }

// line reads up to CR, LF or CR LF.
func (p *parser) line() (string, error) {
	var b strings.Builder
	for {
		c, err := p.r.ReadByte()
		if err != nil {
			return "", err // an unfinished line is discarded
		}
		if p.skipLF {
			p.skipLF = false
			if c == '\n' {
				continue
			}
		}
		if c == '\n' || c == '\r' {
			p.skipLF = c == '\r'
			return b.String(), nil
		}
		b.WriteByte(c)
	}
}

// next returns the next event that is dispatched.
func (p *parser) next() (served, error) {
	for {
		line, err := p.line()
		if err != nil {
			return served{}, err
		}
		if line == "" {
			name, data := p.name, p.data
			p.name, p.data = "", ""
			if data == "" {
				continue
			}
			if name == "" {
				name = "message"
			}
			return served{p.id, name, strings.TrimSuffix(data, "\n")}, nil
		}
		field, value, colon := strings.Cut(line, ":")
		if colon && field == "" {
			p.comments++
			continue
		}
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			p.name = value
		case "data":
			p.data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				p.id = value
			}
		case "retry":
			p.retry = value
		}
	}
}

func TestFrame(t *testing.T) {
	// The examples' way of writing: WHATWG HTML §9.2.6.
	for _, tt := range []struct{ data, want string }{
		{"{}", "id: evt_1\nevent: message\ndata: {}\n\n"},
		{"a\nb", "id: evt_1\nevent: message\ndata: a\ndata: b\n\n"},
		{"a\r\nb\r\n", "id: evt_1\nevent: message\ndata: a\ndata: b\ndata: \n\n"},
		{"a\rb\n\rc", "id: evt_1\nevent: message\ndata: a\ndata: b\ndata: \ndata: c\n\n"},
		{" a", "id: evt_1\nevent: message\ndata:  a\n\n"},
	} {
		if got := string(appendFrame(nil, "evt_1", "message", []byte(tt.data))); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.data, got, tt.want)
		}
	}
}

// FuzzFrame: what one event's data are does not matter to what the reader gets,
// but for the ends of lines.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("{}"), []byte("<message/>"))
	f.Add([]byte("a\r\n\r\nb\n"), []byte("\r"))
	f.Add([]byte("\n\nid: x\nevent: y\n\n"), []byte(" : x"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		stream := appendFrame([]byte("retry: 5\n\n:\nid: evt_0\n\n"), "evt_1", "message", first)
		stream = appendFrame(stream, "", "gap", []byte("{}"))
		stream = appendFrame(stream, "evt_2", "presence", second)
		p := newParser(bytes.NewReader(stream))
		for _, want := range []served{
			{"evt_1", "message", lines(first)}, {"evt_1", "gap", "{}"}, {"evt_2", "presence", lines(second)},
		} {
			got, err := p.next()
			if err != nil || got != want {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if got, err := p.next(); err != io.EOF {
			t.Fatalf("at the end: %q, %v", got, err)
		}
	})
}

// lines makes LF of every end of a line.
func lines(b []byte) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"evt_0", "evt_hx2p3kd8m0", "evt_", "evt_-1", "evt_+1", "evt_zzzzzzzzzzzzzz", "msg_1", "evt_1_0", "evt_ 1"} {
		f.Add(s, int64(len(s)))
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		if seq, ok := ParseID(s); ok {
			if seq < 0 {
				t.Errorf("ParseID(%q) = %d", s, seq)
			}
			if back, ok := ParseID(FormatID(seq)); !ok || back != seq {
				t.Errorf("ParseID(%q) = %d, which is not read back", s, seq)
			}
			if strings.ContainsAny(s, " \r\n_-+") && strings.LastIndexAny(s, " \r\n_-+") > 3 {
				t.Errorf("ParseID(%q) = %d", s, seq)
			}
		}
		if n >= 0 {
			if back, ok := ParseID(FormatID(n)); !ok || back != n {
				t.Errorf("%d becomes %q and %d", n, FormatID(n), back)
			}
		}
	})
}
