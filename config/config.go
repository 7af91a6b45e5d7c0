// Package config owns the server's configuration: the one YAML file, what may
// stand in it, what environment variables override, and what is said when
// something is wrong.
//
// It composes values and knows none of the packages they tune: cmd/trivium maps
// them to the options of those packages.
//
// Every key has an environment variable: TRIVIUM_ and the key's path in capitals,
// joined by underscores, with the index of list items. TRIVIUM_LIMITS_STANZA_SIZE
// is limits.stanza_size, TRIVIUM_HOSTS_0_DOMAIN the domain of the first host. An
// index one past the end appends. Lists of words are separated by commas. A
// variable that begins like a key or is almost one, and is none, is a problem;
// other variables with the prefix are left alone.
package config

import (
	_ "embed"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"
)

//go:generate go run ./internal/annotate -o example.yaml

//go:embed example.yaml
var example string

// Example returns a file with every key, its meaning and its default.
func Example() string { return example }

// Default returns what holds where neither file nor environment say otherwise.
func Default() *Config {
	return &Config{
		Hosts:   []Host{{Domain: "localhost", Auth: defaultAuth()}},
		DataDir: "data",
		Store:   Store{Path: "trivium.db"},
		Admin:   Admin{Socket: "admin.sock", Accounts: []string{}, Audit: Audit{Keep: 90 * 24 * time.Hour, Entries: 100_000}},
		Log:     Log{Level: "info", Format: "text"},
		Listeners: []Listener{
			{Kind: XMPPStartTLS, Address: ":5222", RequireTLS: true},
			{Kind: XMPPTLS, Address: ":5223", RequireTLS: true},
			{Kind: HTTP, Address: "127.0.0.1:5280", RequireTLS: true, Endpoints: defaultEndpoints(HTTP)},
			{Kind: HTTPS, Address: ":5443", RequireTLS: true, Endpoints: defaultEndpoints(HTTPS)},
		},
		Limits: Limits{
			StanzaSize:                256 << 10,
			StanzaSizeBeforeAuth:      10000,
			Depth:                     64,
			Attributes:                64,
			Children:                  1024,
			ConnectionsPerAddress:     1000,
			UnauthenticatedPerAddress: 100,
			ResourcesPerAccount:       20,
			OutboxSize:                4 << 20,
			RosterItems:               2000,
			OfflineMessages:           1000,
			PrivateSize:               256 << 10,
			RateBytes:                 1 << 20,
			BurstBytes:                4 << 20,
			RateStanzas:               0,
			BurstStanzas:              1000,
			AuthAttempts:              5,
			FailedLoginsPerAddress:    100,
			RegistrationsPerHour:      5,
			HandshakeTimeout:          10 * time.Second,
			LoginTimeout:              30 * time.Second,
			PingInterval:              3 * time.Minute,
			PingTimeout:               time.Minute,
			HTTPIdleTimeout:           2 * time.Minute,
		},
		BOSH: BOSH{
			MaxWait:    60 * time.Second,
			MaxHold:    1,
			Inactivity: 60 * time.Second,
			Polling:    5 * time.Second,
			MaxPause:   2 * time.Minute,
			Origins:    []string{},
		},
		WebSocket: WebSocket{Origins: []string{}, PingInterval: 3 * time.Minute},
		SASL: SASL{
			Mechanisms:   []string{"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"},
			Iterations:   10000,
			FastLifetime: 21 * 24 * time.Hour,
		},
		StreamManagement: StreamManagement{Resume: 5 * time.Minute, Unacknowledged: 5000, Promise: true},
		Archive:          Archive{Default: "always", PageLimit: 250, Search: true},
		Upload:           Upload{Enabled: true, MaxSize: 100 << 20, Quota: 1 << 30, MaxFiles: 10000, MaxTotal: 10 << 30},
		REST:             REST{MaxBody: 1 << 20, Rate: 0, Origins: []string{}, JWT: defaultRESTJWT()},
		Gateways:         []Gateway{},
		GatewayGrace:     30 * time.Second,
		Webhooks:         []Webhook{},
		Metrics:          Metrics{Enabled: true},
		Tracing:          Tracing{SamplePerMille: 10},
		Shutdown:         Shutdown{Grace: 10 * time.Second},
	}
}

