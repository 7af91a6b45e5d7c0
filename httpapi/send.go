package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"trivium/core/auth"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/delivery"
	"trivium/httpapi/idempotency"
	"trivium/httpapi/message"
)

// Accepted is the answer to a message that is safe.
type Accepted struct {
	ID     string `json:"id" doc:"The stanza's id." example:"F6QJ3GMSMSZFQR7GNS5GBCKHB4"`
	To     string `json:"to" doc:"The recipient's address in its normal form." example:"juliet@example.org"`
	Status string `json:"status" enum:"accepted" doc:"The message has left for every device of the recipient that takes it, or it is stored."`
}

// Results is the answer to a request that was several messages.
type Results struct {
	Results []Result `json:"results" nullable:"false" doc:"One for each recipient."`
}

// Result is what became of one message of several.
type Result struct {
	Line    int      `json:"line,omitempty" doc:"In a batch: its line, from 1."`
	Status  int      `json:"status" doc:"What it would have been answered alone: 202 or that of the problem."`
	ID      string   `json:"id,omitempty" doc:"The stanza's id, if it was accepted."`
	To      string   `json:"to,omitempty" doc:"The recipient's address in its normal form."`
	Problem *Problem `json:"problem,omitempty" doc:"Why it was not accepted."`
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const keepBuffer = 64 << 10 // larger ones are left to the collector

var turns = sync.Pool{New: func() any { return new(router.Turn) }}

// letter is a stanza that a request asks to send.
type letter struct {
	st    *stanza.Stanza
	track bool // asked for
}

// durable tells whether what becomes of the letter is followed across restarts.
func (l *letter) durable() bool {
	return l.track || l.st.Len() > 1 && (l.st.Has(message.NSReceipts, "request") || l.st.Has(message.NSMarkers, "markable"))
}

// postMessage is POST /messages.
func (a *API) postMessage(w http.ResponseWriter, r *http.Request) { a.post(w, r, a.messages) }

// reader makes the letters of a request's body. Those without an id get the one
// that id returns.
type reader func(rq *request) ([]letter, error)

// request is a request to send that has been let in.
type request struct {
	*API
	w     http.ResponseWriter
	r     *http.Request
	token *auth.Token
	media string // of the body, without parameters
	body  []byte // nil where it is read piece by piece
	claim *idempotency.Claim
	made  int // how many ids were made
	only  [1]letter
}

// letter returns a list of one.
func (rq *request) letter(st *stanza.Stanza, track bool) []letter {
	rq.only[0] = letter{st, track}
	return rq.only[:]
}

// id makes an id for a stanza that has none. With a key it is always the same.
func (rq *request) id() string {
	rq.made++
	switch {
	case rq.claim == nil:
		return message.NewID()
	case rq.made == 1:
		return rq.claim.ID()
	}
	return rq.claim.ID() + "-" + strconv.Itoa(rq.made)
}

// post answers a request to send what read finds in it.
func (a *API) post(w http.ResponseWriter, r *http.Request, read reader) {
	token, p := a.authenticate(w, r) // before anything of the body is read
	if p == nil {
		rq := request{API: a, w: w, r: r, token: &token}
		buf := buffers.Get().(*bytes.Buffer)
		p = rq.post(buf, read)
		if buf.Cap() <= keepBuffer {
			buf.Reset()
			buffers.Put(buf)
		}
	}
	if p == nil {
		a.Stats.count(http.StatusAccepted)
		return
	}
	a.Stats.count(p.Status)
	p.write(w)
}

// post returns nil when it has answered.
func (rq *request) post(buf *bytes.Buffer, read reader) *Problem {
	if p := rq.open(buf); p != nil {
		return p
	}
	if rq.r.Header["Idempotency-Key"] != nil {
		return rq.once(read)
	}
	return rq.carryOut(read)
}

// once carries the request out if it is the first with its key, and gives the answer
// of the first otherwise.
func (rq *request) once(read reader) *Problem {
	answered, p := rq.begin()
	if p != nil || answered {
		return p
	}
	defer func() {
		if rq.claim != nil { // nothing was done: the key may be used for what is right
			rq.claim.Release()
		}
	}()
	return rq.carryOut(read)
}

// carryOut sends what read finds. The claim is somebody else's, or ended, when
// something may have been sent.
func (rq *request) carryOut(read reader) *Problem {
	letters, err := read(rq)
	if err == nil {
		err = rq.check(letters)
	}
	if err != nil {
		return rq.problem(err)
	}
	claim := rq.claim
	rq.claim = nil
	if len(letters) != 1 {
		return rq.several(letters, claim)
	}
	j := rq.send(rq.r.Context(), &letters[0], claim)
	if p := j.wait(rq.r.Context()); p != nil {
		return p
	}
	respond(rq.w, http.StatusAccepted, jsonType, j.answer)
	return nil
}

// problem is the document for an error, which may be one itself.
func (rq *request) problem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return rq.fault(rq.w, "request failed", err)
}

