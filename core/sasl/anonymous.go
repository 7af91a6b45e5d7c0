package sasl

import (
	"context"
	"unicode/utf8"
)

const anonymousName = "ANONYMOUS"

// maxTrace bounds the trace information in characters (RFC 4505 §2).
const maxTrace = 255

// anonymous is an exchange of RFC 4505 §2. The trace information is the client's
// fancy: it is checked and dropped.
type anonymous struct{ started, over bool }

func (x *anonymous) Step(_ context.Context, response []byte) ([]byte, bool, error) {
	if !x.started && response == nil {
		x.started = true
		return []byte{}, false, nil // RFC 4422 §5: the client speaks first
	}
	if x.over {
		return nil, false, &Failure{Condition: MalformedRequest, Cause: errOver}
	}
	x.started, x.over = true, true
	if !utf8.Valid(response) || utf8.RuneCount(response) > maxTrace { // RFC 6120 §6.5.8
		return nil, false, fail(MalformedRequest, "trace is too long or not UTF-8")
	}
	return nil, true, nil
}

func (x *anonymous) Username() string { return "" }
