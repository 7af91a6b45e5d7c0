package upload

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"time"

	"trivium/core/mod/upload"
	"trivium/core/stanza"
)

// slack is what a client gets on top of the time that its octets take.
const slack = time.Minute

// put takes the file of a slot, XEP-0363 §8.
func (s *Service) put(w http.ResponseWriter, r *http.Request, id, name string) {
	slot, err := s.files.Open(id, name, r.URL.Query().Get("slot"))
	switch {
	case errors.Is(err, upload.ErrExpired):
		refuse(w, http.StatusForbidden, "The slot has expired; request a new one.")
		return
	case err != nil:
		refuse(w, http.StatusForbidden, "There is no such slot.")
		return
	}
	// "MUST reject the file upload if the Content-Length does not match the size of the slot request"
	switch {
	case r.ContentLength < 0:
		refuse(w, http.StatusLengthRequired, "")
		return
	case r.ContentLength > slot.Size:
		refuse(w, http.StatusRequestEntityTooLarge, "The file is larger than the slot.")
		return
	case r.ContentLength < slot.Size:
		refuse(w, http.StatusBadRequest, "The file is smaller than the slot.")
		return
	}
	given, err := upload.CleanType(r.Header.Get("Content-Type"))
	switch {
	case slot.Type == "" && err == nil:
		slot.Type = given // "MAY assume application/octet-stream", which is what empty becomes
	case err != nil || given != "" && !sameType(slot.Type, given):
		// "SHOULD reject the file if the Content-Type has been specified beforehand and does not match"
		refuse(w, http.StatusUnsupportedMediaType, "The content type is not that of the slot.")
		return
	}
	t, err := s.files.Begin(r.Context(), slot.File)
	if err != nil {
		s.report(w, err)
		return
	}
	defer t.End()
	// The whole of it has to come in a time that is in proportion. Not every
	// ResponseWriter can bound it; those of servers can.
	_ = http.NewResponseController(w).SetReadDeadline(s.deadline(slot.Size))
	if err := s.write(r.Context(), t, r.Body); err != nil {
		s.report(w, err)
		return
	}
	f := t.File()
	w.Header().Set("Location", s.files.URL(&f))
	w.WriteHeader(http.StatusCreated)
}

// deadline is when octets have to be through.
func (s *Service) deadline(size int64) time.Time {
	return time.Now().Add(slack + time.Duration(size/s.opt.MinRate)*time.Second)
}

// sameType compares content types but for their parameters: browsers add a charset.
func sameType(a, b string) bool {
	x, _, _ := mime.ParseMediaType(a)
	y, _, _ := mime.ParseMediaType(b)
	return x == y
}

// Status returns the HTTP status and a sentence for an error of Save, Begin and their
// like, and after how many seconds another attempt may succeed, 0 when that is not
// known. Errors that are ours alone give 500; they have been logged.
func Status(err error) (status int, detail string, retryAfter int) {
	var refused *stanza.Error
	switch {
	case errors.Is(err, upload.ErrNotFound):
		return http.StatusNotFound, "There is no such file.", 0
	case errors.Is(err, upload.ErrUsed):
		return http.StatusConflict, "The slot has been used.", 0
	case errors.Is(err, ErrShort), errors.Is(err, io.ErrUnexpectedEOF):
		return http.StatusBadRequest, "Fewer octets came than were promised.", 0
	case errors.Is(err, ErrLong):
		return http.StatusRequestEntityTooLarge, "More octets came than may.", 0
	case errors.Is(err, ErrFull):
		return http.StatusInsufficientStorage, "No space is left.", 0
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "The file came too slowly.", 0
	case errors.As(err, &refused):
	default:
		return http.StatusInternalServerError, "", 0
	}
	if _, ok := upload.TooLarge(err); ok {
		return http.StatusRequestEntityTooLarge, refused.Text, 0
	}
	if at, ok := upload.RetryAt(err); ok {
		return http.StatusTooManyRequests, refused.Text, max(1, int(time.Until(at).Seconds())+1)
	}
	switch refused.Condition {
	case stanza.Forbidden:
		return http.StatusForbidden, refused.Text, 0
	case stanza.ResourceConstraint:
		return http.StatusTooManyRequests, refused.Text, 0
	case stanza.ServiceUnavailable:
		return http.StatusServiceUnavailable, refused.Text, 0
	}
	return http.StatusInternalServerError, "", 0
}

// report answers with an error. Errors of the client's connection find nobody.
func (s *Service) report(w http.ResponseWriter, err error) {
	status, detail, after := Status(err)
	if after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(after))
	}
	refuse(w, status, detail)
}

// refuse answers with a problem document (RFC 9457).
func refuse(w http.ResponseWriter, status int, detail string) {
	body, _ := json.Marshal(struct { // strings and numbers
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail})
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
