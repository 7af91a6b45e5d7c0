"""aioxmpp for TestSurvival: stream management and carbons over TCP. It has no
archive; the Go side reads that."""

import asyncio
import datetime
import logging
import os
import sys

import aioxmpp
import aioxmpp.carbons
import aioxmpp.connector
import aioxmpp.misc
import aioxmpp.ping
import aioxmpp.security_layer
import OpenSSL
from aioxmpp.stream import StanzaState
from survivor import DOMAIN, JULIET, SERVER, bare, report, serve

logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="%(relativeCreated)06d %(name)s %(message)s")
logging.getLogger("asyncio").setLevel(logging.INFO)


def describe(message):
    carbon = ""
    for kind, copy in (("sent", message.xep0280_sent), ("received", message.xep0280_received)):
        if copy is not None:
            carbon, message = kind, copy.stanza
    body = message.body.any() if message.body else None
    if body is None:
        return None
    ids = [i.id_ for i in message.xep0359_stanza_ids if str(i.by) == JULIET["jid"]]
    return {
        "from": bare(message.from_ or JULIET["jid"]),
        "to": bare(message.to or JULIET["jid"]),
        "body": body,
        "id": ids[0] if ids else "",
        "carbon": carbon,
    }


def trusting_the_ca():
    context = OpenSSL.SSL.Context(OpenSSL.SSL.SSLv23_METHOD)
    context.load_verify_locations(SERVER["ca"])
    return context


class Survivor:
    def __init__(self):
        self.client = None
        self.events = asyncio.Queue()

    async def connect(self, order):
        if self.client is None:
            self._start()
        while True:
            event = await self.events.get()
            if event == "suspended":
                continue
            if event not in ("established", "resumed"):
                raise RuntimeError(event)
            break
        if event == "established":
            await self.client.summon(aioxmpp.CarbonsClient).enable()
            self.client.enqueue(aioxmpp.Presence(type_=aioxmpp.PresenceType.AVAILABLE))
        return {"jid": str(self.client.local_jid), "resumed": event == "resumed", "login": []}

    def _start(self):
        host, port = SERVER["tcp"].rsplit(":", 1)
        c = self.client = aioxmpp.Client(
            aioxmpp.JID.fromstr(JULIET["jid"] + "/balcony"),
            aioxmpp.make_security_layer(JULIET["password"], ssl_context_factory=trusting_the_ca),
            override_peer=[(host, int(port), aioxmpp.connector.STARTTLSConnector())],
        )
        c.backoff_start = datetime.timedelta(milliseconds=50)
        c.stream.soft_timeout = datetime.timedelta(minutes=5)  # it finds out by itself, not by pings
        c.on_stream_established.connect(lambda: self.events.put_nowait("established"))
        c.on_stream_resumed.connect(lambda: self.events.put_nowait("resumed"))
        c.on_stream_suspended.connect(lambda _: self.events.put_nowait("suspended"))
        c.on_failure.connect(lambda err: self.events.put_nowait(f"failure: {err}"))
        for service in (aioxmpp.DiscoClient, aioxmpp.CarbonsClient):
            c.summon(service)
        c.stream.service_inbound_message_filter.register(self._seen, 0)
        c.start()

    def _seen(self, message):
        if (m := describe(message)) is not None:
            report(m)
        return message

    async def send(self, order):
        tokens = []
        for body in order["bodies"]:
            m = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(order["to"]))
            m.body[None] = body
            tokens.append(self.client.enqueue(m))
        # Stream management knows of a stanza when it has been written.
        while any(t.state == StanzaState.ACTIVE for t in tokens):
            await asyncio.sleep(0)

    async def sync(self, _):
        await aioxmpp.ping.ping(self.client, aioxmpp.JID.fromstr(DOMAIN))

    async def state(self, _):
        return {"session": self.client.stream.sm_id, "received": self.client.stream.sm_inbound_ctr}


async def main():
    await serve(Survivor())


asyncio.run(main())
os._exit(0)  # a client that was not stopped leaves tasks behind
