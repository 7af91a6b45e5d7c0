package hostile

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"trivium/core/c2s"
	"trivium/core/jid"
	"trivium/test/harness"
)

const agentID = "d4565fa7-4d72-4749-b3d3-740edbf87770"

// secured is a TLS connection with a stream on which nobody has logged in.
func secured(t *testing.T, s *harness.Server) raw {
	t.Helper()
	r := dial(t, s)
	r.send(header)
	r.until("</stream:features>")
	r.send(starttls)
	r.until("<proceed xmlns='" + harness.NSTLS + "'/>")
	sec := r.secure(s)
	sec.send(header)
	sec.until("</stream:features>")
	return sec
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// authenticate is an <authenticate/> by PLAIN.
func authenticate(inline string) string {
	return "<authenticate xmlns='" + harness.NSSASL2 + "' mechanism='PLAIN'><initial-response>" + b64("\x00mallory\x00"+harness.Password) + "</initial-response>" + inline + "</authenticate>"
}

// XEP-0388 §2.5, §6; XEP-0386 §4; XEP-0484 §3, §4: nothing that a client puts into
// its login does more than be refused or ignored.
func TestAbusedSASL2(t *testing.T) {
	s := start(t, harness.Options{TLS: true})
	element := func(name, inner string) string {
		return "<" + name + " xmlns='" + harness.NSSASL2 + "'>" + inner + "</" + name + ">"
	}
	agent := "<user-agent id='" + agentID + "'/>"
	scram := "<authenticate xmlns='" + harness.NSSASL2 + "' mechanism='SCRAM-SHA-256'><initial-response>" + b64("n,,n=mallory,r=fyko") + "</initial-response></authenticate>"
	ping := "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"
	const failure, success, closed, not = "</failure>", "</stream:features>", "</stream:stream>", "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
	for _, tt := range []struct {
		name, in, until, want string
	}{
		{"well", authenticate(""), success, "<authorization-identifier>mallory@example.org</authorization-identifier></success>"},
		{"unknown children", authenticate("<x xmlns='urn:x'><y/></x><authenticate/><initial-response xmlns='urn:x'>!</initial-response>"), success, "<success"},
		{"two initial responses", authenticate("<initial-response>" + b64("\x00juliet\x00"+harness.Password) + "</initial-response>"), success, "mallory@example.org"},
		{"not base64", element("authenticate", "<initial-response>!</initial-response>"), failure, "<incorrect-encoding"},
		{"no mechanism", element("authenticate", ""), failure, "<invalid-mechanism"},
		{"unknown mechanism", strings.Replace(authenticate(""), "PLAIN", "HT-SHA-256-NONE", 1), failure, "<invalid-mechanism"},
		{"FAST with a password mechanism", authenticate("<fast xmlns='urn:xmpp:fast:0'/>" + agent), failure, "<invalid-mechanism"},
		{"FAST without an id", authenticate("<fast xmlns='urn:xmpp:fast:0'/>"), failure, "<malformed-request"},
		{"FAST with count 0", authenticate("<fast xmlns='urn:xmpp:fast:0' count='0'/>" + agent), failure, "<malformed-request"},
		{"FAST with count -1", authenticate("<fast xmlns='urn:xmpp:fast:0' count='-1'/>" + agent), failure, "<malformed-request"},
		{"FAST with a large count", authenticate("<fast xmlns='urn:xmpp:fast:0' count='4294967296'/>" + agent), failure, "<malformed-request"},
		{"huge user agent", authenticate("<user-agent id='" + strings.Repeat("x", 2000) + "'><software>" + strings.Repeat("s", 4000) + "</software></user-agent>"), success, "<success"},
		{"user agent of many lines", authenticate("<user-agent id='" + agentID + "'><device>a\nb&#x202E;c</device></user-agent>"), success, "<success"},
		{"token for a mechanism that is not offered", authenticate(agent + "<request-token xmlns='urn:xmpp:fast:0' mechanism='PLAIN'/>"), success, "<success"},
		{"resume of nothing", authenticate("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"), success, "<item-not-found"},
		{"resume without anything", authenticate("<resume xmlns='urn:xmpp:sm:3'/>"), success, "<bad-request"},
		{"resume and bind", authenticate("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/><bind xmlns='urn:xmpp:bind:0'/>"), success, "</bound>"},
		{"tag too long", authenticate("<bind xmlns='urn:xmpp:bind:0'><tag>" + strings.Repeat("t", 3000) + "</tag></bind>"), success, "</bound>"},
		{"tag that is no resource", authenticate("<bind xmlns='urn:xmpp:bind:0'><tag>a&#x202E;&#x200B;</tag></bind>"), success, "</bound>"},
		{"tag with markup", authenticate("<bind xmlns='urn:xmpp:bind:0'><tag>&lt;/success&gt;&apos;</tag></bind>"), success, "&lt;/success&gt;"},
		{"junk to bind", authenticate("<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:x'/><active xmlns='urn:xmpp:csi:0'/><inactive xmlns='urn:xmpp:csi:0'/><enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:xmpp:carbons:2'/><disable xmlns='urn:xmpp:carbons:2'/></bind>"), success, "</bound>"},
		{"enabled twice in bind", authenticate("<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:sm:3'/></bind>"), success, "<enabled"},
		{"enable beside bind", authenticate("<enable xmlns='urn:xmpp:sm:3'/>"), success, "<success"},
		{"upgrades without end", authenticate(strings.Repeat("<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>", 12)), success, "<success"},
		{"abort before anything", element("abort", ""), failure, "<aborted"},
		{"response before anything", element("response", ""), failure, "<malformed-request"},
		{"next before anything", element("next", ""), closed, not},
		{"task data before anything", element("task-data", ""), closed, not},
		{"success from the client", element("success", ""), closed, not},
		{"abort in the exchange", scram + element("abort", ""), failure, "<aborted"},
		{"authenticate in the exchange", scram + authenticate(""), closed, not},
		{"another profile in the exchange", scram + auth("PLAIN", "\x00mallory\x00"+harness.Password), closed, not},
		{"abort by another profile in the exchange", scram + "<abort xmlns='" + harness.NSSASL + "'/>", closed, not},
		{"stanza in the exchange", scram + ping, closed, not},
		{"next in the exchange", scram + element("next", ""), closed, not},
		{"header in the exchange", scram + "<stream:stream>", closed, "<stream:error>"},
		{"wrong answer in the exchange", scram + element("response", b64("c=biws,r=x,p=AAAA")), failure, "</failure>"},
		{"authenticate after success", authenticate("") + authenticate(""), closed, not},
		{"authenticate after bind", authenticate("<bind xmlns='urn:xmpp:bind:0'/>") + authenticate(""), closed, "<unsupported-stanza-type"},
		{"abort after success", authenticate("") + element("abort", ""), closed, not},
		{"auth after success", authenticate("") + auth("PLAIN", "\x00juliet\x00"+harness.Password), closed, not},
		{"stanza after success", authenticate("") + ping, closed, not},
		{"starttls after success", authenticate("") + starttls, closed, not},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := secured(t, s)
			r.send(tt.in)
			if got := r.until(tt.until); !strings.Contains(got, tt.want) {
				t.Errorf("want %s, got %s", tt.want, got)
			}
			r.Close()
		})
	}
}

