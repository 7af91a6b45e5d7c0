package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"trivium/config"
)

// The configuration that the run starts Trivium with must be one it accepts, with
// the limits off.
func TestTriviumConfig(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "trivium-binary")
	if err := os.WriteFile(binary, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	b := testBench()
	b.triviumBinary = binary
	var err error
	if b.cert, err = newCertificate(); err != nil {
		t.Fatal(err)
	}
	if b.receiver, err = newReceiver(); err != nil {
		t.Fatal(err)
	}
	defer b.receiver.close()
	d := &trivium{}
	ep, err := d.prepare(context.Background(), b, dir, users(0, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, su := range []setup{managedSetup, archiveSetup, {sm: true, unpromised: true, proxied: true}, {gateway: true}, {gateway: true, pulled: true}} {
		if _, err := d.command(su); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.LoadOver(config.Default(), d.config)
		if err != nil {
			t.Fatalf("%+v: %v", su, err)
		}
		if archived := cfg.Archive.Default == "always"; archived != su.archive || cfg.StreamManagement.Promise == su.unpromised {
			t.Errorf("%+v: archive %q, promise %v", su, cfg.Archive.Default, cfg.StreamManagement.Promise)
		}
		if hooked := len(cfg.Webhooks) == 1 && cfg.Webhooks[0].URL == b.receiver.url(); hooked != su.gateway {
			t.Errorf("%+v: webhooks %+v", su, cfg.Webhooks)
		}
	}
	if _, err := d.command(setup{}); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadOver(config.Default(), d.config)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listeners) != 3 || cfg.Listeners[0].Address != ep.tcp || cfg.Listeners[0].RequireTLS {
		t.Errorf("listeners: %+v, want TCP without TLS at %s first", cfg.Listeners, ep.tcp)
	}
	if l := cfg.Limits; l.ConnectionsPerAddress != 0 || l.RateBytes != 0 || l.RateStanzas != 0 {
		t.Errorf("limits are on: %+v", l)
	}
}
