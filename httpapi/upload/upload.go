// Package upload takes and serves the files of XEP-0363 over HTTP.
//
// Who may upload what is said by core/mod/upload, which also keeps the list of files;
// here are their octets, on disk, and the public routes: PUT with a slot (put.go),
// GET, HEAD and ranges for who knows the address (get.go). Programs upload without a
// slot by Save and Store (disk.go, rest.go). What is not wanted any more is deleted
// by Run.
//
// A file is written to tmp/, brought to disk, listed, and moved to its place: after a
// crash New finishes what was listed and drops the rest. Nothing that a client sends
// becomes part of a path, and an os.Root keeps symbolic links from leading out.
package upload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/core/mod/upload"
)

// Path is where the public routes are.
const Path = "/upload"

// Options of New. Zero fields take the defaults named.
type Options struct {
	Logger  *slog.Logger
	Sweep   time.Duration // how often files are looked for that are too old: 10 minutes
	MinRate int64         // octets a second that clients take at least: 8 KiB; slower ones are cut off
}

// Stats counts what happened since the start.
type Stats struct {
	Served, Failed atomic.Int64 // requests for files: answered with one; files that could not be read or written
}

// Service is safe for concurrent use.
type Service struct {
	Stats Stats

	files *upload.Module
	root  *os.Root
	log   *slog.Logger
	opt   Options
}

// New returns a service that keeps files in dir, which is made when it is not there.
// It finishes what a crash has interrupted. The files' module must be registered.
func New(ctx context.Context, files *upload.Module, dir string, o Options) (*Service, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Sweep <= 0 {
		o.Sweep = 10 * time.Minute
	}
	if o.MinRate <= 0 {
		o.MinRate = 8 << 10
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("uploads: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("uploads: %w", err)
	}
	s := &Service{files: files, root: root, log: o.Logger, opt: o}
	if err = s.mkdir(tmp); err == nil {
		err = s.recover(ctx)
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("uploads: %w", err)
	}
	return s, nil
}

// Close gives back the folder. Nothing may be served any more.
func (s *Service) Close() error { return s.root.Close() }

// Mount adds the public routes: everything below Path.
func (s *Service) Mount(r chi.Router) { r.Handle(Path+"/*", s) }

// ServeHTTP answers the public routes.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.allow(w.Header())
	// /upload/ID/NAME, the name percent-encoded in one segment.
	rest, ok := strings.CutPrefix(r.URL.Path, Path+"/")
	id, name, _ := strings.Cut(rest, "/")
	if !ok || !upload.ValidID(id) || name == "" || upload.CleanName(name) != name {
		refuse(w, http.StatusNotFound, "There is no such file.")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.get(w, r, id, name)
	case http.MethodPut:
		s.put(w, r, id, name)
	case http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", methods)
		refuse(w, http.StatusMethodNotAllowed, "")
	}
}

const methods = "OPTIONS, HEAD, GET, PUT"

// allow lets web clients of every origin in (XEP-0363 §9). Addresses and slots are
// what counts: there are no cookies or passwords that another site could borrow, so
// there is no Access-Control-Allow-Credentials.
func (s *Service) allow(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Range")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag")
	h.Set("Access-Control-Max-Age", "7200")
	// For errors as well as for files. XEP-0363 §10.1.
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // images in web clients
	h.Set("Referrer-Policy", "no-referrer")               // addresses are secrets
}

// Run deletes files that are not wanted any more, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(s.opt.Sweep)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("uploads are not tidied up", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.files.Wake():
		}
	}
}

// Sweep deletes at once what Run would.
func (s *Service) Sweep(ctx context.Context) error {
	if err := s.files.Expire(ctx); err != nil {
		return err
	}
	for {
		ids, err := s.files.Condemned(ctx)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if err := s.root.Remove(place(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := s.files.Unlinked(ctx, ids); err != nil {
			return err
		}
	}
}
