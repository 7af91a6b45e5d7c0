package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"trivium/core/admin"
	"trivium/core/auth"
	"trivium/core/jid"
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

// mountDevices registers what a token that may speak for an account may see and do
// of its sessions and clients: the operations that users have on their own.
func (a *API) mountDevices(r chi.Router) {
	if a.opts.Operations == nil {
		return
	}
	get(r, "/accounts/{account}/sessions", func(w http.ResponseWriter, rq *http.Request) {
		list, ok := operate[[]admin.Session](a, w, rq, "session list", nil)
		if ok {
			writeJSON(w, http.StatusOK, &SessionList{list})
		}
	})
	get(r, "/accounts/{account}/clients", func(w http.ResponseWriter, rq *http.Request) {
		list, ok := operate[[]admin.Client](a, w, rq, "client list", nil)
		if ok {
			writeJSON(w, http.StatusOK, &ClientList{list})
		}
	})
	// A resource may have slashes in it.
	r.Delete("/accounts/{account}/sessions/*", func(w http.ResponseWriter, rq *http.Request) {
		a.end(w, rq, "session kick", "resource", param(rq, "*"))
	})
	r.Delete("/accounts/{account}/clients/{id}", func(w http.ResponseWriter, rq *http.Request) {
		a.end(w, rq, "client revoke", "id", param(rq, "id"))
	})
}

// param returns a decoded part of the path.
func param(rq *http.Request, name string) string {
	v := chi.URLParam(rq, name)
	if rq.URL.RawPath != "" { // then it is what was routed
		if plain, err := url.PathUnescape(v); err == nil {
			return plain
		}
	}
	return v
}

// end runs an operation that ends sessions.
func (a *API) end(w http.ResponseWriter, rq *http.Request, op, arg, value string) {
	if value == "" {
		problem(http.StatusNotFound, "There is nothing at this path.").write(w)
		return
	}
	ended, ok := operate[[]string](a, w, rq, op, admin.Args{arg: value})
	if ok {
		writeJSON(w, http.StatusOK, &Ended{ended})
	}
}

// operate runs an operation on the account in the path, as its user would. It has
// written the answer when it reports false.
func operate[T any](a *API, w http.ResponseWriter, rq *http.Request, op string, args admin.Args) (result T, ok bool) {
	token, p := a.authenticate(w, rq)
	if p != nil {
		p.write(w)
		return result, false
	}
	account, err := jid.Parse(param(rq, "account"))
	if err != nil || account.Local() == "" || !account.IsBare() {
		problem(http.StatusNotFound, "The path does not hold the address of an account.").write(w)
		return result, false
	}
	if !token.MaySend(account) {
		noScope(w, "The token may not speak for this account.").write(w)
		return result, false
	}
	out, err := a.opts.Operations.RunOwn(rq.Context(), caller(rq, &token), account, op, args)
	var told *admin.Error
	switch {
	case errors.As(err, &told):
		problem(kindStatus(told.Kind), told.Text).write(w)
		return result, false
	case err != nil:
		p, ours := problemOf(err)
		if ours {
			a.log.Error("operation failed", "operation", op, "account", account.String(), "err", err)
		}
		p.write(w)
		return result, false
	}
	result, ok = out.(T)
	if !ok {
		a.log.Error("an operation returned something else", "operation", op, "type", fmt.Sprintf("%T", out))
		problem(http.StatusInternalServerError, "").write(w)
	}
	return result, ok
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

// describeDevices adds the paths of mountDevices to the document.
func describeDevices(doc *huma.OpenAPI, ref func(any) *huma.Schema, problems func(map[int]string) map[string]*huma.Response) {
	for _, op := range []struct {
		method, path, id, summary, done string
		answer                          any
	}{
		{http.MethodGet, "/accounts/{account}/sessions", "list-sessions", "List the sessions of an account", "The sessions, oldest first.", SessionList{}},
		{http.MethodDelete, "/accounts/{account}/sessions/{resource}", "end-session", "End a session", "The session has been ended.", Ended{}},
		{http.MethodGet, "/accounts/{account}/clients", "list-clients", "List the clients that an account logs in from", "The clients.", ClientList{}},
		{http.MethodDelete, "/accounts/{account}/clients/{id}", "revoke-client", "Forget a client, its tokens and its sessions", "The client is forgotten, and its sessions have been ended. With the password it can log in again.", Ended{}},
	} {
		rs := problems(map[int]string{
			401: "There is no valid token.", 403: "The token may not speak for this account.", 404: "There is no such account, session or client.",
			429: "The token has made too many requests.", 503: "The store cannot be asked now.",
		})
		rs["200"] = &huma.Response{Description: op.done, Content: map[string]*huma.MediaType{jsonType: {Schema: ref(op.answer)}}}
		params := []*huma.Param{{Name: "account", In: "path", Required: true, Description: "A bare address.", Schema: &huma.Schema{Type: huma.TypeString}}}
		for name, text := range map[string]string{"resource": "Its slashes need no encoding.", "id": "From the list of clients."} {
			if strings.HasSuffix(op.path, "{"+name+"}") {
				params = append(params, &huma.Param{Name: name, In: "path", Required: true, Description: text, Schema: &huma.Schema{Type: huma.TypeString}})
			}
		}
		doc.AddOperation(&huma.Operation{
			Method: op.method, Path: op.path, OperationID: op.id, Summary: op.summary, Parameters: params,
			Security: []map[string][]string{{"token": {}}}, Responses: rs,
		})
	}
}
