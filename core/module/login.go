package module

import (
	"context"
	"fmt"

	"trivium/core/stanza"
)

// Nonza takes a top-level element that is no stanza (XEP-0360) from a bound
// session. A *stream.Error ends the session's stream.
type Nonza func(ctx context.Context, s *Session, t *Turn, el *stanza.Element) error

// inline is one feature that Bind 2 may switch on.
type inline struct {
	feature, space string
	f              func(context.Context, *Session, *Turn, *stanza.Element) (stanza.Payload, error)
}

// Nonza names who takes a top-level element with this expanded name.
func (h *Host) Nonza(space, local string, f Nonza) {
	k := [2]string{space, local}
	if h.nonzas[k] != nil {
		h.err = fmt.Errorf("two handlers for the element {%s}%s", space, local)
	}
	if h.nonzas == nil {
		h.nonzas = map[[2]string]Nonza{}
	}
	h.nonzas[k] = f
}

// NonzaFor returns who takes the element, or nil.
func (h *Host) NonzaFor(space, local string) Nonza { return h.nonzas[[2]string{space, local}] }

// Inline adds a feature that a client may ask for while it binds (XEP-0386 §4.1).
// f gets each child of <bind/> in the namespace space, once the session is bound;
// what it returns goes into <bound/>, and an error only leaves the feature off.
func (h *Host) Inline(feature, space string, f func(context.Context, *Session, *Turn, *stanza.Element) (stanza.Payload, error)) {
	h.inline = append(h.inline, inline{feature, space, f})
}

// InlineFeatures returns the features to announce for Bind 2.
func (h *Host) InlineFeatures() []string {
	var list []string
	for _, in := range h.inline {
		list = append(list, in.feature)
	}
	return list
}

// SwitchOn has the modules take one child of <bind/>. Nobody may know it: then it
// is ignored.
func (h *Host) SwitchOn(ctx context.Context, s *Session, t *Turn, el *stanza.Element) (stanza.Payload, error) {
	for _, in := range h.inline {
		if in.space == el.Space {
			return in.f(ctx, s, t, el)
		}
	}
	return nil, nil
}

// Welcome adds what every session that binds by Bind 2 is told in <bound/>; f may
// return nil.
func (h *Host) Welcome(f func(context.Context, *Session) stanza.Payload) {
	h.welcome = append(h.welcome, f)
}

// Welcomes returns what a session is told in <bound/>.
func (h *Host) Welcomes(ctx context.Context, s *Session) []stanza.Payload {
	var list []stanza.Payload
	for _, f := range h.welcome {
		if p := f(ctx, s); p != nil {
			list = append(list, p)
		}
	}
	return list
}
