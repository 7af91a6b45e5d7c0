package httpapi

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
	"github.com/go-chi/chi/v5"

	"trivium/core/admin"
	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/httpapi/message"
)

// route is one operation: what answers it, and how the document tells of it. What
// the document says of parameters and bodies is enforced before do is called.
type route struct {
	method, path      string // of the document: "/accounts/{account}"
	slashes           bool   // the last part of the path may have slashes in it
	id, summary, text string
	query, headers    []*huma.Param
	takes             any            // a zero value of what the body holds; nil: there is no body
	octets            bool           // the body is any octets, which do reads
	gives             any            // a zero value of the answer; nil: none
	status            int            // of success; 0: 200, or 204 without an answer
	versioned         bool           // GET tells an ETag, what changes it heeds If-Match
	also              map[int]string // refusals beyond those that follow from the above
	types             []string       // of answers, when not JSON alone
	// do returns what to answer with: a value to be written as JSON, an outcome, nil, or
	// answered. Errors become problem documents.
	do func(*call) (any, error)
}

// call is a request that has been let in.
type call struct {
	*API
	w     http.ResponseWriter
	r     *http.Request
	token auth.Token
	args  url.Values // of the query, checked
	body  []byte     // checked JSON; nil: none
}

// outcome is an answer that is not just 200 and a value.
type outcome struct {
	value    any
	tagged   any    // what the ETag is of, when it is not the value
	location string // of what was made: the path below the interface's
	status   int    // when not the route's
}

// answered is returned by handlers that have written the answer themselves.
type answered struct{}

// mount registers a route.
func (a *API) mount(r chi.Router, rt route) {
	path := rt.path
	if rt.slashes {
		path = path[:strings.LastIndexByte(path, '/')] + "/*"
	}
	var in *huma.Schema
	if rt.takes != nil {
		in = a.schemas.Schema(reflect.TypeOf(rt.takes), true, "")
	}
	h := func(w http.ResponseWriter, rq *http.Request) {
		c := &call{API: a, w: w, r: rq}
		out, err := c.run(&rt, in)
		if err != nil {
			c.refuse(err)
			return
		}
		c.answer(&rt, out)
	}
	r.Method(rt.method, path, http.HandlerFunc(h))
	if rt.method == http.MethodGet {
		r.Method(http.MethodHead, path, http.HandlerFunc(h))
	}
}

func (c *call) run(rt *route, in *huma.Schema) (any, error) {
	var p *Problem
	if c.token, p = c.authenticate(c.w, c.r); p != nil { // before anything else is looked at
		return nil, p
	}
	types := rt.types
	if types == nil {
		types = []string{jsonType}
	}
	if rt.gives != nil && !acceptable(c.r, types) {
		return nil, problem(http.StatusNotAcceptable, "The answer comes as "+strings.Join(types, " or ")+".")
	}
	var err error
	if c.args, err = c.checkQuery(rt.query); err != nil {
		return nil, err
	}
	if in != nil {
		if c.body, err = c.checkBody(in); err != nil {
			return nil, err
		}
	}
	return rt.do(c)
}

// refuse writes the problem that an error is.
func (c *call) refuse(err error) {
	var p *Problem
	var told *admin.Error
	switch {
	case errors.As(err, &p):
	case errors.As(err, &told):
		p = problem(kindStatus(told.Kind), told.Text)
	default:
		p = c.fault(c.w, "request failed", err, "method", c.r.Method, "route", chi.RouteContext(c.r.Context()).RoutePattern())
	}
	p.write(c.w)
}

