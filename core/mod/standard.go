// Package mod lists the features of the server.
package mod

import (
	"trivium/core/auth"
	"trivium/core/mod/archive"
	"trivium/core/mod/blocking"
	"trivium/core/mod/carbons"
	"trivium/core/mod/clients"
	"trivium/core/mod/commands"
	"trivium/core/mod/csi"
	"trivium/core/mod/disco"
	"trivium/core/mod/entitytime"
	"trivium/core/mod/lastactivity"
	"trivium/core/mod/offline"
	"trivium/core/mod/ping"
	"trivium/core/mod/presence"
	"trivium/core/mod/private"
	"trivium/core/mod/register"
	"trivium/core/mod/roster"
	"trivium/core/mod/session"
	"trivium/core/mod/upload"
	"trivium/core/mod/vcard"
	"trivium/core/mod/version"
	"trivium/core/module"
)

// Options of New; the zero value is the default of each feature.
type Options struct {
	Version  string // of the server, told by XEP-0092
	Disco    disco.Options
	Roster   roster.Options
	Presence presence.Options
	Archive  archive.Options
	Blocking blocking.Options
	Offline  offline.Options
	CSI      csi.Options
	Commands commands.Options
	VCard    vcard.Options
	Private  private.Options
	Register register.Options
	Upload   upload.Options // without URL there are no uploads
}

// Set is the features of one server. The fields are those that programs ask
// besides clients; they may be used once the set has been built into a server.
type Set struct {
	Archive  *archive.Module
	Roster   *roster.Module
	Presence *presence.Module
	Upload   *upload.Module // nil without Options.Upload.URL

	modules []module.Module
}

// Modules returns the features in the order in which they register: within a phase
// of a pipeline their steps run in this order.
func (s *Set) Modules() []module.Module { return s.modules }

// New returns the features. A feature is its package and its line here; without
// both it is gone.
func New(users *auth.Service, o Options) *Set {
	contacts := roster.New(o.Roster)
	last := lastactivity.New(contacts)
	if o.Presence.LastSeen == nil {
		o.Presence.LastSeen = last.LastSeen
	}
	here := presence.New(contacts, o.Presence)
	contacts.ShowWith(here)
	o.Archive.Contacts = contacts
	if o.Archive.Exists == nil {
		o.Archive.Exists = users.Exists
	}
	kept := archive.New(o.Archive)
	o.Offline.Covered = kept.Covers
	adhoc := commands.New(o.Commands)
	o.Disco.Nodes = append(o.Disco.Nodes, adhoc)
	s := &Set{Archive: kept, Roster: contacts, Presence: here, modules: []module.Module{
		session.New(),
		kept,                           // before all that passes messages on with their ids
		offline.New(o.Offline),         // before presence: nothing overtakes older messages
		blocking.New(here, o.Blocking), // before all whose guards answer strangers
		contacts,
		here,
		carbons.New(),
		csi.New(o.CSI),
		disco.New(contacts, o.Disco),
		ping.New(),
		version.New("Trivium", o.Version, ""),
		entitytime.New(),
		last,
		vcard.New(o.VCard),
		private.New(o.Private),
		register.New(users, o.Register),
		clients.New(users),
		adhoc,
	}}
	if o.Upload.URL != nil {
		s.Upload = upload.New(o.Upload)
		s.modules = append(s.modules, s.Upload)
	}
	return s
}
