package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"trivium/bridges/cpim"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// cpimVectors are the vectors of the mapping reference, seen from the repository's
// root.
const cpimVectors = "bridges/cpim/testdata"

// richPIDF is the document of RFC 3863 §4.3.1.
const richPIDF = `<?xml version="1.0" encoding="UTF-8"?>
   <presence xmlns="urn:ietf:params:xml:ns:pidf"
        xmlns:im="urn:ietf:params:xml:ns:pidf:im"
        xmlns:myex="http://id.example.com/presence/"
        entity="pres:someone@example.com">
     <tuple id="bs35r9">
       <status>
         <basic>open</basic>
         <im:im>busy</im:im>
         <myex:location>home</myex:location>
       </status>
       <contact priority="0.8">im:someone@mobilecarrier.net</contact>
       <note xml:lang="en">Don't Disturb Please!</note>
       <note xml:lang="fr">Ne derangez pas, s'il vous plait</note>
       <timestamp>2001-10-27T16:49:29Z</timestamp>
     </tuple>
     <tuple id="eg92n8">
       <status>
         <basic>open</basic>
       </status>
       <contact priority="1.0">mailto:someone@example.com</contact>
     </tuple>
     <note>I'll be in Tokyo next week</note>
   </presence>
`

// codec is one direction of the mapping: what it does with each of its inputs.
type codec struct {
	metric string
	each   []func() error
}

// codecs are the mappings of all vectors that have a result; those that are to be
// refused are left out.
func codecs() ([]*codec, error) {
	messageOut, messageIn := &codec{metric: "message_out_us"}, &codec{metric: "message_in_us"}
	pidfOut, pidfIn := &codec{metric: "pidf_out_us"}, &codec{metric: "pidf_in_us"}
	rich := &codec{metric: "pidf_rich_us"}
	m := cpim.New(cpim.Options{})
	alice, bob, someone := jid.Must("alice@xmpp.example"), jid.Must("bob@im.example"), jid.Must("someone@example.com")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var buf []byte

	var messages []struct{ Dir, Stanza, CPIM string }
	if err := readVectors("messages.json", &messages); err != nil {
		return nil, err
	}
	for _, v := range messages {
		if v.Dir == "cpim>xmpp" {
			messageIn.add(func() error {
				_, err := m.ReadMessage(v.CPIM, cpim.Envelope{}, now)
				return err
			})
			continue
		}
		st, err := stanza.ParseDocument([]byte(v.Stanza))
		if err != nil {
			return nil, err
		}
		messageOut.add(func() (err error) {
			buf, err = m.AppendMessage(buf[:0], st, cpim.Meta{Received: now, StanzaID: "7d0e2a9b"})
			return err
		})
	}
	var presences []struct {
		Dir   string
		Input []string
	}
	if err := readVectors("presence.json", &presences); err != nil {
		return nil, err
	}
	for _, v := range presences {
		if v.Dir == "pidf>xmpp" {
			pidfIn.add(func() error {
				_, err := m.ReadPresence(v.Input[0], bob)
				return err
			})
			continue
		}
		p, err := m.Presentity(alice)
		if err != nil {
			return nil, err
		}
		for _, in := range v.Input {
			st, err := stanza.ParseDocument([]byte(in))
			if err != nil {
				return nil, err
			}
			p.Update(st, now)
		}
		pidfOut.add(func() (err error) {
			buf, err = p.Document(now).AppendTo(buf[:0])
			return err
		})
	}
	rich.add(func() error {
		_, err := m.ReadPresence(richPIDF, someone)
		return err
	})
	all := []*codec{messageOut, messageIn, pidfOut, pidfIn, rich}
	for _, c := range all {
		if len(c.each) == 0 {
			return nil, fmt.Errorf("%s: no vector is mapped", c.metric)
		}
	}
	return all, nil
}

func readVectors(name string, into any) error {
	data, err := os.ReadFile(filepath.Join(cpimVectors, name))
	if err != nil {
		return fmt.Errorf("run from the repository's root: %w", err)
	}
	return json.Unmarshal(data, into)
}

// add takes a mapping that works.
func (c *codec) add(f func() error) {
	if f() == nil {
		c.each = append(c.each, f)
	}
}

// runCPIM runs the codecs in this process: there is no server to ask.
func runCPIM(ctx context.Context, b *bench, s *server) (*outcome, error) {
	if s.name() != "trivium" {
		return nil, fmt.Errorf("%w: no CPIM", errUnsupported)
	}
	all, err := codecs()
	if err != nil {
		return nil, err
	}
	out := &outcome{Metrics: map[string]float64{}}
	for _, c := range all {
		n, cpu, err := c.measure(ctx, b.duration/2)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.metric, err)
		}
		out.Metrics[c.metric] = micros(cpu, n)
		out.Sent += n
		out.Received += n
	}
	return out, nil
}

// measure maps all inputs in turn for a time and returns how many mappings that
// were and the processor time of this process, garbage collection included.
func (c *codec) measure(ctx context.Context, d time.Duration) (n int64, cpu time.Duration, err error) {
	pid := os.Getpid()
	start, err := processClock(pid)
	if err != nil {
		return 0, 0, err
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range 100 {
			for _, f := range c.each {
				if err := f(); err != nil {
					return 0, 0, err
				}
				n++
			}
		}
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
	}
	end, err := processClock(pid)
	return n, end - start, err
}
