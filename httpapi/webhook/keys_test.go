package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The key pair of the example in Standard Webhooks, "Webhook headers".
const (
	pairKey    = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	pairPublic = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
)

// The vectors of the standard's libraries (v1) and of the server that it comes from
// (v1a, whose signature is the example in the standard's text).
func TestVectors(t *testing.T) {
	const id, timestamp, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`
	for _, tt := range []struct{ key, id, want string }{
		{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{pairKey, pairPublic, "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="},
		{"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=", pairPublic, "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="},
	} {
		k, err := parseKey(tt.key)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time with a hash that was used before
			if got := sign([]*signer{k}, id, timestamp, []byte(body)); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.key, got, tt.want)
			}
		}
		if tt.id != "" && k.ID != tt.id {
			t.Errorf("public key %s, want %s", k.ID, tt.id)
		}
		if strings.Contains(k.ID, tt.key[6:20]) {
			t.Errorf("%s shows the key", k.ID)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	for _, key := range []string{
		"", "whsec_", "whsec_c2hvcnQ=", "whsec_" + strings.Repeat("*", 40), "whsk_",
		base64.StdEncoding.EncodeToString(make([]byte, 24)),            // no prefix
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)), // 24 to 64 octets
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)), //
		pairPublic, // cannot sign
		"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 33)),                                   //
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlaaaaaaaaaaAJ6p9lMicMFs6Kvg==", // halves of two pairs
	} {
		if _, err := parseKey(key); err == nil {
			t.Errorf("%q is taken for a key", key)
		}
	}
}

// What NewKey makes signs so that the reference library, or ed25519 with the public
// key alone, agrees, and nobody else's key does.
func TestNewKey(t *testing.T) {
	body, id, now := []byte(`{"type":"test"}`), "evt_1", time.Now()
	timestamp := strconv.FormatInt(now.Unix(), 10)
	text, err := NewKey(HMAC)
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {sign([]*signer{k}, id, timestamp, body)}}
	w, err := standardwebhooks.NewWebhook(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Verify(body, header); err != nil {
		t.Error(err)
	}
	if w, _ = standardwebhooks.NewWebhook(secret); w.Verify(body, header) == nil {
		t.Error("a foreign key verifies")
	}
	if text, err = NewKey(Ed25519); err != nil {
		t.Fatal(err)
	}
	if k, err = parseKey(text); err != nil {
		t.Fatal(err)
	}
	public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(k.ID, "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sign([]*signer{k}, id, timestamp, body), "v1a,"))
	if err != nil || !ed25519.Verify(public, []byte(id+"."+timestamp+"."+string(body)), signature) {
		t.Errorf("the signature is wrong: %v", err)
	}
	if _, err := NewKey("rsa"); err == nil {
		t.Error("there is a scheme rsa")
	}
}

// Rotation: every key signs, in either scheme, and the reference library finds its
// own signature among them.
func TestAllKeysSign(t *testing.T) {
	var keys []*signer
	for _, text := range []string{secret, pairKey, oldSecret} {
		k, err := parseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	r := request{Body: []byte("{}")}
	r.Header = http.Header{"Webhook-Id": {"evt_1"}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {sign(keys, "evt_1", timestamp, r.Body)}}
	verify(t, secret, r)
	verify(t, oldSecret, r)
	if list := strings.Fields(r.Header.Get("webhook-signature")); len(list) != 3 || !strings.HasPrefix(list[1], "v1a,") {
		t.Errorf("signatures %q", list)
	}
}