func (c *call) answer(rt *route, out any) {
	status := rt.status
	var versioned any
	if r, ok := out.(*outcome); ok {
		versioned = r.tagged
		if r.location != "" {
			c.w.Header().Set("Location", c.base()+r.location)
		}
		if r.status != 0 {
			status = r.status
		}
		out = r.value
	}
	if _, ok := out.(answered); ok {
		return
	}
	if out == nil {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	if status == 0 {
		status = http.StatusOK
	}
	body, err := encodeJSON(out)
	if err != nil {
		c.refuse(fmt.Errorf("httpapi: answer: %w", err))
		return
	}
	h := c.w.Header()
	h["Cache-Control"] = []string{"no-store"} // it is for the bearer of the token alone
	if rt.versioned {
		tag := etagOf(body)
		if versioned != nil {
			if raw, err := encodeJSON(versioned); err == nil {
				tag = etagOf(raw)
			}
		}
		h["Etag"] = []string{tag}
		h["Cache-Control"] = []string{"private, no-cache"}
		if (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead) && tagged(c.r.Header["If-None-Match"], tag, false) && len(c.r.Header["If-None-Match"]) > 0 {
			c.w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h["Content-Type"] = []string{jsonType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
}

// base is the path that the interface is mounted at.
func (c *call) base() string {
	rc := chi.RouteContext(c.r.Context())
	if rc == nil || len(rc.RoutePatterns) == 0 {
		return ""
	}
	return strings.TrimSuffix(rc.RoutePatterns[0], "/*")
}

// acceptable tells whether one of the types is taken (RFC 9110 §12.5.1).
func acceptable(r *http.Request, types []string) bool {
	_, ok := preferred(r, types)
	return ok
}

// preferred returns which of the types a client likes best, the first one when it
// does not care. Problem documents are for everybody.
func preferred(r *http.Request, types []string) (string, bool) {
	lines := r.Header["Accept"]
	if len(lines) == 0 {
		return types[0], true
	}
	best, weight, there := "", 0.0, false
	for _, t := range types {
		family, _, _ := strings.Cut(t, "/")
		q, precise := -1.0, 0
		for _, line := range lines {
			for member := range strings.SplitSeq(line, ",") {
				if strings.TrimSpace(member) == "" {
					continue
				}
				there = true
				media, params, err := mime.ParseMediaType(member)
				if err != nil {
					continue
				}
				p := 0
				switch media {
				case t:
					p = 3
				case family + "/*":
					p = 2
				case "*/*":
					p = 1
				}
				if p <= precise {
					continue
				}
				precise, q = p, 1
				if s, ok := params["q"]; ok {
					if v, err := strconv.ParseFloat(s, 64); err == nil {
						q = v
					}
				}
			}
		}
		if q > weight {
			best, weight = t, q
		}
	}
	if !there {
		return types[0], true
	}
	return best, best != ""
}

// checkQuery holds the query against the parameters that there are.
func (c *call) checkQuery(params []*huma.Param) (url.Values, error) {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, problem(http.StatusBadRequest, "The query is not of the form application/x-www-form-urlencoded.")
	}
	var faults []Fault
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(params, func(p *huma.Param) bool { return p.Name == name })
		if i < 0 {
			if unknown := (Fault{"query", "has a parameter that is not known"}); !slices.Contains(faults, unknown) {
				faults = append(faults, unknown)
			}
			continue
		}
		s := params[i].Schema
		var v any
		switch {
		case s.Type == huma.TypeArray:
			list := []any{}
			for _, one := range values[name] {
				list = append(list, one)
			}
			v = list
		case len(values[name]) > 1:
			faults = append(faults, Fault{"query." + name, "comes more than once"})
			continue
		case s.Type == huma.TypeInteger:
			n, err := strconv.ParseInt(values[name][0], 10, 32)
			if err != nil {
				faults = append(faults, Fault{"query." + name, "expected integer"})
				continue
			}
			v = int(n)
		default:
			v = values[name][0]
		}
		faults = append(faults, c.validate("query."+name, s, v)...)
	}
	for _, p := range params {
		if p.Required && !values.Has(p.Name) {
			faults = append(faults, Fault{"query." + p.Name, "is needed"})
		}
	}
	if len(faults) > 0 {
		p := problem(http.StatusBadRequest, "The query is not as it should be.")
		p.Errors = faults
		return nil, p
	}
	return values, nil
}

// validate holds a value against a schema.
func (a *API) validate(at string, s *huma.Schema, v any) (faults []Fault) {
	res := &huma.ValidateResult{}
	path := huma.NewPathBuffer(nil, 0)
	path.Push(at)
	huma.Validate(a.schemas, s, path, huma.ModeWriteToServer, v, res)
	for _, err := range res.Errors {
		var d *huma.ErrorDetail
		if !errors.As(err, &d) {
			continue
		}
		f := Fault{d.Location, d.Message} // never its value
		if d.Message == validation.MsgUnexpectedProperty {
			f = Fault{at, "has a member that is not known"} // nor its name, which is the request's own
		}
		if !slices.Contains(faults, f) {
			faults = append(faults, f)
		}
		if len(faults) == maxFaults {
			return faults
		}
	}
	if len(faults) == 0 {
		faults = a.exact(at, s, v, nil)
	}
	return faults[:min(len(faults), maxFaults)]
}

// maxFaults is how much one answer complains of.
const maxFaults = 32

// exact finds what the validator and encoding/json do not mind, and JSON Schema
// does: members in other letters than those of the schema, and null where a member
// could be left out.
func (a *API) exact(at string, s *huma.Schema, v any, faults []Fault) []Fault {
	for s != nil && s.Ref != "" {
		s = a.schemas.SchemaFromRef(s.Ref)
	}
	if s == nil {
		return faults
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			sub := s.Properties[name]
			switch {
			case sub == nil && len(s.Properties) == 0:
			case sub == nil:
				faults = append(faults, Fault{at, "has a member that is not known"})
			case v[name] == nil && !sub.Nullable:
				faults = append(faults, Fault{at + "." + name, "is null"})
			default:
				faults = a.exact(at+"."+name, sub, v[name], faults)
			}
		}
	case []any:
		for i, member := range v {
			faults = a.exact(at+"["+strconv.Itoa(i)+"]", s.Items, member, faults)
		}
	}
	return faults
}

// checkBody reads the body and holds it against its schema.
func (c *call) checkBody(in *huma.Schema) ([]byte, error) {
	raw, err := c.readBody()
	if err != nil {
		return nil, err
	}
	switch media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); {
	case err != nil, media != jsonType, params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8"):
		return nil, problem(http.StatusUnsupportedMediaType, "The body comes as application/json, in UTF-8.")
	}
	var v any
	if err := message.DecodeLoose(raw, &v); err != nil {
		return nil, err
	}
	if faults := c.validate("body", in, v); len(faults) > 0 {
		p := problem(http.StatusUnprocessableEntity, "The body is not as it should be.")
		p.Errors = faults
		return nil, p
	}
	return raw, nil
}

