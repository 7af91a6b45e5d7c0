package interop

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"trivium/test/harness"
)

// survivorClient is a client that TestSurvival drives, and what it is able to.
type survivorClient struct {
	name string
	argv []string
	over string // framing of the first login: tcp, websocket, wss (the same in TLS) or bosh
	// then is the framing that the session is resumed over by the library itself.
	// Empty: the library has one framing only. Then it is killed, and a raw client
	// resumes its session over WebSocket in its stead.
	then    string
	history bool // it reads archives
	csi     bool // it says when nobody looks (XEP-0352)
	modern  bool // it logs in with SASL2, Bind 2 and FAST
	page    bool // it is a web page, which people reload
	screen  bool // it shows what was said to a person
	// COMPAT(profanity): libstrophe 0.12 keeps what it has sent over a resumption and
	// never sends it again.
	forgets bool
	// COMPAT(aioxmpp): on resumption it sends again the last message first.
	backwards bool
}

func survivors() []survivorClient {
	return []survivorClient{
		{name: "survivor-slixmpp", argv: []string{python, "python/survivor_slixmpp.py"}, over: "tcp", history: true},
		{name: "survivor-aioxmpp", argv: []string{python, "python/survivor_aioxmpp.py"}, over: "tcp", backwards: true},
		{name: "survivor-stanzajs", argv: []string{"node", "node/survivor_stanzajs.js"}, over: "websocket", then: "bosh", history: true, csi: true},
		{name: "survivor-xmppjs", argv: []string{"node", "node/survivor_xmppjs.js"}, over: "tcp", then: "wss", history: true, modern: true},
		{name: "survivor-profanity", argv: []string{python, "profanity/survivor.py"}, over: "tcp", screen: true, forgets: true},
		{name: "survivor-converse", argv: []string{"node", "browser/survivor.js"}, over: "websocket", page: true},
	}
}

// TestSurvival takes Juliet's connections away, and her time, while people write
// to her and she to them. Afterwards everybody has everything once, each
// sender's in order, and the archive tells the same with the same ids.
func TestSurvival(t *testing.T) {
	for _, c := range survivors() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			newDrama(t, c, target).play(t)
		})
	}
}

// A drama is what happens to one survivor, and what ought to come of it.
type drama struct {
	survivorClient
	s        *server
	roads    []*road // every way to the server that her client has
	juliet   *survivor
	romeo    *person
	nurse    *person // Juliet's other device; negative priority, so that she only talks
	accounts map[string]account

	toJuliet []message // what Juliet's client is to see: received, and carbons of what the nurse said
	toRomeo  []message
	said     int
	before   []message // what a client that was killed had seen
}

func newDrama(t *testing.T, c survivorClient, s *server) *drama {
	d := s.desc.forClient(c.name)
	p := &drama{survivorClient: c, s: s, accounts: d.Accounts}
	by := func(to string) string {
		r := newRoad(t, to)
		p.roads = append(p.roads, r)
		return r.addr()
	}
	d.TCP = by(s.desc.TCP)
	d.WSS = "wss://" + by(s.https) + "/xmpp-websocket"
	web := by(s.http)
	d.WebSocket, d.BOSH = "ws://"+web+"/xmpp-websocket", "http://"+web+"/http-bind"
	d.Origin = s.origin
	var err error
	if p.romeo, err = newPerson(s, d.Accounts["romeo"], "orchard", "<presence/>"); err != nil {
		t.Fatal("romeo:", err)
	}
	t.Cleanup(p.romeo.Drop)
	if p.nurse, err = newPerson(s, d.Accounts["juliet"], "nurse", "<presence><priority>-1</priority></presence>"); err != nil {
		t.Fatal("nurse:", err)
	}
	t.Cleanup(p.nurse.Drop)
	p.juliet = startSurvivor(t, d, c.name, c.argv...)
	return p
}

func (p *drama) play(t *testing.T) {
	step := func(name string, f func() error) bool {
		return t.Run(name, func(t *testing.T) {
			if slices.Contains(p.s.lacks, p.name+"/"+name) {
				t.Skipf("%s is known to fail this", p.s.desc.Name)
			}
			if err := f(); err != nil {
				t.Fatalf("%v\nthe wire log is in %s", err, p.juliet.log)
			}
		})
	}
	if !step("login", p.login) {
		return // nothing else can be tried
	}
	_ = step("talk", p.talkAndCheck) &&
		(!p.csi || step("csi", p.nobodyLooks)) &&
		step("lost.client-notices", p.lostForTheClient) &&
		step("suspended", p.suspended) &&
		(p.page && p.playPage(step) || !p.page && p.playOn(step)) &&
		step("archive", p.archived)
}

