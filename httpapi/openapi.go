package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"trivium/httpapi/event"
	"trivium/httpapi/webhook"
)

// marshal returns an OpenAPI 3.1 document as JSON.
func marshal(doc *huma.OpenAPI) ([]byte, error) {
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("httpapi: OpenAPI document: %w", err)
	}
	return append(raw, '\n'), nil
}

const (
	jsonType    = event.TypeJSON
	xmlType     = event.TypeXML
	octetType   = "application/octet-stream"
	problemType = "application/problem+json"
)

// schemaName names types of other packages after these too.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return name
	}
	if items, ok := t.FieldByName("Items"); ok && strings.HasPrefix(t.Name(), "Page[") {
		return "Page" + schemaName(items.Type.Elem(), hint)
	}
	pkg := path.Base(t.PkgPath())
	if pkg == "." || pkg == "httpapi" || strings.HasPrefix(strings.ToLower(name), pkg) {
		return name
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + name
}

// needsToken is the security of every operation.
var needsToken = []map[string][]string{{"token": {}}}

// openAPI returns the description of the interface. The schemas are made from the
// Go types that the handlers read and write.
func (a *API) openAPI() (*huma.OpenAPI, huma.Registry) {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	ref := func(v any) *huma.Schema { return schemas.Schema(reflect.TypeOf(v), true, "") }
	version := a.opts.Version
	if version == "" {
		version = "unknown"
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Trivium REST interface", Version: version,
			Description: "Send messages to XMPP users, follow what happens as a stream of events or by webhook, and manage accounts, gateways and tokens.\n\n" +
				"Errors are problem documents (RFC 9457). Every answer has an `X-Request-Id`, which a request may choose. " +
				"Lists come in pages: `next` of one is the parameter `after` of the following. Where an answer has an `ETag`, what changes the resource may " +
				"have `If-Match` or `If-None-Match`. Bodies and answers may be gzip. A token needs a scope for what it does: `send:PATTERN` to speak for " +
				"addresses, `read:PATTERN` to see what is theirs, `admin:HOST` to administer a virtual host or `admin:*` the server.",
		},
		Servers: []*huma.Server{{URL: "/api/v1"}},
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"token": {Type: "http", Scheme: "bearer", Description: "A token that was made with `trivium token add` or POST /tokens, or a JWT of an issuer that the server trusts."},
			},
		},
	}
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
	a.describeMessages(doc, ref, problems)
	for _, rt := range a.table {
		for _, p := range rt.query {
			p.Schema.PrecomputeMessages()
			if p.Schema.Items != nil {
				p.Schema.Items.PrecomputeMessages()
			}
		}
		doc.AddOperation(rt.operation(ref, problems))
	}
	describePosts(doc, ref)
	return doc, schemas
}

var (
	inPath = regexp.MustCompile(`\{([a-z]+)\}`)
	// texts of the parts of paths.
	parts = map[string]string{
		"account":  "The bare address of an account.",
		"resource": "The resource of a session.",
		"id":       "The id, from the list.",
		"contact":  "The address of a contact.",
		"name":     "The name of a webhook endpoint.",
		"domain":   "The domain of a gateway.",
		"user":     "The bare address of a user.",
		"jid":      "An address.",
	}
	formats = map[string]string{"name": "webhook-name", "id": "id", "resource": "resource", "account": "xmpp-account", "contact": "xmpp-jid", "user": "xmpp-jid", "jid": "xmpp-jid", "domain": "xmpp-domain"}
)

