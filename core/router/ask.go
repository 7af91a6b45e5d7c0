package router

import (
	"context"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// question names an iq request that somebody in this process waits for the answer
// of. Who is asked belongs to it, so that nobody else can answer.
type question struct {
	from, to jid.JID
	id       string
}

// Ask routes an iq request and returns the answer, a result or an error stanza.
// st has an id that no other request between its two addresses has. The error is
// ctx's, when that ends first.
func (r *Router) Ask(ctx context.Context, st *stanza.Stanza) (*stanza.Stanza, error) {
	answer := make(chan *stanza.Stanza, 1)
	q := question{st.From.Clone(), st.To.Clone(), st.ID}
	if _, taken := r.questions.LoadOrStore(q, answer); taken {
		return st.ErrorReply(&stanza.Error{Condition: stanza.Conflict, Text: "a request with this id is under way"}), nil
	}
	r.asking.Add(1)
	defer func() {
		r.questions.Delete(q)
		r.asking.Add(-1)
	}()
	var t Turn
	err := r.Send(ctx, &t, st, nil)
	t.Flush()
	if err != nil {
		return st.ErrorReply(r.stanzaError(st, err)), nil
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answers takes an iq that answers a question of Ask.
func (r *Router) answers(st *stanza.Stanza) bool {
	if st.Kind != stanza.IQ || st.Type != stanza.Result && st.Type != stanza.TypeError {
		return false
	}
	answer, ok := r.questions.LoadAndDelete(question{st.To, st.From, st.ID})
	if ok {
		answer <- st
	}
	return ok
}