// Unknown accounts, clients and tokens are told alike (XEP-0484 §4.2, XEP-0388 §5).
func TestTokensTellNothing(t *testing.T) {
	s := start(t, harness.Options{TLS: true, Sessions: c2s.Options{Attempts: 100}})
	token(t, s)
	answers := map[string][]string{}
	for _, user := range []string{"mallory", "juliet", "nobody"} {
		for _, id := range []string{agentID, "d4565fa7-4d72-4749-b3d3-740edbf87771"} {
			r := secured(t, s)
			r.send(byToken(user, "not-the-token", id, ""))
			got := r.until("</failure>")
			answers[got] = append(answers[got], user+" "+id)
			r.Close()
		}
	}
	if len(answers) != 1 {
		t.Errorf("answers differ: %v", answers)
	}
}

// token logs mallory in and returns a token.
func token(t *testing.T, s *harness.Server) string {
	t.Helper()
	r := secured(t, s)
	defer r.Close()
	r.send(authenticate("<user-agent id='" + agentID + "'/><request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>"))
	got := r.until("</stream:features>")
	_, rest, ok := strings.Cut(got, " token='")
	if !ok {
		t.Fatalf("no token in %s", got)
	}
	return rest[:strings.Index(rest, "'")]
}

func byToken(user, token, id, attrs string) string {
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte("Initiator"))
	return "<authenticate xmlns='" + harness.NSSASL2 + "' mechanism='HT-SHA-256-NONE'><initial-response>" +
		b64(user+"\x00"+string(m.Sum(nil))) + "</initial-response><user-agent id='" + id + "'/><fast xmlns='urn:xmpp:fast:0'" + attrs + "/></authenticate>"
}

