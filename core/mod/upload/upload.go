// Package upload says who may upload which file, and keeps account of what there
// is: XEP-0363. The files themselves are taken and served by httpapi/upload.
//
// Each virtual host has the service upload.<host>, which its disco#items name
// (service.go). It answers with a slot: an address that nobody can guess and a
// signature over all that was agreed on, so that slots need no memory until they
// are used (slot.go). An upload is a Transfer, which counts against the quota from
// its beginning and becomes a File when all of it is on disk (transfer.go, file.go).
// Files go when they are deleted, too old or too many, or with their account; what
// is left of them on disk is told by Condemned (retention.go).
//
//spec:xep-0363 1.2.0 complete | HTTP File Upload | slots, quotas, PUT, GET; the purposes message and ephemeral
package upload

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/store"
)

// Namespaces of XEP-0363.
const (
	NS        = "urn:xmpp:http:upload:0"
	NSPurpose = "urn:xmpp:http:upload:purpose:0" // §6
)

// Options of New. Zero fields take the defaults named; URL is required.
type Options struct {
	// URL returns the address below which the files of a host lie, without a slash at
	// the end: https://example.org/upload. Empty: the host offers no uploads now. It
	// is called for each slot, and for owners of domains that are not ours as well.
	URL func(host string) string

	MaxSize  int64 // octets of a file at most: 100 MiB
	Quota    int64 // octets that an owner may upload within a day: 1 GiB; negative: no limit
	Files    int   // that an owner may have: 10000
	Parallel int   // uploads of an owner at a time: 8

	SlotLife time.Duration // within which an upload begins: 5 minutes (§9)
	MaxAge   time.Duration // of files; older ones are deleted; 0: none
	MaxTotal int64         // octets of all files; the oldest beyond are deleted; 0: no limit
}

// Stats counts what happened since the start.
type Stats struct {
	Slots, Refused, Files, Octets, Expired atomic.Int64
}

// Module is the feature. It is safe for concurrent use after Register.
type Module struct {
	Stats Stats

	opt  Options
	host *module.Host
	key  [32]byte      // constant after Register
	kept atomic.Int64  // octets of all files, about
	wake chan struct{} // capacity 1: there may be something to delete

	mu        sync.Mutex
	transfers map[string]*Transfer // under way, by the id of the file
	under     map[jid.JID]*load    // what their owners have under way
}

// New returns the feature.
func New(o Options) *Module {
	if o.MaxSize <= 0 {
		o.MaxSize = 100 << 20
	}
	if o.Quota == 0 {
		o.Quota = 1 << 30
	}
	if o.Files <= 0 {
		o.Files = 10_000
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	if o.SlotLife <= 0 {
		o.SlotLife = 5 * time.Minute
	}
	if o.Quota > 0 { // what the quota never admits need not be asked for
		o.MaxSize = min(o.MaxSize, o.Quota)
	}
	return &Module{opt: o, wake: make(chan struct{}, 1), transfers: map[string]*Transfer{}, under: map[jid.JID]*load{}}
}

//go:embed migrations/*.sql
var migrations embed.FS

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("upload", migrations); err != nil {
		return err
	}
	m.host = h
	ctx := context.Background()
	if err := m.loadKey(ctx); err != nil {
		return err
	}
	if err := m.recount(ctx); err != nil {
		return err
	}
	for _, host := range h.Hosts {
		if err := m.serve(host); err != nil {
			return err
		}
	}
	d, others := h.Disco(), h.Disco().Items
	d.Items = func(ctx context.Context, host string) []module.Item {
		var items []module.Item
		if others != nil {
			items = others(ctx, host)
		}
		return append(items, m.item(host))
	}
	h.Removed(m.remove)
	h.Figure(
		module.Figure{Name: "trivium.upload.slots", Unit: "{slot}", Text: "Slots given for uploads.", Read: m.Stats.Slots.Load},
		module.Figure{Name: "trivium.upload.refused", Unit: "{request}", Text: "Uploads refused for their size or a quota.", Read: m.Stats.Refused.Load},
		module.Figure{Name: "trivium.upload.files", Unit: "{file}", Text: "Files uploaded.", Read: m.Stats.Files.Load},
		module.Figure{Name: "trivium.upload.octets", Unit: "By", Text: "Octets of files uploaded.", Read: m.Stats.Octets.Load},
		module.Figure{Name: "trivium.upload.expired", Unit: "{file}", Text: "Files deleted for their age or for want of room.", Read: m.Stats.Expired.Load},
	)
	return nil
}

// loadKey reads the key of slots, and makes it at the first start: slots outlive
// restarts.
func (m *Module) loadKey(ctx context.Context) error {
	var fresh [32]byte
	_, _ = rand.Read(fresh[:]) // never fails
	var key []byte
	err := m.host.Store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO upload_key (one, key) VALUES (1, ?) ON CONFLICT DO NOTHING`, fresh[:]); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT key FROM upload_key`).Scan(&key)
	})
	if err != nil {
		return err
	}
	if copy(m.key[:], key) != len(m.key) {
		return fmt.Errorf("upload: the stored key has %d octets", len(key))
	}
	return nil
}

// MaxSize is how large a file may be, in octets.
func (m *Module) MaxSize() int64 { return m.opt.MaxSize }
