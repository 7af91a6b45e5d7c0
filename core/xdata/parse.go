package xdata

import "trivium/core/stanza"

// Bounds on what Parse reads, so that a form costs no more than a stanza may.
const (
	maxFields = 512  // of the form, of the header and of each item
	maxItems  = 1024 // of a result
)

// Parse reads a form. The error is a *stanza.Error of condition bad-request.
//
// What XEP-0004 allows others to add is left out. A type of field that it does
// not define is read as TextSingle (§3.3).
func Parse(x *stanza.Element) (*Form, error) {
	if !x.Is(NS, "x") {
		return nil, stanza.Err(stanza.BadRequest, "want a data form")
	}
	f := &Form{Type: Type(x.Attr("type")), Title: x.ChildText(NS, "title")}
	switch f.Type {
	case Ask, Submit, Cancel, Result:
	default:
		return nil, stanza.Err(stanza.BadRequest, "a data form has no such type") // §3.1
	}
	for _, e := range x.Children(NS, "instructions") {
		f.Instructions = append(f.Instructions, e.Text())
	}
	var err error
	if f.Fields, err = fieldsOf(x); err != nil {
		return nil, err
	}
	// §3.4: at most one header, which the XEP puts in front of the items and others
	// behind it.
	if f.Reported, err = fieldsOf(x.Child(NS, "reported")); err != nil {
		return nil, err
	}
	items := x.Children(NS, "item")
	if len(items) > maxItems {
		return nil, stanza.Err(stanza.BadRequest, "too many items in a data form")
	}
	for _, e := range items {
		fields, err := fieldsOf(e)
		if err != nil {
			return nil, err
		}
		f.Items = append(f.Items, fields)
	}
	return f, nil
}

// Find reads the first form among the children of e; nil when there is none.
func Find(e *stanza.Element) (*Form, error) {
	x := e.Child(NS, "x")
	if x == nil {
		return nil, nil
	}
	return Parse(x)
}

func fieldsOf(e *stanza.Element) ([]Field, error) {
	elements := e.Children(NS, "field")
	if len(elements) > maxFields {
		return nil, stanza.Err(stanza.BadRequest, "too many fields in a data form")
	}
	var fields []Field
	for _, el := range elements {
		f := Field{
			Var: el.Attr("var"), Type: FieldType(el.Attr("type")), Label: el.Attr("label"),
			Desc: el.ChildText(NS, "desc"), Required: el.Child(NS, "required") != nil,
			Open: el.Child(NSValidate, "validate").Child(NSValidate, "open") != nil,
		}
		if f.Type != "" && !f.Type.known() {
			f.Type = TextSingle
		}
		if f.Var == "" && f.Type != Fixed {
			return nil, stanza.Err(stanza.BadRequest, "a field of a data form has no name") // §3.2
		}
		for _, v := range el.Children(NS, "value") {
			f.Values = append(f.Values, v.Text())
		}
		for _, o := range el.Children(NS, "option") {
			f.Options = append(f.Options, Option{Label: o.Attr("label"), Value: o.ChildText(NS, "value")})
		}
		fields = append(fields, f)
	}
	return fields, nil
}
