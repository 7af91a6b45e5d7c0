package httpapi

import (
	"io"
	"net/http"
	"time"
)

const (
	// bodyPace is how fast a body has to come at least, in octets a second, after
	// bodyGrace: whoever trickles holds a connection and nothing else for ever.
	bodyPace  = 8 << 10
	bodyGrace = 30 * time.Second
	// batchPause is how long a batch may be without a line.
	batchPause = time.Minute
)

// hurry bounds the time that a body of at most so many octets takes. relax takes the
// bound back once it has come: left as it is, it would end the request. After an error
// it stays, so that nobody waits for the rest.
func hurry(w http.ResponseWriter, most int64) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(allowance(most)))
}

func relax(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }

func allowance(octets int64) time.Duration {
	return bodyGrace + time.Duration(octets/bodyPace)*time.Second
}

// paced is a body of any length that has to come at bodyPace, or with pause, that may
// not stop for that long.
type paced struct {
	io.ReadCloser
	rc    *http.ResponseController
	began time.Time
	pause time.Duration
	got   int64
}

func newPaced(w http.ResponseWriter, body io.ReadCloser, pause time.Duration) *paced {
	return &paced{ReadCloser: body, rc: http.NewResponseController(w), began: time.Now(), pause: pause}
}

func (p *paced) Read(b []byte) (int, error) {
	until := p.began.Add(allowance(p.got))
	if p.pause > 0 {
		until = time.Now().Add(p.pause)
	}
	_ = p.rc.SetReadDeadline(until)
	n, err := p.ReadCloser.Read(b)
	p.got += int64(n)
	if err == io.EOF { //nolint:errorlint // bodies return it as it is
		_ = p.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