// playOn goes on with a client that may resume as often as it likes.
func (p *drama) playOn(step func(string, func() error) bool) bool {
	return step("lost.server-notices", p.lostForTheServer) &&
		step("suspended-and-lost", p.suspendedAndLost) &&
		(!p.history || step("history", p.tellsHistory)) &&
		(!p.screen || step("screen", p.shown)) &&
		step("framing-switched", p.switchFraming) &&
		(!p.modern || step("fast.login", p.fastLogin))
}

// playPage goes on with a web page.
func (p *drama) playPage(step func(string, func() error) bool) bool {
	return step("page.reload", p.reload) &&
		step("page.lost-again", p.lostAgain) &&
		step("page.history-from-archive", p.reloadWithoutMemory)
}

func (p *drama) login() error {
	a, err := p.juliet.do(order{Do: "connect", Over: p.over})
	if err != nil {
		return err
	}
	p.juliet.pids = a.PIDs
	if a.Resumed {
		return errors.New("a first login cannot resume")
	}
	if got, want := bareOf(a.JID), p.accounts["juliet"].JID; got != want {
		return fmt.Errorf("logged in as %s, want %s", got, want)
	}
	if p.modern && p.s.desc.Name != "prosody" {
		return needs(a, "sasl2", "bind2")
	}
	return nil
}

// needs checks what a login was made of.
func needs(a answer, parts ...string) error {
	for _, part := range parts {
		if !slices.Contains(a.Login, part) {
			return fmt.Errorf("the login was made of %q, without %s", a.Login, part)
		}
	}
	return nil
}

// reconnect tells Juliet to come back; her session must be the one she had.
func (p *drama) reconnect(over string) error {
	a, err := p.juliet.do(order{Do: "connect", Over: over})
	if err != nil {
		return err
	}
	if !a.Resumed {
		return fmt.Errorf("%s has a new session, %q", a.JID, a.Login)
	}
	if p.modern && p.s.desc.Name != "prosody" {
		return needs(a, "sasl2", "fast")
	}
	return nil
}

// everywhere does something to all connections of Juliet's client.
func (p *drama) everywhere(do func(*road)) {
	for _, r := range p.roads {
		do(r)
	}
}

// lostForTheClient: nothing arrives any more; then the client learns it and comes
// back. For the server the old connection stands.
func (p *drama) lostForTheClient() error {
	p.everywhere((*road).freeze)
	if err := p.talkIntoTheVoid(); err != nil {
		return err
	}
	p.everywhere((*road).loseClient)
	return errors.Join(p.reconnect(p.over), p.check())
}

// lostForTheServer: the server learns at once, the client does not and goes on
// talking.
func (p *drama) lostForTheServer() error {
	p.everywhere((*road).loseServer)
	if err := p.talkIntoTheVoid(); err != nil {
		return err
	}
	p.everywhere((*road).loseClient)
	return errors.Join(p.reconnect(p.over), p.check())
}

// suspended: the client's process stands still while messages come.
func (p *drama) suspended() error {
	resume, err := p.juliet.suspend()
	err = errors.Join(err, p.othersTalk(), resume())
	return errors.Join(err, p.check())
}

// suspendedAndLost: it stands still and its connection is lost meanwhile, with
// what the server and the kernel thought to have delivered.
func (p *drama) suspendedAndLost() error {
	resume, err := p.juliet.suspend()
	err = errors.Join(err, p.othersTalk())
	p.everywhere((*road).loseClient)
	if err = errors.Join(err, p.othersTalk(), resume()); err != nil {
		return err
	}
	return errors.Join(p.reconnect(p.over), p.check())
}

// nobodyLooks: with CSI the server may hold back presence, and not lose the last
// of it; what people say comes at once.
func (p *drama) nobodyLooks() error {
	a, err := p.juliet.do(order{Do: "inactive"})
	if err != nil {
		return err
	}
	for _, show := range []string{"away", "xa", "dnd"} {
		if err := p.romeo.Send("<presence to='" + a.JID + "'><show>" + show + "</show></presence>"); err != nil {
			return err
		}
	}
	if err := errors.Join(p.romeoSays(2), p.check()); err != nil {
		return fmt.Errorf("while nobody looks: %w", err)
	}
	if a, err = p.juliet.do(order{Do: "active"}); err != nil {
		return err
	}
	if a.Detail != "dnd" {
		return fmt.Errorf("Romeo's presence was seen as %q, want dnd", a.Detail)
	}
	return nil
}

