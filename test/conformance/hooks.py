"""What the formats and media types of the OpenAPI document stand for, as schemathesis needs it to
make requests that are right: the document can only name them."""

import base64

import json
import uuid

import schemathesis
from hypothesis import strategies as st

DOMAIN = "example.org"
GATEWAY = "sms.example.org"

local = st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True)
account = local.map(lambda name: f"test-{name}@{DOMAIN}")
resource = st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True)
account = st.one_of(st.just(f"juliet@{DOMAIN}"), account)
address = st.one_of(
    st.sampled_from([f"romeo@{DOMAIN}", f"+15551234@{GATEWAY}", DOMAIN, GATEWAY]),
    account,
    st.tuples(account, resource).map("/".join),
)
pattern = st.one_of(address, local.map(lambda name: f"{name}*@{GATEWAY}"))
host = st.sampled_from([GATEWAY, DOMAIN])
text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xD7FF, exclude_characters="\x7f"), max_size=40)
event = st.integers(min_value=1, max_value=10**6).map(lambda n: f"evt_{n}")

for name, strategy in {
    "xmpp-account": account,
    "xmpp-jid": address,
    "xmpp-pattern": pattern,
    "xmpp-domain": st.one_of(st.just(GATEWAY), host),
    "webhook-name": st.one_of(st.just("app"), local),
    "id": st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    "resource": resource,
    "xmpp-password": st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True),
    "xmpp-scope": st.one_of(
        host.map(lambda h: f"admin:{h}"), address.map(lambda a: f"read:{a}"), pattern.map(lambda p: f"send:{p}")
    ),
    "xml-element": st.just("<ping xmlns='urn:xmpp:ping'/>"),
    "xml-text": text,
    "line": text,
    "cursor": st.integers(1, 99).map(lambda n: base64.urlsafe_b64encode(b"%d" % n).decode().rstrip("=")),
    "entity-tag": st.sampled_from(['"abc"', "*", 'W/"abc"', '"a", "b"']),
    "event-id": event,
    "webhook-url": st.just("http://127.0.0.1:9/hook"),
    "webhook-key": st.binary(min_size=24, max_size=64).map(lambda b: "whsec_" + base64.b64encode(b).decode()),
    "token-id": st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    "archive-id": st.integers(1, 10**16).map(str),
    "search": st.from_regex(r"[a-z]{1,8}( [a-z]{1,8})?", fullmatch=True),
}.items():
    schemathesis.openapi.format(name, strategy)


def octets(example: str):
    return st.just(example.encode())


# Schemas say nothing of what is no JSON.
for name, example in {
    "application/xml": f"<message to='juliet@{DOMAIN}' type='chat'><body>Art thou not Romeo?</body></message>",
    "message/cpim": f"From: <im:romeo@{DOMAIN}>\r\nTo: <im:juliet@{DOMAIN}>\r\n\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n\r\nArt thou not Romeo?",
    "application/pidf+xml": "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:romeo@example.org'>"
    "<tuple id='a'><status><basic>open</basic></status></tuple></presence>",
    "application/x-ndjson": f'{{"to":"juliet@{DOMAIN}","body":"Art thou not Romeo?"}}\n',
}.items():
    schemathesis.openapi.media_type(name, octets(example))


@schemathesis.deserializer("application/x-ndjson")
def ndjson(context, response):
    """The schema of the answer is that of a line."""
    return json.loads(response.content.splitlines()[0])


# What others find is not removed: these remove something else.
REMOVED = {
    "remove-account": ("account", f"test-nobody@{DOMAIN}"),
    "remove-gateway": ("domain", "nowhere.example.org"),
    "remove-webhook": ("name", "none"),
}


@schemathesis.hook
def before_call(context, case, **kwargs):
    name, other = REMOVED.get(case.operation.definition.raw.get("operationId"), ("", ""))
    if name and case.method == "DELETE" and case.path_parameters:
        case.path_parameters[name] = other
    # A key belongs to one request: it is not used for another.
    if case.headers and "Idempotency-Key" in case.headers and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
