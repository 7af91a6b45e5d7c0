package kit

import (
	"context"
	"crypto/sha1" //nolint:gosec // XEP-0153 names it
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
)

const nsVCard = "vcard-temp" // XEP-0054

// Profile is what a contact, or the gateway itself, says of itself. It is not changed
// once it is in use.
type Profile struct {
	VCard        string        // a <vCard/> of XEP-0054; empty: none
	Capabilities *Capabilities // nil: those of the gateway

	photo string // SHA-1 of the avatar in hexadecimal; empty: none
}

// Profile returns what was set for a contact, an empty Profile where nothing was.
func (g *Gateway) Profile(ctx context.Context, contact jid.JID) (*Profile, error) {
	contact = contact.Bare()
	if !g.ours(contact) {
		return nil, ErrForeign
	}
	if p, ok := g.profiles.GetIfPresent(contact); ok {
		return p, nil
	}
	var vcard, capabilities sql.NullString
	err := g.opt.Store.QueryRow(ctx, `SELECT vcard, capabilities FROM kit_profile WHERE domain = ? AND contact = ?`,
		g.domain.Domain(), contact.String()).Scan(&vcard, &capabilities)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	p := &Profile{VCard: vcard.String}
	if capabilities.Valid {
		p.Capabilities = new(Capabilities)
		if err := json.Unmarshal([]byte(capabilities.String), p.Capabilities); err != nil {
			return nil, err
		}
	}
	if p.VCard != "" {
		if el, err := stanza.ParseElement(p.VCard); err == nil {
			p.photo = photo(el)
		}
	}
	g.profiles.Set(contact.Clone(), p)
	return p, nil
}

// profile is Profile where a failure of the store must not keep presence back.
func (g *Gateway) profile(ctx context.Context, contact jid.JID) *Profile {
	p, err := g.Profile(ctx, contact)
	if err != nil {
		g.log.Error("a profile was not read", "contact", contact.String(), "err", err)
		return &Profile{}
	}
	return p
}

// SetProfile replaces what a contact says of itself; an empty Profile forgets it. Those
// who see the contact get its presence again, so that their clients look. The error is
// ErrForeign, a *DefinitionError, or a *stanza.Error for what is no vCard.
func (g *Gateway) SetProfile(ctx context.Context, contact jid.JID, p Profile) error {
	contact = contact.Bare()
	if !g.ours(contact) {
		return ErrForeign
	}
	if p.Capabilities != nil {
		if err := p.Capabilities.check(); err != nil {
			return err
		}
	}
	if p.VCard != "" {
		el, err := stanza.ParseElement(p.VCard)
		if err != nil || !el.Is(nsVCard, "vCard") {
			return &stanza.Error{Condition: stanza.BadRequest, Text: "not a vCard of vcard-temp", Cause: err}
		}
		text, ok := el.Bounded(g.opt.MaxVCard)
		if !ok {
			return stanza.Err(stanza.PolicyViolation, "the vCard is too large")
		}
		p.VCard, p.photo = text, photo(el)
	}
	var vcard, capabilities any
	if p.VCard != "" {
		vcard = p.VCard
	}
	if p.Capabilities != nil {
		raw, err := json.Marshal(p.Capabilities)
		if err != nil {
			return err
		}
		capabilities = string(raw)
	}
	mu := g.presences.lock(contact)
	mu.Lock()
	defer mu.Unlock()
	err := g.opt.Store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if vcard == nil && capabilities == nil {
			_, err := tx.Exec(`DELETE FROM kit_profile WHERE domain = ? AND contact = ?`, g.domain.Domain(), contact.String())
			return err
		}
		_, err := tx.Exec(`INSERT INTO kit_profile (domain, contact, capabilities, vcard) VALUES (?, ?, ?, ?)
			ON CONFLICT (domain, contact) DO UPDATE SET capabilities = excluded.capabilities, vcard = excluded.vcard`,
			g.domain.Domain(), contact.String(), capabilities, vcard)
		return err
	})
	if err != nil {
		return err
	}
	g.profiles.Set(contact.Clone(), &p)
	told := false
	for _, l := range g.presences.of(contact) {
		if l.Stanza.Type == "" {
			g.herald.note(change{from: l.Stanza.From, user: l.User})
			told = true
		}
	}
	if !told && len(g.presences.of(contact)) == 0 && (contact == g.domain || g.def.Load().Presence == "assumed") {
		g.herald.note(change{from: contact})
	}
	return nil
}

// photo returns the hash of the picture in a vCard (XEP-0153 §3.1), or "".
func photo(vcard *stanza.Element) string {
	data := vcard.Child(nsVCard, "PHOTO").ChildText(nsVCard, "BINVAL")
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data), ""))
	if err != nil || len(raw) == 0 {
		return ""
	}
	sum := sha1.Sum(raw) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// capabilitiesOf returns what holds in a conversation with a contact.
func (g *Gateway) capabilitiesOf(p *Profile) *Capabilities {
	if p.Capabilities != nil {
		return p.Capabilities
	}
	return &g.def.Load().Capabilities
}

// CapabilitiesOf returns what holds in a conversation with a contact, and whether it
// was set for this contact.
func (g *Gateway) CapabilitiesOf(ctx context.Context, contact jid.JID) (c Capabilities, own bool, err error) {
	p, err := g.Profile(ctx, contact)
	if err != nil {
		return c, false, err
	}
	return *g.capabilitiesOf(p), p.Capabilities != nil, nil
}
