package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/wire"
	"trivium/httpapi/message"
	"trivium/httpapi/upload"
)

// Uploads stores files that come with messages. It has to be safe for concurrent
// use.
type Uploads interface {
	// Store keeps what r holds for an owner, an account or another sender of ours, and
	// returns where others can fetch it, and its size in octets. Name and type are the
	// sender's word.
	Store(ctx context.Context, owner jid.JID, name, contentType string, r io.Reader) (url string, size int64, err error)
}

// maxFiles is how many files one message may have.
const maxFiles = 16

// multipart makes the letter of a form: the part "message", which comes first, is
// what application/json would be, and every other part with a file name a file.
//
// The fingerprint of an Idempotency-Key covers no part of the form: boundaries differ
// from attempt to attempt. A key stands for the form that came with it first.
func (rq *request) multipart() ([]letter, error) {
	uploads := rq.opts.Messages.Uploads
	if uploads == nil {
		return nil, problem(http.StatusNotImplemented, "This server stores no files.")
	}
	rq.r.Body = newPaced(rq.w, rq.r.Body, 0)
	form, err := rq.r.MultipartReader()
	if err != nil {
		return nil, problem(http.StatusBadRequest, "The form has no boundary.")
	}
	var s Submission
	if err := rq.first(form, &s); err != nil {
		return nil, err
	}
	from, err := rq.sender(s.From)
	if err != nil {
		return nil, err
	}
	// Before anything is stored.
	if err := rq.maySend(rq.w, rq.r, rq.token, from); err != nil {
		return nil, err
	}
	if _, err := message.Address("to", s.To); err != nil {
		return nil, err
	}
	s.From = from.String()
	for n := 0; ; n++ {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			return nil, problem(http.StatusBadRequest, "The form is not well-formed, or ended early.")
		case part.FileName() == "":
			return nil, badPart("has neither the name message nor a file name")
		case n == maxFiles:
			return nil, badPart("is one too many")
		}
		if err := rq.file(uploads, from, part, &s); err != nil {
			return nil, err
		}
	}
	return rq.draft(&s)
}

func badPart(reason string) *Problem {
	p := problem(http.StatusUnprocessableEntity, "The message cannot be sent as it is.")
	p.Errors = []Fault{{"body", "has a part that " + reason}}
	return p
}

// first reads the part "message".
func (rq *request) first(form *multipart.Reader, s *Submission) error {
	part, err := form.NextPart()
	switch {
	case errors.Is(err, io.EOF), err == nil && part.FormName() != "message":
		return badPart("should be the one with the name message: it comes first")
	case err != nil:
		return problem(http.StatusBadRequest, "The form is not well-formed, or ended early.")
	}
	if ct := part.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, jsonType) && !strings.HasPrefix(ct, "text/plain") {
		return problem(http.StatusUnsupportedMediaType, "The part with the name message is application/json.")
	}
	raw, err := io.ReadAll(io.LimitReader(part, rq.opts.MaxBody+1))
	switch {
	case err != nil:
		return problem(http.StatusBadRequest, "The form is not well-formed, or ended early.")
	case int64(len(raw)) > rq.opts.MaxBody:
		return problem(http.StatusRequestEntityTooLarge, "")
	}
	return decodeSubmission(raw, s)
}

// file stores one file and mentions it in the message: its URL stands in the text, on
// a line of its own, for clients that know nothing else, and with what is known of
// the file beside it (XEP-0385). Where the URL is all text, it is XEP-0066 as well,
// by which nearly all clients show files.
func (rq *request) file(uploads Uploads, owner jid.JID, part *multipart.Part, s *Submission) error {
	hash := sha256.New()
	name, media := part.FileName(), part.Header.Get("Content-Type")
	if len(name) > message.MaxID || !wire.ValidText(name) {
		return badPart("has a file name that cannot be sent")
	}
	if _, _, err := mime.ParseMediaType(media); err != nil || len(media) > 255 || !wire.ValidText(media) {
		media = ""
	}
	source := &partReader{r: io.TeeReader(part, hash)}
	url, size, err := uploads.Store(rq.r.Context(), owner.Bare(), name, media, source)
	switch {
	case source.err != nil:
		return problem(http.StatusBadRequest, "The form is not well-formed, or ended early.")
	case err != nil:
		status, text, after := upload.Status(err)
		if status == http.StatusInternalServerError {
			return err
		}
		if after > 0 {
			rq.w.Header()["Retry-After"] = []string{strconv.Itoa(after)}
		}
		return problem(status, text)
	}
	if s.Extras == nil {
		s.Extras = new(message.Extras)
	}
	if s.Body == "" && len(s.Media) == 0 && s.OOB == nil {
		s.OOB = &message.OOB{URL: url}
	} else if s.OOB != nil && s.OOB.URL == s.Body {
		s.OOB = nil // there is more than one
	}
	if s.Body != "" {
		s.Body += "\n"
	}
	begin := utf8.RuneCountInString(s.Body)
	s.Body += url
	end := utf8.RuneCountInString(s.Body)
	s.Media = append(s.Media, message.Media{
		URL: url, Name: name, Type: media, Size: size, Begin: &begin, End: &end,
		Hashes: map[string]string{"sha-256": base64.StdEncoding.EncodeToString(hash.Sum(nil))},
	})
	return nil
}

// partReader remembers that the request, and not the store, has failed.
type partReader struct {
	r   io.Reader
	err error
}

func (p *partReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}