// check tells whether the letters may be sent.
func (rq *request) check(letters []letter) error {
	for i := range letters {
		st := letters[i].st
		if st.Size() > rq.stanzaMax {
			return problem(http.StatusRequestEntityTooLarge, "The message is larger than a stanza may be.")
		}
		if i > 0 && st.From == letters[0].st.From {
			continue
		}
		if err := rq.maySend(rq.w, rq.r, rq.token, st.From); err != nil {
			return err
		}
	}
	return nil
}

// begin claims the request's key. answered: as an earlier request was.
func (rq *request) begin() (answered bool, p *Problem) {
	key, _, err := idempotency.ParseKey(rq.r.Header)
	if err != nil {
		return false, badKey()
	}
	if rq.opts.Messages.Idempotency == nil {
		return false, noKeys()
	}
	claim, answer, p := rq.claimKey(rq.r.Context(), key, idempotency.FingerprintOf(rq.r.Method, rq.r.URL.Path, rq.media, rq.body))
	if p != nil {
		return false, p
	}
	rq.claim = claim
	if answer == nil {
		return false, nil
	}
	rq.w.Header()["Idempotent-Replayed"] = []string{"true"}
	if answer.Media == problemType {
		p := new(Problem)
		if err := json.Unmarshal(answer.Body, p); err != nil {
			return false, rq.problem(err)
		}
		return false, p
	}
	respond(rq.w, answer.Status, answer.Media, answer.Body)
	return true, nil
}

func badKey() *Problem {
	return problem(http.StatusBadRequest, "The Idempotency-Key is not one string of 1 to 255 printable characters of ASCII.")
}

func noKeys() *Problem {
	return problem(http.StatusNotImplemented, "This server keeps no answers for an Idempotency-Key.")
}

// Types of problems with keys (RFC 9457 §3.1.1).
const (
	typeUnderWay = "urn:x-trivium:problem:idempotency-key-under-way"
	typeReused   = "urn:x-trivium:problem:idempotency-key-reused"
)

// claimKey begins a request with a key; see idempotency.Keeper.Begin.
func (rq *request) claimKey(ctx context.Context, key string, f idempotency.Fingerprint) (*idempotency.Claim, *idempotency.Answer, *Problem) {
	claim, answer, err := rq.opts.Messages.Idempotency.Begin(ctx, rq.token.ID, key, f)
	switch { // draft-ietf-httpapi-idempotency-key-header-07 §2.7
	case errors.Is(err, idempotency.ErrUnderWay):
		return nil, nil, &Problem{
			Type: typeUnderWay, Title: "A request with this Idempotency-Key is under way", Status: http.StatusConflict,
			Detail: "The first request with the key has not been answered yet. Its answer will be given to later ones.",
		}
	case errors.Is(err, idempotency.ErrReused):
		return nil, nil, &Problem{
			Type: typeReused, Title: "The Idempotency-Key was used for another request", Status: http.StatusUnprocessableEntity,
			Detail: "The key was used for a request with another body, type or path. A new request needs a new key.",
		}
	case errors.Is(err, idempotency.ErrFull):
		return nil, nil, problem(http.StatusServiceUnavailable, "The server keeps as many answers for keys as it may.")
	case err != nil:
		return nil, nil, rq.problem(err)
	}
	return claim, answer, nil
}

