package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

// setScalar sets v from text and returns what is wrong with it, or "".
func setScalar(v reflect.Value, f reflect.StructField, text string) string {
	wrong := func() string { return fmt.Sprintf("%q is wrong; write %s", text, wanted(v.Type(), f)) }
	if v.Type() == reflect.TypeFor[Secret]() {
		v.SetString(text)
		return ""
	}
	switch v.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return wrong()
		}
		v.SetBool(b)
	case reflect.String:
		if words := f.Tag.Get("oneof"); words != "" {
			list := strings.Split(words, ",")
			if !slices.Contains(list, text) {
				if near := nearest(text, list); near != "" {
					return fmt.Sprintf("%q is unknown; did you mean %s?", text, near)
				}
				return wrong()
			}
		}
		v.SetString(text)
	default:
		n, ok := parseNumber(v.Type(), text)
		if !ok {
			return wrong()
		}
		low, high, bounded := bounds(v.Type(), f)
		if bounded && (n < low || n > high) && !(n == 0 && f.Tag.Get("zero") != "") {
			return fmt.Sprintf("%s is out of range; write %s", text, wanted(v.Type(), f))
		}
		v.SetInt(n)
	}
	return ""
}

func parseNumber(t reflect.Type, text string) (int64, bool) {
	switch t {
	case durationType:
		d, err := time.ParseDuration(text)
		return int64(d), err == nil
	case sizeType:
		s, err := ParseSize(text)
		return int64(s), err == nil
	}
	n, err := strconv.ParseInt(text, 10, strconv.IntSize)
	return n, err == nil
}

// bounds reads the range tag of a number's field.
func bounds(t reflect.Type, f reflect.StructField) (low, high int64, ok bool) {
	a, b, found := strings.Cut(f.Tag.Get("range"), "..")
	if !found {
		return 0, 0, false
	}
	low, lowOK := parseNumber(t, a)
	high, highOK := parseNumber(t, b)
	return low, high, lowOK && highOK
}

// Allowed says in words which values a field takes beyond its type, or returns
// "". It is part of the annotated example and of the messages.
func Allowed(f reflect.StructField) string {
	var parts []string
	if a, b, ok := strings.Cut(f.Tag.Get("range"), ".."); ok {
		parts = append(parts, a+" to "+b)
	}
	if zero := f.Tag.Get("zero"); zero != "" {
		parts = append(parts, "0: "+zero)
	}
	return strings.Join(parts, "; ")
}

// wanted says what may stand at a field.
func wanted(t reflect.Type, f reflect.StructField) string {
	var text string
	switch {
	case t == durationType:
		text = "a duration such as 30s, 5m or 72h"
	case t == sizeType:
		text = "a size such as 10000, 256KiB or 4MiB"
	case t.Kind() == reflect.Bool:
		text = "true or false"
	case t.Kind() == reflect.Int:
		text = "a whole number"
	default:
		text = "text"
		if words := f.Tag.Get("oneof"); words != "" {
			text = "one of " + strings.ReplaceAll(words, ",", ", ")
		}
	}
	if allowed := Allowed(f); allowed != "" {
		text += ", " + allowed
	}
	return text
}

// Format writes a value as it stands in a file.
func Format(v reflect.Value) string {
	switch v.Type() {
	case durationType:
		return formatDuration(time.Duration(v.Int()))
	case sizeType:
		return Size(v.Int()).String()
	}
	switch v.Kind() {
	case reflect.String:
		text := v.String()
		if text == "" || strings.ContainsAny(text, ":#*&!|>'\"%@`{}[], ") || !isWord(text) {
			return strconv.Quote(text)
		}
		return text
	default:
		return fmt.Sprint(v.Interface())
	}
}

// isWord reports whether YAML reads the text as a string without quotes.
func isWord(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	switch strings.ToLower(text) {
	case "true", "false", "null", "yes", "no", "on", "off", "~":
		return false
	}
	return err != nil && text[0] != '-' && text[0] != '?'
}
