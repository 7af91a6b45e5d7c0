package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"trivium/httpapi/message"
	"trivium/httpapi/webhook"
)

// document returns the OpenAPI 3.1 description as JSON. The schemas are made
// from the Go types that the handlers read and write.
//
// The handlers themselves are plain: they look at the token before the body, take
// XML too, are stricter about JSON, and need no global error hook. It costs the
// same (BenchmarkPost). That they do what the document says is tested.
func document(o Options) ([]byte, error) {
	doc, _ := openAPI(o)
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("httpapi: OpenAPI document: %w", err)
	}
	return append(raw, '\n'), nil
}

const (
	jsonType    = "application/json"
	xmlType     = "application/xml"
	problemType = "application/problem+json"
)

func openAPI(o Options) (*huma.OpenAPI, huma.Registry) {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	ref := func(v any) *huma.Schema { return schemas.Schema(reflect.TypeOf(v), true, "") }
	version := o.Version
	if version == "" {
		version = "unknown"
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Trivium REST interface", Version: version,
			Description: "Send messages to XMPP users, and get theirs by webhook. Errors are problem documents (RFC 9457).",
		},
		Servers: []*huma.Server{{URL: "/api/v1"}},
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"token": {Type: "http", Scheme: "bearer", Description: "A token that was made with `trivium token add`."},
			},
		},
	}
	security := []map[string][]string{{"token": {}}}
	problems := func(codes map[int]string) map[string]*huma.Response {
		list := map[string]*huma.Response{}
		for code, text := range codes {
			list[strconv.Itoa(code)] = &huma.Response{
				Description: text,
				Content:     map[string]*huma.MediaType{problemType: {Schema: ref(Problem{})}},
			}
		}
		return list
	}
	const noToken = "There is no valid token."

	var table strings.Builder
	for _, e := range statusOf {
		fmt.Fprintf(&table, "\n| %s | %d |", e.condition, e.status)
	}
	send := problems(map[int]string{
		400: "The body is not JSON in UTF-8.",
		401: noToken,
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
		Security: security,
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
	list := problems(map[int]string{401: noToken, 429: "The token has made too many requests.", 503: "Tokens cannot be checked now."})
	list["200"] = &huma.Response{
		Description: "The endpoints, by name.",
		Content:     map[string]*huma.MediaType{jsonType: {Schema: ref(WebhookList{})}},
	}
	doc.AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/webhooks", OperationID: "list-webhooks", Summary: "Tell the state of the webhooks",
		Security: security, Responses: list,
	})
	describeDevices(doc, ref, problems)
	header := func(name, text string) *huma.Param {
		return &huma.Param{Name: name, In: "header", Required: true, Description: text, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	doc.Webhooks = map[string]*huma.PathItem{"message": {Post: &huma.Operation{
		OperationID: "message", Summary: "A message for a gateway domain or a watched account",
		Description: "Signed as Standard Webhooks says. Posts of one conversation come in order; a post may come again with the same webhook-id. " +
			"A post that is answered with 408, 425, 429 or 5xx is tried again, later and later; 410 ends all posts; after any other status the message is given up.",
		Parameters: []*huma.Param{
			header("webhook-id", "The same for every attempt, and for no other message."),
			header("webhook-timestamp", "When this attempt was made, in seconds since 1970."),
			header("webhook-signature", "One or more signatures, v1,base64, with spaces between."),
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{jsonType: {Schema: ref(webhook.Event{})}}},
		Responses: map[string]*huma.Response{"2XX": {
			Description: "The message is taken. What is answered is delivered as the recipient's reply.",
			Content: map[string]*huma.MediaType{
				jsonType:     {Schema: ref(webhook.Answer{})},
				"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}, Example: "A rose by any other name"},
			},
		}},
	}}}
	return doc, schemas
}
