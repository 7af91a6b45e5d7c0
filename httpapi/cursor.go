package httpapi

import (
	"encoding/base64"
	"net/http"
	"slices"
	"unicode/utf8"
)

// cursor makes the opaque form of a place in a list.
func cursor(place string) string {
	if place == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(place))
}

// place reads the cursor in the query, "" if there is none.
func (c *call) place() (string, error) {
	after := c.args.Get("after")
	if after == "" {
		if c.args.Has("after") {
			return "", badCursor("after")
		}
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(after)
	if err != nil || len(raw) == 0 || !utf8.Valid(raw) {
		return "", badCursor("after")
	}
	return string(raw), nil
}

func badCursor(name string) error {
	p := problem(http.StatusBadRequest, "The cursor is not one of ours.")
	p.Errors = []Fault{{"query." + name, "is not what a page has told"}}
	return p
}

// cut returns the page of a sorted list that begins behind a place. What is
// behind it stays so when the item at the place has gone.
func cut[T any](c *call, list []T, key func(*T) string) (*Page[T], error) {
	after, err := c.place()
	if err != nil {
		return nil, err
	}
	from := 0
	if after != "" {
		from, _ = slices.BinarySearchFunc(list, after, func(e T, place string) int {
			if key(&e) <= place {
				return -1
			}
			return 1
		})
	}
	page := &Page[T]{Items: append([]T{}, list[from:min(len(list), from+c.limit())]...)}
	if n := len(page.Items); n > 0 && from+n < len(list) {
		page.Next = cursor(key(&page.Items[n-1]))
	}
	return page, nil
}

// first makes a page of a list that holds one item more if there are more.
func first[T any](c *call, list []T, key func(*T) string) *Page[T] {
	n := c.limit()
	page := &Page[T]{Items: append([]T{}, list[:min(n, len(list))]...)}
	if len(list) > n {
		page.Next = cursor(key(&page.Items[n-1]))
	}
	return page
}
