package upload

import (
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"strings"
	"time"

	"trivium/core/mod/upload"
)

// maxRanges bounds the ranges of one request. RFC 9110 §14.2: "MAY ignore or reject a
// Range header field that contains [...] a ranges-specifier with more than two
// overlapping ranges, or a set of many small ranges".
const maxRanges = 8

// maxAge is how long others may keep a file without asking again.
const maxAge = 24 * time.Hour

// get serves a file.
func (s *Service) get(w http.ResponseWriter, r *http.Request, id, name string) {
	f, err := s.files.File(r.Context(), id)
	if err == nil && f.Name != name {
		err = upload.ErrNotFound // no other names for what somebody else has uploaded
	}
	if err != nil {
		if !errors.Is(err, upload.ErrNotFound) && r.Context().Err() == nil {
			s.log.Error("a file is not found", "file", id, "err", err)
		}
		s.report(w, err)
		return
	}
	octets, err := s.root.Open(place(id))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // on its way, or gone in this moment
			err = upload.ErrNotFound
		} else {
			s.Stats.Failed.Add(1)
			s.log.Error("a file cannot be read", "file", id, "err", err)
		}
		s.report(w, err)
		return
	}
	defer octets.Close()
	if info, err := octets.Stat(); err != nil || !info.Mode().IsRegular() {
		s.Stats.Failed.Add(1)
		s.log.Error("a file cannot be read", "file", id, "err", err)
		refuse(w, http.StatusInternalServerError, "")
		return
	}
	s.Stats.Served.Add(1)
	h := w.Header()
	kind, inline := harmless(f.Type)
	h.Set("Content-Type", kind)
	disposition := "attachment"
	if inline {
		disposition = "inline"
	}
	h.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": f.Name}))
	h.Set("ETag", `"`+f.ID+`"`) // what is there never changes
	age := maxAge
	if !f.Expires.IsZero() {
		age = max(0, min(age, time.Until(f.Expires)))
	}
	h.Set("Cache-Control", fmt.Sprintf("private, max-age=%d, immutable", int64(age.Seconds())))
	if strings.Count(strings.Join(r.Header.Values("Range"), ","), ",") >= maxRanges {
		r.Header.Del("Range")
	}
	_ = http.NewResponseController(w).SetWriteDeadline(s.deadline(f.Size))
	http.ServeContent(w, r, "", f.Created, octets)
}

// harmless returns a content type that a browser does not run as a program, and
// whether it may be shown in place of being saved: pictures, sound, films and plain
// text may. XEP-0363 §10.1.
func harmless(kind string) (contentType string, inline bool) {
	const unknown = "application/octet-stream"
	name, params, err := mime.ParseMediaType(kind)
	if err != nil {
		return unknown, false
	}
	family, sub, _ := strings.Cut(name, "/")
	for _, active := range [...]string{"html", "xml", "script", "css", "wasm", "java", "flash", "json", "mixed-replace", "vbs"} {
		if strings.Contains(sub, active) { // image/svg+xml among them
			return unknown, false
		}
	}
	switch family {
	case "image", "video", "audio":
		return kind, true
	case "text":
		if sub != "plain" {
			return unknown, false
		}
		if params["charset"] == "" {
			return "text/plain; charset=utf-8", true
		}
		return kind, true
	case "multipart", "message":
		return unknown, false
	}
	return kind, false
}
