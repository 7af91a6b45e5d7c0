package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"trivium/httpapi/message"
)

// mountMessages registers the routes on the way of stanzas. They see each request
// as it came: no middleware stands between but edge.
func (a *API) mountMessages(r chi.Router) {
	r.Post("/messages", a.postMessage)
}

// describeMessages adds the paths of mountMessages to the document.
func describeMessages(doc *huma.OpenAPI, ref func(any) *huma.Schema, problems func(map[int]string) map[string]*huma.Response) {
	var table strings.Builder
	for _, e := range statusOf {
		fmt.Fprintf(&table, "\n| %s | %d |", e.condition, e.status)
	}
	send := problems(map[int]string{
		400: "The body is not JSON in UTF-8.",
		401: "There is no valid token.",
		403: "The token may not send as this address, or the message was forbidden on its way.",
		404: "Nobody takes messages at this address.",
		409: "The message conflicts with something (conflict, unexpected-request).",
		410: "The address is no longer in use.",
		413: "The request is larger than the server allows.",
		415: "The body is neither JSON nor XML, or it has a content coding.",
		422: "A field is missing or cannot be sent; `errors` tells which.",
		429: "The token has made too many requests; `Retry-After` tells when to go on.",
		500: "The server has failed.",
		501: "The recipient's service does not do this.",
		503: "The message cannot be taken now; `Retry-After` tells when to try again.",
		504: "The message is on its way but not safe yet. It may still arrive; a retry should repeat the id.",
	})
	send["202"] = &huma.Response{
		Description: "The message is safe: it has left for every device that takes it, or it is stored and survives a crash.",
		Content:     map[string]*huma.MediaType{jsonType: {Schema: ref(Accepted{})}},
	}
	doc.AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: "/messages", OperationID: "send-message", Summary: "Send a message",
		Description: "When the message is refused on its way, the status follows the stanza error's condition (RFC 6120 section 8.3.3):\n\n" +
			"| condition | status |\n|---|---|" + table.String() + "\n",
		Security: needsToken,
		RequestBody: &huma.RequestBody{
			Required:    true,
			Description: "As XML: one `<message/>` element, in the namespace jabber:client or in none; `from` as with JSON.",
			Content: map[string]*huma.MediaType{
				jsonType: {Schema: ref(message.Draft{}), Example: map[string]any{
					"to": "juliet@example.org", "body": "Art thou not Romeo, and a Montague?",
				}},
				xmlType: {
					Schema:  &huma.Schema{Type: huma.TypeString},
					Example: "<message to='juliet@example.org' type='chat'><body>Art thou not Romeo?</body></message>",
				},
			},
		},
		Responses: send,
	})
}
