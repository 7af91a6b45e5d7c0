//spec:xep-0386 1.1.0 complete | Bind 2 | tags, stable resources, earlier sessions of the same client end
package c2s

import (
	"context"
	"errors"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/stream"
)

const nsBind2 = "urn:xmpp:bind:0" // XEP-0386

// bind2Feature announces Bind 2 with what it can switch on (XEP-0386 §4.1).
func (s *session) bind2Feature() *stanza.Element {
	list := stanza.El(nsBind2, "inline")
	for _, f := range s.svc.modules.InlineFeatures() {
		list.Add(stanza.El(nsBind2, "feature").Set("var", f))
	}
	list.Add(stanza.El(nsBind2, "feature").Set("var", nsManage)) // XEP-0198 §8.1
	return stanza.El(nsBind2, "bind", list)
}

// tagMax bounds the tag of a client in octets; a resource may have 1023.
const tagMax = 128

// resource2 chooses the resource of a client: its tag, and what stands for the
// client, or something new (XEP-0386 §4.3).
func (s *session) resource2(rq *loginRequest) jid.JID {
	id := newID(9)
	if keeper, ok := sasl.As[clientKeeper](s.host.Backend); ok && rq.agent.id != "" && rq.username != "" {
		id = keeper.Resource(rq.username, rq.agent.id)
	}
	// "as-is [...], subject to the necessary validation for resource identifiers"
	if tag := rq.bind.ChildText(nsBind2, "tag"); tag != "" && len(tag) <= tagMax {
		if full, err := s.account.WithResource(tag + "/" + id); err == nil {
			return full
		}
	}
	return s.generated(id)
}

// bind2 makes the session reachable, switches on what was asked for, and sends what
// success makes of it (XEP-0386 §4.2), with the features behind. Whatever reaches the
// session meanwhile comes after that.
func (s *session) bind2(ctx context.Context, rq *loginRequest, success func(jid.JID, stanza.Payload) stanza.Payload) error {
	b := router.Binding{
		JID: s.resource2(rq), Client: rq.agent.id, Conn: s.conn, OutboxLimit: s.opts.Outbox, MaxSessions: s.opts.MaxSessions,
		// The resource is ours to give: only the client itself can have it already.
		Conflict: router.ConflictReplace,
		Kick:     s.kick, Held: true,
	}
	enable := rq.bind.Child(nsManage, "enable")
	if enable != nil {
		b.Manage = s.opts.Unacked // all that waits comes behind <enabled/>
	}
	peer, err := s.svc.router.Bind(b)
	if crowded(err) && s.supersede(b.Client, nil) {
		peer, err = s.svc.router.Bind(b)
	}
	if crowded(err) {
		return &stream.Error{Condition: stream.ResourceConstraint, Cause: err} // RFC 6120 §7.6.2.1; there is no iq to answer
	}
	if err == nil {
		err = s.belongs(ctx, peer)
	}
	if err != nil {
		return err
	}
	s.boundTo(peer)
	bound := stanza.Payloads{stanza.Raw("<bound xmlns='" + nsBind2 + "'>")}
	if enable != nil {
		bound = append(bound, s.enable(enable))
	}
	s.svc.modules.SessionBound(ctx, peer)
	for _, el := range rq.bind.Children("", "") {
		if el.Space == nsBind2 || el.Space == nsManage {
			continue
		}
		reply, err := s.svc.modules.SwitchOn(ctx, peer, &s.turn, el)
		if err != nil {
			s.svc.log.Debug("a feature stays off", "jid", peer.JID.String(), "feature", el.Space, "err", err)
		} else if reply != nil {
			bound = append(bound, reply)
		}
	}
	for _, p := range s.svc.modules.Welcomes(ctx, peer) {
		bound = append(bound, p)
	}
	bound = append(bound, stanza.Raw("</bound>"))
	s.turn.Flush()
	peer.Begin(success(peer.JID, bound), s.afterLogin())
	s.supersede(peer.Client, peer)
	return nil
}

// crowded tells by an error of Bind that an account has all the sessions that it may have.
func crowded(err error) bool {
	var e *stanza.Error
	return errors.As(err, &e) && e.Condition == stanza.ResourceConstraint
}

// supersede ends the sessions of a client that are older than peer (XEP-0386 §4.2), or
// all. It reports whether there were any.
func (s *session) supersede(client string, peer *router.Session) (any bool) {
	if client == "" {
		return false
	}
	for _, old := range s.svc.router.Account(s.account).Sessions() {
		if old == peer {
			break // what follows is younger
		}
		if old.Client == client {
			any = true
			s.svc.router.Unbind(old)                                                // its peer may be long in going
			old.Kick(stream.Err(stream.Conflict, "the client has logged in again")) // RFC 6120 §4.9.3.3
		}
	}
	return any
}
