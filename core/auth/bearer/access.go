package bearer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// AccessOptions tune an AccessVerifier. Issuer and Audience are required; the zero
// value of the rest is the default.
type AccessOptions struct {
	// Algorithms are those allowed; all that the keys are for if empty.
	Algorithms []string
	// Issuer is what "iss" has to be (RFC 9068 §4).
	Issuer string
	// Audience are our names: a token has to be for one of them.
	Audience []string
	// AnyType takes tokens whatever their header "typ" says. Otherwise it has to be
	// "at+jwt" (RFC 9068 §4), so that an ID token is not taken for an access token.
	AnyType bool
	// Leeway is how much the issuer's clock may differ from ours; 30 s if 0, none
	// if negative.
	Leeway time.Duration
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Access is what an access token says (RFC 9068 §2.2).
type Access struct {
	Issuer  string
	Subject string // "sub": the client itself, or the user whom it acts for
	Client  string // "client_id"; "" if the token does not tell
	Scope   string // words with spaces between; "" for none
	Expires time.Time
	// Until is Expires and the leeway: the token is refused from then on.
	Until time.Time
}

// AccessVerifier checks access tokens. It is constant, and for concurrent use.
type AccessVerifier struct {
	signed
	o Options
}

// NewAccess makes an AccessVerifier. The error is ErrAlgorithm or ErrAudience.
func NewAccess(keys Keys, o AccessOptions) (*AccessVerifier, error) {
	// RFC 9068 §2.2, §4: both are required, whoever has the keys.
	if o.Issuer == "" || len(o.Audience) == 0 {
		return nil, ErrAudience
	}
	all := Options{Algorithms: o.Algorithms, Issuer: o.Issuer, Audience: o.Audience, Leeway: o.Leeway, Now: o.Now}
	if !o.AnyType {
		all.Type = "at+jwt"
	}
	checks, err := newSigned(keys, &all)
	if err != nil {
		return nil, err
	}
	return &AccessVerifier{signed: checks, o: all}, nil
}

var errSubject = errors.New("bearer: the token does not say whose it is")

// Check returns what a token says that is good. The error is ErrUnavailable while
// the keys cannot be had, that of ctx, or a refusal, for the log.
func (v *AccessVerifier) Check(ctx context.Context, token string) (Access, error) {
	claims, err := v.claims(ctx, token)
	if err != nil {
		return Access{}, err
	}
	a := Access{Issuer: v.o.Issuer}
	a.Subject, _ = claims["sub"].(string)
	a.Client, _ = claims["client_id"].(string) // RFC 8693 §4.3
	if a.Subject == "" {
		return Access{}, errSubject // RFC 9068 §2.2: required
	}
	// RFC 8693 §4.2: one string. COMPAT: some issuers write a list.
	switch scope := claims["scope"].(type) {
	case string:
		a.Scope = scope
	case []any:
		var words []string
		for _, w := range scope {
			if word, ok := w.(string); ok {
				words = append(words, word)
			}
		}
		a.Scope = strings.Join(words, " ")
	}
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return Access{}, fmt.Errorf("bearer: exp: %w", err) // the parser has seen it
	}
	a.Expires, a.Until = exp.Time, exp.Add(v.o.Leeway)
	return a, nil
}
