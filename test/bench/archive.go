package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const nsMAM = "urn:xmpp:mam:2" // XEP-0313

// archiveCheck counts what a chat leaves in the archives of its accounts.
type archiveCheck struct {
	since string // XEP-0082 date and time: when the chat began
}

// newArchiveCheck waits for a full second, as Prosody's files keep no finer times:
// an earlier chat is then surely not counted.
func newArchiveCheck(ctx context.Context) (*archiveCheck, error) {
	next := time.Now().Truncate(time.Second).Add(time.Second)
	return &archiveCheck{since: next.UTC().Format(time.RFC3339)}, pause(ctx, time.Until(next))
}

// The check covers as many accounts as can be asked in archiveCheckTime, and at
// least archiveCheckPairs pairs: Prosody reads a whole file for each question.
const (
	archiveCheckTime  = 4 * time.Second
	archiveCheckPairs = 4
)

// verify compares what was sent with what both archives of each pair have got,
// after their sessions have closed. What is missing or too much is an error each.
func (a *archiveCheck) verify(ctx context.Context, ep endpoint, pairs []*pair, out *outcome) error {
	var wrong, checked atomic.Int64
	start := time.Now()
	err := each(2*len(pairs), func(i int) error {
		if i >= 2*archiveCheckPairs && time.Since(start) > archiveCheckTime {
			return nil
		}
		s, err := login(ctx, ep, roadTCP, userName(chatFrom+i))
		if err != nil {
			return err
		}
		defer s.close()
		got, err := s.archivedSince(a.since)
		want := pairs[i/2].sent.Load()
		wrong.Add(max(got-want, want-got))
		checked.Add(1)
		return err
	})
	out.Metrics["archives"] = float64(checked.Load())
	out.addErrors(wrong.Load(), fmt.Sprintf("the archives differ from what was sent by %d messages", wrong.Load()))
	return err
}

// archivedSince returns the number of messages archived for the account since a
// time: as the server counts them, or, as that is optional (XEP-0059 §2.6), page by
// page.
func (s *session) archivedSince(since string) (int64, error) {
	if err := s.setDeadline(time.Now().Add(setupTimeout)); err != nil {
		return 0, err
	}
	page, err := s.archivePage(since, "<max>1</max><before/>")
	if err != nil {
		return 0, err
	}
	total := page.count
	if total < 0 {
		total = int64(page.results)
		for !page.complete && page.results > 0 {
			if page, err = s.archivePage(since, "<max>250</max><before>"+page.first+"</before>"); err != nil {
				return 0, err
			}
			total += int64(page.results)
		}
	}
	return total, s.setDeadline(time.Time{})
}

// archivePage is one page of an archive.
type archivePage struct {
	results     int
	first, last string // ids
	count       int64  // of the whole archive, -1: not told
	complete    bool   // nothing is left in this direction
}

// archivePage queries the own archive and reads one page (XEP-0313 §4, XEP-0059).
// Without since it is of the whole archive.
func (s *session) archivePage(since, set string) (archivePage, error) {
	p := archivePage{count: -1}
	form := ""
	if since != "" {
		form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>" + nsMAM +
			"</value></field><field var='start'><value>" + since + "</value></field></x>"
	}
	err := s.sendXML("<iq type='set' id='page'><query xmlns='" + nsMAM + "' queryid='q'>" + form +
		"<set xmlns='http://jabber.org/protocol/rsm'>" + set + "</set></query></iq>")
	if err != nil {
		return p, err
	}
	for {
		el, err := s.await("<message", "<iq")
		if err != nil {
			return p, err
		}
		if bytes.HasPrefix(el, []byte("<message")) {
			if bytes.Contains(el, []byte("<forwarded")) && bytes.Contains(el, []byte("</body>")) {
				p.results++
			}
			continue
		}
		if attr(el, "id") != "page" {
			continue
		}
		fin := inner(el)
		if !bytes.HasPrefix(fin, []byte("<fin")) {
			return p, fmt.Errorf("archive query: %.300s", el)
		}
		p.complete = attr(fin, "complete") == "true"
		p.first, p.last = childText(fin, "first"), childText(fin, "last")
		if text := childText(fin, "count"); text != "" {
			if p.count, err = strconv.ParseInt(text, 10, 64); err != nil {
				return p, fmt.Errorf("archive query: count %q", text)
			}
		}
		return p, nil
	}
}

// childText returns the text of the first element of that name, "" without one.
func childText(xml []byte, name string) string {
	head, _, ok := strings.Cut(string(xml), "</"+name+">")
	if !ok {
		return ""
	}
	for _, start := range []string{"<" + name + ">", "<" + name + " "} {
		if i := strings.Index(head, start); i >= 0 {
			_, text, _ := strings.Cut(head[i:], ">")
			return text
		}
	}
	return ""
}
