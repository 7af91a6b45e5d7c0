package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A place is where a key was given.
type place struct {
	line, column int    // in the file
	variable     string // or the environment variable
}

// A decoder reads a file into a Config and collects what is wrong with it. It
// walks the syntax tree itself, so that it can go on after a problem and say for
// each what would be right.
type decoder struct {
	file     string
	source   string
	at       map[string]place // by key path
	problems Problems
}

// report adds a problem at the key's place, or at that of the nearest key above.
func (d *decoder) report(key, format string, args ...any) {
	p := &Problem{File: d.file, Key: key, Message: fmt.Sprintf(format, args...)}
	for k := key; ; k = parentKey(k) {
		if at, ok := d.at[k]; ok {
			if at.variable != "" {
				p.File, p.Key = "environment", at.variable
			} else {
				p.Line, p.Column = at.line, at.column
				p.Excerpt = excerpt(d.source, at.line, at.column)
			}
			break
		}
		if k == "" {
			break
		}
	}
	if p.File == "" {
		p.File = "configuration" // no file was read
	}
	d.problems = append(d.problems, p)
}

func parentKey(key string) string {
	return key[:max(0, strings.LastIndexAny(key, ".["))]
}

func childKey(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// mark notes where a key stands.
func (d *decoder) mark(key string, tok *token.Token) {
	if tok != nil && tok.Position != nil {
		d.at[key] = place{line: tok.Position.Line, column: tok.Position.Column}
	}
}

func (d *decoder) document(data []byte, c *Config) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		p := &Problem{File: d.file, Message: err.Error()}
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			p.Message = "this is not YAML: " + syntax.GetMessage()
			if tok := syntax.GetToken(); tok != nil && tok.Position != nil {
				p.Line, p.Column = tok.Position.Line, tok.Position.Column
				p.Excerpt = excerpt(d.source, p.Line, p.Column)
			}
		}
		d.problems = append(d.problems, p)
		return
	}
	read := false
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue // comments only
		}
		if read {
			d.mark("", doc.Body.GetToken())
			d.report("", "a second document; write everything into one")
			return
		}
		d.value(doc.Body, reflect.ValueOf(c).Elem(), reflect.StructField{}, "")
		read = true
	}
}

// value decodes one node into v, whose field (for its tags) is f.
func (d *decoder) value(node ast.Node, v reflect.Value, f reflect.StructField, key string) {
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.mark(key, node.GetToken())
		d.report(key, "anchors, aliases and tags are not understood; write the value itself")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(node, v, key)
	case reflect.Slice:
		d.sequence(node, v, f, key)
	default:
		if _, null := node.(*ast.NullNode); !null { // nothing has no place: the key has
			d.mark(key, node.GetToken())
		}
		text, ok := scalar(node, v.Kind())
		if !ok {
			d.report(key, "%s; write %s", describe(node), wanted(v.Type(), f))
			return
		}
		if problem := setScalar(v, f, text); problem != "" {
			d.report(key, "%s", problem)
		}
	}
}

func (d *decoder) mapping(node ast.Node, v reflect.Value, key string) {
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.NullNode:
		return // a section whose keys are all commented out
	default:
		d.mark(key, node.GetToken())
		d.report(key, "%s; write keys: %s", describe(node), strings.Join(keysOf(v.Type()), ", "))
		return
	}
	for _, pair := range pairs {
		name := pair.Key.GetToken().Value
		child := childKey(key, name)
		if first, ok := d.at[child]; ok {
			d.mark(child, pair.Key.GetToken())
			d.report(child, "given twice, first in line %d", first.line)
			continue
		}
		d.mark(child, pair.Key.GetToken())
		f, ok := fieldOf(v.Type(), name)
		if !ok {
			if near := nearest(name, keysOf(v.Type())); near != "" {
				d.report(child, "no such key; did you mean %s?", near)
			} else {
				d.report(child, "no such key; the keys here are %s", strings.Join(keysOf(v.Type()), ", "))
			}
			continue
		}
		d.value(pair.Value, v.FieldByIndex(f.Index), f, child)
	}
}

// sequence replaces a list by the one that the file gives.
func (d *decoder) sequence(node ast.Node, v reflect.Value, f reflect.StructField, key string) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		if _, null := node.(*ast.NullNode); !null {
			d.mark(key, node.GetToken())
		}
		d.report(key, "%s; write a list, or [] for none", describe(node))
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(list.Values))
	for i, item := range list.Values {
		e := newItem(v.Type().Elem())
		child := fmt.Sprintf("%s[%d]", key, i)
		d.mark(child, item.GetToken())
		d.value(item, e, f, child)
		out = reflect.Append(out, e)
	}
	v.Set(out)
}

// scalar returns the text of a scalar node if it can stand for the kind.
func scalar(node ast.Node, kind reflect.Kind) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, kind != reflect.Bool
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), kind == reflect.String
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, kind != reflect.Bool
	case *ast.BoolNode:
		return n.GetToken().Value, kind == reflect.Bool
	}
	return "", false
}

// describe names what stands where something else should.
func describe(node ast.Node) string {
	switch n := node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys stand here"
	case *ast.SequenceNode:
		return "a list stands here"
	case *ast.NullNode:
		return "nothing stands here"
	default:
		return fmt.Sprintf("%q stands here", n.GetToken().Value)
	}
}

// keysOf lists the keys of a section in the order of the example.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("yaml"))
	}
	return keys
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// nearest returns the name most like the one given, or "" if none is near: at
// most a third of its letters may differ, or one is the beginning of the other.
func nearest(name string, names []string) string {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	if len(name) > 100 {
		return ""
	}
	name = plain(name)
	best, at := "", max(1, len(name)/3)+1
	for _, candidate := range names {
		if n := distance(name, plain(candidate)); n < at {
			best, at = candidate, n
		}
	}
	for _, candidate := range names {
		c := plain(candidate)
		if best == "" && min(len(c), len(name)) >= 3 && (strings.HasPrefix(c, name) || strings.HasPrefix(name, c)) {
			best = candidate
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour to turn a into b (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			n := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, rows[i-2][j-2]+1)
			}
			rows[i][j] = n
		}
	}
	return rows[len(a)][len(b)]
}