// readBodyOf returns the body, unpacked when it is gzip, of at most MaxBody octets.
func (a *API) readBodyOf(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	packed := false
	for _, line := range r.Header["Content-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			switch coding = strings.ToLower(strings.TrimSpace(coding)); {
			case coding == "" || coding == "identity":
			case (coding == "gzip" || coding == "x-gzip") && !packed:
				packed = true
			default:
				w.Header()["Accept-Encoding"] = []string{"gzip, identity"} // RFC 9110 §12.5.3
				return nil, problem(http.StatusUnsupportedMediaType, "The body comes as it is or as gzip.")
			}
		}
	}
	tooLarge := problem(http.StatusRequestEntityTooLarge, "The body is larger than "+strconv.FormatInt(a.opts.MaxBody, 10)+" octets.")
	if r.ContentLength > a.opts.MaxBody {
		return nil, tooLarge
	}
	limited := http.MaxBytesReader(w, r.Body, a.opts.MaxBody)
	hurry(w, a.opts.MaxBody)
	var raw []byte
	var err error
	if packed {
		raw, err = unpack(limited, a.opts.MaxBody)
	} else {
		raw, err = io.ReadAll(limited)
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), errors.Is(err, errLarge):
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, readProblem(w, err)
	case err != nil && packed:
		return nil, problem(http.StatusBadRequest, "The body is not gzip, or ended early.")
	case err != nil:
		return nil, problem(http.StatusBadRequest, "The request ended early.")
	}
	relax(w)
	return raw, nil
}

func (c *call) readBody() ([]byte, error) { return c.readBodyOf(c.w, c.r) }

// into reads the body, which fits the schema of *v's type.
func (c *call) into(v any) error {
	if len(c.body) == 0 {
		return nil
	}
	return message.Decode(c.body, v)
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

// account returns the address of the account in the path.
func (c *call) account() (jid.JID, error) {
	j, err := jid.Parse(param(c.r, "account"))
	if err != nil || j.Local() == "" || !j.IsBare() {
		return jid.JID{}, problem(http.StatusNotFound, "The path does not hold the address of an account.")
	}
	return j, nil
}

// limit returns how many items the page that is asked for has at most.
func (c *call) limit() int {
	n, err := strconv.Atoi(c.args.Get("limit"))
	if err != nil {
		return pageSize
	}
	return n
}

const (
	pageSize = 50
	pageMax  = 500
)

// paging are the parameters of lists.
func paging() []*huma.Param {
	one := 1.0
	most := float64(pageMax)
	return []*huma.Param{
		{
			Name: "limit", In: "query", Description: "How many items the page has at most.",
			Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &one, Maximum: &most, Default: pageSize},
		},
		{
			Name: "after", In: "query", Description: "`next` of the page before.",
			Schema: &huma.Schema{Type: huma.TypeString, Format: "cursor"},
		},
	}
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false" doc:"What there is, in order."`
	Next  string `json:"next,omitempty" doc:"The parameter after of the next page. The last page has none."`
}
