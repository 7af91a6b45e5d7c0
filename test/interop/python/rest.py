"""The operator's side: REST requests, and a program that follows the event stream."""

import asyncio
import contextlib
import json
import logging

import httpx
import httpx_sse

from harness import SERVER, STEP_TIMEOUT, Failed, check


class REST:
    """One token's view of the interface."""

    def __init__(self, token=SERVER["admin"], base=SERVER["rest"]):
        self.token, self.base = token, base
        self.http = httpx.AsyncClient(
            headers={"Authorization": "Bearer " + token}, timeout=STEP_TIMEOUT, trust_env=False
        )

    async def call(self, method, path, body=None, *, status=None, **more):
        """Returns the answer's JSON; it has to be a success, or have the status."""
        if body is not None:
            more["json"] = body
        answer = await self.http.request(method, self.base + path, **more)
        logging.info("%s %s -> %d %s", method, path, answer.status_code, answer.text[:2000])
        good = answer.status_code == status if status else answer.is_success
        check(good, f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    async def token_for(self, name, *scopes):
        """A REST with a token of its own."""
        made = await self.call("POST", "/tokens", {"name": name, "scopes": list(scopes)}, status=201)
        return REST(made["secret"])

    async def close(self):
        await self.http.aclose()


class Follower:
    """A program that follows events with httpx-sse and keeps those it has not used."""

    def __init__(self, rest, **query):
        self.rest, self.query = rest, query
        self.inbox = []  # (server-sent event, its JSON or None)
        self.arrived = asyncio.Event()
        self.last = None  # the id of the last event
        self.task = None
        self.error = None

    async def start(self):
        """Connects, and returns when the server has answered."""
        answered = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(answered))
        await answered
        return self

    async def _run(self, answered):
        headers = {"Last-Event-ID": self.last} if self.last else {}
        try:
            async with httpx_sse.aconnect_sse(
                self.rest.http, "GET", self.rest.base + "/events", params=self.query, headers=headers, timeout=None
            ) as source:
                source.response.raise_for_status()
                answered.set_result(source.response)
                async for event in source.aiter_sse():
                    self.last = event.id
                    if not event.data:
                        # It moves the id on. HTML §9.2.6 lets nobody see it; httpx-sse does.
                        continue
                    data = None
                    with contextlib.suppress(ValueError):
                        data = json.loads(event.data)
                    logging.info("event %s %s %s", event.id, event.event, event.data[:1000])
                    self.inbox.append((event, data))
                    self.arrived.set()
        except Exception as e:
            self.error = e
            if not answered.done():
                answered.set_exception(e)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def ended(self):
        """Waits until the connection is lost; returns the exception, if any."""
        await self.task
        return self.error

    async def expect(self, what, match):
        """Takes the first event that matches; returns it and its JSON."""
        try:
            async with asyncio.timeout(STEP_TIMEOUT - 5):
                while True:
                    for i, (event, data) in enumerate(self.inbox):
                        if match(event, data):
                            return self.inbox.pop(i)
                    self.arrived.clear()
                    await self.arrived.wait()
        except TimeoutError:
            raise Failed(f"no {what}; there is {[e.data for e, _ in self.inbox]}") from None

    async def data(self, type_, **members):
        """Takes the first event of a type whose data has these members; returns its data."""
        _, found = await self.expect(
            f"{type_} with {members}",
            lambda e, d: e.event == type_ and all(d["data"].get(k) == v for k, v in members.items()),
        )
        return found["data"]
