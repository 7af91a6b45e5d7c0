package config

import (
	"fmt"
	"reflect"
)

// Diff lists the keys in which two configurations differ: those that a running
// server takes over at once, and those that need a restart. A list that grew or
// shrank counts as one key.
func Diff(old, next *Config) (live, restart []string) {
	var walk func(a, b reflect.Value, key string, isLive bool)
	walk = func(a, b reflect.Value, key string, isLive bool) {
		switch {
		case a.Kind() == reflect.Struct:
			for i := range a.NumField() {
				f := a.Type().Field(i)
				walk(a.Field(i), b.Field(i), childKey(key, f.Tag.Get("yaml")), isLive || f.Tag.Get("live") != "")
			}
			return
		case a.Kind() == reflect.Slice && a.Len() == b.Len() && a.Type().Elem().Kind() == reflect.Struct:
			for i := range a.Len() {
				walk(a.Index(i), b.Index(i), fmt.Sprintf("%s[%d]", key, i), isLive)
			}
			return
		case a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0:
			return // nil and empty mean the same
		case reflect.DeepEqual(a.Interface(), b.Interface()):
			return
		case isLive:
			live = append(live, key)
		default:
			restart = append(restart, key)
		}
	}
	walk(reflect.ValueOf(old).Elem(), reflect.ValueOf(next).Elem(), "", false)
	return live, restart
}

// Live returns old with the keys from next that a running server takes over.
func Live(old, next *Config) *Config {
	c := old.clone()
	var walk func(to, from reflect.Value)
	walk = func(to, from reflect.Value) {
		switch {
		case to.Kind() == reflect.Struct:
			for i := range to.NumField() {
				if to.Type().Field(i).Tag.Get("live") != "" {
					to.Field(i).Set(deepCopy(from.Field(i)))
				} else {
					walk(to.Field(i), from.Field(i))
				}
			}
		case to.Kind() == reflect.Slice && to.Len() == from.Len() && to.Type().Elem().Kind() == reflect.Struct:
			for i := range to.Len() {
				walk(to.Index(i), from.Index(i))
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), reflect.ValueOf(next).Elem())
	return c
}

// Warnings returns sentences about settings that are allowed and may surprise.
func (c *Config) Warnings() []string {
	var out []string
	for i, l := range c.Listeners {
		if l.Kind == XMPPStartTLS && !l.RequireTLS {
			out = append(out, fmt.Sprintf("listeners[%d]: require_tls is false: clients may log in and chat in the clear on %s", i, l.Address))
		}
		if l.Kind == HTTP && !l.BehindTLS && !isLocal(l.Address) {
			out = append(out, fmt.Sprintf("listeners[%d]: http on %s is neither encrypted nor local, and behind_tls is false: clients chat in the clear", i, l.Address))
		}
	}
	for i, h := range c.Hosts {
		if h.Certificate == "" && !c.Development {
			out = append(out, fmt.Sprintf("hosts[%d]: %s has no certificate: clients must trust the server's own development CA", i, h.Domain))
		}
	}
	return out
}
