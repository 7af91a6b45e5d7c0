package httpapi

import (
	"fmt"
	"net/http"

	"trivium/core/admin"
	"trivium/core/auth"
)

// SessionList is the answer to GET /accounts/{account}/sessions.
type SessionList struct {
	Sessions []admin.Session `json:"sessions"`
}

// ClientList is the answer to GET /accounts/{account}/clients.
type ClientList struct {
	Clients []admin.Client `json:"clients"`
}

// Ended is the answer to a request that has ended sessions.
type Ended struct {
	Sessions []string `json:"sessions" doc:"The full addresses of the sessions that were ended."`
}

// sessionRoutes are what a token that may speak for an account, or administer its
// host, may see and do of its sessions and clients: the operations that users have
// on their own.
func (a *API) sessionRoutes() []route {
	if a.opts.Operations == nil {
		return nil
	}
	const scopes = "Needs a scope to speak for the account, or `admin:HOST`."
	return []route{
		{
			method: http.MethodGet, path: "/accounts/{account}/sessions", id: "list-sessions", summary: "List the sessions of an account",
			text: "Oldest first. " + scopes, gives: SessionList{}, do: func(c *call) (any, error) {
				list, err := own[[]admin.Session](c, "session list", nil)
				return &SessionList{list}, err
			},
		},
		{
			method: http.MethodDelete, path: "/accounts/{account}/sessions/{resource}", slashes: true, id: "end-session", summary: "End a session",
			text: scopes, gives: Ended{}, do: func(c *call) (any, error) { return c.end("session kick", "resource", param(c.r, "*")) },
		},
		{
			method: http.MethodGet, path: "/accounts/{account}/clients", id: "list-clients", summary: "List the clients that an account logs in from",
			text: scopes, gives: ClientList{}, do: func(c *call) (any, error) {
				list, err := own[[]admin.Client](c, "client list", nil)
				return &ClientList{list}, err
			},
		},
		{
			method: http.MethodDelete, path: "/accounts/{account}/clients/{id}", id: "revoke-client", summary: "Forget a client, its tokens and its sessions",
			text: "With the password it can log in again. " + scopes, gives: Ended{}, do: func(c *call) (any, error) { return c.end("client revoke", "id", param(c.r, "id")) },
		},
	}
}

// end runs an operation that ends sessions.
func (c *call) end(op, arg, value string) (any, error) {
	if value == "" {
		return nil, problem(http.StatusNotFound, "There is nothing at this path.")
	}
	ended, err := own[[]string](c, op, admin.Args{arg: value})
	return &Ended{ended}, err
}

// own runs an operation on the account in the path, as its user would.
func own[T any](c *call, op string, args admin.Args) (result T, err error) {
	account, err := c.account()
	if err != nil {
		return result, err
	}
	if !c.token.MaySend(account) && !c.token.MayAdmin(account.Domain()) {
		return result, noScope(c.w, "The token may not speak for this account.", sendAs(account))
	}
	out, err := c.opts.Operations.RunOwn(c.r.Context(), caller(c.r, &c.token), account, op, args)
	if err != nil {
		return result, err
	}
	result, ok := out.(T)
	if !ok {
		return result, fmt.Errorf("httpapi: %s returned %T", op, out)
	}
	return result, nil
}

// caller is who the audit log says has done it.
func caller(rq *http.Request, token *auth.Token) admin.Caller {
	return admin.Caller{Who: token.ID, Name: token.Name, Remote: rq.RemoteAddr}
}

// kindStatus returns the status code for an operation that was refused.
func kindStatus(k admin.Kind) int {
	switch k {
	case admin.NotFound:
		return http.StatusNotFound
	case admin.Conflict:
		return http.StatusConflict
	case admin.Denied:
		return http.StatusForbidden
	case admin.Busy:
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}
