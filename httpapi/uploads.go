package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/jid"
	files "trivium/core/mod/upload"
	"trivium/httpapi/upload"
)

// Upload is a file that is shared by its address (XEP-0363).
type Upload struct {
	ID      string     `json:"id" doc:"Names it in lists."`
	Owner   string     `json:"owner" format:"xmpp-jid" doc:"Whose it is, and whose quota it counts for."`
	URL     string     `json:"url" format:"uri" doc:"Where everybody who knows the address can fetch it."`
	Name    string     `json:"name" doc:"The file's name."`
	Type    string     `json:"type,omitempty" doc:"Its content type."`
	Size    int64      `json:"size" doc:"Its size in octets."`
	Created time.Time  `json:"created" doc:"When it was uploaded."`
	Expires *time.Time `json:"expires,omitempty" doc:"When it will be removed."`
}

func (a *API) uploadRoutes() []route {
	if a.opts.Uploads == nil {
		return nil
	}
	owner := &huma.Param{
		Name: "owner", In: "query", Description: "Whose files: a bare address that the token may speak for. The only one of the token, if absent.",
		Schema: &huma.Schema{Type: huma.TypeString, Format: "xmpp-jid"},
	}
	one, most := 1, 255
	return []route{
		{
			method: http.MethodGet, path: "/uploads", id: "list-uploads", summary: "List uploaded files", text: "Newest first.",
			query: append([]*huma.Param{owner}, paging()...), gives: Page[Upload]{}, do: (*call).listUploads,
		},
		{
			method: http.MethodPost, path: "/uploads", id: "upload-file", summary: "Upload a file",
			text: "The body is the file, its Content-Type that of the file.", octets: true, gives: Upload{}, status: http.StatusCreated,
			query: []*huma.Param{owner, {
				Name: "name", In: "query", Required: true, Description: "The file's name; characters that file systems do not take are replaced.",
				Schema: &huma.Schema{Type: huma.TypeString, MinLength: &one, MaxLength: &most},
			}},
			also: map[int]string{
				400: "The query is not as it should be, or the body ended early.", 408: "The file came too slowly.", 413: "The file is larger than allowed.",
				429: "The token has made too many requests, or the owner has too many files; `Retry-After` tells when to go on.", 507: "No space is left.",
			},
			do: (*call).upload,
		},
		{
			method: http.MethodGet, path: "/uploads/{id}", id: "get-upload", summary: "Show an uploaded file", text: "The file itself is at its `url`.",
			query: []*huma.Param{owner}, gives: Upload{}, do: (*call).getUpload,
		},
		{
			method: http.MethodDelete, path: "/uploads/{id}", id: "remove-upload", summary: "Remove an uploaded file", query: []*huma.Param{owner}, do: (*call).removeUpload,
		},
	}
}

func shownUpload(f *upload.File) Upload {
	out := Upload{ID: f.ID, Owner: f.Owner.String(), URL: f.URL, Name: f.Name, Type: f.Type, Size: f.Size, Created: f.Created.UTC()}
	if !f.Expires.IsZero() {
		t := f.Expires.UTC()
		out.Expires = &t
	}
	return out
}

// owner returns whose files the request is about.
func (c *call) owner() (jid.JID, error) {
	s := c.args.Get("owner")
	if s == "" {
		j, ok := c.token.DefaultSender()
		if !ok {
			return j, badQuery("owner", "is needed: the token may speak for more than one address")
		}
		return j.Bare(), nil
	}
	j, err := jid.Parse(s)
	if err != nil {
		return j, badQuery("owner", "is not an address")
	}
	j = j.Bare()
	if !c.token.MaySend(j) || !c.opts.Router.Serves(j.Domain()) {
		return j, noScope(c.w, "The token may not speak for the owner.", sendAs(j))
	}
	return j, nil
}

// uploadProblem turns the errors of uploads into documents.
func (c *call) uploadProblem(err error) error {
	if err == nil {
		return nil
	}
	status, detail, after := upload.Status(err)
	if status == http.StatusInternalServerError {
		return err
	}
	if after > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(after))
	}
	return problem(status, detail)
}

func (c *call) listUploads() (any, error) {
	owner, err := c.owner()
	if err != nil {
		return nil, err
	}
	place, err := c.place()
	if err != nil {
		return nil, err
	}
	list, next, err := c.opts.Uploads.List(c.r.Context(), owner, place, c.limit())
	if errors.Is(err, files.ErrNotFound) {
		return nil, badCursor("after")
	} else if err != nil {
		return nil, c.uploadProblem(err)
	}
	page := &Page[Upload]{Items: []Upload{}, Next: cursor(next)}
	for i := range list {
		page.Items = append(page.Items, shownUpload(&list[i]))
	}
	return page, nil
}

func (c *call) upload() (any, error) {
	owner, err := c.owner()
	if err != nil {
		return nil, err
	}
	if owner.Local() != "" && c.opts.Router.Hosts(owner.Domain()) {
		if ok, err := c.opts.Exists(c.r.Context(), owner); err != nil {
			return nil, err
		} else if !ok {
			return nil, noScope(c.w, "The owner's account does not exist.")
		}
	}
	if encoded(c.r) {
		c.w.Header()["Accept-Encoding"] = []string{"identity"} // RFC 9110 §12.5.3
		return nil, problem(http.StatusUnsupportedMediaType, "The file comes without a content coding.")
	}
	most := c.opts.Uploads.MaxSize()
	if c.r.ContentLength > most {
		return nil, problem(http.StatusRequestEntityTooLarge, "A file may have "+strconv.FormatInt(most, 10)+" octets.")
	}
	size := c.r.ContentLength
	longest := most
	if size >= 0 {
		longest = size
	}
	hurry(c.w, longest)
	f, err := c.opts.Uploads.Save(c.r.Context(), owner, c.args.Get("name"), c.r.Header.Get("Content-Type"), size, c.r.Body)
	if err != nil {
		return nil, c.uploadProblem(err)
	}
	relax(c.w)
	shown := shownUpload(&f)
	return &outcome{value: &shown, location: "/uploads/" + segment(f.ID) + "?owner=" + url.QueryEscape(shown.Owner)}, nil
}

func (c *call) getUpload() (any, error) {
	owner, err := c.owner()
	if err != nil {
		return nil, err
	}
	f, err := c.opts.Uploads.Get(c.r.Context(), owner, param(c.r, "id"))
	if err != nil {
		return nil, c.uploadProblem(err)
	}
	return shownUpload(&f), nil
}

func (c *call) removeUpload() (any, error) {
	owner, err := c.owner()
	if err != nil {
		return nil, err
	}
	return nil, c.uploadProblem(c.opts.Uploads.Delete(context.WithoutCancel(c.r.Context()), owner, param(c.r, "id")))
}
