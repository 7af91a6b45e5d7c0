package sasl

import (
	"context"
	"strings"
	"unicode/utf8"
)

const plainName = "PLAIN"

// plain is an exchange of RFC 4616 §2.
type plain struct {
	server   *Server
	started  bool
	over     bool
	username string
	done     bool
}

func (x *plain) Step(ctx context.Context, response []byte) ([]byte, bool, error) {
	if !x.started && response == nil {
		x.started = true
		return []byte{}, false, nil // RFC 4422 §5: the client speaks first
	}
	if x.over {
		return nil, false, &Failure{Condition: MalformedRequest, Cause: errOver}
	}
	x.started, x.over = true, true

	authzid, authcid, password, err := parsePlain(response)
	if err != nil {
		return nil, false, err
	}
	if x.username, err = x.server.account(authcid, authzid); err != nil {
		return nil, false, err
	}
	if err := x.server.admit(ctx, x.username); err != nil {
		return nil, false, err
	}
	if password, err = PreparePassword(password); err != nil {
		// No account has such a password, which is no secret.
		return nil, false, &Failure{Condition: NotAuthorized, Cause: err}
	}
	ok, err := x.server.backend.CheckPlain(ctx, x.username, password)
	if err != nil {
		return nil, false, failure(err)
	}
	if !ok {
		return nil, false, fail(NotAuthorized, "password is wrong, or the account is unknown")
	}
	if err := authorize(ctx, x.server.backend, x.username); err != nil {
		return nil, false, err
	}
	x.done = true
	return nil, true, nil
}

func (x *plain) Username() string {
	if !x.done {
		return ""
	}
	return x.username
}

// parsePlain takes apart [authzid] NUL authcid NUL passwd: three fields, so that
// the password has no NUL; the last two not empty; UTF-8.
func parsePlain(message []byte) (authzid, authcid, password string, err error) {
	if len(message) > maxMessage || !utf8.Valid(message) {
		return "", "", "", fail(MalformedRequest, "PLAIN message is too long or not UTF-8")
	}
	fields := strings.Split(string(message), "\x00")
	if len(fields) != 3 || fields[1] == "" || fields[2] == "" {
		return "", "", "", fail(MalformedRequest, "PLAIN message is not authzid, authcid, password")
	}
	return fields[0], fields[1], fields[2], nil
}
