package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"trivium/core/mod/modtest"
)

// batchOf posts lines and returns what was answered, by line.
func (r *rest) batchOf(t *testing.T, lines string, header ...string) []Result {
	t.Helper()
	rs, body := r.with(http.MethodPost, "/messages/batch", r.romeo, ndjsonType, lines, header...)
	if rs.StatusCode != http.StatusOK || rs.Header.Get("Content-Type") != ndjsonType {
		t.Fatalf("%s: %s", rs.Status, body)
	}
	return results(t, body)
}

func results(t *testing.T, body string) []Result {
	t.Helper()
	var list []Result
	for line := range strings.Lines(body) {
		var one Result
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&one); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if (one.Problem == nil) != (one.Status == 202) || one.Problem != nil && one.Problem.Status != one.Status {
			t.Errorf("%s", line)
		}
		list = append(list, one)
	}
	return list
}

// A bad line does not stop the others, and each has its answer, in order.
func TestBatch(t *testing.T) {
	r, _ := newSending(t, Options{MaxBody: 2000, Messages: MessageOptions{MaxLines: 12}})
	juliet := r.online("juliet@example.org/balcony")
	long := `{"to":"juliet@example.org","body":"` + strings.Repeat("x", 2000) + `"}`
	got := r.batchOf(t, strings.Join([]string{
		`{"to":"juliet@example.org","body":"1"}`,
		`canary`,
		``,
		`{"to":"juliet@example.org","body":"4","from":"canary@example.org"}`,
		long,
		`{"to":"juliet@unreachable.example","body":"6"}`,
		"  \t",
		`{"to":"juliet@example.org","canary":"8"}`,
		`{"to":"juliet@example.org","body":"9","id":"nine"} ` + "\r",
		`{"to":"juliet@example.org","chat_state":"composing"}`,
	}, "\n"))
	want := []struct{ line, status int }{{1, 202}, {2, 400}, {4, 403}, {5, 413}, {6, 404}, {8, 422}, {9, 202}, {10, 202}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if got[i].Line != w.line || got[i].Status != w.status {
			t.Errorf("%+v, want %+v", got[i], w)
		}
	}
	if got[6].ID != "nine" || got[0].ID == "" || got[0].To != "juliet@example.org" {
		t.Errorf("%+v", got)
	}
	var bodies []string
	for _, xml := range juliet.Take() {
		b, _ := modtest.Parse(t, xml).Body()
		bodies = append(bodies, b)
	}
	if fmt.Sprint(bodies) != "[1 9 ]" {
		t.Errorf("%q", bodies)
	}
	if a, f := r.api.Stats.Accepted.Load(), r.api.Stats.Refused.Load(); a != 3 || f != 5 {
		t.Errorf("%d accepted, %d refused", a, f)
	}

	// Too many lines: those before are sent.
	got = r.batchOf(t, strings.Repeat(hello+"\n", 13))
	if len(got) != 13 || got[11].Status != 202 || got[12].Status != 413 || len(juliet.Take()) != 12 {
		t.Errorf("%+v", got)
	}
	if got = r.batchOf(t, ""); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// Line i has the key KEY/i: a batch that is repeated sends what was not sent.
func TestBatchKeys(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	lines := []string{
		`{"to":"juliet@example.org","body":"1"}`, `{"to":"juliet@unreachable.example","body":"2"}`, `{"to":"juliet@example.org"}`, `{"to":"juliet@example.org","body":"4"}`,
	}
	first := r.batchOf(t, strings.Join(lines, "\n"), "Idempotency-Key", `"b"`)
	if len(juliet.Take()) != 2 || len(first) != 4 {
		t.Fatalf("%+v", first)
	}
	lines[2] = `{"to":"juliet@example.org","body":"3"}` // was not a message, and has used no key up
	lines = append(lines, `{"to":"juliet@example.org","body":"5"}`)
	second := r.batchOf(t, strings.Join(lines, "\n"), "Idempotency-Key", `"b"`)
	if len(juliet.Take()) != 2 || len(second) != 5 {
		t.Fatalf("%+v", second)
	}
	for _, i := range []int{0, 1, 3} {
		a, b := first[i], second[i]
		if a.Problem != nil && b.Problem != nil {
			a.Problem, b.Problem = nil, nil
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%+v, then %+v", first[i], second[i])
		}
	}
	// One message by itself shares the keys.
	rs, body := r.with(http.MethodPost, "/messages/batch", r.romeo, ndjsonType, hello, "Idempotency-Key", "b")
	if got := results(t, body); rs.StatusCode != 200 || got[0].Status != 422 || got[0].Problem.Type != typeReused {
		t.Error(body)
	}
	juliet.Quiet()
}

func TestBatchRefused(t *testing.T) {
	r, _ := newSending(t, Options{})
	for _, tt := range []struct {
		token, ct string
		header    []string
		status    int
	}{
		{"", ndjsonType, nil, 401},
		{r.romeo, jsonType, nil, 415},
		{r.romeo, ndjsonType + "; charset=utf-16", nil, 415},
		{r.romeo, ndjsonType, []string{"Content-Encoding", "gzip"}, 415},
		{r.romeo, ndjsonType, []string{"Idempotency-Key", `"`}, 400},
	} {
		rs, body := r.with(http.MethodPost, "/messages/batch", tt.token, tt.ct, hello, tt.header...)
		problemIn(t, rs, body, tt.status)
	}
}

// Answers come while the request is still being written.
func TestBatchStreams(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	pr, pw := io.Pipe()
	rq, err := http.NewRequest(http.MethodPost, r.http.URL+"/api/v1/messages/batch", pr)
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+r.romeo)
	rq.Header.Set("Content-Type", ndjsonType)
	go fmt.Fprintln(pw, hello)
	rs, err := r.http.Client().Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	lines := bufio.NewScanner(rs.Body)
	for i := 1; i <= 3; i++ {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		if got := results(t, lines.Text()); got[0].Line != i || got[0].Status != 202 || len(juliet.Take()) != 1 {
			t.Fatalf("%+v", got)
		}
		if i < 3 {
			fmt.Fprintln(pw, hello)
		}
	}
	pw.Close()
	if lines.Scan() {
		t.Errorf("one more: %s", lines.Text())
	}
}

