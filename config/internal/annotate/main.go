// Command annotate writes config/example.yaml: every key with the comment of its
// field in schema.go, its range and its default. Run it as go generate ./config.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"

	"trivium/config"
)

func main() {
	schema := flag.String("schema", "schema.go", "Go file with the types and their comments")
	out := flag.String("o", "example.yaml", "file to write")
	flag.Parse()
	text, err := annotate(*schema)
	if err == nil {
		err = os.WriteFile(*out, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "annotate:", err)
		os.Exit(1)
	}
}

const header = `# Trivium's configuration: every key, what it means, and its default. Written by
# trivium check-config --example; a file needs only the keys it changes, and a
# list replaces the default list.
#
# Sizes are numbers of octets or have a unit: 256KiB, 4MiB. Durations have units:
# 30s, 5m, 72h. [live] marks what a running server takes over on SIGHUP; all else
# needs a restart.
#
# Each key has an environment variable that overrides the file: its path in
# capitals after TRIVIUM_, as in TRIVIUM_DATA_DIR, TRIVIUM_LIMITS_STANZA_SIZE or
# TRIVIUM_LISTENERS_0_ADDRESS. An index one past the end appends an item. Lists of
# words are separated by commas.
`

// samples are the items shown, commented out, for lists that are empty by
// default.
func samples() map[reflect.Type]reflect.Value {
	defaults, err := config.Parse(config.Default(), "sample", []byte(`
gateways:
  - domain: sms.localhost
    type: sms
    name: Text messages
    prompt: Telephone number
    description: Enter the telephone number of the person to write to.
    registration:
      instructions: Enter the number that your messages come from.
      fields: [{name: phone, label: Telephone number, required: true}]
    capabilities: {max_length: 1600}
webhooks:
  - name: bot
    url: https://bot.example.org/hook
    secrets: [`+sampleSecret+`]
    domains: [bot.localhost]
`), nil)
	if err != nil {
		panic(err) // the sample is wrong: a bug in this file
	}
	hook := defaults.Webhooks[0]
	hook.Watch = []string{"helpdesk@localhost"}
	return map[reflect.Type]reflect.Value{
		reflect.TypeFor[config.Gateway](): reflect.ValueOf(defaults.Gateways[0]),
		reflect.TypeFor[config.Webhook](): reflect.ValueOf(hook),
	}
}

const sampleSecret = "whsec_c2FtcGxlIG9ubHksIG1ha2UgeW91ciBvd24h"

type writer struct {
	bytes.Buffer
	docs    map[string]string // "Type.Field" -> comment
	samples map[reflect.Type]reflect.Value
}

func annotate(schema string) ([]byte, error) {
	docs, err := comments(schema)
	if err != nil {
		return nil, err
	}
	w := &writer{docs: docs, samples: samples()}
	w.WriteString(header)
	w.section(reflect.ValueOf(config.Default()).Elem(), "", true)
	return w.Bytes(), nil
}

// section writes the keys of a struct, each line begun with the indent.
func (w *writer) section(v reflect.Value, indent string, top bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if top {
			w.WriteByte('\n')
		}
		w.comment(v.Type(), f, indent)
		w.key(v.Field(i), f, indent)
	}
}

func (w *writer) key(v reflect.Value, f reflect.StructField, indent string) {
	name := indent + f.Tag.Get("yaml") + ":"
	switch {
	case v.Kind() == reflect.Struct:
		w.WriteString(name + "\n")
		w.section(v, indent+"  ", false)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		if v.Len() == 0 {
			w.WriteString(name + " []\n")
			w.sample(v.Type().Elem(), indent)
			return
		}
		w.WriteString(name + "\n")
		for i := range v.Len() {
			w.item(v.Index(i), indent+"  ", i == 0)
		}
	case v.Kind() == reflect.Slice && v.IsNil():
		fmt.Fprintf(w, "# %s []\n", name)
	case v.Kind() == reflect.Slice:
		fmt.Fprintf(w, "%s %s\n", name, list(v))
	default:
		fmt.Fprintf(w, "%s %s\n", name, config.Format(v))
	}
}

// item writes one list item; the first one whole and with comments, the others
// without the keys that are left at zero. require_tls is shown once: true is its
// default in an item.
func (w *writer) item(v reflect.Value, indent string, whole bool) {
	dash := "- "
	for i := range v.NumField() {
		f := v.Type().Field(i)
		field := v.Field(i)
		unset := field.IsZero() || f.Name == "RequireTLS"
		if unset && (!whole || field.Kind() == reflect.Slice) {
			if whole {
				w.comment(v.Type(), f, indent+"  ")
			}
			continue
		}
		if whole {
			at := indent
			if dash != "- " {
				at += "  " // level with the keys after the first
			}
			w.comment(v.Type(), f, at)
		}
		if field.Kind() == reflect.Struct {
			w.WriteString(indent + dash + f.Tag.Get("yaml") + ":\n")
			w.section(field, indent+"    ", false)
			dash = "  "
			continue
		}
		var line writer
		line.key(field, f, "")
		w.WriteString(indent + dash + line.String())
		dash = "  "
	}
}

// sample writes the sample of a list that is empty, commented out.
func (w *writer) sample(t reflect.Type, indent string) {
	v, ok := w.samples[t]
	if !ok {
		return
	}
	inner := &writer{docs: w.docs, samples: w.samples}
	inner.item(v, indent+"  ", true)
	for line := range strings.Lines(inner.String()) {
		w.WriteString("# " + line)
	}
}

func list(v reflect.Value) string {
	words := make([]string, v.Len())
	for i := range words {
		words[i] = config.Format(v.Index(i))
		if secret, ok := v.Index(i).Interface().(config.Secret); ok {
			words[i] = secret.Reveal()
		}
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// comment writes the comment of a field, wrapped at 80 columns.
func (w *writer) comment(t reflect.Type, f reflect.StructField, indent string) {
	text := w.docs[t.Name()+"."+f.Name]
	if allowed := config.Allowed(f); allowed != "" {
		text += " (" + allowed + ")"
	}
	if f.Tag.Get("live") != "" {
		text += " [live]"
	}
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 80 {
			w.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	if line != indent+"#" {
		w.WriteString(line + "\n")
	}
}

// comments reads the comments of all struct fields of a Go file.
func comments(file string) (map[string]string, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	docs := make(map[string]string)
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				for _, name := range field.Names {
					docs[spec.Name.Name+"."+name.Name] = field.Doc.Text()
				}
			}
		}
		return false
	})
	return docs, nil
}
