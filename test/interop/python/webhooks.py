"""Webhooks, received with aiohttp and verified by what a receiver would take: the
reference library of Standard Webhooks for HMAC, PyNaCl for ed25519.
"""

import asyncio
import base64
import logging
import secrets
import sys
from datetime import datetime, timedelta, timezone

import nacl.exceptions
import nacl.signing
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import harness
from harness import SERVER, STEP_TIMEOUT, check, step
from rest import REST

NAME = "interop-python"
ROMEO = SERVER["accounts"]["romeo"]["jid"]


class Receiver:
    """An endpoint that keeps what is posted and answers as it is told."""

    def __init__(self):
        self.posts = asyncio.Queue()
        self.answers = []  # statuses of the next answers; 204 when there is none

    async def start(self):
        app = web.Application()
        app.router.add_post("/hook", self._post)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}/hook"

    async def _post(self, request):
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 204
        logging.info("POST %s %s -> %d", dict(request.headers), body, status)
        await self.posts.put(({k.lower(): v for k, v in request.headers.items()}, body))
        return web.Response(status=status)

    async def next(self):
        return await asyncio.wait_for(self.posts.get(), STEP_TIMEOUT - 5)


def refused(call, *arguments):
    try:
        call(*arguments)
    except WebhookVerificationError as e:
        return str(e)
    raise harness.Failed("the signature was taken")


async def send(sender, body, **headers):
    return await sender.call("POST", "/messages", {"to": ROMEO, "body": body}, status=202, headers=headers)


async def run():
    admin, sender, receiver = REST(), REST(SERVER["token"]), Receiver()
    url = await receiver.start()

    async def put(**changed):
        hook = {"url": url, "watch": [ROMEO], "types": ["message", "test"], "allow_private": True} | changed
        return await admin.call("PUT", "/webhooks/" + NAME, hook)

    async with step("webhook.made"):
        made = await put()
        first = made["secret"]
        check(first.startswith("whsec_") and "secret" not in await admin.call("GET", "/webhooks/" + NAME), made)

    async with step("hmac.verified") as s:
        sent = await send(sender, "Art thou not Romeo? <&> 🌹")
        headers, body = await receiver.next()
        event = Webhook(first).verify(body, headers)
        check(event["type"] == "message" and event["data"]["body"] == "Art thou not Romeo? <&> 🌹", event)
        check(event["data"]["id"] == sent["id"] and event["data"]["to"] == ROMEO, event)
        check(event["id"] == headers["webhook-id"], headers)
        s.detail = headers["webhook-signature"]

    async with step("hmac.tampered-refused"):
        refused(Webhook(first).verify, body.replace(b"Romeo", b"Tybalt"), headers)
        refused(Webhook(first).verify, body, headers | {"webhook-id": "evt_1"})
        then = datetime.now(timezone.utc) - timedelta(minutes=1)
        refused(Webhook(first).verify, body, headers | {"webhook-timestamp": str(int(then.timestamp()))})

    second = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    async with step("hmac.two-keys-during-rotation"):
        await put(keys=[made["keys"][0]["id"], second])
        await send(sender, "signed twice")
        headers, body = await receiver.next()
        check(len(headers["webhook-signature"].split()) == 2, headers)
        for secret in (first, second):
            check(Webhook(secret).verify(body, headers)["data"]["body"] == "signed twice", secret)

    async with step("hmac.old-key-gone"):
        await put(keys=[second])
        await send(sender, "signed by the new key")
        headers, body = await receiver.next()
        Webhook(second).verify(body, headers)
        refused(Webhook(first).verify, body, headers)

    async with step("ed25519.verified") as s:
        pair = nacl.signing.SigningKey.generate()
        whole = pair.encode() + pair.verify_key.encode()
        await put(keys=[second, "whsk_" + base64.b64encode(whole).decode()])
        shown = await admin.call("GET", "/webhooks/" + NAME)
        public = [k["id"] for k in shown["keys"] if k["scheme"] == "ed25519"]
        check(len(public) == 1 and public[0].startswith("whpk_"), shown)
        s.detail = public[0]
        await send(sender, "signed by a key pair")
        headers, body = await receiver.next()
        Webhook(second).verify(body, headers)  # it passes over the other scheme
        signature = [v for v in headers["webhook-signature"].split() if v.startswith("v1a,")]
        check(len(signature) == 1, headers)
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = nacl.signing.VerifyKey(base64.b64decode(public[0].removeprefix("whpk_")))
        check(key == pair.verify_key, "REST shows another public key")
        key.verify(signed, base64.b64decode(signature[0].removeprefix("v1a,")))
        try:
            key.verify(signed + b" ", base64.b64decode(signature[0].removeprefix("v1a,")))
            check(False, "a changed body was taken")
        except nacl.exceptions.BadSignatureError:
            pass

    async with step("retry.same-id-and-fresh-signature") as s:
        receiver.answers = [503]
        await send(sender, "again, please")
        before, body = await receiver.next()
        after, again = await receiver.next()
        check(before["webhook-id"] == after["webhook-id"] and body == again, (before, after))
        Webhook(second).verify(again, after)
        s.detail = f"{before['webhook-timestamp']} {after['webhook-timestamp']}"

    async with step("trace.goes-on") as s:
        trace = secrets.token_hex(16)
        await send(sender, "in a trace", traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")
        headers, _ = await receiver.next()
        s.detail = headers.get("traceparent", "none")
        check(s.detail.split("-")[:2] == ["00", trace], headers)

    async with step("webhook.test-delivery"):
        trial = await admin.call("POST", f"/webhooks/{NAME}/test")
        headers, body = await receiver.next()
        check(Webhook(second).verify(body, headers)["type"] == "test", body)
        check(trial["status"] == 204, trial)

    async with step("webhook.delivery-log") as s:
        for _ in range(100):  # the last row is written a moment after the answer
            log = (await admin.call("GET", f"/webhooks/{NAME}/deliveries"))["items"]
            if len(log) >= 6 and all(d["state"] == "delivered" for d in log):
                break
            await asyncio.sleep(0.05)
        s.detail = str([(d["state"], d["attempts"]) for d in log])
        check(sorted(d["attempts"] for d in log) == [1, 1, 1, 1, 1, 2], s.detail)

    async with step("webhook.removed"):
        await admin.call("DELETE", "/webhooks/" + NAME)
        await send(sender, "for nobody")
        await admin.call("GET", "/webhooks/" + NAME, status=404)
        check(receiver.posts.empty(), "it goes on posting")

    await receiver.runner.cleanup()
    await admin.close()
    await sender.close()


asyncio.run(run())
sys.exit(1 if harness.failures else 0)
