// A gateway that keeps Message/CPIM objects (RFC 3862) as files: webhooks bring
// them into in/, what lies in out/ is sent and moved to sent/. It needs to know
// nothing of XMPP. The "network" answers every object with the same text, its From
// and To changed places. The environment tells API, TOKEN, SECRET and PORT.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

var news = make(chan struct{}, 1)

func main() {
	for _, dir := range []string{"in", "out", "sent"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			log.Fatal(err)
		}
	}
	hook, err := standardwebhooks.NewWebhook(os.Getenv("SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	go sendAll()
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || hook.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		name := r.Header.Get("Webhook-Id") + ".cpim" // the same id is the same file
		if r.Header.Get("Content-Type") == "message/cpim" {
			err = errors.Join(keep("in", name, body), keep("out", name, answer(body)))
		}
		if err != nil {
			log.Print(err)
			w.WriteHeader(http.StatusServiceUnavailable) // it comes again
			return
		}
		w.WriteHeader(http.StatusNoContent)
		select {
		case news <- struct{}{}:
		default:
		}
	})
	fmt.Println("ready")
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

// keep writes a file whole or not at all, unless it was there or was sent before.
func keep(dir, name string, body []byte) error {
	for _, old := range []string{filepath.Join(dir, name), filepath.Join("sent", name)} {
		if _, err := os.Stat(old); err == nil && (dir != "in" || old == filepath.Join(dir, name)) {
			return nil
		}
	}
	tmp, err := os.CreateTemp(".", "new-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(body)
	return errors.Join(err, tmp.Sync(), tmp.Close(), os.Rename(tmp.Name(), filepath.Join(dir, name)))
}

var (
	party = regexp.MustCompile(`(?m)^(From|To):`)
	other = regexp.MustCompile(`(?m)^(DateTime|cc|NS|Require):.*\r\n`)
)

// answer makes the network's answer to an object.
func answer(object []byte) []byte {
	head, text, _ := bytes.Cut(object, []byte("\r\n\r\n")) // RFC 3862 §2: message headers, then the content
	head = bytes.TrimSuffix(other.ReplaceAll(append(bytes.Clone(head), "\r\n"...), nil), []byte("\r\n"))
	head = party.ReplaceAllFunc(head, func(f []byte) []byte {
		if f[0] == 'F' {
			return []byte("To:")
		}
		return []byte("From:")
	})
	part, body, _ := bytes.Cut(text, []byte("\r\n\r\n")) // the content's own header
	return bytes.Join([][]byte{head, part, append([]byte("echo: "), body...)}, []byte("\r\n\r\n"))
}

// sendAll sends what lies in out/, oldest first, again and again.
func sendAll() {
	for {
		files, _ := filepath.Glob("out/*.cpim") // ids rise, so names sort by age
		for _, file := range files {
			if !send(file) {
				break
			}
		}
		select {
		case <-news:
		case <-time.After(time.Second):
		}
	}
}

// send reports whether the object is out of the way.
func send(file string) bool {
	body, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	rq, err := http.NewRequest(http.MethodPost, os.Getenv("API")+"/messages", bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
	rq.Header.Set("Content-Type", "message/cpim")
	rq.Header.Set("Idempotency-Key", filepath.Base(file)) // a repeated send is harmless
	rs, err := http.DefaultClient.Do(rq)
	if err != nil {
		return false
	}
	defer rs.Body.Close()
	if rs.StatusCode >= 500 || rs.StatusCode == http.StatusTooManyRequests || rs.StatusCode == http.StatusConflict {
		return false
	}
	if rs.StatusCode >= 400 {
		why, _ := io.ReadAll(io.LimitReader(rs.Body, 4096))
		log.Printf("refused: %s %s", rs.Status, why)
	}
	return os.Rename(file, filepath.Join("sent", filepath.Base(file))) == nil
}
