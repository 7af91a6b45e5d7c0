package auth_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/store"
)

func TestMaySend(t *testing.T) {
	for _, tt := range []struct {
		as, from string
		want     bool
	}{
		{"sms.example.org", "+4912345@sms.example.org", true},
		{"sms.example.org", "+4912345@sms.example.org/x", true},
		{"sms.example.org", "sms.example.org", true},
		{"sms.example.org", "sms.example.org/x", true},
		{"sms.example.org", "juliet@example.org", false},
		{"sms.example.org", "a@x.sms.example.org", false},
		{"sms.example.org", "", false},
		{"juliet@example.org", "juliet@example.org", true},
		{"juliet@example.org", "juliet@example.org/api", true},
		{"juliet@example.org", "JULIET@EXAMPLE.ORG", true}, // prepared alike, RFC 7622 §3.3
		{"juliet@example.org", "juliet@example.net", false},
		{"juliet@example.org", "romeo@example.org", false},
		{"juliet@example.org", "example.org", false},
		{"juliet@example.org/api", "juliet@example.org/api", true},
		{"juliet@example.org/api", "juliet@example.org", false},
		{"juliet@example.org/api", "juliet@example.org/API", false},
		{"example.org/api", "example.org", false},
		{"example.org/api", "example.org/api", true},
	} {
		var from jid.JID
		if tt.from != "" {
			from = jid.Must(tt.from)
		}
		token := auth.Token{Scopes: auth.Scopes{SendAs: []jid.Pattern{jid.MustPattern("elsewhere.example"), jid.MustPattern(tt.as)}}}
		if got := token.MaySend(from); got != tt.want {
			t.Errorf("a token for %s may send as %s: %v", tt.as, tt.from, got)
		}
	}
	if (&auth.Token{}).MaySend(juliet) || (&auth.Token{}).MaySend(jid.JID{}) {
		t.Error("the zero token may send")
	}
}

func TestDefaultSender(t *testing.T) {
	for _, tt := range []struct {
		as   []string
		want string
	}{
		{nil, ""},
		{[]string{"juliet@example.org"}, "juliet@example.org"},
		{[]string{"juliet@example.org/api"}, "juliet@example.org/api"},
		{[]string{"sms.example.org"}, ""},
		{[]string{"juliet@example.org", "romeo@example.org"}, ""},
	} {
		var token auth.Token
		for _, as := range tt.as {
			token.Scopes.SendAs = append(token.Scopes.SendAs, jid.MustPattern(as))
		}
		if got, ok := token.DefaultSender(); got.String() != tt.want || ok != (tt.want != "") {
			t.Errorf("%v: %v, %v", tt.as, got, ok)
		}
	}
}

func sendAs(patterns ...string) auth.Scopes {
	var s auth.Scopes
	for _, p := range patterns {
		s.SendAs = append(s.SendAs, jid.MustPattern(p))
	}
	return s
}