// job is one letter on its way and what is to be done when that has ended. It goes on
// by itself when nobody waits any more.
type job struct {
	api     *API
	st      *stanza.Stanza
	claim   *idempotency.Claim // nil: none
	message *delivery.Message
	receipt router.Receipt
	ended   chan struct{} // holds one token when it has ended

	// Set before ended is.
	problem *Problem // nil: it was accepted
	answer  []byte   // Accepted, as JSON
}

// send begins to send a letter. The claim, which may be nil, is the job's from now on.
func (rq *request) send(ctx context.Context, l *letter, claim *idempotency.Claim) *job {
	j := &job{api: rq.API, st: l.st, claim: claim, ended: ends.Get().(chan struct{})}
	keep := delivery.Latest
	switch {
	case l.durable(), claim != nil && l.st.ID != claim.ID():
		keep = delivery.Always
	case claim != nil: // that it was accepted is known by the stored answer
		keep = delivery.Changed
	}
	j.message = rq.opts.Messages.Delivery.Begin(l.st, keep)
	j.start(ctx)
	return j
}

func (j *job) start(ctx context.Context) {
	a := j.api
	j.receipt.Start(j.safe)
	j.receipt.Prompt = true // somebody waits for our answer
	turn := turns.Get().(*router.Turn)
	var err error
	if submit := a.opts.Messages.Submit; submit != nil {
		err = submit(ctx, turn, j.st, &j.receipt)
	} else {
		err = a.opts.Router.Send(ctx, turn, j.st, &j.receipt)
	}
	turn.Flush()
	turns.Put(turn)
	j.receipt.Release(err)
}

// safe is called when the message is safe, or refused, from any goroutine.
func (j *job) safe(err error) {
	j.message.Settle(err)
	status := http.StatusAccepted
	if err == nil {
		j.answer = appendAccepted(make([]byte, 0, 96), j.st)
	} else {
		var ours bool
		if j.problem, ours = problemOf(err); ours {
			j.api.log.Error("message not sent", "from", j.st.From.String(), "err", err)
		}
		status = j.problem.Status
	}
	switch {
	case j.claim == nil && err == nil:
		j.message.Save(j.saved) // if it is to be saved
	case j.claim == nil:
		j.end()
	case err == nil:
		j.claim.Store(idempotency.Answer{Status: status, Media: jsonType, Body: j.answer, Sender: j.st.From.String()}, j.message.Row(), j.stored)
	case definite(j.problem):
		body, err := encodeJSON(j.problem)
		if err != nil {
			panic(err) // strings and numbers
		}
		j.claim.Store(idempotency.Answer{Status: status, Media: problemType, Body: body, Sender: j.st.From.String()}, j.message.Row(), j.stored)
	default:
		j.claim.Release()
		j.end()
	}
}

// definite tells whether a request that was refused so will be refused again: the
// answer is kept for its key.
func definite(p *Problem) bool {
	switch {
	case p.Status < 400 || p.Status >= 500, p.ErrorType == string(stanza.Wait):
		return false
	case p.Status == http.StatusRequestTimeout, p.Status == http.StatusTooManyRequests:
		return false
	}
	return true
}

// saved follows what is not needed for the promise that an answer is.
func (j *job) saved(err error) {
	if err != nil {
		j.api.log.Error("a message will not be followed", "from", j.st.From.String(), "err", err)
	}
	j.end()
}

// stored follows the answer of a request with a key. Without it, the request may come
// again, and find the same id.
func (j *job) stored(err error) {
	if err != nil {
		j.api.log.Error("the answer of a request with a key was not stored", "err", err)
		j.problem = problem(http.StatusServiceUnavailable, "The answer cannot be stored now. Try again with the same key.")
	}
	j.end()
}

