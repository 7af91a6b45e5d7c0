package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"trivium/core/auth"
	"trivium/httpapi/idempotency"
)

// batchWindow is how many messages of one batch may be on their way at once.
const batchWindow = 256

// postBatch is POST /messages/batch: a message on every line, and a line about each
// in the answer, as soon as it is known and in the order of the lines.
//
// One goroutine reads the lines and routes the messages in their order, which is the
// order of every conversation therefore; how they end is waited for apart.
func (a *API) postBatch(w http.ResponseWriter, r *http.Request) {
	token, p := a.authenticate(w, r)
	key := ""
	if p == nil {
		key, p = a.openBatch(w, r)
	}
	if p != nil {
		a.Stats.count(p.Status)
		p.write(w)
		return
	}
	rc := http.NewResponseController(w)
	// Answers begin before the request has ended (RFC 9112 §9.3 lets them). Where that
	// is not possible, as with HTTP/2, it need not be asked for.
	_ = rc.EnableFullDuplex()
	w.Header()["Content-Type"] = []string{ndjsonType}
	w.WriteHeader(http.StatusOK)

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	b := &batch{API: a, w: w, r: r, token: &token, key: key, out: make(chan entry, batchWindow), checked: time.Now()}
	go b.read(ctx)
	b.write(rc, cancel)
}

// openBatch checks what comes before the lines.
func (a *API) openBatch(w http.ResponseWriter, r *http.Request) (key string, p *Problem) {
	rq := request{API: a, w: w, r: r}
	switch ct := mediaType(r); {
	case ct != ndjsonType && ct != "application/jsonl":
		return "", unsupported(ndjsonType)
	case encoded(r):
		w.Header()["Accept-Encoding"] = []string{"identity"}
		return "", problem(http.StatusUnsupportedMediaType, "The messages come without a content coding.")
	}
	key, given, err := idempotency.ParseKey(r.Header)
	switch {
	case err != nil:
		return "", badKey()
	case given && rq.opts.Messages.Idempotency == nil:
		return "", noKeys()
	}
	return key, nil
}

// batch is one request.
type batch struct {
	*API
	w     http.ResponseWriter
	r     *http.Request
	token *auth.Token
	key   string // of the whole; "": none
	out   chan entry

	checked time.Time // when the token was good; of read
}

// entry is a line whose outcome is known, or will be.
type entry struct {
	result Result
	job    *job // nil: result says it all
	began  time.Time
}

// read takes the lines until there are no more, or ctx ends.
func (b *batch) read(ctx context.Context) {
	defer close(b.out)
	defer b.recovered()
	lines := &lineReader{r: bufio.NewReaderSize(http.MaxBytesReader(nil, newPaced(b.w, b.r.Body, batchPause), b.opts.Messages.MaxBatch), 32<<10), most: int(b.opts.MaxBody)}
	for n := 1; ; n++ {
		line, long, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			b.put(ctx, refusal(n, readProblem(discard{http.Header{}}, err)))
			return
		case !b.good(ctx):
			b.put(ctx, refusal(n, problem(http.StatusUnauthorized, "The token is not valid any more. Nothing from here on was sent.")))
			return
		case n > b.opts.Messages.MaxLines:
			b.put(ctx, refusal(n, problem(http.StatusRequestEntityTooLarge, "A batch has at most "+strconv.Itoa(b.opts.Messages.MaxLines)+" lines. Nothing from here on was sent.")))
			return
		case long:
			if !b.put(ctx, refusal(n, problem(http.StatusRequestEntityTooLarge, "The line is too long."))) {
				return
			}
		case len(bytes.TrimSpace(line)) == 0: // not a message
		case !b.put(ctx, b.line(ctx, n, line)):
			return
		}
	}
}

// recheck is how long a token is trusted while a request that it was for goes on.
const recheck = 15 * time.Second

// good tells whether the token is still valid: a batch may take long.
func (b *batch) good(ctx context.Context) bool {
	now := time.Now()
	if now.Sub(b.checked) < recheck {
		return true
	}
	b.checked = now
	return b.stillGood(ctx, b.r)
}

// recovered ends a batch in which something of ours broke. What was sent was sent.
func (b *batch) recovered() {
	if v := recover(); v != nil {
		b.log.Error("a batch panicked", "err", v)
	}
}

