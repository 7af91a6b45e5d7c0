package commands

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"trivium/core/stanza"
	"trivium/core/xdata"
)

// show makes what a command returned into a form of results (XEP-0004 §3.4), or a
// note.
func show(title string, out any) []*stanza.Element {
	note := func(text string) []*stanza.Element {
		return []*stanza.Element{stanza.TextEl(NS, "note", text).Set("type", "info")}
	}
	v := indirect(reflect.ValueOf(out))
	if !v.IsValid() {
		return note("Done.")
	}
	form := xdata.New(xdata.Result, "")
	form.Title = title
	switch {
	case v.Kind() == reflect.Slice && v.Len() == 0:
		return note("There are none.")
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			form.Items = append(form.Items, fields(indirect(v.Index(i)), false))
		}
		for _, f := range fields(indirect(v.Index(0)), false) {
			form.Reported = append(form.Reported, xdata.Field{Var: f.Var, Label: f.Label, Type: f.Type})
		}
	case plain(v):
		return note(text(v))
	default:
		form.Fields = append(form.Fields, fields(v, true)...)
	}
	return []*stanza.Element{form.Element()}
}

// fields are those of a struct, or the one of a plain value. Lists are several
// values where the form allows it.
func fields(v reflect.Value, lists bool) []xdata.Field {
	if !v.IsValid() || plain(v) {
		return []xdata.Field{{Var: "value", Label: "value", Type: xdata.TextSingle, Values: []string{text(v)}}}
	}
	var out []xdata.Field
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		f := xdata.Field{Var: name, Label: strings.ReplaceAll(name, "_", " "), Type: xdata.TextSingle}
		of := indirect(v.Field(i))
		switch {
		case name == "jid":
			f.Type = xdata.JIDSingle
		case of.Kind() == reflect.Bool:
			f.Type = xdata.Boolean
		case of.Kind() == reflect.Slice && lists:
			f.Type = xdata.TextMulti
		}
		if f.Type == xdata.TextMulti {
			for k := range of.Len() {
				f.Values = append(f.Values, text(of.Index(k)))
			}
		} else {
			f.Values = []string{text(of)}
		}
		out = append(out, f)
	}
	return out
}

// indirect follows pointers; the zero Value stands for nil.
func indirect(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

// plain tells whether a value is shown as one text.
func plain(v reflect.Value) bool {
	if _, ok := v.Interface().(encoding.TextMarshaler); ok {
		return true
	}
	return v.Kind() != reflect.Struct
}

func text(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	if t, ok := v.Interface().(encoding.TextMarshaler); ok { // time.Time among others
		if b, err := t.MarshalText(); err == nil {
			return string(b)
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return "1"
		}
		return "0"
	case reflect.Slice:
		all := make([]string, v.Len())
		for i := range all {
			all[i] = text(v.Index(i))
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprint(v.Interface())
}
