package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"trivium/core/auth"
	"trivium/core/jid"
)

// challenge is the start of WWW-Authenticate (RFC 6750 §3).
const challenge = `Bearer realm="trivium"`

// authenticate returns the token of a request, or the problem: it looks at the
// Authorization header and nothing else (RFC 6750 §2.1).
func (a *API) authenticate(w http.ResponseWriter, r *http.Request) (auth.Token, *Problem) {
	header := r.Header["Authorization"]
	if len(header) != 1 {
		return auth.Token{}, noToken(w)
	}
	scheme, secret, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return auth.Token{}, noToken(w)
	}
	t, err := a.opts.Auth.CheckBearer(r.Context(), secret)
	switch {
	case errors.Is(err, auth.ErrToken):
		w.Header()["Www-Authenticate"] = []string{challenge + `, error="invalid_token"`} // RFC 6750 §3.1
		return t, problem(http.StatusUnauthorized, "The token is not valid.")
	case err != nil:
		return t, a.fault(w, "token not checked", err)
	}
	if !a.limits.allow(w.Header(), &t) {
		return t, problem(http.StatusTooManyRequests, "The token has made too many requests.")
	}
	return t, nil
}

// stillGood tells whether the token of a request that was let in is still valid. One
// that cannot be checked now is.
func (a *API) stillGood(ctx context.Context, r *http.Request) bool {
	ctx, cancel := context.WithTimeout(ctx, a.opts.Timeout)
	defer cancel()
	_, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	_, err := a.opts.Auth.CheckBearer(ctx, secret)
	return !errors.Is(err, auth.ErrToken)
}

// noToken is RFC 6750 §3: no error code where no credentials were given.
func noToken(w http.ResponseWriter) *Problem {
	w.Header()["Www-Authenticate"] = []string{challenge}
	return problem(http.StatusUnauthorized, "A bearer token is needed.")
}

// noScope is RFC 6750 §3.1, insufficient_scope. The scopes, if any, are those of
// which the token would need one.
func noScope(w http.ResponseWriter, detail string, scopes ...auth.Scopes) *Problem {
	value := challenge + `, error="insufficient_scope"`
	for i := range scopes {
		text := scopes[i].String()
		if text != "" && ascii(text) {
			value += `, scope="` + text + `"`
			break // RFC 6750 §3: the attribute must not appear more than once
		}
	}
	w.Header()["Www-Authenticate"] = []string{value}
	return problem(http.StatusForbidden, detail)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func adminOf(host string) auth.Scopes { return auth.Scopes{Admin: []string{host}} }

func readOf(j jid.JID) auth.Scopes { return auth.Scopes{Read: []jid.Pattern{jid.PatternOf(j)}} }

func sendAs(j jid.JID) auth.Scopes { return auth.Scopes{SendAs: []jid.Pattern{jid.PatternOf(j)}} }