// put waits until there is room for one more.
func (b *batch) put(ctx context.Context, e entry) bool {
	select {
	case b.out <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

func refusal(line int, p *Problem) entry {
	return entry{result: Result{Line: line, Status: p.Status, Problem: p}}
}

// line sends the message on a line.
func (b *batch) line(ctx context.Context, n int, line []byte) entry {
	// Each line counts as a request. The first was counted before anything was read.
	if n > 1 && !b.pace(ctx) {
		return refusal(n, problem(http.StatusTooManyRequests, "The token has made too many requests."))
	}
	rq := request{API: b.API, w: discard{http.Header{}}, r: b.r, token: b.token, media: jsonType, body: line}
	if b.key != "" {
		key := b.key + "/" + strconv.Itoa(n)
		claim, answer, p := rq.claimKey(ctx, key, idempotency.FingerprintOf(b.r.Method, b.r.URL.Path, jsonType, line))
		if p == nil && answer != nil {
			return replayed(n, answer)
		}
		if p != nil {
			return refusal(n, p)
		}
		rq.claim = claim
	}
	letters, err := b.messages(&rq)
	if err == nil {
		err = rq.check(letters)
	}
	if err != nil {
		if rq.claim != nil {
			rq.claim.Release()
		}
		return refusal(n, rq.problem(err))
	}
	return entry{result: Result{Line: n}, job: rq.send(context.WithoutCancel(ctx), &letters[0], rq.claim), began: time.Now()}
}

// replayed is the outcome that a line had before.
func replayed(n int, a *idempotency.Answer) entry {
	e := entry{result: Result{Line: n, Status: a.Status}}
	if a.Media == problemType {
		e.result.Problem = new(Problem)
		if json.Unmarshal(a.Body, e.result.Problem) == nil {
			return e
		}
	} else {
		var was Accepted
		if json.Unmarshal(a.Body, &was) == nil {
			e.result.ID, e.result.To = was.ID, was.To
			return e
		}
	}
	return refusal(n, problem(http.StatusInternalServerError, ""))
}

// pace waits until the token may make one more request: a batch is slowed down rather
// than refused, for as long as a message may take.
func (b *batch) pace(ctx context.Context) bool {
	scratch := http.Header{}
	for deadline := time.Now().Add(b.opts.Timeout); !b.limits.allow(scratch, b.token); {
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// discard takes the headers that a single request would be answered with.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// write tells the outcomes in order until there are no more. It flushes when there
// is nothing to tell at the moment. When nobody listens, stop is called: nothing more
// is read, and what is under way goes on by itself.
func (b *batch) write(rc *http.ResponseController, stop func()) {
	enc := json.NewEncoder(b.w)
	enc.SetEscapeHTML(false)
	dirty := false
	for {
		var e entry
		var more bool
		select {
		case e, more = <-b.out:
		default:
			if dirty {
				dirty = rc.Flush() != nil
			}
			e, more = <-b.out
		}
		if !more {
			return
		}
		if e.job != nil {
			b.settle(&e, rc, &dirty)
		}
		b.Stats.count(e.result.Status)
		if err := enc.Encode(&e.result); err != nil {
			stop()
			for range b.out { // let the reader end
			}
			return
		}
		dirty = true
	}
}

// settle waits for the outcome of a line.
func (b *batch) settle(e *entry, rc *http.ResponseController, dirty *bool) {
	line := e.result.Line
	select {
	case <-e.job.ended:
		e.result = result(e.job.st, e.job.problem)
	default:
		if *dirty { // what is known should not wait
			*dirty = rc.Flush() != nil
		}
		ctx, cancel := context.WithDeadline(b.r.Context(), e.began.Add(b.opts.Timeout))
		e.result = result(e.job.st, e.job.waitUntil(ctx))
		cancel()
	}
	e.result.Line = line
	if e.result.Problem != nil {
		e.result.To = "" // as when it is told again
	}
}

// lineReader cuts what comes into lines.
type lineReader struct {
	r    *bufio.Reader
	most int // octets of a line
	buf  []byte
}

// next returns the next line, which is valid until the next call. long: it has too
// many octets, and was passed over.
func (l *lineReader) next() (line []byte, long bool, err error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > l.most+1 {
			long = true
			l.buf = l.buf[:0]
		}
		if !long {
			l.buf = append(l.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (long || len(l.buf) > 0):
			return l.buf, long || len(l.buf) > l.most, nil // the last line need not end
		case err != nil:
			return nil, false, err
		}
		return bytes.TrimSuffix(l.buf, []byte("\n")), long, nil
	}
}
