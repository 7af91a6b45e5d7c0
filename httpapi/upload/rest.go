package upload

import (
	"context"
	"io"
	"mime"
	"path"

	"trivium/core/jid"
	"trivium/core/mod/upload"
)

// File is a file and where it can be fetched.
type File struct {
	upload.File
	URL string
}

func (s *Service) file(f upload.File) File { return File{f, s.files.URL(&f)} }

// Save uploads what r holds for an owner, without a slot: size octets, or as many as
// come when it is negative. The caller vouches for owner, whose quotas count. An empty
// content type is guessed from the name's ending. The file is on disk when Save
// returns. Errors are those that Status explains, or r's own.
func (s *Service) Save(ctx context.Context, owner jid.JID, name, contentType string, size int64, r io.Reader) (File, error) {
	kind, err := upload.CleanType(contentType)
	if err != nil || kind == "" {
		kind, _ = upload.CleanType(mime.TypeByExtension(path.Ext(name)))
	}
	t, err := s.files.Begin(ctx, upload.File{Owner: owner.Bare().Clone(), Name: name, Type: kind, Size: size})
	if err != nil {
		return File{}, err
	}
	defer t.End()
	if err := s.write(ctx, t, r); err != nil {
		return File{}, err
	}
	return s.file(t.File()), nil
}

// Store is Save for who wants an address.
func (s *Service) Store(ctx context.Context, owner jid.JID, name, contentType string, r io.Reader) (url string, size int64, err error) {
	f, err := s.Save(ctx, owner, name, contentType, -1, r)
	return f.URL, f.Size, err
}

// List returns the files of an owner, the newest first, as upload.Module.List does.
func (s *Service) List(ctx context.Context, owner jid.JID, after string, limit int) (files []File, next string, err error) {
	list, next, err := s.files.List(ctx, owner, after, limit)
	files = make([]File, len(list))
	for i, f := range list {
		files[i] = s.file(f)
	}
	return files, next, err
}

// Get returns a file of an owner, or upload.ErrNotFound.
func (s *Service) Get(ctx context.Context, owner jid.JID, id string) (File, error) {
	f, err := s.files.File(ctx, id)
	if err == nil && f.Owner != owner.Bare() {
		err = upload.ErrNotFound
	}
	if err != nil {
		return File{}, err
	}
	return s.file(f), nil
}

// Delete deletes a file of an owner, or returns upload.ErrNotFound.
func (s *Service) Delete(ctx context.Context, owner jid.JID, id string) error {
	return s.files.Delete(ctx, owner, id)
}

// MaxSize is how large a file may be, in octets.
func (s *Service) MaxSize() int64 { return s.files.MaxSize() }
