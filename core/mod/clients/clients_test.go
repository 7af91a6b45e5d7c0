package clients_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod/clients"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/sasl"
)

var juliet = jid.Must("juliet@example.org")

const (
	laptop = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	phone  = "1fc5a8c4-2b9b-4b64-8f1b-0b1d0e9a6a55"
	tablet = "9d2e7f3a-6c0b-4f51-9e0d-7a8b5c4d3e2f"
)

// late registers a module that is made once the store is there.
type late struct {
	make func(*module.Host) module.Module
}

func (l late) Register(h *module.Host) error { return l.make(h).Register(h) }

// keeper is what core/auth does for logins.
type keeper interface {
	NoteClient(ctx context.Context, username string, l auth.ClientLogin) (auth.Grant, error)
}

type world struct {
	*modtest.Server
	users  *auth.Service
	module *clients.Module
	host   keeper
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{}
	w.Server = modtest.New(t, late{func(h *module.Host) module.Module {
		users, err := auth.New(h.Store, auth.Options{Iterations: sasl.MinIterations})
		if err != nil {
			t.Fatal(err)
		}
		w.users, w.module, w.host = users, clients.New(users), users.Host("example.org").(keeper)
		return w.module
	}})
	if err := w.users.CreateAccount(t.Context(), juliet, "R0m30"); err != nil {
		t.Fatal(err)
	}
	return w
}

// note logs a client in, with the password and asking for a token unless by says how.
func (w *world) note(t *testing.T, id, software, by string) auth.Grant {
	t.Helper()
	l := auth.ClientLogin{ID: id, Software: software, Mechanism: by, Began: time.Now(), Password: by == "PLAIN", Request: "HT-SHA-256-NONE"}
	g, err := w.host.NoteClient(t.Context(), "juliet", l)
	if err != nil || g.Token == "" {
		t.Fatalf("%v, %v", g, err)
	}
	return g
}

func (w *world) connect(resource, client string) *modtest.Client {
	c := w.Connect("juliet@example.org/" + resource)
	c.Session.Client = client
	return c
}

// XEP-0494 §3.1
func TestList(t *testing.T) {
	w := start(t)
	w.note(t, laptop, "Gajim", "PLAIN")
	w.note(t, phone, "", "OAUTHBEARER")
	c := w.connect("balcony", laptop)
	w.connect("chamber", "")
	c.Send("<iq id='5468616e6b73' type='get'><list xmlns='urn:xmpp:cam:0'/></iq>")
	c.Expect(`<iq id='5468616e6b73' type='result' from='juliet@example.org' to='juliet@example.org/balcony'>
		<clients xmlns='urn:xmpp:cam:0'>
		<client connected='false' id='*' type='session'><first-seen>*</first-seen><last-seen>*</last-seen>
		<auth><grant/><fast/></auth><permission status='unrestricted'/></client>
		<client connected='true' id='*' type='session'><first-seen>*</first-seen><last-seen>*</last-seen>
		<auth><password/><fast/></auth><permission status='unrestricted'/><user-agent><software>Gajim</software></user-agent></client>
		<client connected='true' id='*' type='session'><first-seen>*</first-seen><last-seen>*</last-seen>
		<auth><password/></auth><permission status='unrestricted'/></client>
		</clients></iq>`)
	// Nobody else learns it.
	r := w.Connect("romeo@example.org/orchard")
	r.Send("<iq id='x' type='get' to='juliet@example.org'><list xmlns='urn:xmpp:cam:0'/></iq>")
	r.Expect("<iq id='x' type='error' from='juliet@example.org' to='romeo@example.org/orchard'><error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	list, err := w.module.Clients(t.Context(), juliet)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, c := range list {
		if strings.Contains(c.Ref, laptop) || strings.Contains(c.Ref, phone) {
			t.Errorf("the reference %s tells the id", c.Ref)
		}
		if c.FirstSeen.IsZero() || c.LastSeen.Before(c.FirstSeen.Truncate(time.Second)) {
			t.Errorf("seen from %v to %v", c.FirstSeen, c.LastSeen)
		}
	}
}

func (w *world) ref(t *testing.T, software string) string {
	t.Helper()
	list, err := w.module.Clients(t.Context(), juliet)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Software == software {
			return c.Ref
		}
	}
	t.Fatalf("no %s in %v", software, list)
	return ""
}

// XEP-0494 §3.2
func TestRevoke(t *testing.T) {
	w := start(t)
	w.note(t, laptop, "Gajim", "PLAIN")
	w.note(t, phone, "Monal", "OAUTHBEARER")
	w.note(t, tablet, "Siskin", "OAUTHBEARER")
	c := w.connect("balcony", laptop)
	revoke := func(ref, answer string) {
		t.Helper()
		c.Send("<iq id='4e4c6e6574' type='set'><revoke xmlns='urn:xmpp:cam:0' id='" + ref + "'/></iq>")
		c.Expect("<iq id='4e4c6e6574' from='juliet@example.org' to='juliet@example.org/balcony' " + answer)
	}
	const password = `type='error'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
		<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text><password-reset-required xmlns='urn:xmpp:cam:0'/></error></iq>`
	revoke("unknown", "type='error'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	revoke(w.ref(t, "Gajim"), password)
	w.connect("chamber", "")
	revoke(w.ref(t, ""), password)
	revoke(w.ref(t, "Monal"), "type='result'/>")
	if tokens, err := w.users.Host("example.org").(sasl.HashedTokens).HashedTokens(t.Context(), "juliet", phone); len(tokens) != 0 || err != nil {
		t.Errorf("tokens are left: %v, %v", tokens, err)
	}
	if tokens, err := w.users.Host("example.org").(sasl.HashedTokens).HashedTokens(t.Context(), "juliet", tablet); len(tokens) != 1 || err != nil {
		t.Errorf("tokens of another client: %v, %v", tokens, err)
	}
	// With a new password the old clients have nothing, and can be sent away.
	if err := w.users.SetPassword(t.Context(), juliet, "other"); err != nil {
		t.Fatal(err)
	}
	revoke(w.ref(t, "Gajim"), "type='result'/>")
	// An operator need not ask.
	w.note(t, laptop, "Gajim", "PLAIN")
	if err := w.module.Revoke(t.Context(), juliet, w.ref(t, "Gajim"), false); !errors.Is(err, clients.ErrPassword) {
		t.Errorf("got %v", err)
	}
	if err := w.module.Revoke(t.Context(), juliet, w.ref(t, "Gajim"), true); err != nil {
		t.Error(err)
	}
	if err := w.module.Revoke(t.Context(), jid.Must("nobody@example.org"), "x", true); !errors.Is(err, auth.ErrNoClient) {
		t.Errorf("got %v", err)
	}
}