// operation tells of a route.
func (rt *route) operation(ref func(any) *huma.Schema, problems func(map[int]string) map[string]*huma.Response) *huma.Operation {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.summary, Description: rt.text, Security: needsToken,
		Tags: []string{strings.SplitN(rt.path, "/", 3)[1]},
	}
	codes := map[int]string{
		401: "There is no valid token.",
		403: "The token lacks a scope, which `WWW-Authenticate` names.",
		429: "The token has made too many requests; `Retry-After` tells when to go on.",
		500: "The server has failed.",
		503: "The store cannot be asked now; `Retry-After` tells when to try again.",
	}
	for _, m := range inPath.FindAllStringSubmatch(rt.path, -1) {
		text := parts[m[1]]
		if rt.slashes && strings.HasSuffix(rt.path, m[0]) {
			text += " Its slashes need no encoding."
		}
		one := 1
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: m[1], In: "path", Required: true, Description: text,
			Schema: &huma.Schema{Type: huma.TypeString, Format: formats[m[1]], MinLength: &one},
		})
		codes[404] = "There is no such thing."
	}
	op.Parameters = append(append(op.Parameters, rt.query...), rt.headers...)
	if len(rt.query) > 0 {
		codes[400] = "The query is not as it should be; `errors` tells what is wrong."
	}
	if rt.gives != nil {
		codes[406] = "No type of the answer is acceptable."
	}
	if rt.takes != nil {
		codes[400] = "The request is not well-formed."
		codes[413] = "The body is larger than the server allows."
		codes[415] = "The body is not JSON, or has a content coding other than gzip."
		codes[422] = "The body is not as it should be; `errors` tells what is wrong."
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{jsonType: {Schema: ref(rt.takes)}}}
	}
	if rt.octets {
		codes[413] = "The body is larger than the server allows."
		codes[415] = "The body has a content coding."
		op.RequestBody = &huma.RequestBody{Description: "The file, which may be empty.", Content: map[string]*huma.MediaType{
			octetType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}
	}
	conditional := func(name, text string) {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "header", Description: text, Schema: &huma.Schema{Type: huma.TypeString, Format: "entity-tag"}})
	}
	if rt.versioned && rt.method != http.MethodGet {
		conditional("If-Match", "The ETag of what is to be changed, or `*` for anything that exists.")
		if rt.method == http.MethodPut {
			conditional("If-None-Match", "`*` when it must not exist yet.")
		}
		codes[412] = "The resource is not what If-Match or If-None-Match says."
	}
	for code, text := range rt.also {
		codes[code] = text
	}
	op.Responses = problems(codes)
	done := &huma.Response{Description: "It is done."}
	status := rt.status
	if rt.gives != nil {
		types := rt.types
		if types == nil {
			types = []string{jsonType}
		}
		done.Description, done.Content = "The answer.", map[string]*huma.MediaType{}
		for _, t := range types {
			if t == jsonType {
				done.Content[t] = &huma.MediaType{Schema: ref(rt.gives)}
			} else {
				done.Content[t] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
			}
		}
		if status == 0 {
			status = http.StatusOK
		}
	} else if status == 0 {
		status = http.StatusNoContent
	}
	if rt.versioned && rt.gives != nil {
		done.Headers = map[string]*huma.Param{"ETag": {Description: "The validator for If-Match and If-None-Match.", Schema: &huma.Schema{Type: huma.TypeString}}}
		if rt.method == http.MethodGet {
			conditional("If-None-Match", "The ETag of an answer that the client has.")
			op.Responses["304"] = &huma.Response{Description: "The answer that the client has is still true."}
		}
		if rt.method == http.MethodPut {
			op.Responses["201"] = &huma.Response{Description: "It was made.", Content: done.Content, Headers: done.Headers}
		}
	}
	if status == http.StatusCreated {
		done.Headers = map[string]*huma.Param{"Location": {Description: "Where it is.", Schema: &huma.Schema{Type: huma.TypeString, Format: "uri-reference"}}}
	}
	op.Responses[strconv.Itoa(status)] = done
	return op
}

// describePosts adds what is posted to webhook endpoints.
func describePosts(doc *huma.OpenAPI, ref func(any) *huma.Schema) {
	header := func(name, text string) *huma.Param {
		return &huma.Param{Name: name, In: "header", Required: true, Description: text, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	doc.Webhooks = map[string]*huma.PathItem{"event": {Post: &huma.Operation{
		OperationID: "event", Summary: "An event",
		Description: "What happens for a gateway domain, a watched account, or what else the webhook is to get; in the format xml or cpim as another type where the event " +
			"has a form there. Signed as Standard Webhooks says. Posts of one conversation come in order; a post may come again with the same webhook-id. " +
			"A post that is answered with 408, 425, 429 or 5xx is tried again, later and later; 410 ends all posts; after any other status the event is given up.",
		Parameters: []*huma.Param{
			header("webhook-id", "The same for every attempt, and for no other event."),
			header("webhook-timestamp", "When this attempt was made, in seconds since 1970."),
			header("webhook-signature", "One or more signatures, v1,base64 (HMAC-SHA256) or v1a,base64 (ed25519), with spaces between."),
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			jsonType: {Schema: ref(event.Envelope{})}, xmlType: text(""), cpimType: text(""), pidfType: text(""),
		}},
		Responses: map[string]*huma.Response{"2XX": {
			Description: "The event is taken. What is answered is delivered as the reply of whom the event was for; other types than these are passed over.",
			Content: map[string]*huma.MediaType{
				jsonType: {Schema: ref(webhook.Answer{})}, "text/plain": text("A rose by any other name"), xmlType: text(""), cpimType: text(""),
			},
		}},
	}}}
}
