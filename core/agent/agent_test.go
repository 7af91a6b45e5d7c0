package agent

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/stream"
)

var bot = jid.Must("bot@example.org/rest")

func modules() ([]module.Module, *Service) {
	contacts := roster.New(roster.Options{})
	here := presence.New(contacts, presence.Options{})
	contacts.ShowWith(here)
	s := New(Options{})
	return []module.Module{contacts, here, s}, s
}

func show(text string) *stanza.Stanza {
	return stanza.New(stanza.Presence, "", jid.JID{}, jid.JID{}, "",
		stanza.TextEl(stanza.NSClient, "show", text), stanza.TextEl(stanza.NSClient, "priority", "5"))
}

// befriend lets juliet see the bot's presence, through what REST would send for the bot.
func befriend(t *testing.T, srv *modtest.Server, juliet *modtest.Client) {
	t.Helper()
	juliet.Send(`<presence to='bot@example.org' type='subscribe' id='s1'/>`)
	var turn router.Turn
	st := stanza.New(stanza.Presence, stanza.Subscribed, bot.Bare(), juliet.JID.Bare(), "")
	if err := srv.Host.Submit(context.Background(), &turn, st, nil); err != nil {
		t.Fatal(err)
	}
	turn.Flush()
	juliet.Take()
}

func TestPresenceOfAProgram(t *testing.T) {
	ctx := context.Background()
	mods, s := modules()
	srv := modtest.New(t, mods...)
	juliet := srv.Connect("juliet@example.com/balcony")
	juliet.Send(`<presence/>`).Take()
	befriend(t, srv, juliet)

	if err := s.Set(ctx, bot, show("chat")); err != nil {
		t.Fatal(err)
	}
	// RFC 6121 §4.4.2; its priority keeps messages away from it, §8.5.2.1.1.
	juliet.Expect(`<presence from='bot@example.org/rest' to='juliet@example.com'><show>chat</show><priority>-1</priority></presence>`)
	if err := s.Set(ctx, bot, show("away")); err != nil {
		t.Fatal(err)
	}
	juliet.Expect(`<presence from='bot@example.org/rest' to='juliet@example.com'><show>away</show><priority>-1</priority></presence>`)
	list, err := s.Get(ctx, bot.Bare())
	if err != nil || len(list) != 1 || list[0].From != bot {
		t.Fatalf("%v, %v", list, err)
	}
	// RFC 6121 §8.5.3.2.3: a request to it is refused.
	juliet.Send(`<iq to='bot@example.org/rest' type='get' id='q1'><query xmlns='jabber:iq:version'/></iq>`)
	juliet.Expect(`<iq from='bot@example.org/rest' to='juliet@example.com/balcony' type='error' id='q1'>*<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`)

	// It outlives a restart.
	mods, again := modules()
	srv = srv.Restart(mods...)
	if err := again.Start(ctx); err != nil {
		t.Fatal(err)
	}
	juliet = srv.Connect("juliet@example.com/balcony")
	juliet.Send(`<presence/>`)
	if got := strings.Join(juliet.Take(), ""); !strings.Contains(got, "<show>away</show>") {
		t.Fatalf("after a restart: %s", got)
	}
	if err := again.Set(ctx, bot, nil); err != nil {
		t.Fatal(err)
	}
	juliet.Expect(`<presence from='bot@example.org/rest' to='juliet@example.com' type='unavailable'/>`)
	if srv.Router.Account(bot.Bare()) != nil {
		t.Error("the account still has a session")
	}
	mods, third := modules()
	srv = srv.Restart(mods...)
	if err := third.Start(ctx); err != nil || srv.Router.Account(bot.Bare()) != nil {
		t.Errorf("a presence that was taken back came again: %v", err)
	}
}

func TestSetRefuses(t *testing.T) {
	mods, s := modules()
	srv := modtest.New(t, mods...)
	srv.Missing("nobody@example.org")
	client := srv.Connect("bot@example.org/phone")
	_ = client
	for _, tt := range []struct {
		full string
		st   *stanza.Stanza
		want stanza.Condition
	}{
		{"bot@example.org", show("away"), stanza.BadRequest},
		{"example.org/x", show("away"), stanza.BadRequest},
		{"bot@elsewhere.example/x", show("away"), stanza.BadRequest},
		{"nobody@example.org/x", show("away"), stanza.ItemNotFound},
		{"bot@example.org/phone", show("away"), stanza.Conflict},
		{"bot@example.org/x", stanza.New(stanza.Presence, stanza.Probe, jid.JID{}, jid.JID{}, ""), stanza.BadRequest},
		{"bot@example.org/x", stanza.New(stanza.Presence, "", jid.JID{}, jid.JID{}, "", stanza.TextEl(stanza.NSClient, "status", strings.Repeat("x", 9000))), stanza.PolicyViolation},
	} {
		err := s.Set(context.Background(), jid.Must(tt.full), tt.st)
		var e *stanza.Error
		if !errors.As(err, &e) || e.Condition != tt.want {
			t.Errorf("%s: %v, want %s", tt.full, err, tt.want)
		}
	}
	for i := range 9 {
		err := s.Set(context.Background(), jid.Must("bot@example.org/"+string(rune('a'+i))), show("away"))
		if (err != nil) != (i == 8) {
			t.Errorf("resource %d: %v", i, err)
		}
	}
}

// TestKicked: an operator may end it, and it does not come back.
func TestKicked(t *testing.T) {
	ctx := context.Background()
	mods, s := modules()
	srv := modtest.New(t, mods...)
	if err := s.Set(ctx, bot, show("dnd")); err != nil {
		t.Fatal(err)
	}
	srv.Router.Session(bot).Kick(stream.Err(stream.PolicyViolation, ""))
	for srv.Router.Account(bot.Bare()) != nil {
		runtime.Gosched()
	}
	s.mu.Lock() // it is forgotten before this is free
	here := len(s.here)
	s.mu.Unlock()
	if here != 0 {
		t.Errorf("%d are still here", here)
	}
	if err := srv.Store.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	mods, again := modules()
	srv = srv.Restart(mods...)
	if err := again.Start(ctx); err != nil || srv.Router.Account(bot.Bare()) != nil {
		t.Errorf("it came back: %v", err)
	}
}
