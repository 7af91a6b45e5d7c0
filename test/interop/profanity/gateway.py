"""A gateway domain and an upload service, used with profanity; the gateway is driven by REST."""

import json
import os
import ssl
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import httpx
import httpx_sse

import terminal
from terminal import DOMAIN, SERVER, Failed, Profanity, step

GATEWAY = "irc." + DOMAIN
CONTACT = "nurse@" + GATEWAY
ROMEO = SERVER["accounts"]["romeo"]["jid"]
FILE = "Wherefore art thou? <&> 🌹\n" * 500


def call(method, path, body=None, token=SERVER["admin"]):
    request = urllib.request.Request(
        SERVER["rest"] + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as e:
        raise Failed(f"{method} {path}: {e.code} {e.read()}") from None


class Program:
    """The gateway's program; it follows the event stream."""

    def __init__(self):
        call("PUT", "/gateways/" + GATEWAY, {"type": "irc", "name": "Chat relay", "presence": "assumed"})
        scopes = ["send:" + GATEWAY, "read:" + GATEWAY]
        self.token = call("POST", "/tokens", {"name": "irc", "scopes": scopes})["secret"]
        self.events = []
        self.arrived = threading.Condition()
        following = threading.Event()
        threading.Thread(target=self._follow, args=(following,), daemon=True).start()
        if not following.wait(terminal.TIMEOUT):
            raise Failed("the event stream does not begin")

    def _follow(self, following):
        with (
            httpx.Client(headers={"Authorization": "Bearer " + self.token}, timeout=None, trust_env=False) as http,
            httpx_sse.connect_sse(http, "GET", SERVER["rest"] + "/events", params={"host": GATEWAY}) as source,
        ):
            source.response.raise_for_status()
            following.set()
            for event in source.iter_sse():
                if event.data:  # others move the id on
                    print("event", event.data, file=sys.stderr, flush=True)
                    with self.arrived:
                        self.events.append(json.loads(event.data))
                        self.arrived.notify()

    def call(self, method, path, body=None):
        return call(method, path, body, self.token)

    def event(self, type_, **members):
        """Waits for an event of a type whose data has these members, and takes it."""

        def found():
            for i, e in enumerate(self.events):
                if e["type"] == type_ and all(e["data"].get(k) == v for k, v in members.items()):
                    return self.events.pop(i)
            return None

        with self.arrived:
            if e := self.arrived.wait_for(found, terminal.TIMEOUT):
                return e["data"]
            raise Failed(f"no {type_} with {members}; there is {self.events}")


def run(directory):
    program = Program()
    romeo = Profanity(directory, "romeo")

    @step("login")
    def _():
        romeo.connect()
        romeo.wait_for(f"{romeo.jid}/profanity logged in successfully")

    if terminal.failures:
        return

    @step("disco.gateway-among-items")
    def _():
        romeo.type("/disco items " + DOMAIN)
        romeo.wait_for("Service discovery items for " + DOMAIN, GATEWAY)

    @step("disco.gateway-info")
    def _():
        romeo.type("/disco info " + GATEWAY)
        romeo.wait_for("Service discovery info for " + GATEWAY, "Chat relay irc gateway", "jabber:iq:gateway")

    @step("contact.subscribe")
    def _():
        romeo.type(f"/roster add {CONTACT} Nurse")
        romeo.wait_for(f"Roster item added: {CONTACT}")
        romeo.type("/sub request " + CONTACT)
        program.event("subscription", type="subscribe", to=CONTACT)
        program.call("POST", "/subscriptions", {"from": CONTACT, "to": ROMEO, "type": "subscribed"})
        romeo.wait_for("Subscription received from " + CONTACT)

    @step("presence.of-contact")
    def _():
        program.call("PUT", "/presence/" + CONTACT, {"show": "dnd", "status": "with <Juliet>"})
        romeo.wait_for("is dnd", "with <Juliet>")

    @step("chat.both-ways")
    def _():
        romeo.type("/msg " + CONTACT)
        romeo.type("Commend me to thy lady <&> 🌹")
        got = program.event("message", body="Commend me to thy lady <&> 🌹")
        if got["to"] != CONTACT or not got["from"].startswith(ROMEO + "/"):
            raise Failed(got)
        program.call("POST", "/messages", {"from": CONTACT, "to": got["from"], "body": "Ay, a thousand times. <&> 🚦"})
        romeo.wait_for("Ay, a thousand times. <&> 🚦")

    @step("upload.sendfile")
    def _():
        name = os.path.join(romeo.home, "letter.txt")
        with open(name, "w") as f:
            f.write(FILE)
        romeo.type("/sendfile " + name)
        url = romeo.wait_wire(r"SENT: <message [^>]*>.*?<body>(https://[^<]+letter\.txt)</body>").group(1)
        event = program.event("message", body=url)
        if event["oob"]["url"] != url:
            raise Failed(event)
        trust = ssl.create_default_context(cafile=SERVER["ca"])
        with urllib.request.urlopen(url, timeout=20, context=trust) as answer:
            if answer.read() != FILE.encode():
                raise Failed("other octets came back")
        return url

    @step("gateway.removed")
    def _():
        romeo.type("/win 1")
        call("DELETE", "/gateways/" + GATEWAY)
        romeo.wait_for(CONTACT + " deleted subscription")

    romeo.close()


with tempfile.TemporaryDirectory(prefix="profanity-") as directory:
    run(directory)
sys.exit(1 if terminal.failures else 0)
