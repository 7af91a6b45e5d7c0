package kit

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"trivium/core/jid"
)

// Definition says what a gateway is to its users. It is a value: a Gateway gets a new
// one by Define. The zero Definition is a gateway of type "http-ws" for everybody,
// without registration.
type Definition struct {
	Type        string `json:"type,omitempty" doc:"Which network it leads to, a type of the service discovery category gateway: sms, sip, irc, smtp and others." default:"http-ws" pattern:"^[a-z0-9][a-z0-9.-]{0,63}$" example:"sms"`
	Name        string `json:"name,omitempty" doc:"What people call it." maxLength:"255" example:"Text messages"`
	Client      string `json:"client,omitempty" enum:"bot,pc,phone,web,handheld,console" default:"pc" doc:"What kind of client its contacts say they are."`
	Prompt      string `json:"prompt,omitempty" doc:"What a contact is known by, for people (jabber:iq:gateway)." maxLength:"255" example:"Telephone number"`
	Description string `json:"description,omitempty" doc:"How people are asked for it (jabber:iq:gateway)." maxLength:"1023" example:"Please enter the telephone number of the person you would like to contact."`

	Registration *Form `json:"registration,omitempty" doc:"What users fill in to register. Absent: there is no registration."`
	Registered   bool  `json:"registered_only,omitempty" doc:"Only registered users may send anything."`

	Users []string `json:"users,omitempty" maxItems:"256" doc:"Who may use it: domains, addresses, or addresses with a star. Empty: everybody."`

	Subscriptions string `json:"subscriptions,omitempty" enum:"ask,accept" default:"ask" doc:"What becomes of a user's request to see a contact's presence. ask: the gateway answers it; accept: it is granted."`
	Presence      string `json:"presence,omitempty" enum:"set,assumed" default:"set" doc:"What contacts appear as whose presence was never set. set: unavailable; assumed: available while the gateway is."`

	Capabilities Capabilities `json:"capabilities,omitzero" doc:"What the network can carry, unless a contact says otherwise."`
	RefuseLong   bool         `json:"refuse_long,omitempty" doc:"Messages longer than max_length are refused in words rather than passed on."`
}

// Form is what users fill in to register (XEP-0077).
type Form struct {
	Instructions string  `json:"instructions,omitempty" maxLength:"4095" doc:"What to do, for people."`
	Fields       []Field `json:"fields,omitempty" maxItems:"64" doc:"What to fill in."`
}

// Field is one field of a Form.
type Field struct {
	Name     string   `json:"name" pattern:"^[A-Za-z0-9_.#:-]{1,128}$" doc:"The field's name. Those of XEP-0077 (username, password, phone, email, ...) also work in clients without data forms."`
	Label    string   `json:"label,omitempty" maxLength:"255" doc:"What people see."`
	Kind     string   `json:"kind,omitempty" enum:"text,secret,list,boolean,address" default:"text" doc:"secret: stored, passed to the gateway, and never shown to the user again."`
	Required bool     `json:"required,omitempty" doc:"It cannot be left out."`
	Options  []Choice `json:"options,omitempty" maxItems:"256" doc:"What there is to choose from, for lists."`
}

// Choice is one option of a list.
type Choice struct {
	Value string `json:"value" maxLength:"1023"`
	Label string `json:"label,omitempty" maxLength:"255"`
}

// Kinds of fields.
const (
	KindText    = "text"
	KindSecret  = "secret"
	KindList    = "list"
	KindBoolean = "boolean"
	KindAddress = "address"
)

// A DefinitionError says what is wrong with a Definition.
type DefinitionError struct {
	Field  string // its JSON name
	Reason string
}

func (e *DefinitionError) Error() string { return "kit: " + e.Field + " " + e.Reason }

var clients = []string{"", "bot", "pc", "phone", "web", "handheld", "console"}

// Check tells what is wrong with d: a *DefinitionError, or nil.
func (d *Definition) Check() error {
	bad := func(field, format string, args ...any) error {
		return &DefinitionError{field, fmt.Sprintf(format, args...)}
	}
	switch {
	case d.Type != "" && !word(d.Type, 64):
		return bad("type", "is a word of lower-case letters, digits, dots and dashes")
	case !slices.Contains(clients, d.Client):
		return bad("client", "is none of bot, pc, phone, web, handheld and console")
	case d.Subscriptions != "" && d.Subscriptions != "ask" && d.Subscriptions != "accept":
		return bad("subscriptions", "is neither ask nor accept")
	case d.Presence != "" && d.Presence != "set" && d.Presence != "assumed":
		return bad("presence", "is neither set nor assumed")
	case d.Registered && d.Registration == nil:
		return bad("registered_only", "needs a registration")
	}
	for _, t := range []struct {
		field, text string
		most        int
	}{{"name", d.Name, 255}, {"prompt", d.Prompt, 255}, {"description", d.Description, 1023}} {
		if utf8.RuneCountInString(t.text) > t.most {
			return bad(t.field, "has more than %d characters", t.most)
		}
	}
	if len(d.Users) > 256 {
		return bad("users", "has more than 256 items")
	}
	for i, u := range d.Users {
		if _, err := jid.ParsePattern(u); err != nil {
			return bad(fmt.Sprintf("users[%d]", i), "covers no addresses: %v", err)
		}
	}
	if err := d.Capabilities.check(); err != nil {
		return err
	}
	if d.Registration == nil {
		return nil
	}
	seen := map[string]bool{}
	for i, f := range d.Registration.Fields {
		at := fmt.Sprintf("registration.fields[%d]", i)
		switch {
		case i >= 64:
			return bad("registration.fields", "has more than 64 items")
		case f.Name == "" || len(f.Name) > 128:
			return bad(at+".name", "has between 1 and 128 characters")
		case seen[f.Name]:
			return bad(at+".name", "stands twice")
		case f.Name == "FORM_TYPE" || f.Name == "remove" || f.Name == "registered" || f.Name == "instructions":
			return bad(at+".name", "means something else")
		}
		seen[f.Name] = true
		switch f.Kind {
		case "", KindText, KindSecret, KindBoolean, KindAddress:
		case KindList:
			if len(f.Options) == 0 || len(f.Options) > 256 {
				return bad(at+".options", "has between 1 and 256 items")
			}
		default:
			return bad(at+".kind", "is none of text, secret, list, boolean and address")
		}
	}
	return nil
}

func word(s string, most int) bool {
	if len(s) > most || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// settled is a Definition that has been checked, with defaults filled in.
type settled struct {
	Definition
	users []jid.Pattern
}

func settle(d Definition) (*settled, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		of   *string
		zero string
	}{{&d.Type, "http-ws"}, {&d.Client, "pc"}, {&d.Subscriptions, "ask"}, {&d.Presence, "set"}} {
		if *f.of == "" {
			*f.of = f.zero
		}
	}
	s := &settled{Definition: d}
	for _, u := range d.Users {
		p, err := jid.ParsePattern(u)
		if err != nil {
			return nil, err
		}
		s.users = append(s.users, p)
	}
	return s, nil
}

// admits tells whether a user may use the gateway at all.
func (s *settled) admits(user jid.JID) bool {
	return len(s.users) == 0 || slices.ContainsFunc(s.users, func(p jid.Pattern) bool { return p.Match(user) })
}

// secret tells whether a field of the registration is not to be shown.
func (s *settled) secret(name string) bool {
	if s.Registration == nil {
		return true
	}
	i := slices.IndexFunc(s.Registration.Fields, func(f Field) bool { return f.Name == name })
	return i < 0 || s.Registration.Fields[i].Kind == KindSecret
}
