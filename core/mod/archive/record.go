package archive

import (
	"context"
	"strconv"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// receive takes a message into the archive of its recipient.
func (m *Module) receive(ctx context.Context, p *module.Packet) error {
	if p.ArchiveID != 0 {
		return nil // it has been here
	}
	p.Stanza = genuine(p.Stanza, p.Stanza.To.Bare())
	b, err := m.books.Of(ctx, p.Account, p.Stanza.To.Bare())
	if err != nil {
		return err
	}
	id, err := m.record(ctx, p, b, p.Stanza.From)
	if err != nil || id == 0 {
		return err
	}
	p.ArchiveID = id
	p.Stanza = p.Stanza.Append(mark{b, id}) // XEP-0313 §3.5
	return nil
}

// send takes a message into the archive of its sender. The recipient does not
// learn its id (XEP-0313 §3.5), the sender's other sessions do. What an account
// sends to itself is taken in once, when it is received (§6.1.1).
func (m *Module) send(ctx context.Context, p *module.Packet) error {
	account := p.Session.Account.Bare
	p.Stanza = genuine(p.Stanza, account)
	if p.Stanza.To.Bare() == account {
		return nil
	}
	b, err := m.books.Of(ctx, p.Session.Account, account)
	if err != nil {
		return err
	}
	id, err := m.record(ctx, p, b, p.Stanza.To)
	if err != nil || id == 0 {
		return err
	}
	p.Sent = p.Stanza.Append(mark{b, id})
	return nil
}

// record takes a message into an archive, if it is to be kept there; peer is the
// other side. An id of 0 says that it is not. An error refuses the message: one
// that is delivered is in the archive.
func (m *Module) record(ctx context.Context, p *module.Packet, b *book, peer jid.JID) (int64, error) {
	st := p.Stanza
	if m.never(b) || !worth(st) {
		return 0, nil
	}
	if ok, err := m.wanted(ctx, b, peer); err != nil || !ok {
		return 0, err
	}
	if p.Session != nil { // then this is its goroutine
		m.journal.pause(ctx, p.Turn)
	}
	id, err := m.journal.append(b.owner, st, peerOf(peer), p.Receipt)
	if err != nil {
		m.Stats.Refused.Add(1)
		return 0, &stanza.Error{Condition: stanza.ResourceConstraint, Type: stanza.Wait, Cause: err}
	}
	m.noteRetraction(b, id, peer, st)
	return id, nil
}

// refused takes a message back whose recipient refused it: the archive has what
// was received (XEP-0313 §6.1).
func (m *Module) refused(_ context.Context, p *module.Packet) {
	id := p.ArchiveID
	m.Stats.Undone.Add(1)
	if m.journal.undo(id) {
		return
	}
	m.change(func(tx *store.Tx) error {
		_, err := deleteWhere(tx, `SELECT account, id, length(stanza) FROM archive_message WHERE id = ?`, id)
		return err
	}, "take back a refused message")
}

// genuine returns st without every <stanza-id/> that claims to be by the account or
// its server, which are the ones that give such ids (XEP-0359 §3), and without
// those that do not say by whom.
func genuine(st *stanza.Stanza, account jid.JID) *stanza.Stanza {
	if !st.Has(NSID, "stanza-id") {
		return st
	}
	return st.Without(func(c stanza.Child) bool {
		if !c.Is(NSID, "stanza-id") {
			return false
		}
		by, err := jid.Parse(c.Element().Attr("by"))
		return err != nil || by == account || by == account.Host()
	})
}

// mark is the <stanza-id/> of an archived message, XEP-0359 §2.1.
type mark struct {
	b  *book
	id int64
}

// AppendXML implements stanza.Payload.
func (k mark) AppendXML(dst []byte) []byte {
	dst = append(dst, k.b.mark...)
	dst = strconv.AppendInt(dst, k.id, 10)
	return append(dst, "'/>"...)
}

// peerOf is what stands for the other side in archive_entry: 48 bits, which take
// six octets. Whoever finds a row by it looks at the address in the row as well.
func peerOf(j jid.JID) int64 { return int64(hash(j.Bare().String()) >> 16) }

// nameOf is what stands for a message's own id, in 32 bits.
func nameOf(id string) int64 { return int64(hash(id) >> 32) }

// hash is FNV-1a with another finish, for values that are stored: it must never
// change.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
