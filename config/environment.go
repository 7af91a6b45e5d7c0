package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const prefix = "TRIVIUM_"

// environment sets keys from variables, in the order of their names, so that
// list items are appended in the order of their numbers.
func (d *decoder) environment(environ []string, c *Config) {
	vars := slices.Clone(environ)
	slices.SortFunc(vars, compareVariables)
	for _, entry := range vars {
		name, value, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok || reserved(rest) {
			continue
		}
		v, f, key, ok := find(reflect.ValueOf(c).Elem(), rest, "")
		if !ok {
			names := VariableNames()
			for i := range names {
				names[i] = strings.TrimPrefix(names[i], prefix)
			}
			message, near := "names no key", nearest(rest, names)
			switch {
			case near != "":
				message += "; did you mean " + prefix + near + "?"
			case !inSection(rest):
				continue // another program's
			}
			d.problems = append(d.problems, &Problem{File: "environment", Key: name, Message: message})
			continue
		}
		d.at[key] = place{variable: name}
		if v.Kind() == reflect.Slice {
			out := reflect.MakeSlice(v.Type(), 0, 0)
			for word := range strings.SplitSeq(value, ",") {
				if word = strings.TrimSpace(word); word == "" {
					continue
				}
				e := reflect.New(v.Type().Elem()).Elem()
				if problem := setScalar(e, f, word); problem != "" {
					d.report(key, "%s", problem)
				}
				out = reflect.Append(out, e)
			}
			v.Set(out)
			continue
		}
		if problem := setScalar(v, f, value); problem != "" {
			d.report(key, "%s", problem)
		}
	}
}

// compareVariables sorts by name, numbers by value: HOSTS_2 before HOSTS_10.
func compareVariables(a, b string) int {
	nameA, _, _ := strings.Cut(a, "=")
	nameB, _, _ := strings.Cut(b, "=")
	partsA, partsB := strings.Split(nameA, "_"), strings.Split(nameB, "_")
	return slices.CompareFunc(partsA, partsB, func(x, y string) int {
		m, errM := strconv.Atoi(x)
		n, errN := strconv.Atoi(y)
		if errM == nil && errN == nil {
			return m - n
		}
		return strings.Compare(x, y)
	})
}

// reserved reports whether a variable means no key although its name begins like
// one: the path of the file itself, and the switches of tests.
func reserved(rest string) bool {
	return rest == "CONFIG" || slices.Contains(strings.Split(rest, "_"), "TEST")
}

// inSection reports whether a variable's name begins with a key of the top
// level. Others with our prefix are not ours to refuse: Kubernetes, for one, sets
// TRIVIUM_SERVICE_HOST and TRIVIUM_PORT for a service called trivium.
func inSection(rest string) bool {
	return slices.ContainsFunc(keysOf(reflect.TypeFor[Config]()), func(key string) bool {
		tail, ok := strings.CutPrefix(rest, strings.ToUpper(key))
		return ok && (tail == "" || tail[0] == '_')
	})
}

// find walks from v along the rest of a variable's name. It returns the scalar,
// or the list of scalars, that the name means.
func find(v reflect.Value, rest, key string) (reflect.Value, reflect.StructField, string, bool) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		child := childKey(key, name)
		tail, ok := strings.CutPrefix(rest, strings.ToUpper(name))
		if !ok {
			continue
		}
		field := v.Field(i)
		isList := field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct
		if tail == "" && field.Kind() != reflect.Struct && !isList {
			return field, f, child, true
		}
		tail, ok = strings.CutPrefix(tail, "_")
		switch {
		case !ok:
		case field.Kind() == reflect.Struct:
			if v, f, k, ok := find(field, tail, child); ok {
				return v, f, k, true
			}
		case isList:
			number, tail, _ := strings.Cut(tail, "_")
			n, err := strconv.Atoi(number)
			if err != nil || n < 0 || n > field.Len() {
				continue
			}
			item := newItem(field.Type().Elem())
			if n < field.Len() {
				item = field.Index(n)
			}
			v, f, k, ok := find(item, tail, child+"["+number+"]")
			if !ok {
				continue
			}
			if n == field.Len() { // only now: a name that means nothing appends nothing
				field.Set(reflect.Append(field, item))
				return find(field.Index(n), tail, child+"["+number+"]")
			}
			return v, f, k, true
		}
	}
	return reflect.Value{}, reflect.StructField{}, "", false
}

// VariableNames lists the environment variable of every key; those of list items
// with the index 0.
func VariableNames() []string {
	var names []string
	var walk func(t reflect.Type, name string)
	walk = func(t reflect.Type, name string) {
		for i := range t.NumField() {
			f := t.Field(i)
			child := name + strings.ToUpper(f.Tag.Get("yaml"))
			switch {
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type, child+"_")
			case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
				walk(f.Type.Elem(), child+"_0_")
			default:
				names = append(names, child)
			}
		}
	}
	walk(reflect.TypeFor[Config](), prefix)
	return names
}
