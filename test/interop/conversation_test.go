package interop

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// What is said in a drama, and how what has come of it is judged.

// bodies makes n texts that nobody has said before. The first letter says who
// speaks: 'r' is Romeo, 'n' is the nurse, 'j' is Juliet's own client.
func (p *drama) bodies(who string, n int) []string {
	words := []string{
		"wherefore art thou", "<b>& \"so\" 'on' ]]>", "Ζεύς, 漢字", "🌹 e\u0301",
	}
	texts := make([]string, n)
	for i := range texts {
		p.said++
		texts[i] = fmt.Sprintf("%s%03d %s", who, p.said, words[p.said%len(words)])
	}
	return texts
}

func (p *drama) romeoSays(n int) error {
	bodies := p.bodies("r", n)
	for _, b := range bodies {
		p.toJuliet = append(p.toJuliet, message{From: p.romeo.bare, To: p.nurse.bare, Body: b})
	}
	return p.romeo.says(p.nurse.bare, bodies...)
}

func (p *drama) nurseSays(n int) error {
	bodies := p.bodies("n", n)
	for _, b := range bodies {
		m := message{From: p.nurse.bare, To: p.romeo.bare, Body: b}
		p.toRomeo = append(p.toRomeo, m)
		m.Carbon = "sent"
		p.toJuliet = append(p.toJuliet, m)
	}
	return p.nurse.says(p.romeo.bare, bodies...)
}

func (p *drama) julietSays(n int) error {
	bodies := p.bodies("j", n)
	for _, b := range bodies {
		p.toRomeo = append(p.toRomeo, message{From: p.nurse.bare, To: p.romeo.bare, Body: b})
	}
	_, err := p.juliet.do(order{Do: "send", To: p.romeo.bare, Bodies: bodies})
	return err
}

// othersTalk is what is said to Juliet while she hears or does not.
func (p *drama) othersTalk() error {
	if err := p.romeoSays(5); err != nil {
		return err
	}
	if err := p.nurseSays(2); err != nil {
		return err
	}
	return p.romeoSays(5)
}

func (p *drama) talk() error {
	if err := p.julietSays(3); err != nil {
		return err
	}
	if err := p.othersTalk(); err != nil {
		return err
	}
	return p.julietSays(2)
}

func (p *drama) talkAndCheck() error {
	if err := p.talk(); err != nil {
		return err
	}
	return p.check()
}

// talkIntoTheVoid is what is said while Juliet's connection is lost and she does
// not know it.
func (p *drama) talkIntoTheVoid() error {
	if p.forgets {
		return p.othersTalk()
	}
	return p.talk()
}

// check waits until everything has come, and then for a round trip more, so
// that anything that came twice is there as well.
func (p *drama) check() error {
	if _, err := p.juliet.messages(len(p.toJuliet)); err != nil {
		return err
	}
	if _, err := p.juliet.do(order{Do: "sync"}); err != nil {
		return err
	}
	got, err := p.juliet.messages(0)
	if err != nil {
		return err
	}
	if err := p.same(got, p.toJuliet); err != nil {
		return fmt.Errorf("Juliet: %w", err)
	}
	return p.checkRomeo()
}

func (p *drama) checkRomeo() error {
	heard, err := p.romeo.hears(len(p.toRomeo))
	if err != nil {
		return fmt.Errorf("Romeo: %w", err)
	}
	if err := p.same(heard, p.toRomeo); err != nil {
		return fmt.Errorf("Romeo: %w", err)
	}
	return nil
}

// same checks that messages are those wanted: each once, each sender's in order,
// each with a stanza-id of its own. A message that is wanted as a copy of what
// another device has sent must be one.
func (p *drama) same(got, want []message) error {
	ids := make(map[string]string)
	for _, m := range got {
		if m.ID == "" {
			return fmt.Errorf("%q has no stanza-id", m.Body)
		}
		if other, ok := ids[m.ID]; ok {
			return fmt.Errorf("%q and %q have the same stanza-id", other, m.Body)
		}
		ids[m.ID] = m.Body
	}
	got, want = p.bySender(got), p.bySender(want)
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.ID, w.ID = "", ""; g.Carbon == "received" {
			g.Carbon = ""
		}
		if g != w {
			return fmt.Errorf("message %d is %+v, want %+v; all: %s", i, g, w, texts(got))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d messages, want %d; all: %s", len(got), len(want), texts(got))
	}
	return nil
}

// bySender groups messages by who said them and keeps their order within.
func (p *drama) bySender(all []message) []message {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b message) int {
		if p.backwards && first(a.Body) == "j" && first(b.Body) == "j" {
			return cmp.Compare(a.Body, b.Body)
		}
		return cmp.Compare(first(a.Body), first(b.Body))
	})
	return all
}

// first is the letter that says who speaks.
func first(body string) string { return body[:min(1, len(body))] }

func texts(all []message) string {
	s := ""
	for _, m := range all {
		s += fmt.Sprintf("\n\t%s %s %q", m.From, m.Carbon, m.Body)
	}
	return s
}

// live is every message that Juliet's client has seen.
func (p *drama) live() []message {
	if p.before != nil {
		return p.before
	}
	seen, _ := p.juliet.messages(0)
	return seen
}

// conversation is what both archives must hold.
func (p *drama) conversation() []message {
	all := slices.Clone(p.toRomeo)
	for _, m := range p.toJuliet {
		if m.Carbon == "" {
			all = append(all, m)
		}
	}
	return p.bySender(all)
}

func (p *drama) consistent(archive []message) error {
	return errors.Join(p.same(archive, p.conversation()), sameIDs(archive, p.live()))
}

// sameIDs checks that what was seen live has the archive's ids.
func sameIDs(archive, live []message) error {
	ids := make(map[string]string)
	for _, m := range archive {
		ids[m.Body] = m.ID
	}
	for _, m := range live {
		if m.ID != ids[m.Body] {
			return fmt.Errorf("%q had the id %s live and has %s in the archive", m.Body, m.ID, ids[m.Body])
		}
	}
	return nil
}
