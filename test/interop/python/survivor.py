"""Orders for a client that TestSurvival drives: one JSON line each on standard
input, one answered on standard output; messages are reported as they come. Standard
error carries the wire log.

An adapter has one coroutine per order. What it returns is merged into the answer.
"""

import asyncio
import json
import os
import sys
import threading
import traceback

SERVER = json.loads(os.environ["INTEROP_SERVER"])
JULIET = SERVER["accounts"]["juliet"]
DOMAIN = SERVER["domain"]
TIMEOUT = 20  # seconds for one order


def bare(jid):
    return str(jid).split("/", 1)[0]


_saying = threading.Lock()  # profanity's log is followed by a thread


def say(line):
    with _saying:
        print(json.dumps(line), flush=True)


def report(message):
    """Tells of a message: from, to, body, id and carbon, as in message of the Go side."""
    say({"message": message})


# Elements are read with ElementTree's names, whatever library brought them.

CARBONS = "{urn:xmpp:carbons:2}"
FORWARDED = "{urn:xmpp:forward:0}forwarded"
MESSAGE = "{jabber:client}message"
BODY = "{jabber:client}body"


def describe(xml, account=JULIET["jid"]):
    """The neutral form of a <message/>, or None when it has no body."""
    carbon = ""
    for kind in ("sent", "received"):
        copy = xml.find(CARBONS + kind)
        if copy is not None:
            carbon = kind
            xml = copy.find(FORWARDED).find(MESSAGE)
    body = xml.find(BODY)
    if body is None:
        return None
    ids = [e.get("id") for e in xml.findall("{urn:xmpp:sid:0}stanza-id") if e.get("by") == account]
    return {
        "from": bare(xml.get("from", account)),
        "to": bare(xml.get("to", account)),
        "body": body.text,
        "id": ids[0] if ids else "",
        "carbon": carbon,
    }


async def serve(adapter):
    """Obeys orders until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        print("=====", order["do"], file=sys.stderr, flush=True)
        answer = {"number": order["number"]}
        try:
            async with asyncio.timeout(TIMEOUT):
                answer.update(await getattr(adapter, order["do"])(order) or {})
        except Exception as e:  # whatever went wrong, the order was not obeyed
            traceback.print_exc()
            answer["error"] = f"{type(e).__name__}: {e}"
        say(answer)