// Development returns the configuration of `make run`: one host, localhost, all
// listeners on loopback, and the demo page.
func Development() *Config {
	c := Default()
	c.Development = true
	c.Listeners = []Listener{
		{Kind: XMPPStartTLS, Address: "127.0.0.1:5222", RequireTLS: true},
		{Kind: XMPPTLS, Address: "127.0.0.1:5223", RequireTLS: true},
		{Kind: HTTP, Address: "127.0.0.1:5280", RequireTLS: true, Endpoints: append(defaultEndpoints(HTTP), "demo")},
		{Kind: HTTPS, Address: "127.0.0.1:5443", RequireTLS: true, Endpoints: defaultEndpoints(HTTPS)},
	}
	return c
}

func defaultEndpoints(kind string) []string {
	switch kind {
	case HTTP:
		return []string{"websocket", "bosh", "rest", "upload", "host-meta", "health", "metrics"}
	case HTTPS:
		return []string{"websocket", "bosh", "rest", "upload", "host-meta"}
	}
	return nil
}

// newItem returns what a list item holds before its keys are read.
func newItem(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch item := v.Addr().Interface().(type) {
	case *Host:
		item.Auth = defaultAuth()
	case *Listener:
		item.RequireTLS = true
	case *Gateway:
		item.Type, item.Client, item.Subscriptions, item.Presence = "http-ws", "pc", "ask", "set"
		item.GiveUpAfter = 72 * time.Hour
		item.Users, item.Registration.Fields, item.Capabilities.Media = []string{}, []Field{}, []string{}
	case *Field:
		item.Kind, item.Options = "text", []string{}
	case *Webhook:
		item.Timeout = 10 * time.Second
		item.GiveUpAfter = 72 * time.Hour
		item.Format, item.Concurrency = "json", 32
		item.Secrets, item.Watch, item.Domains = []Secret{}, []string{}, []string{}
		item.Types, item.JIDs, item.Rooms = []string{}, []string{}, []string{}
	}
	return v
}

// Load reads a file over Default, then the environment, and validates the whole.
// An empty path reads the environment only. What is wrong with the content is a
// Problems; anything else is the file's own error.
func Load(path string) (*Config, error) {
	return LoadOver(Default(), path)
}

// LoadOver is Load over another base than Default, such as Development. The base
// is not changed.
func LoadOver(base *Config, path string) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return Parse(base, path, data, os.Environ())
}

// Parse is LoadOver for a file whose content is at hand, in the environment
// environ (NAME=value). The name appears in problems.
func Parse(base *Config, name string, data []byte, environ []string) (*Config, error) {
	c := base.clone()
	d := &decoder{file: name, source: string(data), at: make(map[string]place)}
	d.document(data, c)
	d.environment(environ, c)
	for i := range c.Listeners {
		if c.Listeners[i].Endpoints == nil {
			c.Listeners[i].Endpoints = defaultEndpoints(c.Listeners[i].Kind)
		}
	}
	if len(d.problems) == 0 { // a value that was not read would only be blamed twice
		d.secrets(c)
		d.validate(c)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b *Problem) int { return a.Line - b.Line })
		return nil, d.problems
	}
	return c, nil
}

// Path returns a path of the configuration as the server must use it: relative
// ones lie in the data folder.
func (c *Config) Path(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.DataDir, path)
}

// clone copies a configuration, lists included.
func (c *Config) clone() *Config {
	return deepCopy(reflect.ValueOf(c).Elem()).Addr().Interface().(*Config)
}

func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(deepCopy(v.Field(i)))
		}
	case reflect.Slice:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(deepCopy(v.Index(i)))
		}
	default:
		out.Set(v)
	}
	return out
}