func TestTokenLife(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	ctx := t.Context()
	if _, _, err := s.AddToken(ctx, auth.TokenSpec{Name: "nobody"}); !errors.Is(err, auth.ErrTokenSpec) {
		t.Errorf("a token for nobody: %v", err)
	}
	if _, _, err := s.AddToken(ctx, auth.TokenSpec{Scopes: auth.Scopes{SendAs: []jid.Pattern{{}}}}); !errors.Is(err, auth.ErrTokenSpec) {
		t.Errorf("a token for the zero address: %v", err)
	}
	secret, added, err := s.AddToken(ctx, auth.TokenSpec{Name: "shop", Scopes: sendAs("juliet@example.org", "sms.example.org", "a@b.example/two words")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(secret, "trv_") || len(secret) != 4+43 || added.Hash != sha256.Sum256([]byte(secret)) {
		t.Errorf("secret of %d characters", len(secret))
	}
	for range 2 { // from the table, then from memory
		got, err := s.CheckToken(ctx, secret)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != added.ID || got.Name != "shop" || !got.Created.Equal(added.Created) || got.LastUsed.Before(got.Created) ||
			!got.MaySend(juliet) || !got.MaySend(jid.Must("1@sms.example.org")) || !got.MaySend(jid.Must("a@b.example/two words")) || got.MaySend(romeo) {
			t.Errorf("token %+v, added %+v", got, added)
		}
	}
	flipped := []byte(secret)
	flipped[10] ^= 1
	for _, wrong := range []string{"", "trv_", secret[4:], secret + "A", secret[:46], string(flipped), "TRV_" + secret[4:], added.ID} {
		if _, err := s.CheckToken(ctx, wrong); !errors.Is(err, auth.ErrToken) {
			t.Errorf("CheckToken(%q): %v", wrong, err)
		}
	}

	other, _, err := s.AddToken(ctx, auth.TokenSpec{Name: "other", Scopes: sendAs("romeo@example.org")})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Sync(ctx); err != nil { // the use is noted behind the check
		t.Fatal(err)
	}
	list, err := s.Tokens(ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("tokens %v, %v", list, err)
	}
	if list[0].ID != added.ID || list[0].LastUsed.IsZero() || !list[1].LastUsed.IsZero() || !list[0].Revoked.IsZero() {
		t.Errorf("tokens %+v", list)
	}

	if err := s.RevokeToken(ctx, "ffff"); !errors.Is(err, auth.ErrToken) {
		t.Errorf("RevokeToken of none: %v", err)
	}
	for range 2 {
		if err := s.RevokeToken(ctx, added.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CheckToken(ctx, secret); !errors.Is(err, auth.ErrToken) {
		t.Errorf("a revoked token: %v", err)
	}
	if _, err := s.CheckToken(ctx, other); err != nil {
		t.Errorf("the other token: %v", err)
	}
	list, err = s.Tokens(ctx)
	if err != nil || len(list) != 2 || list[0].Revoked.IsZero() || !list[1].Revoked.IsZero() {
		t.Errorf("tokens after revocation %+v, %v", list, err)
	}
}

// A token ends when it was to, also while it is in memory.
func TestTokenExpiry(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	s := newService(t, openStore(t, ""), auth.Options{Now: func() time.Time { return at }})
	ctx := t.Context()
	for _, bad := range []auth.TokenSpec{
		{Scopes: sendAs("a.example"), Expires: at},
		{Scopes: sendAs("a.example"), Expires: at.Add(-time.Hour)},
		{Scopes: sendAs("a.example"), Rate: -1},
		{Scopes: sendAs("a.example"), Rate: 1_000_001},
		{Scopes: sendAs("a.example"), Name: strings.Repeat("x", 201)},
		{Scopes: sendAs("a.example"), Name: "\xff"},
		{Scopes: auth.Scopes{Admin: []string{"a@b.example"}}},
		{Scopes: auth.Scopes{Admin: []string{""}}},
		{Scopes: auth.Scopes{Read: []jid.Pattern{{}}}},
	} {
		if _, _, err := s.AddToken(ctx, bad); !errors.Is(err, auth.ErrTokenSpec) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	secret, added, err := s.AddToken(ctx, auth.TokenSpec{Scopes: sendAs("a.example"), Expires: at.Add(time.Hour), Rate: 7})
	if err != nil {
		t.Fatal(err)
	}
	at = at.Add(time.Hour - time.Microsecond)
	for range 2 { // from the table, then from memory
		if got, err := s.CheckToken(ctx, secret); err != nil || got.Rate != 7 || !got.Expires.Equal(added.Expires) || got.Expires.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	}
	at = at.Add(time.Microsecond)
	if _, err := s.CheckToken(ctx, secret); !errors.Is(err, auth.ErrToken) {
		t.Errorf("an expired token in memory: %v", err)
	}
	if _, _, err := s.RotateToken(ctx, added.ID); !errors.Is(err, auth.ErrToken) {
		t.Errorf("an expired token gets a secret: %v", err)
	}
	if got, err := s.Token(ctx, added.ID); err != nil || !got.Expires.Equal(added.Expires) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRotateToken(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	ctx := t.Context()
	spec := auth.TokenSpec{Name: "shop", Scopes: sendAs("a.example"), Rate: 3}
	old, added, err := s.AddToken(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CheckToken(ctx, old); err != nil { // into memory
		t.Fatal(err)
	}
	secret, rotated, err := s.RotateToken(ctx, added.ID)
	if err != nil || rotated.ID != added.ID || rotated.Name != "shop" || rotated.Rate != 3 {
		t.Fatalf("%+v, %v", rotated, err)
	}
	if _, err := s.CheckToken(ctx, old); !errors.Is(err, auth.ErrToken) {
		t.Errorf("the old secret: %v", err)
	}
	if got, err := s.CheckToken(ctx, secret); err != nil || got.ID != added.ID {
		t.Errorf("the new secret: %v, %v", got.ID, err)
	}
	if err := s.RevokeToken(ctx, added.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CheckToken(ctx, secret); !errors.Is(err, auth.ErrToken) {
		t.Errorf("revoked after a rotation: %v", err)
	}
	for _, id := range []string{added.ID, "none"} {
		if _, _, err := s.RotateToken(ctx, id); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// A token made before there were scopes reads what it may send as, and a star in its
// address covers no more than it did.
func TestTokenBeforeScopes(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	ctx := t.Context()
	secret := "trv_" + strings.Repeat("A", 43)
	hash := sha256.Sum256([]byte(secret))
	err := db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO api_tokens (id, name, hash, send_as, created) VALUES ('1', 'old', ?, ?, 1)`,
			hash[:], "juliet@example.org\nsms.example.org\na*@b.example\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.CheckToken(ctx, secret)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"juliet@example.org/x": true, "1@sms.example.org": true, "a*@b.example": true, "ab@b.example": false, "example.org": false,
	} {
		j := jid.Must(address)
		if got.MaySend(j) != want || got.MayRead(j) != want || got.MayAdmin(j.Domain()) {
			t.Errorf("%s: %v, %v", address, got.MaySend(j), got.MayRead(j))
		}
	}
	if !got.Expires.IsZero() || got.Rate != 0 {
		t.Errorf("%+v", got)
	}
}

// TestTokenSecretIsNotStored looks for the secret in every column.
func TestTokenSecretIsNotStored(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	secret, _, err := s.AddToken(t.Context(), auth.TokenSpec{Scopes: sendAs("juliet@example.org")})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = db.QueryRow(t.Context(), `SELECT count(*) FROM api_tokens
		WHERE instr(id || name || hex(hash) || send_as || scopes || CAST(hash AS TEXT), ?) > 0`, secret[4:14]).Scan(&n)
	if err != nil || n != 0 {
		t.Errorf("%d rows hold the secret, %v", n, err)
	}
}

func BenchmarkCheckToken(b *testing.B) {
	s := newService(b, openStore(b, ""), auth.Options{})
	secret, _, err := s.AddToken(b.Context(), auth.TokenSpec{Scopes: sendAs("juliet@example.org")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.CheckToken(b.Context(), secret); err != nil {
			b.Fatal(err)
		}
	}
}

// Every request is checked: one that is in memory costs a hash, and the copy of its
// secret that is hashed.
func TestCheckTokenAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are counted without the race detector")
	}
	s := newService(t, openStore(t, ""), auth.Options{})
	secret, _, err := s.AddToken(t.Context(), auth.TokenSpec{Scopes: sendAs("juliet@example.org"), Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		if _, err := s.CheckBearer(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if n := testing.AllocsPerRun(1000, check); n > 2 {
		t.Errorf("%v allocations, want 2", n)
	}
}
