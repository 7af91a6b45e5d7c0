package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/admin"
	"trivium/core/auth"
)

// Token is an API token.
type Token struct {
	ID       string     `json:"id" doc:"Names it in lists, logs and the audit log." example:"0011223344556677"`
	Name     string     `json:"name" doc:"For people."`
	Scopes   []string   `json:"scopes" nullable:"false" doc:"What it may do." example:"[\"send:sms.example.org\",\"read:sms.example.org\"]"`
	Rate     int        `json:"rate,omitempty" doc:"Requests a second; absent: as the server is configured."`
	Created  time.Time  `json:"created" doc:"When it was made."`
	Expires  *time.Time `json:"expires,omitempty" doc:"When it ends; absent: never."`
	LastUsed *time.Time `json:"last_used,omitempty" doc:"When it was used last, to a minute; absent: never."`
	Revoked  *time.Time `json:"revoked,omitempty" doc:"Since when it is worthless."`
}

// TokenSecret is a token whose secret is told, once.
type TokenSecret struct {
	Token
	Secret string `json:"secret" doc:"What requests hold as bearer token. It is told now and never again."`
}

// NewToken asks for a token.
type NewToken struct {
	Name   string  `json:"name,omitempty" maxLength:"100" format:"line" doc:"For people."`
	Scopes []Scope `json:"scopes" nullable:"false" minItems:"1" maxItems:"256" doc:"What it may do: send:PATTERN, read:PATTERN, admin:HOST or admin:*. The token that makes it must be able to do all of that itself." example:"[\"send:sms.example.org\",\"read:sms.example.org\"]"`
	Life   int     `json:"expires_in,omitempty" minimum:"1" maximum:"3153600000" doc:"After how many seconds it ends; absent: never. Not after the token that makes it."`
	Rate   int     `json:"rate,omitempty" minimum:"0" maximum:"1000000" doc:"Requests a second; 0: as the server is configured."`
}

func (a *API) tokenRoutes() []route {
	if a.opts.Operations == nil {
		return nil
	}
	const scopes = "Needs a scope `admin:…`; a token that administers single hosts has to do with tokens that may do no more than itself."
	revoked := &huma.Param{
		Name: "revoked", In: "query", Description: "Whether those that were revoked are listed too.",
		Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"true", "false"}, Default: "false"},
	}
	return []route{
		{
			method: http.MethodGet, path: "/tokens", id: "list-tokens", summary: "List tokens", text: "Oldest first. " + scopes,
			query: append([]*huma.Param{revoked}, paging()...), gives: Page[Token]{}, do: (*call).listTokens,
		},
		{
			method: http.MethodPost, path: "/tokens", id: "create-token", summary: "Make a token", text: "Its secret is in the answer and nowhere else. " + scopes,
			takes: NewToken{}, gives: TokenSecret{}, status: http.StatusCreated, do: (*call).createToken,
		},
		{
			method: http.MethodGet, path: "/tokens/{id}", id: "get-token", summary: "Show a token", text: scopes, gives: Token{}, do: (*call).getToken,
		},
		{
			method: http.MethodDelete, path: "/tokens/{id}", id: "revoke-token", summary: "Revoke a token", text: "It is worthless at once and for ever. " + scopes,
			do: (*call).revokeToken,
		},
		{
			method: http.MethodPost, path: "/tokens/{id}/rotate", id: "rotate-token", summary: "Give a token a new secret",
			text: "The old one is worthless at once. " + scopes, gives: TokenSecret{}, do: (*call).rotateToken,
		},
	}
}

func shownToken(t *auth.Token) Token {
	s := admin.ShowToken(t)
	return tokenOf(&s)
}

func tokenOf(s *admin.Token) Token {
	return Token{ID: s.ID, Name: s.Name, Scopes: s.Scopes, Rate: s.Rate, Created: s.Created, Expires: s.Expires, LastUsed: s.LastUsed, Revoked: s.Revoked}
}

// administers refuses tokens without any scope to administer.
func (c *call) administers() error {
	if len(c.token.Scopes.Admin) == 0 {
		return noScope(c.w, "The token may administer nothing.", adminOf(auth.AnyHost))
	}
	return nil
}

// governs tells whether the token has to do with tokens of such scopes.
func (c *call) governs(scopes auth.Scopes) bool {
	return c.token.MayAdmin(auth.AnyHost) || c.token.Covers(scopes)
}

