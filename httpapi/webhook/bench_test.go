package webhook

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"trivium/core/mod/modtest"
	"trivium/core/store"
)

// childReceiver is the environment that makes the test binary a receiver of posts.
const childReceiver = "TRIVIUM_TEST_WEBHOOK_RECEIVER"

// receive answers 204 to every post until its standard input ends.
func receive() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		l.Close()
	}()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
}

// receiver starts one in a process of its own, whose CPU is not ours.
func receiver(b *testing.B) (url string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childReceiver+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line := bufio.NewScanner(out)
	if !line.Scan() {
		b.Fatal("no receiver")
	}
	return "http://" + line.Text() + "/hook"
}

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDelivery is one message from a session through the log and the outbox of
// a synced store and over loopback HTTP, among a thousand conversations.
func BenchmarkDelivery(b *testing.B) {
	for _, tt := range []struct {
		name string
		keys []string
	}{{"hmac", []string{secret}}, {"two keys", []string{secret, oldSecret}}, {"ed25519", []string{pairKey}}} {
		b.Run(tt.name, func(b *testing.B) { benchmarkDelivery(b, tt.keys) })
	}
}

func benchmarkDelivery(b *testing.B, keys []string) {
	url := receiver(b)
	s := modtest.NewWith(b, modtest.Options{Store: store.Options{Path: filepath.Join(b.TempDir(), "store.db")}})
	w, stop := start(b, s, Endpoint{URL: url, Domains: []string{"gw.example.org"}, Keys: keys}, Options{MaxPending: 1 << 30})
	defer stop()
	romeo := s.Connect("romeo@example.org/orchard")
	e := w.find("app")
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu(b)
	const window = 2000
	for i := range b.N {
		romeo.Send(fmt.Sprintf(`<message to='bot%d@gw.example.org' type='chat'><body>0123456789</body></message>`, i%1000))
		for int64(i)-e.stats.delivered.Load() >= window {
			time.Sleep(time.Millisecond)
		}
	}
	for e.stats.delivered.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}