// switchFraming resumes the session over another framing.
func (p *drama) switchFraming() error {
	p.everywhere((*road).freeze)
	if p.then != "" {
		if err := p.talkIntoTheVoid(); err != nil {
			return err
		}
		p.everywhere((*road).loseClient)
		return errors.Join(p.reconnect(p.then), p.check(), p.talkAndCheck())
	}
	state, err := p.juliet.do(order{Do: "state"})
	if err != nil {
		return err
	}
	if state.Session == "" {
		return errors.New("the session has no id")
	}
	if err := errors.Join(p.juliet.kill(), p.othersTalk()); err != nil {
		return err
	}
	heir, err := p.inherit(state)
	if err != nil {
		return err
	}
	defer heir.Drop()
	if err := p.othersTalk(); err != nil {
		return err
	}
	before, _ := p.juliet.messages(0)
	after, err := heir.hears(len(p.toJuliet) - len(before))
	if err != nil {
		return err
	}
	p.before = append(before, after...)
	return errors.Join(p.same(p.before, p.toJuliet), p.checkRomeo())
}

// inherit resumes the session of a client that was killed.
func (p *drama) inherit(state answer) (*person, error) {
	c, err := authenticated(p.s, p.accounts["juliet"], "websocket")
	if err != nil {
		return nil, err
	}
	c.SM.Answer = true
	err = c.Send(fmt.Sprintf("<resume xmlns='%s' previd='%s' h='%d'/>", harness.NSSM, escape(state.Session), state.Received))
	if err != nil {
		return nil, err
	}
	n, err := c.Receive()
	if err != nil {
		return nil, err
	}
	if !n.Is(harness.NSSM, "resumed") {
		return nil, fmt.Errorf("want <resumed/>, got %s", n)
	}
	return &person{Client: c, bare: p.nurse.bare}, nil
}

// fastLogin logs out in order and in again: no password crosses the wire.
func (p *drama) fastLogin() error {
	if _, err := p.juliet.do(order{Do: "logout"}); err != nil {
		return err
	}
	a, err := p.juliet.do(order{Do: "connect", Over: p.over})
	if err != nil {
		return err
	}
	if a.Resumed {
		return errors.New("a session that was ended has been resumed")
	}
	return errors.Join(needs(a, "sasl2", "bind2", "fast"), p.talkAndCheck())
}

// tellsHistory has the library read its archive.
func (p *drama) tellsHistory() error {
	a, err := p.juliet.do(order{Do: "archive"})
	if err != nil {
		return err
	}
	return p.consistent(a.Archive)
}

// archived reads both archives with raw clients.
func (p *drama) archived() error {
	for _, who := range []*person{p.nurse, p.romeo} {
		all, err := who.archive()
		if err == nil && who == p.nurse {
			err = p.consistent(all)
		} else if err == nil {
			err = errors.Join(p.same(all, p.conversation()), sameIDs(all, who.seen))
		}
		if err != nil {
			return fmt.Errorf("the archive of %s: %w", who.bare, err)
		}
	}
	return nil
}

// reload reloads the page. The conversation stands there again.
func (p *drama) reload() error {
	if _, err := p.juliet.do(order{Do: "reload"}); err != nil {
		return err
	}
	if err := p.shown(); err != nil {
		return err
	}
	return errors.Join(p.talk(), p.check(), p.shown())
}

// lostAgain: COMPAT(converse.js): it resumes once; later it binds anew and fills
// the gap from the archive.
func (p *drama) lostAgain() error {
	p.everywhere((*road).freeze)
	if err := p.othersTalk(); err != nil {
		return err
	}
	p.everywhere((*road).loseClient)
	if _, err := p.juliet.do(order{Do: "connect", Over: p.over}); err != nil {
		return err
	}
	return p.shown()
}

// reloadWithoutMemory takes away what the browser has stored: all that a person
// sees after the login comes from the archive.
func (p *drama) reloadWithoutMemory() error {
	if _, err := p.juliet.do(order{Do: "forget"}); err != nil {
		return err
	}
	return p.shown()
}

// shown checks what a person sees: everything once, and what each
// has said in order.
func (p *drama) shown() error {
	want := make([]string, 0, len(p.toRomeo)+len(p.toJuliet))
	for _, m := range p.conversation() {
		want = append(want, m.Body)
	}
	a, err := p.juliet.do(order{Do: "shown", To: p.romeo.bare, Bodies: want})
	if err != nil {
		return err
	}
	shown := slices.Clone(a.Shown)
	slices.SortStableFunc(shown, func(a, b string) int { return cmp.Compare(first(a), first(b)) })
	if !slices.Equal(shown, want) {
		return fmt.Errorf("a person sees %q, want %q", a.Shown, want)
	}
	return nil
}
