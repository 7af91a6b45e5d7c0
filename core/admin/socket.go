package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// requestMax bounds a request on the socket, in octets.
const requestMax = 1 << 20

// RemoveStale removes the unix socket of a server that is gone. Anything else at
// the path stays, and is an error.
func RemoveStale(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and not a socket", path)
	default:
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // a server too busy to answer is one, too
			return fmt.Errorf("a server is running on %s", path)
		}
		return os.Remove(path)
	}
	return nil
}

// Listen opens the admin socket. Its file belongs to the server's user alone,
// which is what guards it. A socket that nobody answers on any more is replaced;
// anything else in its place is left alone, and an error.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := RemoveStale(path); err != nil {
		return nil, err
	}
	// No other user may connect in the moment before chmod.
	old := syscall.Umask(0o177)
	ln, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// Handler answers POST /NAME, the operation's words joined by slashes, with the
// arguments as a JSON object: 200 and the result, 400 and what the operator is
// told, 404 for an unknown operation.
func Handler(r *Registry, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
		if rq.Method != http.MethodPost {
			http.Error(w, "POST an operation", http.StatusMethodNotAllowed)
			return
		}
		name := strings.ReplaceAll(strings.Trim(rq.URL.Path, "/"), "/", " ")
		args := Args{}
		if err := json.NewDecoder(http.MaxBytesReader(w, rq.Body, requestMax)).Decode(&args); err != nil && !errors.Is(err, io.EOF) {
			http.Error(w, "the arguments are a JSON object of strings", http.StatusBadRequest)
			return
		}
		out, err := r.Run(rq.Context(), Caller{Who: Socket}, name, args)
		var own *Error
		switch {
		case errors.Is(err, ErrUnknown):
			http.Error(w, "no such operation", http.StatusNotFound)
			return
		case errors.As(err, &own):
			http.Error(w, own.Text, http.StatusBadRequest)
			return
		case err != nil:
			log.Error("operation failed", "operation", name, "err", err)
			http.Error(w, "the operation failed: see the server's log", http.StatusInternalServerError)
			return
		}
		log.Info("operation done", "operation", name, "jid", args["jid"])
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	})
}

// ErrNotRunning says that no server answers on the socket.
var ErrNotRunning = errors.New("admin: no server is running")

// Call runs an operation in the server that owns the socket and returns its
// result as JSON.
func Call(ctx context.Context, socket, name string, args Args) (json.RawMessage, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	body, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/"+strings.ReplaceAll(name, " ", "/"), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(rq)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, ErrNotRunning
		}
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{Text: strings.TrimSpace(string(out))}
	}
	return out, nil
}
