package main

import (
	"os"
	"reflect"
	"testing"

	"trivium/config"
)

func TestExampleIsUpToDate(t *testing.T) {
	want, err := annotate("../../schema.go")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Error("config/example.yaml is not what schema.go says: run go generate ./config")
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	docs, err := comments("../../schema.go")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := typ.Name() + "." + f.Name
			if docs[name] == "" {
				t.Errorf("%s (%s) has no comment", name, f.Tag.Get("yaml"))
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[config.Config]())
}
