"""Clients, steps and expectations for the slixmpp tests.

A step is one line of JSON on standard output; standard error carries the wire
log. Nothing here turns certificate verification off.
"""

import asyncio
import contextlib
import json
import logging
import os
import ssl
import sys
import traceback

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError

SERVER = json.loads(os.environ["INTEROP_SERVER"])
DOMAIN = SERVER["domain"]

# slixmpp uploads with aiohttp, which chooses whom to trust when it is imported. XMPP
# connections have their own ca_certs, and must not trust more than that.
os.environ["SSL_CERT_FILE"] = SERVER["ca"]
import aiohttp  # noqa: E402, F401

del os.environ["SSL_CERT_FILE"]

STEP_TIMEOUT = 20  # seconds; generous, the machine may be busy

logging.basicConfig(
    stream=sys.stderr, level=logging.DEBUG, format="%(relativeCreated)06d %(name)s %(message)s"
)
logging.getLogger("asyncio").setLevel(logging.INFO)

failures = 0


class Failed(Exception):
    """A step found something else than it should have."""


def check(condition, what):
    if not condition:
        raise Failed(what)


class Step:
    def __init__(self):
        self.detail = ""


@contextlib.asynccontextmanager
async def step(name, timeout=STEP_TIMEOUT):
    """Reports the block's outcome; a failure does not end the script."""
    global failures
    logging.info("===== %s", name)
    result, ok = Step(), True
    try:
        async with asyncio.timeout(timeout):
            yield result
    except Exception as e:  # whatever went wrong, the step has failed
        traceback.print_exc()
        detail = str(e)
        if isinstance(e, IqError):
            detail = "error " + e.iq["error"]["condition"]
        result.detail = f"{type(e).__name__}: {detail}"
        ok = False
        failures += 1
    print(json.dumps({"step": name, "ok": ok, "detail": result.detail}), flush=True)


PLUGINS = {
    "xep_0012": {},  # last activity
    "xep_0030": {},  # service discovery
    "xep_0049": {},  # private XML
    "xep_0054": {},  # vcard-temp
    "xep_0077": {},  # registration
    "xep_0092": {"software_name": "interop", "version": "1"},
    "xep_0191": {},  # blocking
    "xep_0199": {},  # ping
    "xep_0202": {},  # entity time
    "xep_0203": {},  # delayed delivery
    "xep_0280": {},  # carbons
    "xep_0363": {},  # file upload
}


class Client(ClientXMPP):
    """One resource of one account, with an inbox that steps wait on."""

    def __init__(self, role, resource, *, password=None, mechanism=None, local=None, plugins=PLUGINS):
        user = SERVER["accounts"][role]
        bare = f"{local}@{DOMAIN}" if local else user["jid"]
        super().__init__(f"{bare}/{resource}" if resource else bare, password or user["password"], sasl_mech=mechanism)
        self.ca_certs = SERVER["ca"]
        self.enable_direct_tls = False  # slixmpp would try it first, on any port
        self.enable_plaintext = False
        self.auto_authorize = None
        self.auto_subscribe = None
        for name, config in plugins.items():
            self.register_plugin(name, config)
        # The registration plugin would otherwise answer the stream feature.
        self.plugin["xep_0077"].create_account = False
        self.inbox = []
        self.arrived = asyncio.Event()
        self.conditions = []  # of SASL failures
        self.outcome = asyncio.get_running_loop().create_future()
        self.add_filter("in", self._keep)
        self.add_event_handler("session_start", lambda _: self._settle("session"))
        self.add_event_handler("failed_all_auth", lambda _: self._settle("failed-auth"))
        self.add_event_handler("failed_auth", lambda s: self.conditions.append(s["condition"]))
        self.add_event_handler("disconnected", lambda why: self._settle(f"disconnected: {why}"))

    def _settle(self, outcome):
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def _keep(self, stanza):
        if stanza.name in ("message", "presence", "iq"):
            self.inbox.append(stanza)
            self.arrived.set()
        return stanza

    async def attempt(self, address=None):
        """Connects and returns what came of it: "session" or a reason."""
        host, port = (address or SERVER["tcp"]).rsplit(":", 1)
        self.connect(host, int(port))
        return await self.outcome

    async def login(self, address=None, presence=True):
        outcome = await self.attempt(address)
        check(outcome == "session", f"{self.requested_jid}: {outcome} {self.conditions}")
        if presence:
            self.send_presence()
            own = self.boundjid.full  # RFC 6121 §4.2.2: own resources see it too
            await self.expect(lambda s: s.name == "presence" and s["from"].full == own, "own presence")
        return self

    async def logout(self):
        self.cancel_connection_attempt()
        if self.is_connected():
            await self.disconnect()

    async def expect(self, match, what, timeout=STEP_TIMEOUT - 5):
        """Returns, and takes out of the inbox, the first stanza that matches."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for i, stanza in enumerate(self.inbox):
                        if match(stanza):
                            return self.inbox.pop(i)
                    self.arrived.clear()
                    await self.arrived.wait()
        except TimeoutError:
            seen = "\n".join(str(s) for s in self.inbox)
            raise Failed(f"{self.boundjid} got no {what}; it has:\n{seen}") from None

    async def message(self, match, what="message"):
        return await self.expect(lambda s: s.name == "message" and match(s), what)

    async def presence(self, type_, bare, what=None, timeout=STEP_TIMEOUT - 5):
        return await self.expect(
            lambda s: s.name == "presence" and s.xml.get("type") == type_ and s["from"].bare == bare,
            what or f"presence {type_ or 'available'} from {bare}",
            timeout,
        )

    async def push(self, bare, subscription=None, ask=None):
        """A roster push (RFC 6121 §2.1.6) for one contact, in the state given."""

        def match(s):
            if s.name != "iq" or s["type"] != "set":
                return False
            for item in s.xml.iter("{jabber:iq:roster}item"):
                return item.get("jid") == bare and (
                    subscription is None
                    or (item.get("subscription", "none") == subscription and item.get("ask") == ask)
                )
            return False

        return await self.expect(match, f"roster push for {bare} {subscription} ask={ask}")

    async def quiet(self, match, what):
        """Checks that nothing of the kind has come, with a ping as the barrier."""
        await self.plugin["xep_0199"].ping(DOMAIN)
        found = [s for s in self.inbox if match(s)]
        check(not found, f"{self.boundjid} got {what}: {[str(s) for s in found]}")

    def tls(self):
        """The verified TLS connection, or an exception."""
        obj = self.transport.get_extra_info("ssl_object")
        check(obj is not None, "no TLS")
        check(obj.context.verify_mode == ssl.CERT_REQUIRED, "the certificate was not verified")
        check(obj.context.check_hostname, "the certificate's name was not verified")
        names = [v for _, v in obj.getpeercert()["subjectAltName"]]
        check(DOMAIN in names, f"certificate for {names}")
        return obj.version()

    def mechanism(self):
        return self.plugin["feature_mechanisms"].mech.name


async def refused(iq_coroutine, condition):
    """Checks that an iq is answered with the error condition."""
    try:
        await iq_coroutine
    except IqError as e:
        got = e.iq["error"]["condition"]
        check(got == condition, f"error {got}, want {condition}")
        return e.iq
    raise Failed(f"no error, want {condition}")
