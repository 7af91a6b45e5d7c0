"""Profanity for TestSurvival: stream management and carbons over TCP. What it
receives is read from its own log, and what a person sees from the screen."""

import json
import os
import re
import sys
import tempfile
import threading
import time
import traceback
import xml.etree.ElementTree as ET

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))

from survivor import describe, report, say  # noqa: E402
from terminal import Failed, Profanity  # noqa: E402

STANZAS = ("message", "presence", "iq")


class Log:
    """Profanity's log, followed by a thread: an element each time one was received or sent."""

    ENTRY = re.compile(r"\b(RECV|SENT): (<[a-z])")

    def __init__(self, profanity, received):
        self.profanity, self.received = profanity, received
        self.elements = []  # (direction, name, element)
        self.changed = threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        done = 0
        while True:
            text = self.profanity.wire()
            while entry := self.ENTRY.search(text, done):
                following = self.ENTRY.search(text, entry.end())
                element = self._element(text[entry.start(2) : following.start() if following else len(text)])
                if element is None and not following:
                    break  # not written out yet
                done = entry.end()
                if element is not None:
                    self._take(entry[1], element)
            time.sleep(0.02)  # a file cannot be waited on

    @staticmethod
    def _element(text):
        """The first element of text, or None: a stream header, or half an element."""
        parser = ET.XMLPullParser(["start", "end"])
        parser.feed("<log xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
        depth = 0
        for line in text.split("\n"):
            try:
                parser.feed(line + "\n")
            except ET.ParseError:
                return None
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1:
                    return element
        return None

    def _take(self, direction, element):
        with self.changed:
            self.elements.append((direction, element.tag.split("}")[-1], element))
            self.changed.notify_all()
        if direction == "RECV":
            self.received(element)

    def wait(self, direction, match, what, since=0):
        """The position after the first element that matches, and the element."""
        with self.changed:
            deadline = time.monotonic() + 18
            at = since
            while True:
                while at < len(self.elements):
                    found, _, element = self.elements[at]
                    at += 1
                    if found == direction and match(element):
                        return at, element
                if not self.changed.wait(deadline - time.monotonic()):
                    raise Failed(f"no {what}; screen:\n{self.profanity.screen()}")


def named(name):
    return lambda element: element.tag.split("}")[-1] == name


class Survivor:
    def __init__(self, directory):
        self.p = Profanity(directory, "juliet", rows=300)  # the whole conversation at once
        self.log = Log(self.p, self._received)
        self.resumptions = 0  # where in the log the last one is
        self.logins = 0

    def _received(self, element):
        if named("message")(element) and (message := describe(element)) is not None:
            report(message)

    def connect(self, order):
        if not self.resumptions:
            return self._first()
        since = self.resumptions
        self.resumptions, _ = self.log.wait("RECV", named("resumed"), "<resumed/>", since)
        self._logged_in()
        return {"jid": self.p.jid, "resumed": True, "login": []}

    def _first(self):
        for line in ("/reconnect 1", "/carbons on", "/outtype off", "/receipts send off", "/mam off"):
            self.p.type(line)
        self.p.connect()
        self._logged_in()
        self.resumptions, enabled = self.log.wait("RECV", named("enabled"), "<enabled/>")
        self.since, self.session = self.resumptions, enabled.get("id")
        carbons = lambda e: e.find("{urn:xmpp:carbons:2}enable") is not None  # noqa: E731
        at, asked = self.log.wait("SENT", carbons, "request for carbons")
        self.log.wait("RECV", lambda e: e.get("id") == asked.get("id"), "carbons", at)
        return {"jid": f"{self.p.jid}/profanity", "pids": [self.p.pid()]}

    def _logged_in(self):
        """Waits until profanity knows what the server can do, and so takes all orders."""
        self.logins += 1
        said = "connection_features_received"
        self.p.poll(lambda: self.p.wire().count(said) >= self.logins, said)

    def send(self, order):
        self.p.type("/msg " + order["to"])
        for body in order["bodies"]:
            self.p.type(body)
            said = lambda e: e.findtext("{jabber:client}body") == body  # noqa: B023, E731
            self.log.wait("SENT", said, body)

    def sync(self, _):
        since = len(self.log.elements)
        self.p.type("/ping")
        at, ping = self.log.wait("SENT", lambda e: e.find("{urn:xmpp:ping}ping") is not None, "ping", since)
        self.log.wait("RECV", lambda e: e.get("id") == ping.get("id"), "answer to the ping", at)

    def state(self, _):
        with self.log.changed:
            count = sum(d == "RECV" and name in STANZAS for d, name, _ in self.log.elements[self.since :])
        return {"session": self.session, "received": count}

    def shown(self, order):
        """The bodies in the window of the conversation, from top to bottom."""
        wanted = {body[:4]: body for body in order["bodies"]}
        self.p.type("/msg " + order["to"])
        self.p.wait_for(*wanted)
        codes = re.findall(r"\b[jnr]\d{3}\b", self.p.screen())
        return {"shown": [wanted.get(code, code) for code in codes]}

    def end(self):
        if not self.p.ended():  # it may have been killed
            self.p.close()


def main():
    with tempfile.TemporaryDirectory(prefix="profanity-") as directory:
        survivor = Survivor(directory)
        for line in sys.stdin:
            order = json.loads(line)
            print("=====", order["do"], file=sys.stderr, flush=True)
            answer = {"number": order["number"]}
            try:
                answer.update(getattr(survivor, order["do"])(order) or {})
            except Exception as e:  # whatever went wrong, the order was not obeyed
                traceback.print_exc()
                answer["error"] = f"{type(e).__name__}: {e}"
            say(answer)
        survivor.end()


main()