// The order of a conversation is the order of the lines, however slow a device is,
// and more lines than there may be on their way at once go through.
func TestBatchOrder(t *testing.T) {
	r, _ := newSending(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	nurse := r.online("nurse@example.com/x")
	juliet.Stall()
	var b strings.Builder
	const n = 3 * batchWindow
	for i := range n {
		to := "juliet@example.org"
		if i%3 == 0 {
			to = "nurse@example.com"
		}
		fmt.Fprintf(&b, `{"to":%q,"body":"%d"}`+"\n", to, i)
	}
	done := make(chan []Result)
	go func() { done <- r.batchOf(t, b.String()) }()
	for {
		juliet.Resume()
		select {
		case got := <-done:
			if len(got) != n {
				t.Fatalf("%d lines", len(got))
			}
			for i, g := range got {
				if g.Line != i+1 || g.Status != 202 {
					t.Fatalf("%+v", g)
				}
			}
			for _, c := range []*modtest.Client{juliet, nurse} {
				last, count := -1, 0
				for _, xml := range c.Take() {
					body, _ := modtest.Parse(t, xml).Body()
					var i int
					fmt.Sscan(body, &i)
					if i <= last {
						t.Fatalf("%d after %d", i, last)
					}
					last = i
					count++
				}
				if count == 0 {
					t.Error("nothing came")
				}
			}
			return
		default:
		}
	}
}

// Lines of a token with a limit are slowed down, not refused.
func TestBatchPaced(t *testing.T) {
	r, _ := newSending(t, Options{Rate: 50})
	juliet := r.online("juliet@example.org/balcony")
	for _, g := range r.batchOf(t, strings.Repeat(hello+"\n", 60)) {
		if g.Status != 202 {
			t.Errorf("%+v", g)
		}
	}
	if n := len(juliet.Take()); n != 60 {
		t.Errorf("%d messages", n)
	}
}

// FuzzLines: lines are the same however the input is cut, and none is longer than it
// may be.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccccccccccc\nd"), 5)
	f.Add([]byte("\n"), 1)
	f.Add([]byte("abc\n"), 3)
	f.Fuzz(func(t *testing.T, in []byte, most int) {
		if most < 1 || most > 1000 {
			return
		}
		read := func(r io.Reader) (list []string) {
			l := &lineReader{r: bufio.NewReaderSize(r, 16), most: most}
			for {
				line, long, err := l.next()
				if err == io.EOF {
					return list
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(line) > most && !long {
					t.Fatalf("%d octets, at most %d", len(line), most)
				}
				if long {
					list = append(list, "long")
				} else {
					list = append(list, string(line))
				}
			}
		}
		whole, cut := read(bytes.NewReader(in)), read(iotest.OneByteReader(bytes.NewReader(in)))
		if fmt.Sprintf("%q", whole) != fmt.Sprintf("%q", cut) {
			t.Fatalf("%q, %q", whole, cut)
		}
		var want []string
		parts := strings.Split(string(in), "\n")
		if parts[len(parts)-1] == "" {
			parts = parts[:len(parts)-1]
		}
		for _, p := range parts {
			if len(p) > most {
				p = "long"
			}
			want = append(want, p)
		}
		if fmt.Sprintf("%q", whole) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q, want %q", whole, want)
		}
	})
}
