"""slixmpp for TestSurvival: stream management, carbons and the archive over TCP."""

import asyncio
import os

import harness
from harness import Client
from survivor import DOMAIN, SERVER, describe, report, serve

PLUGINS = {
    "xep_0030": {},
    "xep_0059": {},  # result sets
    "xep_0077": {},
    "xep_0198": {"window": 2},  # stream management
    "xep_0199": {},
    "xep_0280": {},
    "xep_0297": {},  # forwarding
    "xep_0313": {},  # archives
    "xep_0359": {},  # stanza ids
}


class Survivor:
    def __init__(self):
        self.client = None
        self.outcome = None

    async def connect(self, order):
        if self.client is None:
            self.client = Client("juliet", "balcony", plugins=PLUGINS)
            self.client.add_filter("in", self._seen)
            for event in ("session_resumed", "sm_enabled", "sm_failed", "failed_all_auth"):
                self.client.add_event_handler(event, lambda _, e=event: self._settle(e))
            self.gone = asyncio.Event()
            self.client.add_event_handler("disconnected", lambda _: self.gone.set())
        else:
            await self.gone.wait()  # the reset has to be noticed first
        self.gone.clear()
        c = self.client
        self.outcome = asyncio.get_running_loop().create_future()
        host, port = SERVER["tcp"].rsplit(":", 1)
        c.connect(host, int(port))
        outcome = await self.outcome
        if outcome not in ("session_resumed", "sm_enabled"):
            raise harness.Failed(outcome)
        if outcome == "sm_enabled":
            await c.outcome  # the session has begun
            await c.plugin["xep_0280"].enable()
            c.send_presence()
        return {"jid": c.boundjid.full, "resumed": outcome == "session_resumed", "login": [c.mechanism()]}

    def _settle(self, outcome):
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def _seen(self, stanza):
        if stanza.name == "message":
            if (message := describe(stanza.xml)) is not None:
                report(message)
        return stanza

    async def send(self, order):
        for body in order["bodies"]:
            self.client.send_message(mto=order["to"], mbody=body, mtype="chat")

    async def sync(self, _):
        await self.client.plugin["xep_0199"].ping(DOMAIN)

    async def archive(self, _):
        found = []
        async for message in self.client.plugin["xep_0313"].iterate(rsm={"max": 20}):
            result = message.xml.find("{urn:xmpp:mam:2}result")
            inner = result.find("{urn:xmpp:forward:0}forwarded").find("{jabber:client}message")
            if (m := describe(inner)) is not None:
                found.append(m | {"id": result.get("id")})
        return {"archive": found}

    async def state(self, _):
        sm = self.client.plugin["xep_0198"]
        return {"session": sm.sm_id, "received": sm.handled}


asyncio.run(serve(Survivor()))
os._exit(0)  # a session that was not closed leaves tasks behind
