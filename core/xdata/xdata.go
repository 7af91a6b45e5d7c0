// Package xdata builds, reads and validates the data forms of XEP-0004.
//
// A [Form] is a plain value: a handler fills one in and answers with it (it is a
// [stanza.Payload]), or reads what was submitted with [Parse] and checks it
// against the form that it had offered with [Form.Accept].
//
//spec:xep-0004 2.13.2 complete | Data Forms | forms, submissions, results with several items; validation of submissions
//spec:xep-0068 1.3.0 complete | Field Standardization for Data Forms | FORM_TYPE
//spec:xep-0122 1.0.2 partial | Data Forms Validation | open lists only
package xdata

import (
	"trivium/core/stanza"
)

// Namespaces.
const (
	NS         = "jabber:x:data"
	NSValidate = "http://jabber.org/protocol/xdata-validate" // XEP-0122
)

// FormType is the name of the field that says what a form is about (XEP-0068 §2).
const FormType = "FORM_TYPE"

// Type says where in a transaction a form stands, XEP-0004 §3.1.
type Type string

// The types of forms.
const (
	Ask    Type = "form"   // to be filled in
	Submit Type = "submit" // filled in
	Cancel Type = "cancel" // not going to be
	Result Type = "result" // data
)

// FieldType is the type of a field's values, XEP-0004 §3.3.
type FieldType string

// The types of fields. The empty type is that of a submitted field that does not
// say; in a form to be filled in it means TextSingle.
const (
	Boolean     FieldType = "boolean"
	Fixed       FieldType = "fixed"
	Hidden      FieldType = "hidden"
	JIDMulti    FieldType = "jid-multi"
	JIDSingle   FieldType = "jid-single"
	ListMulti   FieldType = "list-multi"
	ListSingle  FieldType = "list-single"
	TextMulti   FieldType = "text-multi"
	TextPrivate FieldType = "text-private"
	TextSingle  FieldType = "text-single"
)

func (t FieldType) known() bool {
	switch t {
	case Boolean, Fixed, Hidden, JIDMulti, JIDSingle, ListMulti, ListSingle, TextMulti, TextPrivate, TextSingle:
		return true
	}
	return false
}

// multiple tells whether a field of this type may have more than one value.
func (t FieldType) multiple() bool {
	switch t {
	case JIDMulti, ListMulti, TextMulti, Hidden:
		return true
	}
	return false
}

// Option is one choice of a list.
type Option struct{ Label, Value string }

// Field is one field of a form. Only Var, Type and Values matter in a submission.
type Field struct {
	Var      string
	Type     FieldType
	Label    string
	Desc     string
	Required bool
	Values   []string
	Options  []Option
	Open     bool // a list that takes values which are not among its options (XEP-0122 §3.2.1)
}

// Value returns the field's first value, or "".
func (f *Field) Value() string {
	if f == nil || len(f.Values) == 0 {
		return ""
	}
	return f.Values[0]
}

// Form is a data form. Reported and Items are of results with several items
// (XEP-0004 §3.4).
type Form struct {
	Type         Type
	Title        string
	Instructions []string
	Fields       []Field
	Reported     []Field
	Items        [][]Field
}

// New returns a form that is about formType and has these fields behind the one
// that says so. An empty formType is left out.
func New(t Type, formType string, fields ...Field) *Form {
	f := &Form{Type: t}
	if formType != "" {
		f.Fields = append(f.Fields, Field{Var: FormType, Type: Hidden, Values: []string{formType}})
	}
	f.Fields = append(f.Fields, fields...)
	return f
}

// Field returns the first field of that name, or nil.
func (f *Form) Field(name string) *Field {
	for i := range f.Fields {
		if f.Fields[i].Var == name {
			return &f.Fields[i]
		}
	}
	return nil
}

// Value returns the first value of the first field of that name, or "".
func (f *Form) Value(name string) string { return f.Field(name).Value() }

// About returns what the form is about: its FORM_TYPE, or "".
func (f *Form) About() string { return f.Value(FormType) }

// AppendXML implements stanza.Payload.
func (f *Form) AppendXML(dst []byte) []byte { return f.Element().AppendXML(dst) }

// Element returns the form as <x/>.
func (f *Form) Element() *stanza.Element {
	x := stanza.El(NS, "x").Set("type", string(f.Type))
	if f.Title != "" {
		x.Add(stanza.TextEl(NS, "title", f.Title))
	}
	for _, s := range f.Instructions {
		x.Add(stanza.TextEl(NS, "instructions", s))
	}
	add(x, f.Fields)
	if len(f.Reported) > 0 {
		reported := stanza.El(NS, "reported")
		add(reported, f.Reported)
		x.Add(reported)
	}
	for _, fields := range f.Items {
		item := stanza.El(NS, "item")
		add(item, fields)
		x.Add(item)
	}
	return x
}

func add(to *stanza.Element, fields []Field) {
	for i := range fields {
		to.Add(fields[i].element())
	}
}

func (f *Field) element() *stanza.Element {
	e := stanza.El(NS, "field")
	for _, a := range [...]struct{ name, value string }{{"var", f.Var}, {"type", string(f.Type)}, {"label", f.Label}} {
		if a.value != "" {
			e.Set(a.name, a.value)
		}
	}
	if f.Open {
		e.Add(stanza.El(NSValidate, "validate", stanza.El(NSValidate, "open")).Set("datatype", "xs:string"))
	}
	if f.Desc != "" {
		e.Add(stanza.TextEl(NS, "desc", f.Desc))
	}
	if f.Required {
		e.Add(stanza.El(NS, "required"))
	}
	for _, v := range f.Values {
		e.Add(stanza.TextEl(NS, "value", v))
	}
	for _, o := range f.Options {
		opt := stanza.El(NS, "option", stanza.TextEl(NS, "value", o.Value))
		if o.Label != "" {
			opt.Set("label", o.Label)
		}
		e.Add(opt)
	}
	return e
}
