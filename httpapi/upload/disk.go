package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"trivium/core/mod/upload"
)

// tmp is the folder of files that are being written.
const tmp = "tmp"

// draft and place are where a file is while it is written, and then.
func draft(id string) string { return tmp + "/" + id }
func place(id string) string { return id[:2] + "/" + id }

// Errors of uploads, besides those of core/mod/upload.
var (
	ErrShort = errors.New("uploads: fewer octets came than were promised")
	ErrLong  = errors.New("uploads: more octets came than were promised")
	ErrFull  = errors.New("uploads: no space is left")
)

// write brings an upload to disk and makes it a file. The error tells also when r
// fails.
func (s *Service) write(ctx context.Context, t *upload.Transfer, r io.Reader) (err error) {
	f, in := t.File(), &source{Reader: r}
	n, err := s.draft(f.ID, in, t.Room())
	if err == nil && f.Size >= 0 && n < f.Size {
		err = ErrShort
	}
	if err != nil {
		_ = s.root.Remove(draft(f.ID)) // New tries again
		if in.err == nil && !errors.Is(err, ErrShort) && !errors.Is(err, ErrLong) {
			err = s.failed("write", f.ID, err)
		}
		return err
	}
	if err := t.Commit(ctx, n); err != nil {
		_ = s.root.Remove(draft(f.ID))
		return err
	}
	if err := s.settle(f.ID); err != nil {
		// Listed, but not there: take it back.
		if err := s.files.Delete(context.WithoutCancel(ctx), f.Owner, f.ID); err != nil {
			s.log.Error("an upload that failed stays listed", "file", f.ID, "err", err)
		}
		_ = s.root.Remove(draft(f.ID))
		return s.failed("move", f.ID, err)
	}
	return nil
}

// source notes who has failed, the disk or the client.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// draft writes what comes, at most room octets, to stay.
func (s *Service) draft(id string, r io.Reader, room int64) (n int64, err error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL // follows no links
	f, err := s.root.OpenFile(draft(id), flags, 0o600)
	if errors.Is(err, fs.ErrExist) { // what could not be removed
		if err = s.root.Remove(draft(id)); err == nil {
			f, err = s.root.OpenFile(draft(id), flags, 0o600)
		}
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if n, err = io.Copy(f, io.LimitReader(r, room)); err != nil {
		return n, err
	}
	if n == room { // is that all?
		var more [1]byte
		switch m, err := io.ReadFull(r, more[:]); {
		case m > 0:
			return n, ErrLong
		case err != io.EOF:
			return n, err
		}
	}
	if err := f.Sync(); err != nil {
		return n, err
	}
	return n, s.sync(tmp)
}

// settle moves a draft to its place, to stay there.
func (s *Service) settle(id string) error {
	if err := s.mkdir(id[:2]); err != nil {
		return err
	}
	if err := s.root.Rename(draft(id), place(id)); err != nil {
		return err
	}
	return s.sync(id[:2])
}

// mkdir makes a folder below the root, to stay.
func (s *Service) mkdir(name string) error {
	err := s.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.sync(".")
}

// sync brings the entries of a folder to disk.
func (s *Service) sync(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// recover deals with the drafts that a crash has left: those that are listed go to
// their place, the others away.
func (s *Service) recover(ctx context.Context) error {
	entries, err := fs.ReadDir(s.root.FS(), tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := e.Name()
		listed := false
		if upload.ValidID(id) && e.Type().IsRegular() {
			_, err := s.files.File(ctx, id)
			if err != nil && !errors.Is(err, upload.ErrNotFound) {
				return err
			}
			listed = err == nil
		}
		if listed {
			err = s.settle(id)
		} else {
			err = s.root.RemoveAll(tmp + "/" + id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// failed logs that the disk has failed and says what of it others are told.
func (s *Service) failed(what, id string, err error) error {
	s.Stats.Failed.Add(1)
	s.log.Error("an upload failed", "step", what, "file", id, "err", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ErrFull
	}
	return fmt.Errorf("uploads: %s: %w", what, err)
}