// logsIn tells whether a token lets somebody in.
func logsIn(t *testing.T, s *harness.Server, request string) bool {
	t.Helper()
	r := secured(t, s)
	defer r.Close()
	r.send(request)
	got := r.until(">")
	for !strings.Contains(got, "</failure>") && !strings.Contains(got, "</success>") {
		got += r.until("</")
	}
	return strings.Contains(got, "</success>")
}

// XEP-0484 §3.4, §3.5, §3.6: a count is used once, by however many streams it comes
// at once; and a token ends with the client, the password and the account.
func TestAbusedTokens(t *testing.T) {
	ctx := context.Background()
	s := start(t, harness.Options{TLS: true, Sessions: c2s.Options{Strangers: -1, MaxSessions: 100}})
	mallory := jid.Must("mallory@example.org")

	tok := token(t, s)
	if !logsIn(t, s, byToken("mallory", tok, agentID, " count='5'")) {
		t.Fatal("the token is not taken")
	}
	for _, count := range []int{5, 4, 1} {
		if logsIn(t, s, byToken("mallory", tok, agentID, fmt.Sprintf(" count='%d'", count))) {
			t.Errorf("count %d is taken behind 5", count)
		}
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if logsIn(t, s, byToken("mallory", tok, agentID, " count='6'")) {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("one count let %d in", in.Load())
	}
	for name, request := range map[string]string{
		"another account":   byToken("juliet", tok, agentID, " count='9'"),
		"another client":    byToken("mallory", tok, "d4565fa7-4d72-4749-b3d3-740edbf87771", " count='9'"),
		"another mechanism": strings.Replace(byToken("mallory", tok, agentID, " count='9'"), "HT-SHA-256-NONE", "HT-SHA-256-ENDP", 1),
		"no FAST":           strings.Replace(byToken("mallory", tok, agentID, ""), "<fast xmlns='urn:xmpp:fast:0'/>", "", 1),
		"as a password":     strings.Replace(authenticate(""), b64("\x00mallory\x00"+harness.Password), b64("\x00mallory\x00"+tok), 1),
	} {
		if logsIn(t, s, request) {
			t.Errorf("%s: it is let in", name)
		}
	}
	// Whoever invalidates it is in, once, and nobody after.
	in.Store(0)
	for i := range 6 {
		wg.Go(func() {
			if logsIn(t, s, byToken("mallory", tok, agentID, fmt.Sprintf(" count='%d' invalidate='true'", 20+i))) {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 || logsIn(t, s, byToken("mallory", tok, agentID, " count='99'")) {
		t.Errorf("invalidated by %d, and let in afterwards", in.Load())
	}

	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"password", func() error { return s.Auth.SetPassword(ctx, mallory, harness.Password) }},
		{"client", func() error {
			list, err := s.Auth.Clients(ctx, mallory)
			if err == nil {
				_, err = s.Auth.RevokeClient(ctx, mallory, list[0].Ref)
			}
			return err
		}},
		{"account", func() error {
			if err := s.Auth.RemoveAccount(ctx, mallory); err != nil {
				return err
			}
			return s.Auth.CreateAccount(ctx, mallory, harness.Password)
		}},
	} {
		tok := token(t, s)
		must(t, tt.do())
		if logsIn(t, s, byToken("mallory", tok, agentID, "")) {
			t.Errorf("the token outlives its %s", tt.name)
		}
		// The same while logins are under way: whatever they come to, none succeeds behind
		// the change.
		tok = token(t, s)
		stop := make(chan struct{})
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						logsIn(t, s, byToken("mallory", tok, agentID, ""))
					}
				}
			})
		}
		must(t, tt.do())
		if logsIn(t, s, byToken("mallory", tok, agentID, "")) {
			t.Errorf("the token outlives its %s while it is used", tt.name)
		}
		close(stop)
		wg.Wait()
	}
}