func (j *job) end() { j.ended <- struct{}{} }

// ends holds channels for job.ended that are empty and nobody sends to any more.
var ends = sync.Pool{New: func() any { return make(chan struct{}, 1) }}

// wait returns how the job has ended: nil when the message is accepted. It is called
// once.
func (j *job) wait(ctx context.Context) *Problem {
	select {
	case <-j.ended: // the usual case: nobody had to wait
		ends.Put(j.ended)
		return j.problem
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, j.api.opts.Timeout)
	defer cancel()
	return j.waitUntil(ctx)
}

// waitUntil is wait, until ctx ends.
func (j *job) waitUntil(ctx context.Context) *Problem {
	select {
	case <-j.ended:
		return j.problem
	case <-ctx.Done():
	}
	select {
	case <-j.ended: // at the same time
		return j.problem
	default:
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return problem(http.StatusGatewayTimeout, "The message is on its way, but nobody has taken it yet. It may still arrive.")
	}
	return problem(http.StatusGatewayTimeout, "The request was given up.")
}

// several sends the messages that one request asks for, and lists what became of
// them. The claim ends with it.
func (rq *request) several(letters []letter, claim *idempotency.Claim) *Problem {
	jobs := make([]*job, len(letters))
	for i := range letters {
		letters[i].track = letters[i].track || claim != nil
		jobs[i] = rq.send(rq.r.Context(), &letters[i], nil)
	}
	ctx, cancel := context.WithTimeout(rq.r.Context(), rq.opts.Timeout)
	defer cancel()
	list := Results{Results: make([]Result, len(jobs))}
	status, kept := http.StatusAccepted, true
	for i, j := range jobs {
		p := j.waitUntil(ctx)
		list.Results[i] = result(j.st, p)
		if p != nil {
			status = http.StatusMultiStatus
			kept = kept && definite(p)
		}
	}
	body, err := encodeJSON(&list)
	if err != nil {
		panic(err) // strings and numbers
	}
	switch {
	case claim == nil:
	case !kept:
		claim.Release()
	default:
		done := make(chan error, 1)
		claim.Store(idempotency.Answer{Status: status, Media: jsonType, Body: body}, nil, func(err error) { done <- err })
		if err := <-done; err != nil {
			return rq.problem(err)
		}
	}
	respond(rq.w, status, jsonType, body)
	return nil
}

// result tells what became of one message of several.
func result(st *stanza.Stanza, p *Problem) Result {
	if p != nil {
		return Result{Status: p.Status, To: st.To.String(), Problem: p}
	}
	return Result{Status: http.StatusAccepted, ID: st.ID, To: st.To.String()}
}

// appendAccepted appends Accepted as JSON.
func appendAccepted(dst []byte, st *stanza.Stanza) []byte {
	dst = appendJSON(append(dst, `{"id":`...), st.ID)
	dst = appendJSON(append(dst, `,"to":`...), st.To.String())
	return append(dst, `,"status":"accepted"}`...)
}

// appendJSON appends a string as JSON, as encodeJSON would.
func appendJSON(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c >= 0x7F, c == '"', c == '\\':
			b, err := encodeJSON(s)
			if err != nil {
				panic(err) // a string
			}
			return append(dst, b...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// respond writes an answer that is ready.
func respond(w http.ResponseWriter, status int, media string, body []byte) {
	h := w.Header()
	if media == jsonType {
		h["Content-Type"] = jsonTypes[:1:1]
	} else {
		h["Content-Type"] = []string{media}
	}
	if len(body) > ownLength {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// jsonTypes is shared by all answers: nobody changes it.
var jsonTypes = []string{jsonType}

// ownLength is up to where net/http finds out the length of an answer itself,
// which costs less than telling it (http.ResponseWriter, Write).
const ownLength = 2048
