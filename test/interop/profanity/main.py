"""Two people in two profanities, over TCP with STARTTLS."""

import json
import sys
import tempfile
import urllib.request

import terminal
from terminal import DOMAIN, SERVER, Failed, Profanity, step

BODIES = (
    "Art thou not Romeo, and a Montague?",
    "<b>&amp; \"quotes\" 'apostrophes' ]]> & more</b>",
    "Ünïcödé — Ζεύς, 漢字",
    "🚀 and 🌹",
)


def run(directory):
    @step("tls.untrusted-refused")
    def _():
        p = Profanity(directory, "romeo", ca="other_ca")
        p.connect()
        p.wait_for("TLS certificate verification failed")
        p.type("/tls deny")
        p.wait_for("Aborting connection.")
        p.close()
        if "<auth" in p.wire():
            raise Failed("it sent credentials over TLS it did not trust")

    @step("login.wrong-password")
    def _():
        p = Profanity(directory, "romeo", password="not the password")
        p.connect()
        p.wait_for("Login failed.")
        failure = p.wait_wire(r"RECV: (<failure .*?</failure>)").group(1)
        p.close()
        if "<not-authorized" not in failure:
            raise Failed(failure)

    romeo = Profanity(directory, "romeo")
    juliet = Profanity(directory, "juliet")
    try:
        conversation(romeo, juliet)
    finally:
        terminal_ends(romeo, juliet)


def conversation(romeo, juliet):
    @step("login")
    def _():
        for p in (romeo, juliet):
            p.connect()
            p.wait_for(f"{p.jid}/profanity logged in successfully")
            if "verification failed" in p.screen():
                raise Failed("the certificate was not trusted")
        return romeo.wait_wire(r'SENT: <auth [^>]*mechanism="([^"]+)"').group(1)

    if terminal.failures:
        return  # nothing else can be tried

    @step("roster.add")
    def _():
        romeo.type(f"/roster add {juliet.jid} Juliet")
        romeo.wait_for(f"Roster item added: {juliet.jid}")

    for name, a, b in (
        ("subscription.romeo-to-juliet", romeo, juliet),
        ("subscription.juliet-to-romeo", juliet, romeo),
    ):

        @step(name)
        def _(a=a, b=b):
            a.type(f"/sub request {b.jid}")
            b.wait_for(f"Received authorization request from {a.jid}")
            b.type(f"/sub allow {a.jid}")
            b.wait_for(f"Accepted subscription for {a.jid}")
            a.wait_wire(rf"RECV: <presence [^>]*from=\"{b.jid}/profanity\"")

    @step("presence.change-seen")
    def _():
        juliet.type('/status set dnd "wherefore & <why>"')
        romeo.wait_for("is dnd", "wherefore & <why>")

    for name, a, b in (("chat.romeo-to-juliet", romeo, juliet), ("chat.juliet-to-romeo", juliet, romeo)):

        @step(name)
        def _(a=a, b=b):
            a.type(f"/msg {b.jid}")
            b.type(f"/msg {a.jid}")
            for body in BODIES:
                a.type(body)
                b.wait_for(body)
            for p in (a, b):
                p.type("/win 1")

    @step("rest.message")
    def _():
        body = "from a backend: <&> 🚦"
        request = urllib.request.Request(
            SERVER["rest"] + "/messages",
            json.dumps({"to": juliet.jid, "type": "chat", "body": body}).encode(),
            {"Authorization": "Bearer " + SERVER["token"], "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            if answer.status != 202:
                raise Failed(f"status {answer.status}")
        juliet.wait_wire(r"RECV: <message [^>]*from=\"" + SERVER["sender"])
        juliet.type("/msg " + SERVER["sender"])
        juliet.wait_for(body)
        juliet.type("/win 1")

    @step("error.message-to-unknown-user")
    def _():
        nobody = "nobody-of-this-name@" + DOMAIN
        romeo.type(f"/msg {nobody} hello?")
        romeo.wait_wire(rf"RECV: <message [^>]*from=\"{nobody}\".*?<service-unavailable")
        romeo.type("/win 1")

    @step("disco.server-info")
    def _():
        romeo.type("/disco info " + DOMAIN)
        romeo.wait_for("Service discovery info for " + DOMAIN, "http://jabber.org/protocol/disco#info")

    @step("ping.server")
    def _():
        romeo.type("/ping")
        romeo.wait_for("Ping response from")  # "server" or the own account: both stand for it

    @step("ping.contact")
    def _():
        romeo.type(f"/ping {juliet.jid}/profanity")
        romeo.wait_for(f"Ping response from {juliet.jid}/profanity")

    @step("last.server-uptime")
    def _():
        romeo.type("/lastactivity get")
        romeo.wait_for(DOMAIN + " up since")

    @step("blocking")
    def _():
        romeo.type("/blocked add " + juliet.jid)
        romeo.wait_for(f"User {juliet.jid} successfully blocked.")
        romeo.type("/blocked")
        romeo.wait_for("Blocked users:")
        romeo.type("/blocked remove " + juliet.jid)
        romeo.wait_for(f"User {juliet.jid} successfully unblocked.")


def terminal_ends(romeo, juliet):
    @step("quit")
    def _():
        juliet.close()
        romeo.wait_for("Juliet (profanity) is offline")
        romeo.close()


with tempfile.TemporaryDirectory(prefix="profanity-") as directory:
    run(directory)
sys.exit(1 if terminal.failures else 0)
