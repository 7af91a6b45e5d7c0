package httpapi

import (
	"encoding/json"
	"strings"
	"testing"
)

// A token makes tokens that may do no more than itself, and sees no others.
func TestTokens(t *testing.T) {
	r := whole(t)
	all, here := r.scoped("admin:*"), r.scoped("admin:example.org send:bots.example.org")
	made := func(token, body string) TokenSecret {
		t.Helper()
		rs, answer := r.call("POST", "/api/v1/tokens", token, jsonType, body)
		var out TokenSecret
		if err := json.Unmarshal([]byte(answer), &out); err != nil || rs.StatusCode != 201 || rs.Header.Get("Location") != "/api/v1/tokens/"+out.ID {
			t.Fatalf("%s %v %s", rs.Status, rs.Header, answer)
		}
		return out
	}
	shop := made(all, `{"name":"shop","scopes":["send:shop@example.com","read:shop@example.com"],"expires_in":3600,"rate":5}`)
	bot := made(here, `{"scopes":["send:b*@bots.example.org"]}`)
	r.expect(
		t,
		expectation{"POST", "/tokens", r.romeo, `{"scopes":["send:romeo@example.org"]}`, 403, ""},
		expectation{"POST", "/tokens", here, `{"scopes":["read:example.org"]}`, 403, ""},
		expectation{"POST", "/tokens", here, `{"scopes":["admin:*"]}`, 403, ""},
		expectation{"POST", "/tokens", here, `{"scopes":["admin:example.org"]}`, 201, `"secret":"trv_`},
		expectation{"POST", "/tokens", all, `{"scopes":[]}`, 422, "body.scopes"},
		expectation{"POST", "/tokens", all, `{"scopes":["read:example.org","write:example.org"]}`, 422, "body.scopes[1]"},
		expectation{"POST", "/tokens", all, `{"scopes":["read:example.org admin:*"]}`, 422, "body.scopes[0]"},
		expectation{"POST", "/tokens", all, `{"scopes":["read:example.org"],"expires_in":0}`, 422, "body.expires_in"},
		expectation{"GET", "/tokens/" + shop.ID, all, "", 200, `"scopes":["send:shop@example.com","read:shop@example.com"],"rate":5`},
		expectation{"GET", "/tokens/" + shop.ID, here, "", 404, ""},
		expectation{"DELETE", "/tokens/" + shop.ID, here, "", 404, ""},
		expectation{"GET", "/tokens/" + bot.ID, here, "", 200, ""},
		expectation{"GET", "/tokens/none", all, "", 404, ""},
		expectation{"GET", "/tokens", r.romeo, "", 403, ""},
		expectation{"GET", "/accounts/shop@example.com", shop.Secret, "", 404, ""},
		expectation{"POST", "/tokens/" + shop.ID + "/rotate", here, "", 404, ""},
		expectation{"POST", "/tokens/" + shop.ID + "/rotate", all, "", 200, `"secret":"trv_`},
		expectation{"GET", "/accounts/shop@example.com", shop.Secret, "", 401, ""},
		expectation{"DELETE", "/tokens/" + bot.ID, here, "", 204, ""},
		expectation{"GET", "/events", bot.Secret, "", 401, ""},
		expectation{"GET", "/tokens?revoked=true", here, "", 200, bot.ID},
		expectation{"GET", "/audit?operation=token+add&limit=1", all, "", 200, `"operation":"token add"`},
	)
	for _, tt := range []struct {
		token, want string
		there       bool
	}{{all, shop.ID, true}, {all, bot.ID, false}, {here, shop.ID, false}, {here, bot.ID, false}} {
		_, body := r.call("GET", "/api/v1/tokens", tt.token, "", "")
		if strings.Contains(body, tt.want) != tt.there || strings.Contains(body, "trv_") {
			t.Errorf("listed %s, want %s: %v", body, tt.want, tt.there)
		}
	}
}
