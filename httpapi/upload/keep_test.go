package upload_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/upload"
	httpupload "trivium/httpapi/upload"
)

// save uploads a file of some octets.
func (f *fixture) save(owner jid.JID, name string, size int) httpupload.File {
	f.t.Helper()
	got, err := f.http.Save(f.t.Context(), owner, name, "", int64(size), strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		f.t.Fatal(err)
	}
	if got.Size != int64(size) || got.Owner != owner || !strings.HasPrefix(got.URL, f.web.URL+"/upload/"+got.ID+"/") {
		f.t.Errorf("%+v", got)
	}
	return got
}

// names lists what an owner has, in pages of two.
func (f *fixture) names(owner jid.JID) (names []string) {
	f.t.Helper()
	for after := ""; ; {
		page, next, err := f.http.List(f.t.Context(), owner, after, 2)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, it := range page {
			names = append(names, it.Name)
			rs, got := f.want(200, "GET", it.URL, nil)
			if int64(len(got)) != it.Size || rs.Header.Get("Content-Type") != it.Type {
				f.t.Errorf("%s: %d octets of %s", it.Name, len(got), rs.Header.Get("Content-Type"))
			}
		}
		if after = next; next == "" {
			return names
		}
	}
}

func (f *fixture) sweep() {
	f.t.Helper()
	if err := f.http.Sweep(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func TestListAndDelete(t *testing.T) {
	f := start(t, upload.Options{})
	juliet := jid.Must("juliet@example.org")
	var all []httpupload.File
	for i := range 5 {
		f.Advance(time.Second)
		all = append(all, f.save(romeo, fmt.Sprint(i), 10+i))
	}
	f.save(juliet, "hers", 3)
	if got := f.names(romeo); !slices.Equal(got, []string{"4", "3", "2", "1", "0"}) {
		t.Errorf("list: %q", got)
	}
	if _, _, err := f.http.List(t.Context(), romeo, "nothing", 2); !errors.Is(err, upload.ErrNotFound) {
		t.Errorf("a cursor that is none: %v", err)
	}
	third := all[2]
	for _, op := range []func() error{
		func() error { return f.http.Delete(t.Context(), juliet, third.ID) },
		func() error { _, err := f.http.Get(t.Context(), juliet, third.ID); return err },
		func() error { return f.http.Delete(t.Context(), romeo, strings.Repeat("a", 26)) },
	} {
		if err := op(); !errors.Is(err, upload.ErrNotFound) {
			t.Errorf("another's file: %v", err)
		}
	}
	if got, err := f.http.Get(t.Context(), romeo, third.ID); err != nil || got != third {
		t.Errorf("%+v, %v", got, err)
	}
	if err := f.http.Delete(t.Context(), romeo, third.ID); err != nil {
		t.Fatal(err)
	}
	f.want(404, "GET", third.URL, nil) // at once
	f.sweep()
	if names := f.onDisk(); len(names) != 5 || slices.Contains(names, third.ID[:2]+"/"+third.ID) {
		t.Errorf("on disk: %q", names)
	}
	if got := f.names(romeo); !slices.Equal(got, []string{"4", "3", "1", "0"}) {
		t.Errorf("list: %q", got)
	}
}

// A slot does not bring back what was uploaded with it and deleted.
func TestReplayAfterDelete(t *testing.T) {
	f := start(t, upload.Options{})
	put, get := f.slot(f.Connect("romeo@example.org/garden"), "a", 5, "")
	f.want(201, "PUT", put, text("hello"))
	list, _, err := f.http.List(t.Context(), romeo, "", 1)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if err := f.http.Delete(t.Context(), romeo, list[0].ID); err != nil {
		t.Fatal(err)
	}
	f.want(409, "PUT", put, text("hello"))
	f.sweep()
	f.want(409, "PUT", put, text("hello"))
	f.want(404, "GET", get, nil)
	f.Advance(time.Hour) // the slot is over; nothing has to be remembered
	f.sweep()
	f.want(403, "PUT", put, text("hello"))
	var n int
	if err := f.one(`SELECT count(*) FROM upload_gone`, &n); err != nil || n != 0 {
		t.Errorf("%d deleted files are remembered, %v", n, err)
	}
}

// one reads one value of the database.
func (f *fixture) one(query string, v any) error {
	return f.Server.Store.QueryRow(f.t.Context(), query).Scan(v)
}

func TestRetention(t *testing.T) {
	f := start(t, upload.Options{MaxAge: 24 * time.Hour, MaxTotal: 1000})
	f.save(romeo, "old", 100)
	f.Advance(23 * time.Hour)
	f.save(romeo, "young", 100)
	f.sweep()
	if got := f.names(romeo); !slices.Equal(got, []string{"young", "old"}) {
		t.Errorf("after 23 hours: %q", got)
	}
	f.Advance(2 * time.Hour)
	f.sweep()
	if got := f.names(romeo); !slices.Equal(got, []string{"young"}) {
		t.Errorf("after 25 hours: %q", got)
	}
	juliet := jid.Must("juliet@example.org")
	for i := range 9 { // 1000 in all
		f.Advance(time.Second)
		f.save(juliet, fmt.Sprint(i), 100)
	}
	f.sweep()
	if n := len(f.onDisk()); n != 10 {
		t.Errorf("%d files, want 10", n)
	}
	f.Advance(time.Second)
	f.save(juliet, "last", 150)
	select {
	case <-f.files.Wake():
	default:
		t.Error("nobody is told that there is too much")
	}
	f.sweep() // the oldest go, as many as it takes: 1150 - 100 - 100
	if got, his := f.names(juliet), f.names(romeo); len(got) != 9 || got[8] != "1" || len(his) > 0 {
		t.Errorf("%q and %q are left", got, his)
	}
	if n := len(f.onDisk()); n != 9 {
		t.Errorf("%d files are on disk", n)
	}
}

// XEP-0363 §6.3: "MUST NOT make the file available after the time specified".
func TestEphemeral(t *testing.T) {
	f := start(t, upload.Options{})
	c := f.Connect("romeo@example.org/garden")
	until := f.Now().Add(time.Hour)
	slot, err := f.files.Slot(t.Context(), upload.File{Owner: romeo, Name: "a.jpg", Size: 5, Expires: until})
	if err != nil {
		t.Fatal(err)
	}
	put, get := slot.URLs(f.web.URL + "/upload")
	f.want(201, "PUT", put, text("hello"))
	f.want(200, "GET", get, nil)
	f.Advance(time.Hour)
	f.want(404, "GET", get, nil)
	if got := f.names(romeo); len(got) > 0 {
		t.Errorf("list: %q", got)
	}
	f.sweep()
	if names := f.onDisk(); len(names) > 0 {
		t.Errorf("on disk: %q", names)
	}
	c.Close()
}

func TestRemovedAccount(t *testing.T) {
	f := start(t, upload.Options{})
	c := f.Connect("romeo@example.org/garden")
	juliet := jid.Must("juliet@example.org")
	f.save(romeo, "a", 5)
	f.save(juliet, "b", 5)
	put, _ := f.slot(c, "late", 5, "")
	// One is being uploaded when the account goes.
	r, w := io.Pipe()
	result := make(chan error, 1)
	go func() {
		_, err := f.http.Save(t.Context(), romeo, "under way", "", 10, r)
		result <- err
	}()
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	f.Missing("romeo@example.org")
	f.Remove("romeo@example.org")
	if _, err := w.Write([]byte("world")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if status, _, _ := httpupload.Status(<-result); status != http.StatusForbidden {
		t.Errorf("an upload of a removed account: %d", status)
	}
	f.want(403, "PUT", put, text("hello"))
	f.sweep()
	if got, hers := f.names(romeo), f.names(juliet); len(got) > 0 || !slices.Equal(hers, []string{"b"}) {
		t.Errorf("%q and %q are left", got, hers)
	}
	if names := f.onDisk(); len(names) != 1 {
		t.Errorf("on disk: %q", names)
	}
}

// What a crash leaves between two steps is finished or taken back at the next start.
func TestCrash(t *testing.T) {
	f := start(t, upload.Options{})
	kept := f.save(romeo, "kept", 5)
	at, draft := filepath.Join(f.dir, kept.ID[:2], kept.ID), filepath.Join(f.dir, "tmp", kept.ID)
	if err := os.Rename(at, draft); err != nil { // listed, and not moved yet
		t.Fatal(err)
	}
	for _, name := range []string{strings.Repeat("b", 26), "something"} { // not listed
		if err := os.WriteFile(filepath.Join(f.dir, "tmp", name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.want(404, "GET", kept.URL, nil)
	f.web.Close()
	f.http.Close()
	old := f.web.URL
	f.serve()
	kept.URL = f.web.URL + strings.TrimPrefix(kept.URL, old)
	if _, got := f.want(200, "GET", kept.URL, nil); got != "xxxxx" {
		t.Errorf("got %q", got)
	}
	if names := f.onDisk(); !slices.Equal(names, []string{kept.ID[:2] + "/" + kept.ID}) {
		t.Errorf("on disk: %q", names)
	}
}

// Slots outlive a restart, their key is not made anew.
func TestRestart(t *testing.T) {
	o := upload.Options{URL: func(string) string { return "https://example.org/upload" }}
	f := start(t, o)
	put, get := f.slot(f.Connect("romeo@example.org/garden"), "a", 5, "")
	f.web.Close()
	f.http.Close()
	f.files = upload.New(o)
	f.Server = f.Restart(f.files)
	f.serve()
	f.want(201, "PUT", f.web.URL+strings.TrimPrefix(put, "https://example.org"), text("hello"))
	f.want(200, "GET", f.web.URL+strings.TrimPrefix(get, "https://example.org"), nil)
}

// A disk that does not take what was promised is not the client's fault, and nothing
// is listed.
func TestDiskFails(t *testing.T) {
	f := start(t, upload.Options{})
	slot, err := f.files.Slot(t.Context(), upload.File{Owner: romeo, Name: "a", Size: 5})
	if err != nil {
		t.Fatal(err)
	}
	put, get := slot.URLs(f.web.URL + "/upload")
	block := filepath.Join(f.dir, slot.ID[:2])
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.want(500, "PUT", put, text("hello"))
	f.want(404, "GET", get, nil)
	if got := f.names(romeo); len(got) > 0 {
		t.Errorf("list: %q", got)
	}
	if n := f.http.Stats.Failed.Load(); n != 1 {
		t.Errorf("%d failures counted", n)
	}
}
