package event

import (
	"trivium/core/router"
	"trivium/core/store"
)

// Consumer is told of every event as it is appended, so that what it has to do
// with it is committed together with the event. Webhooks are one.
type Consumer interface {
	// Want returns what to do in the transaction that holds e, and what to call when
	// it is committed (on the writer's goroutine: it must not block) or has failed.
	// All may be nil. An error refuses the event. It is called under the log's lock, in
	// the order of the log.
	Want(e *Event) (op store.Op, done func(error), err error)
}

// Appender is the part of the Log that writers use.
type Appender interface {
	// Append gives e its number and time and queues it. rc, which may be nil, is held
	// meanwhile and released when the event is committed; when Append returns an
	// error it has not touched rc. It does not wait, and may be called from any
	// goroutine. Events are committed in the order of their numbers.
	Append(e *Event, rc *router.Receipt) error
}
