package kit_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "sms.example.org"

// network records what the gateway tells it, and says what it is told to.
type network struct {
	mu      sync.Mutex
	got     []string
	more    chan struct{}
	refuse  error                                              // of Register
	onIQ    func(ctx context.Context, st *stanza.Stanza) error // nil: keep silent
	onMore  func(ctx context.Context, st *stanza.Stanza)       // subscriptions
	stalled chan struct{}                                      // Register waits for it
}

func (n *network) note(format string, args ...any) {
	n.mu.Lock()
	n.got = append(n.got, fmt.Sprintf(format, args...))
	n.mu.Unlock()
	select {
	case n.more <- struct{}{}:
	default:
	}
}

func (n *network) Message(_ context.Context, p *router.Packet) error {
	body, _ := p.Stanza.Body()
	n.note("message %s %s %s", p.Stanza.From, p.Stanza.To, body)
	return nil
}

func (n *network) Presence(_ context.Context, st *stanza.Stanza) error {
	n.note("presence %s %s %s", st.From, st.To, st.Type)
	return nil
}

func (n *network) Subscription(ctx context.Context, st *stanza.Stanza) error {
	n.note("%s %s %s", st.Type, st.From, st.To)
	n.mu.Lock()
	f := n.onMore
	n.mu.Unlock()
	if f != nil {
		f(ctx, st)
	}
	return nil
}

func (n *network) IQ(ctx context.Context, st *stanza.Stanza) error {
	n.note("iq %s %s %s %s", st.Type, st.From, st.To, st.ID)
	n.mu.Lock()
	f := n.onIQ
	n.mu.Unlock()
	if f != nil {
		return f(ctx, st)
	}
	return nil
}

func (n *network) Register(_ context.Context, c kit.Change, r *kit.Registration) error {
	n.mu.Lock()
	refuse, stalled := n.refuse, n.stalled
	n.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	if refuse != nil && c != kit.Unregistered {
		return refuse
	}
	keys := make([]string, 0, len(r.Fields))
	for k, v := range r.Fields {
		keys = append(keys, k+"="+v)
	}
	slices.Sort(keys)
	n.note("%s %s %s", c, r.User, strings.Join(keys, " "))
	return nil
}

// expect waits for what the network is told next.
func (n *network) expect(t *testing.T, want ...string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for _, w := range want {
		for {
			n.mu.Lock()
			if len(n.got) > 0 {
				got := n.got[0]
				n.got = n.got[1:]
				n.mu.Unlock()
				if strings.TrimSpace(got) != w {
					t.Fatalf("the network got %q, want %q", got, w)
				}
				break
			}
			n.mu.Unlock()
			select {
			case <-n.more:
			case <-timeout:
				t.Fatalf("the network got nothing, want %q", w)
			}
		}
	}
}

func (n *network) quiet(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.got) > 0 {
		t.Fatalf("the network got %q", n.got)
	}
}

// world is a server with a gateway.
type world struct {
	*modtest.Server
	t   *testing.T
	gw  *kit.Gateway
	net *network
	end func()

	turn int // of settle
}

func modules() []module.Module {
	contacts := roster.New(roster.Options{})
	here := presence.New(contacts, presence.Options{})
	contacts.ShowWith(here)
	return []module.Module{here, contacts}
}

// telephone is a definition with everything.
var telephone = kit.Definition{
	Type: "sms", Name: "Text messages", Client: "phone", Prompt: "Telephone number",
	Registration: &kit.Form{
		Instructions: "Your number and PIN, please.",
		Fields: []kit.Field{
			{Name: "phone", Label: "Number", Required: true},
			{Name: "password", Label: "PIN", Kind: kit.KindSecret, Required: true},
			{Name: "plan", Label: "Plan", Kind: kit.KindList, Options: []kit.Choice{{Value: "basic"}, {Value: "all"}}},
		},
	},
	Capabilities: kit.Capabilities{MaxLength: 160, Receipts: true, Media: []string{"image/*"}},
}

func start(t *testing.T, d kit.Definition, o kit.Options) *world {
	t.Helper()
	w := &world{Server: modtest.New(t, modules()...), t: t}
	w.serve(d, o)
	return w
}

func (w *world) serve(d kit.Definition, o kit.Options) {
	w.t.Helper()
	w.prepare(d, o)
	w.run()
}

// prepare serves the gateway; what it announces waits for run.
func (w *world) prepare(d kit.Definition, o kit.Options) {
	w.t.Helper()
	w.net = &network{more: make(chan struct{}, 1)}
	o.Router, o.Store = w.Router, w.Store
	var err error
	if w.gw, err = kit.New(context.Background(), domain, d, w.net, o); err != nil {
		w.t.Fatal(err)
	}
	w.Router.Serve(domain, w.gw)
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.gw.Run(ctx); close(done) }()
	w.end = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(w.end)
}

// restart serves the gateway anew on the same store.
func (w *world) restart(d kit.Definition) *world {
	w.t.Helper()
	w.end()
	n := &world{Server: w.Server.Restart(modules()...), t: w.t}
	n.serve(d, kit.Options{})
	return n
}

func (w *world) online(full string) *modtest.Client {
	w.t.Helper()
	c := w.Connect(full)
	c.Send(`<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>`).Next()
	c.Send(`<presence/>`)
	c.Expect(fmt.Sprintf(`<presence from='%s' to='%s'/>`, full, full))
	return c
}

// expect is c.Expect without roster pushes.
func expect(t *testing.T, c *modtest.Client, patterns ...string) {
	t.Helper()
	for _, want := range patterns {
		for {
			got := c.Next()
			if strings.Contains(got, "'jabber:iq:roster'") {
				continue
			}
			if d := modtest.Diff(want, got); d != "" {
				t.Fatalf("%s\n got %s\nwant %s", d, got, want)
			}
			break
		}
	}
}

func contact(local string) jid.JID { return jid.Must(local + "@" + domain) }

func set(w *world, xml string) {
	w.t.Helper()
	if err := w.gw.SetPresence(context.Background(), modtest.Parse(w.t, xml)); err != nil {
		w.t.Fatal(err)
	}
}

// settle returns when all presence that was set has been told: what is set for a
// distant observer, twice, has come behind it.
func (w *world) settle() {
	w.t.Helper()
	p := w.Peer("observer.example")
	for range 2 {
		w.turn++
		word := fmt.Sprint("turn ", w.turn)
		set(w, `<presence from='observed@sms.example.org' to='o@observer.example'><status>`+word+`</status></presence>`)
		for !strings.Contains(p.Next(), "<status>"+word+"</status>") {
		}
	}
}

// up connects the network, and waits until that has been told.
func (w *world) up() {
	w.t.Helper()
	w.gw.SetUp(true)
	w.settle()
}
