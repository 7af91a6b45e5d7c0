"""Juliet, who chats through a gateway: slixmpp, over TCP with STARTTLS.

She sends numbered messages to PEER, a few at a time, and prints a line for
whatever comes back from there: {"echo": "3"}. How many she may have sent in all
comes on standard input, one number a line; its end ends her.
"""

import asyncio
import json
import os
import sys

from slixmpp import ClientXMPP

PEER, TCP = os.environ["PEER"], os.environ["TCP"]
WINDOW = 5  # messages without an answer


def say(**line):
    print(json.dumps(line), flush=True)


class Juliet(ClientXMPP):
    def __init__(self):
        super().__init__(os.environ["JID"], os.environ["PASSWORD"])
        self.ca_certs = os.environ["CA"]
        self.enable_direct_tls = False  # slixmpp would try it first, on any port
        self.enable_plaintext = False
        self.register_plugin("xep_0198")
        self.register_plugin("xep_0199")
        self.sent, self.echoes, self.may = 0, set(), 0
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.message)
        self.add_event_handler("failed_all_auth", lambda _: say(failed="login"))
        self.add_event_handler("disconnected", lambda why: say(disconnected=str(why)))

    async def start(self, _):
        self.send_presence()
        say(started=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            self.may = int(line)
            self.go()
        self.disconnect()
        await self.disconnected
        os._exit(0)

    def message(self, m):
        if m["type"] == "error":
            return say(error=m["error"]["condition"])
        if m["from"].bare != PEER or not m["body"].startswith("echo: "):
            return say(strange=str(m))
        number = m["body"].removeprefix("echo: ").strip()
        self.echoes.add(number)
        say(echo=number)
        self.go()

    def go(self):
        while self.sent < self.may and self.sent - len(self.echoes) < WINDOW:
            self.sent += 1
            self.send_message(mto=PEER, mbody=str(self.sent), mtype="chat")


juliet = Juliet()
host, port = TCP.rsplit(":", 1)
juliet.connect(host, int(port))
juliet.loop.run_forever()
