package archive

import (
	"context"
	"database/sql"
	"errors"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
)

// retraction is a message in an archive that takes another one back.
type retraction struct {
	owner  *owner
	id     int64  // of the retraction in the archive
	name   string // its own id
	target string // the own id of the message taken back
	from   jid.JID
	peer   jid.JID // the other side
}

// retractDepth is how many messages of an account are looked at for the one that
// was taken back.
const retractDepth = 20_000

// noteRetraction has the message that st takes back replaced by a tombstone
// (XEP-0424 §4), in the background. The retraction itself stays in the archive.
func (m *Module) noteRetraction(b *book, id int64, peer jid.JID, st *stanza.Stanza) {
	c, ok := st.Child(NSRetract, "retract")
	if !ok || st.ID == "" { // a tombstone names the retraction
		return
	}
	r := retraction{owner: b.owner, id: id, name: st.ID, target: c.Element().Attr("id"), from: st.From.Bare().Clone(), peer: peer.Bare().Clone()}
	if r.target == "" {
		return
	}
	select {
	case m.retracted <- r:
	default: // §4: MAY; whoever sends them this fast can wait for no promise
		m.host.Log.Debug("too many retractions at once", "account", b.account.String())
	}
}

// bury replaces the message by a tombstone, when the retraction is still there.
func (m *Module) bury(ctx context.Context, r retraction) error {
	buried := false
	m.unsettled.Add(1)
	defer m.unsettled.Add(-1)
	err := m.host.Store.Write(ctx, func(tx *store.Tx) error {
		buried = false
		var num int64
		err := tx.QueryRow(`SELECT account FROM archive_message WHERE id = ?`, r.id).Scan(&num)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // it was refused
		}
		if err != nil {
			return err
		}
		id, doc, err := r.find(tx, num)
		if err != nil || doc == nil {
			return err
		}
		buried = true
		return replace(tx, num, id, doc)
	})
	if err == nil && buried {
		m.Stats.Tombstones.Add(1)
	}
	return err
}

// find returns the message that is taken back, and what to put in its place: nil
// when there is no such message.
func (r *retraction) find(tx *store.Tx, num int64) (id int64, doc []byte, err error) {
	rows, err := tx.Query(`SELECT id FROM (SELECT id, peer, name FROM archive_entry WHERE account = ? AND id < ? ORDER BY id DESC LIMIT ?)
		WHERE name = ? AND peer = ?`, num, r.id, retractDepth, nameOf(r.target), peerOf(r.peer))
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&id); err != nil {
			return 0, nil, err
		}
		var raw []byte
		if err := tx.QueryRow(`SELECT stanza FROM archive_message WHERE id = ?`, id).Scan(&raw); err != nil {
			return 0, nil, err
		}
		st, err := stanza.ParseDocument(raw)
		if err != nil {
			return 0, nil, err
		}
		// XEP-0424 §5: only who has sent a message can take it back.
		if st.ID != r.target || st.From.Bare() != r.from {
			continue
		}
		if st.Has(NSRetract, "retracted") || st.Has(NSRetract, "retract") {
			return 0, nil, nil
		}
		return id, r.tombstone(st), nil
	}
	return 0, nil, rows.Err()
}

// tombstone is st without what it said, XEP-0424 §4.
func (r *retraction) tombstone(st *stanza.Stanza) []byte {
	t := stanza.New(stanza.Message, st.Type, st.From, st.To, st.ID,
		stanza.El(NSRetract, "retracted").Set("id", r.name).Set("stamp", stamp(r.id).Format(stampFormat)))
	return t.AppendDocument(nil)
}

// replace puts other octets into a row.
func replace(tx *store.Tx, num, id int64, doc []byte) error {
	var size int64
	err := tx.QueryRow(`SELECT size FROM archive_entry WHERE account = ? AND id = ?`, num, id).Scan(&size)
	if err != nil {
		return err
	}
	return execAll(
		tx,
		statement{`UPDATE archive_message SET stanza = ? WHERE id = ?`, []any{doc, id}},
		statement{`UPDATE archive_entry SET size = ? WHERE account = ? AND id = ?`, []any{len(doc), num, id}},
		statement{`UPDATE archive_account SET bytes = bytes + ? WHERE num = ? AND counted >= ?`, []any{int64(len(doc)) - size, num, id}},
		statement{`DELETE FROM archive_text WHERE rowid = ?`, []any{id}},
	)
}
