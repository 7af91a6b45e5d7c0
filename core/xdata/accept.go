package xdata

import (
	"slices"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// Accept checks a submission against the form f that was offered, as XEP-0004 §4
// leaves to the form-processing entity. It returns the submission with the fields
// of f only (§3.1: others are ignored), in the order of f, with f's types, and
// with values in one spelling: booleans are "1" or "0", addresses are prepared,
// and an address that stands twice counts once (§3.3).
//
// Fields that were left out stay out: they keep the value they have (§3.5). The
// error is a *stanza.Error: bad-request for what is no submission to this form,
// not-acceptable for a value that does not fit.
func (f *Form) Accept(submitted *Form) (*Form, error) {
	if submitted == nil || submitted.Type != Submit {
		return nil, stanza.Err(stanza.BadRequest, "want a form of type submit")
	}
	if about := f.About(); about != "" && submitted.About() != about {
		return nil, stanza.Err(stanza.BadRequest, "want a form about "+about) // XEP-0068 §3.2
	}
	out := &Form{Type: Submit}
	for i := range f.Fields {
		asked := &f.Fields[i]
		if asked.Var == "" || asked.Type == Fixed {
			continue
		}
		given, err := submitted.one(asked.Var)
		if err != nil {
			return nil, err
		}
		if given == nil {
			if asked.Required {
				return nil, notAcceptable(asked, "is required")
			}
			continue
		}
		values, err := asked.accept(given.Values)
		if err != nil {
			return nil, err
		}
		out.Fields = append(out.Fields, Field{Var: asked.Var, Type: asked.kind(), Values: values})
	}
	return out, nil
}

// Unknown returns the name of the first submitted field that f does not have. A
// protocol that must not ignore such fields asks it.
func (f *Form) Unknown(submitted *Form) (name string, found bool) {
	for i := range submitted.Fields {
		s := &submitted.Fields[i]
		if s.Var != "" && s.Type != Fixed && f.Field(s.Var) == nil {
			return s.Var, true
		}
	}
	return "", false
}

// one returns the field of that name, nil when it is not there.
func (f *Form) one(name string) (*Field, error) {
	var found *Field
	for i := range f.Fields {
		if f.Fields[i].Var != name {
			continue
		}
		if found != nil { // §3.2: the name identifies the field
			return nil, stanza.Err(stanza.BadRequest, "the field "+name+" stands twice")
		}
		found = &f.Fields[i]
	}
	return found, nil
}

func (f *Field) kind() FieldType {
	if f.Type == "" {
		return TextSingle // §3.2
	}
	return f.Type
}

// accept returns the values in one spelling.
func (f *Field) accept(values []string) ([]string, error) {
	t := f.kind()
	switch {
	case f.Required && !slices.ContainsFunc(values, func(v string) bool { return v != "" }):
		return nil, notAcceptable(f, "is required")
	case len(values) > 1 && !t.multiple():
		return nil, notAcceptable(f, "takes one value")
	}
	switch t {
	case Boolean:
		return f.boolean(values)
	case JIDSingle, JIDMulti:
		return f.addresses(values)
	case ListSingle, ListMulti:
		for _, v := range values {
			if !f.Open && !slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == v }) {
				return nil, notAcceptable(f, "has no such option")
			}
		}
	case Hidden:
		// §3.3: not to be changed, unless the protocol says so: then it has no value here.
		if len(f.Values) > 0 && !slices.Equal(values, f.Values) {
			return nil, notAcceptable(f, "is not to be changed")
		}
	}
	return values, nil
}

// boolean reads xs:boolean (§3.3).
func (f *Field) boolean(values []string) ([]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	switch values[0] {
	case "1", "true":
		return []string{"1"}, nil
	case "0", "false", "": // "false" is the default
		return []string{"0"}, nil
	}
	return nil, notAcceptable(f, "is a boolean")
}

func (f *Field) addresses(values []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, v := range values {
		if v == "" { // §3.6: one way to say that there is no value
			continue
		}
		j, err := jid.Parse(v)
		if err != nil {
			return nil, notAcceptable(f, "is not an address")
		}
		if s := j.String(); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out, nil
}

func notAcceptable(f *Field, why string) error {
	return stanza.Err(stanza.NotAcceptable, "the field "+f.Var+" "+why) // §4
}
