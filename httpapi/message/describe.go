package message

import "trivium/core/stanza"

// Data is a message as programs are told of it.
type Data struct {
	ID      string     `json:"id,omitempty" doc:"The stanza's id, chosen by its sender."`
	From    string     `json:"from" format:"xmpp-jid" doc:"Who sent it." example:"juliet@example.org/balcony"`
	To      string     `json:"to" format:"xmpp-jid" doc:"To whom." example:"bot@gateway.example.org"`
	Type    string     `json:"type" enum:"chat,normal,headline,groupchat,error" doc:"The type of RFC 6121 section 5.2.2."`
	Body    string     `json:"body,omitempty" doc:"The text."`
	Subject string     `json:"subject,omitempty" doc:"The subject."`
	Thread  string     `json:"thread,omitempty" doc:"The thread."`
	Lang    string     `json:"lang,omitempty" doc:"The language of body and subject."`
	Error   *DataError `json:"error,omitempty" doc:"Why a message of yours was refused, when the type is error."`
	XML     string     `json:"xml" doc:"The whole message."`
	*Extras
}

// DataError is the stanza error of a message of type error.
type DataError struct {
	Type      string `json:"type" doc:"What its sender may do about it (RFC 6120 section 8.3.2)."`
	Condition string `json:"condition" doc:"The condition of RFC 6120 section 8.3.3."`
	Text      string `json:"text,omitempty" doc:"An explanation for people."`
}

// Describe returns the Data of a message; doc is the stanza as a document.
func Describe(st *stanza.Stanza, doc []byte) Data {
	d := Data{
		ID: st.ID, From: st.From.String(), To: st.To.String(), Type: st.Type, Lang: st.Lang,
		Subject: text(st, "subject"), Thread: text(st, "thread"), XML: string(doc),
	}
	d.Body, _ = st.Body()
	d.Extras = extras(st)
	if d.Type == "" {
		d.Type = stanza.Normal // RFC 6121 §5.2.2
	}
	if st.Type == stanza.TypeError {
		e := st.ReadError()
		d.Error = &DataError{Type: string(e.ErrType()), Condition: string(e.Condition), Text: e.Text}
	}
	return d
}

func text(st *stanza.Stanza, name string) string {
	c, ok := st.Child(stanza.NSClient, name)
	if !ok {
		return ""
	}
	return c.Element().Text()
}
