-- POST /api/v1/messages for the stand-in: the shape of Trivium's REST send, so
-- that one browser test runs against both servers. JSON {to, type, body} with a
-- bearer token; 202 with the id once the message was handed to the router.
local json = require "util.json";
local new_id = require "util.id".medium;
local st = require "util.stanza";

local token = module:get_option_string("interop_token");
local sender = module:get_option_string("interop_sender");

module:depends("http");
module:provides("http", {
	default_path = "/api/v1";
	route = {
		["POST /messages"] = function (event)
			if event.request.headers.authorization ~= "Bearer " .. token then return 401; end
			local order = json.decode(event.request.body);
			if type(order) ~= "table" or not order.to or not order.body then return 400; end
			local id = order.id or new_id();
			module:send(st.message({ from = sender, to = order.to, type = order.type or "chat", id = id }, order.body));
			event.response.headers.content_type = "application/json";
			event.response.status_code = 202;
			return json.encode({ id = id });
		end;
	};
});
