"""The event stream, read with httpx-sse, in its formats and over lost connections."""

import asyncio
import email
import sys
import xml.etree.ElementTree as ET

import harness
from harness import DOMAIN, SERVER, check, step
from rest import REST, Follower

GATEWAY = "events-python." + DOMAIN
CONTACT = "friend@" + GATEWAY
TEXT = "Art thou not Romeo? <&> 🌹"


class Road:
    """A TCP proxy to the server that can lose its connections."""

    def __init__(self):
        self.writers = set()

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        return SERVER["rest"].replace(SERVER["rest"].split("/")[2], f"127.0.0.1:{port}")

    async def _serve(self, reader, writer):
        host, port = SERVER["rest"].split("/")[2].rsplit(":", 1)
        there_reader, there = await asyncio.open_connection(host, int(port))
        self.writers |= {writer, there}
        await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


def message(event, _):
    return event.event == "message"


async def run():
    admin, sender = REST(), REST(SERVER["token"])
    await admin.call("PUT", "/gateways/" + GATEWAY, {"type": "x-test"})
    program = await admin.token_for("events-python", "send:" + GATEWAY, "read:" + GATEWAY)

    async def send(body):
        await sender.call("POST", "/messages", {"to": CONTACT, "body": body}, status=202)

    async with step("events.unauthorized") as s:
        try:
            await Follower(REST("not a token"), host=GATEWAY).start()
            check(False, "a stream for everybody")
        except harness.Failed:
            raise
        except Exception as e:
            s.detail = str(e)
            check("401" in s.detail, s.detail)

    streams = {f: await Follower(program, host=GATEWAY, format=f).start() for f in ("json", "xml", "cpim")}
    presences = await Follower(program, host=GATEWAY, type="presence").start()
    async with step("events.live-json") as s:
        await send(TEXT)
        event, data = await streams["json"].expect("message", message)
        check(data["data"]["body"] == TEXT and data["data"]["to"] == CONTACT and data["id"] == event.id, data)
        s.detail = event.id

    async with step("events.live-xml"):
        event, _ = await streams["xml"].expect("message", message)
        stanza = ET.fromstring(event.data)
        check(stanza.tag == "{jabber:client}message" and stanza.get("to") == CONTACT, event.data)
        check(stanza.findtext("{jabber:client}body") == TEXT, event.data)

    async with step("events.live-cpim"):
        event, _ = await streams["cpim"].expect("message", message)
        head, _, part = event.data.partition("\n\n")  # RFC 3862 §2: headers, a blank line, a MIME entity
        fields = dict(line.split(": ", 1) for line in head.split("\n"))
        check(CONTACT in fields["To"] and SERVER["sender"] in fields["From"], head)
        entity = email.message_from_bytes(part.encode())
        check(entity.get_content_type() == "text/plain", part)
        check(entity.get_payload(decode=True).decode() == TEXT, part)

    async with step("events.presence-as-pidf"):
        stanza = f"<presence from='{SERVER['sender']}/desk' to='{CONTACT}'><show>away</show></presence>"
        await sender.call("POST", "/stanzas", content=stanza, headers={"Content-Type": "application/xml"}, status=202)
        event, _ = await streams["cpim"].expect("presence", lambda e, _: e.event == "presence")
        document = ET.fromstring(event.data.encode())
        check(document.tag == "{urn:ietf:params:xml:ns:pidf}presence", event.data)
        check(document.get("entity") == "pres:" + SERVER["sender"], event.data)
        check(document.findtext(".//{urn:ietf:params:xml:ns:pidf}basic") == "open", event.data)

    async with step("events.filtered"):
        event, data = await presences.expect("event", lambda e, _: True)
        check(event.event == "presence" and data["data"]["show"] == "away", data)
        check(not presences.inbox, presences.inbox)
    for follower in (*streams.values(), presences):
        await follower.stop()

    async with step("events.cut-and-resumed") as s:
        road = Road()
        there = REST(program.token, await road.start())
        follower = await Follower(there, host=GATEWAY, after="now").start()
        bodies = [f"message {i}" for i in range(30)]
        for i, body in enumerate(bodies):
            await send(body)
            if i in (4, 14):
                await follower.expect(body, lambda e, d, body=body: d and d["data"].get("body") == body)
                road.cut()
                s.detail += f"{type(await follower.ended()).__name__} "
            elif i in (9, 19):  # after some have been missed
                await follower.start()
        await follower.expect("the last", lambda e, d: d and d["data"].get("body") == bodies[-1])
        got = [d["data"]["body"] for e, d in follower.inbox]
        want = [b for i, b in enumerate(bodies) if i not in (4, 14, 29)]
        check(got == want, got)
        await follower.stop()
        road.server.close()

    async with step("events.from-the-start"):
        follower = await Follower(program, host=GATEWAY, after="start", type="message").start()
        await follower.expect("the last", lambda e, d: d["data"]["body"] == bodies[-1])
        got = [d["data"]["body"] for e, d in follower.inbox]
        check(got == [TEXT, *bodies[:-1]], got)
        ids = [e.id for e, _ in follower.inbox]
        await follower.stop()
        pages, after = [], "start"
        while True:
            query = {"host": GATEWAY, "type": "message", "after": after, "limit": 7}
            page = await program.call("GET", "/events", params=query, headers={"Accept": "application/json"})
            if not page["items"]:
                break
            pages += [e["id"] for e in page["items"]]
            after = page["next"]
        check(pages[:-1] == ids, pages)

    async with step("events.gap"):
        follower = Follower(program, host=GATEWAY)
        follower.last = "evt_1"  # from before anything was
        await follower.start()
        event, data = await follower.expect("gap", lambda e, _: e.event == "gap")
        check(data["after"] == "evt_1" and data["until"].startswith("evt_"), data)
        await follower.stop()

    await admin.call("DELETE", "/gateways/" + GATEWAY)


asyncio.run(run())
sys.exit(1 if harness.failures else 0)
