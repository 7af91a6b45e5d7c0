package upload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/store"
)

// File is what is known of one file.
type File struct {
	ID      string  // random: who knows it may read the file
	Owner   jid.JID // bare
	Name    string  // see CleanName
	Type    string  // content type
	Size    int64   // octets
	Created time.Time
	Expires time.Time // not to be had any more from then on; zero: see Options.MaxAge
}

// ErrNotFound says that there is no such file, or that it is another's.
var ErrNotFound = errors.New("upload: there is no such file")

// URL returns where a file can be fetched.
func (m *Module) URL(f *File) string { return f.url(m.opt.URL(f.Owner.Domain())) }

// insert adds a file to the tables.
func insert(tx *store.Tx, f *File) error {
	res, err := tx.Exec(`INSERT INTO upload_file (id, owner, name, type, size, created, expires)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM upload_gone WHERE id = ?1) ON CONFLICT DO NOTHING`,
		f.ID, f.Owner.String(), f.Name, f.Type, f.Size, f.Created.UnixMilli(), millis(f.Expires))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrUsed)
	}
	if _, err := tx.Exec(`INSERT INTO upload_owner (owner, files, octets) VALUES (?, 1, ?)
		ON CONFLICT (owner) DO UPDATE SET files = files + 1, octets = octets + excluded.octets`, f.Owner.String(), f.Size); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO upload_usage (owner, hour, octets) VALUES (?, ?, ?)
		ON CONFLICT (owner, hour) DO UPDATE SET octets = octets + excluded.octets`, f.Owner.String(), hour(f.Created), f.Size)
	return err
}

const selectFile = `SELECT id, owner, name, type, size, created, expires FROM upload_file `

type scanner interface{ Scan(dest ...any) error }

func scan(row scanner) (f File, err error) {
	var created, expires int64
	var owner string
	if err := row.Scan(&f.ID, &owner, &f.Name, &f.Type, &f.Size, &created, &expires); err != nil {
		return File{}, err
	}
	if f.Owner, err = jid.Parse(owner); err != nil {
		return File{}, fmt.Errorf("upload: file %s: %w", f.ID, err)
	}
	f.Created, f.Expires = fromMillis(created), fromMillis(expires)
	return f, nil
}

// File returns what is known of a file, or ErrNotFound.
func (m *Module) File(ctx context.Context, id string) (File, error) {
	f, err := scan(m.host.Store.QueryRow(ctx, selectFile+`WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && m.expired(&f) {
		return File{}, ErrNotFound
	}
	return f, err
}

// expired tells whether a file is not to be had any more, though it is still there:
// XEP-0363 §6.3, "MUST NOT make the file available after the time specified".
func (m *Module) expired(f *File) bool { return !f.Expires.IsZero() && !m.host.Now().Before(f.Expires) }

// List returns the files of an owner, the newest first: up to limit of those behind
// the cursor that the page before has returned; an empty one begins. An empty next
// says that nothing follows. The error is ErrNotFound for what is no cursor.
func (m *Module) List(ctx context.Context, owner jid.JID, after string, limit int) (files []File, next string, err error) {
	created, id := int64(1<<63-1), ""
	if after != "" {
		stamp, name, _ := strings.Cut(after, "-")
		if created, err = strconv.ParseInt(stamp, 10, 64); err != nil || !ValidID(name) {
			return nil, "", ErrNotFound
		}
		id = name
	}
	limit = min(max(limit, 1), 1000)
	rows, err := m.host.Store.Query(ctx, selectFile+`WHERE owner = ? AND (created, id) < (?, ?) AND (expires = 0 OR expires > ?)
		ORDER BY created DESC, id DESC LIMIT ?`, owner.Bare().String(), created, id, m.host.Now().UnixMilli(), limit+1)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		if len(files) == limit {
			last := files[limit-1]
			return files, strconv.FormatInt(last.Created.UnixMilli(), 10) + "-" + last.ID, nil
		}
		f, err := scan(rows)
		if err != nil {
			return nil, "", err
		}
		files = append(files, f)
	}
	return files, "", rows.Err()
}

// Delete deletes a file of an owner; the error is ErrNotFound when there is none.
// It cannot be fetched any more when Delete returns; its octets go soon after.
func (m *Module) Delete(ctx context.Context, owner jid.JID, id string) error {
	err := m.host.Store.Write(ctx, func(tx *store.Tx) error {
		var size int64
		err := tx.QueryRow(`SELECT size FROM upload_file WHERE id = ? AND owner = ?`, id, owner.Bare().String()).Scan(&size)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		return condemn(tx, m.host.Now(), condemned{id, owner.Bare().String(), size})
	})
	if err == nil {
		m.poke()
	}
	return err
}