func (c *call) listTokens() (any, error) {
	if err := c.administers(); err != nil {
		return nil, err
	}
	all, err := c.opts.Auth.Tokens(c.r.Context())
	if err != nil {
		return nil, err
	}
	list := []Token{}
	for i := range all {
		if (all[i].Revoked.IsZero() || c.args.Get("revoked") == "true") && c.governs(all[i].Scopes) {
			list = append(list, shownToken(&all[i]))
		}
	}
	return cut(c, list, func(t *Token) string { return fmt.Sprintf("%020d %s", t.Created.UnixMicro(), t.ID) })
}

// tokenInPath returns a token that this one has to do with. Others are as if they
// were not there.
func (c *call) tokenInPath() (*auth.Token, error) {
	if err := c.administers(); err != nil {
		return nil, err
	}
	t, err := c.opts.Auth.Token(c.r.Context(), param(c.r, "id"))
	if errors.Is(err, auth.ErrToken) || err == nil && !c.governs(t.Scopes) {
		return nil, problem(http.StatusNotFound, "There is no such token.")
	}
	return &t, err
}

func (c *call) getToken() (any, error) {
	t, err := c.tokenInPath()
	if err != nil {
		return nil, err
	}
	return shownToken(t), nil
}

func (c *call) createToken() (any, error) {
	if err := c.administers(); err != nil {
		return nil, err
	}
	var in NewToken
	if err := c.into(&in); err != nil {
		return nil, err
	}
	args := admin.Args{"name": in.Name}
	var scopes auth.Scopes
	for i, s := range in.Scopes {
		s := string(s)
		if one, err := auth.ParseScopes(s); err != nil || len(strings.Fields(s)) != 1 {
			return nil, unfit("body.scopes["+strconv.Itoa(i)+"]", "is not send:PATTERN, read:PATTERN or admin:HOST")
		} else {
			scopes.SendAs = append(scopes.SendAs, one.SendAs...)
			scopes.Read = append(scopes.Read, one.Read...)
			scopes.Admin = append(scopes.Admin, one.Admin...)
		}
	}
	if !c.governs(scopes) {
		return nil, noScope(c.w, "The token may not do all that the new one is to do.", scopes)
	}
	if err := c.outlived(in.Life); err != nil {
		return nil, err
	}
	args["scope"] = strings.Join(strings.Fields(scopes.String()), "\n")
	if in.Life > 0 {
		args["expires"] = time.Now().Add(time.Duration(in.Life) * time.Second).UTC().Format(time.RFC3339Nano)
	}
	if in.Rate > 0 {
		args["rate"] = strconv.Itoa(in.Rate)
	}
	out, err := c.operate("token add", args)
	if err != nil {
		return nil, err
	}
	secret, err := secretOf(out)
	if err != nil {
		return nil, err
	}
	return &outcome{value: secret, location: "/tokens/" + segment(secret.ID)}, nil
}

// outlived refuses a new token that would go on when the one that makes it has ended:
// the end would be none. life is in seconds, 0 for ever.
func (c *call) outlived(life int) error {
	end := c.token.Expires
	if end.IsZero() || life > 0 && !time.Now().Add(time.Duration(life)*time.Second).After(end) {
		return nil
	}
	return unfit("body.expires_in", "is later than the end of the token that makes it")
}

// secretOf reads what the operations return.
func secretOf(out any) (*TokenSecret, error) {
	t, ok := out.(admin.Token)
	if !ok {
		return nil, fmt.Errorf("httpapi: an operation on tokens returned %T", out)
	}
	return &TokenSecret{tokenOf(&t), t.Secret}, nil
}

func (c *call) revokeToken() (any, error) {
	t, err := c.tokenInPath()
	if err != nil {
		return nil, err
	}
	_, err = c.operate("token revoke", admin.Args{"id": t.ID})
	return nil, err
}

func (c *call) rotateToken() (any, error) {
	t, err := c.tokenInPath()
	if err != nil {
		return nil, err
	}
	if t.ID != c.token.ID && !c.token.Expires.IsZero() && (t.Expires.IsZero() || t.Expires.After(c.token.Expires)) {
		return nil, noScope(c.w, "The token ends before the one that it would get the secret of.")
	}
	out, err := c.operate("token rotate", admin.Args{"id": t.ID})
	if err != nil {
		return nil, err
	}
	return secretOf(out)
}
