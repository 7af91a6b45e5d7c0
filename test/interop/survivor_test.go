package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a client may take for what it is told to do. Nothing
// waits that long unless something is wrong.
const patience = 25 * time.Second

// A survivor is a client library or program that this test drives: a subprocess
// that reads one order per line and answers each, and reports every message that
// the library hands out. It is Juliet; she loses her connections and her time.
type survivor struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   string // file

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something below changes
	seen    []message
	answers map[int]answer
	ended   error // why there is nothing more to come

	next int   // number of the next order
	pids []int // the client's processes, of the test's own starting; empty: the script and its descendants
}

// message is a message as a client sees it, live or in the archive.
type message struct {
	From   string `json:"from"` // bare JID
	To     string `json:"to"`   // bare JID
	Body   string `json:"body"`
	ID     string `json:"id"`     // stanza-id by the own account (XEP-0359), or the archive's id
	Carbon string `json:"carbon"` // "sent", "received" or "" (XEP-0280)
}

// order is one line to a survivor.
type order struct {
	Number int      `json:"number"`
	Do     string   `json:"do"`
	Over   string   `json:"over,omitempty"`   // connect: tcp, websocket, wss or bosh
	To     string   `json:"to,omitempty"`     // send: bare JID
	Bodies []string `json:"bodies,omitempty"` // send
}

// answer is the line that answers an order. Which fields are set depends on it.
type answer struct {
	Number  int    `json:"number"`
	Error   string `json:"error"`
	JID     string `json:"jid"`     // connect: full JID
	PIDs    []int  `json:"pids"`    // connect: the client's processes, if they are not the script's descendants
	Resumed bool   `json:"resumed"` // connect: the session is the one it had before
	// connect: what the login was made of, of "sasl2", "fast", "bind2" and the SASL mechanism
	Login    []string  `json:"login"`
	Archive  []message `json:"archive"`  // archive: oldest first
	Shown    []string  `json:"shown"`    // shown: the bodies a person sees, from top to bottom
	Session  string    `json:"session"`  // state: id of stream management
	Received uint32    `json:"received"` // state: stanzas received, the next 'h'
	Detail   string    `json:"detail"`
}

// startSurvivor starts the program; it ends with the test at the latest.
func startSurvivor(t *testing.T, d description, name string, argv ...string) *survivor {
	t.Helper()
	s := &survivor{
		log:     filepath.Join(d.Artifacts, "interop-"+d.Name+"-"+name+".log"),
		changed: make(chan struct{}),
		answers: make(map[int]answer),
		next:    1,
	}
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = scriptEnvironment(t, d)
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := s.read(stdout)
		if err != nil { // nothing it says can be understood from here on
			s.update(func() { s.ended = err })
			_, _ = io.Copy(io.Discard, stdout)
		}
		err = errors.Join(err, s.cmd.Wait())
		log.Close()
		s.update(func() { s.ended = fmt.Errorf("%s has ended: %w", name, errors.Join(err, io.EOF)) })
	}()
	t.Cleanup(func() {
		s.stdin.Close() // a script ends at the end of its input
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("the script does not end")
			for _, pid := range s.pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
		<-done
	})
	return s
}

func (s *survivor) read(stdout io.Reader) error {
	in := bufio.NewScanner(stdout)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		var line struct {
			Message *message `json:"message"`
			answer
		}
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			return fmt.Errorf("the script printed %q: %w", in.Text(), err)
		}
		s.update(func() {
			if line.Message != nil {
				s.seen = append(s.seen, *line.Message)
			} else {
				s.answers[line.Number] = line.answer
			}
		})
	}
	return in.Err()
}

func (s *survivor) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until ok, which is called with the lock held, says so.
func (s *survivor) await(what string, ok func() bool) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		fine, ended, changed := ok(), s.ended, s.changed
		s.mu.Unlock()
		if fine {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("%s: not after %v", what, patience)
		}
	}
}

// begin gives an order without waiting for its answer.
func (s *survivor) begin(o order) (func() (answer, error), error) {
	o.Number = s.next
	s.next++
	line, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if _, err := s.stdin.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Do, err)
	}
	return func() (answer, error) {
		var a answer
		err := s.await(o.Do, func() (ok bool) { a, ok = s.answers[o.Number]; return ok })
		if err == nil && a.Error != "" {
			err = fmt.Errorf("%s: %s", o.Do, a.Error)
		}
		return a, err
	}, nil
}

// do gives an order and waits for its answer.
func (s *survivor) do(o order) (answer, error) {
	wait, err := s.begin(o)
	if err != nil {
		return answer{}, err
	}
	return wait()
}

// messages waits for at least n messages and returns all there are.
func (s *survivor) messages(n int) ([]message, error) {
	var seen []message
	err := s.await(fmt.Sprintf("%d messages", n), func() bool {
		seen = append([]message(nil), s.seen...)
		return len(seen) >= n
	})
	if err != nil {
		err = fmt.Errorf("%w; %d have come", err, len(seen))
	}
	return seen, err
}

// suspend stops the client's processes until resume is called, which is never nil.
func (s *survivor) suspend() (resume func() error, err error) {
	pids := s.pids
	if len(pids) == 0 {
		if pids, err = processTree(s.cmd.Process.Pid); err != nil {
			return func() error { return nil }, err
		}
	}
	signal := func(sig syscall.Signal) error {
		var errs []error
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("%v to %d: %w", sig, pid, err))
			}
		}
		return errors.Join(errs...)
	}
	return func() error { return signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}

// kill ends the client without giving it time for anything.
func (s *survivor) kill() error {
	if len(s.pids) == 0 {
		return syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	}
	for _, pid := range s.pids { // the script stays, to clear up
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

// processTree returns a process of ours and its descendants, from /proc.
func processTree(root int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		stat := string(b)
		pid, err := strconv.Atoi(stat[:strings.IndexByte(stat, ' ')])
		if err != nil {
			return nil, err
		}
		after := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // state, parent
		parent, err := strconv.Atoi(after[1])
		if err != nil {
			return nil, err
		}
		children[parent] = append(children[parent], pid)
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}
