"""What the server itself answers, and what it keeps for an account."""

import asyncio
import io
import ssl
import urllib.request
import xml.etree.ElementTree as ET
from datetime import datetime, timezone

from slixmpp.exceptions import IqError
from slixmpp.plugins import xep_0082
from slixmpp.plugins.xep_0363 import FileTooBig

from harness import DOMAIN, SERVER, Client, check, step

ROMEO = SERVER["accounts"]["romeo"]["jid"]
JULIET = SERVER["accounts"]["juliet"]["jid"]

FEATURES = {
    "http://jabber.org/protocol/disco#info",
    "jabber:iq:last",
    "jabber:iq:private",
    "jabber:iq:version",
    "msgoffline",
    "urn:xmpp:blocking",
    "urn:xmpp:carbons:2",
    "urn:xmpp:ping",
    "urn:xmpp:time",
    "vcard-temp",
}


async def run():
    romeo = Client("romeo", "services")
    juliet = Client("juliet", "services")
    async with step("services.login"):
        await romeo.login()
        await juliet.login()
    features = await discovery(romeo)
    await answers(romeo)
    await storage(romeo, juliet)
    await blocking(romeo, juliet)
    await uploads(romeo)
    await registration(romeo, features)
    await romeo.logout()
    await juliet.logout()


async def discovery(romeo):
    features = set()
    disco = romeo.plugin["xep_0030"]
    async with step("disco.server-info") as s:
        info = (await disco.get_info(jid=DOMAIN))["disco_info"]
        features = set(info["features"])
        identities = {(i[0], i[1]) for i in info["identities"]}
        check(("server", "im") in identities, f"identities {identities}")
        s.detail = " ".join(sorted(features))
        lacking = FEATURES - features
        check(not lacking, f"lacking {sorted(lacking)}; has {s.detail}")

    async with step("disco.account-info"):
        info = (await disco.get_info(jid=ROMEO))["disco_info"]
        identities = {(i[0], i[1]) for i in info["identities"]}
        check(("account", "registered") in identities, f"identities {identities}")

    async with step("disco.server-items"):
        items = await disco.get_items(jid=DOMAIN)
        check(items["type"] == "result", items)
    return features


async def answers(romeo):
    async with step("ping.server") as s:
        s.detail = f"{await romeo.plugin['xep_0199'].ping(DOMAIN):.4f} s"

    async with step("ping.own-account"):
        await romeo.plugin["xep_0199"].ping(ROMEO)

    async with step("version.server") as s:
        version = (await romeo.plugin["xep_0092"].get_version(DOMAIN))["software_version"]
        check(version["name"] and version["version"], version)
        s.detail = f"{version['name']} {version['version']}"

    async with step("time.server") as s:
        result = await romeo.plugin["xep_0202"].get_entity_time(DOMAIN)
        # The text itself: slixmpp 1.17 appends a second Z to 'utc'.
        s.detail = result.xml.findtext(".//{urn:xmpp:time}utc")
        check(s.detail.endswith("Z"), s.detail)
        check(abs((xep_0082.parse(s.detail) - datetime.now(timezone.utc)).total_seconds()) < 60, s.detail)
        check(result.xml.findtext(".//{urn:xmpp:time}tzo"), result)

    async with step("last.server-uptime") as s:
        last = await romeo.plugin["xep_0012"].get_last_activity(DOMAIN)
        s.detail = f"{last['last_activity']['seconds']} s"
        check(0 <= last["last_activity"]["seconds"] < 3600, s.detail)

    async with step("last.refused-without-subscription") as s:
        c = await Client("juliet", "stranger").login()
        iq = c.make_iq_get(queryxmlns="jabber:iq:last", ito="rest-sender@" + DOMAIN)
        try:
            await iq.send()
            check(False, "a stranger learns when the account was last here")
        except IqError as e:
            # XEP-0012 §3 says forbidden; RFC 6121 §11 would rather have the answer
            # that strangers get about nobody.
            s.detail = e.iq["error"]["condition"]
            check(s.detail in ("forbidden", "service-unavailable"), e.iq)
        finally:
            await c.logout()


async def storage(romeo, juliet):
    async with step("vcard.set-and-get"):
        plugin = romeo.plugin["xep_0054"]
        card = plugin.make_vcard()
        card["FN"] = "Romeo <Montague> & 💘"
        card["NICKNAME"] = "Romeo"
        await plugin.publish_vcard(card)
        own = await plugin.get_vcard(cached=False)
        check(own["vcard_temp"]["FN"] == "Romeo <Montague> & 💘", own)
        seen = await juliet.plugin["xep_0054"].get_vcard(ROMEO, cached=False)
        check(seen["vcard_temp"]["FN"] == "Romeo <Montague> & 💘", seen)

    async with step("private.set-and-get"):
        value = "<storage xmlns='urn:example:interop'><rose thorn='&lt;'>by any other name 🌹</rose></storage>"
        iq = romeo.make_iq_set()
        query = ET.SubElement(iq.xml, "{jabber:iq:private}query")
        query.append(ET.fromstring(value))
        await iq.send()

        iq = romeo.make_iq_get()
        query = ET.SubElement(iq.xml, "{jabber:iq:private}query")
        ET.SubElement(query, "{urn:example:interop}storage")
        result = await iq.send()
        rose = result.xml.find(".//{urn:example:interop}rose")
        check(rose is not None and rose.text == "by any other name 🌹" and rose.get("thorn") == "<", result)

    async with step("private.empty"):
        iq = romeo.make_iq_get()
        query = ET.SubElement(iq.xml, "{jabber:iq:private}query")
        ET.SubElement(query, "{urn:example:never-stored}storage")
        result = await iq.send()
        stored = result.xml.find(".//{urn:example:never-stored}storage")
        check(stored is not None and len(stored) == 0, result)  # XEP-0049 §2.2


async def blocking(romeo, juliet):
    plugin = romeo.plugin["xep_0191"]
    other = Client("romeo", "other-device")

    def push(kind):
        def match(s):
            found = s.name == "iq" and s["type"] == "set" and s.xml.find("{urn:xmpp:blocking}" + kind)
            return found is not None and found is not False

        return match

    async with step("blocking.block-and-push"):
        await other.login()
        for c in (romeo, other):
            await c.plugin["xep_0191"].get_blocked()  # asking makes a resource interested
        await plugin.block(JULIET)
        await other.expect(push("block"), "block push")
        blocked = await plugin.get_blocked()
        check(JULIET in str(blocked), blocked)

    async with step("blocking.message-refused"):
        sent = juliet.make_message(mto=ROMEO, mbody="let me in", mtype="chat")
        sent["id"] = juliet.new_id()
        sent.send()
        # XEP-0191 §3.2: the sender learns service-unavailable, as of nobody.
        got = await juliet.message(lambda m: m["id"] == sent["id"] and m["type"] == "error", "error")
        check(got["error"]["condition"] == "service-unavailable", got)
        await romeo.quiet(lambda m: m.name == "message" and m["body"] == "let me in", "a blocked message")

    async with step("blocking.own-message-not-acceptable"):
        sent = romeo.make_message(mto=JULIET, mbody="I should not", mtype="chat")
        sent["id"] = romeo.new_id()
        sent.send()
        got = await romeo.message(lambda m: m["id"] == sent["id"] and m["type"] == "error", "error")
        check(got["error"]["condition"] == "not-acceptable", got)
        check(got.xml.find(".//{urn:xmpp:blocking:errors}blocked") is not None, got)

    async with step("blocking.unblock"):
        await plugin.unblock(JULIET)
        await other.expect(push("unblock"), "unblock push")
        juliet.send_message(mto=romeo.boundjid.full, mbody="let me in now", mtype="chat")
        await romeo.message(lambda m: m["body"] == "let me in now")
        blocked = await plugin.get_blocked()
        check(JULIET not in str(blocked), blocked)
    await other.logout()


async def uploads(romeo):
    text = ("Did my heart love till now? " * 1000).encode()
    async with step("upload.file") as s:
        url = await romeo.plugin["xep_0363"].upload_file(
            "Capulet's garden, évening.txt", content_type="text/plain", input_file=io.BytesIO(text), size=len(text)
        )
        s.detail = url
        trust = ssl.create_default_context(cafile=SERVER["ca"])
        with await asyncio.to_thread(urllib.request.urlopen, url, context=trust) as answer:
            kind = answer.headers.get_content_type()
            check(kind == "text/plain", f"content type {kind}")
            check(answer.read() == text, "other octets came back")
        part = urllib.request.Request(url, headers={"Range": "bytes=4-6"})
        with await asyncio.to_thread(urllib.request.urlopen, part, context=trust) as answer:
            got = answer.read()
            # RFC 9110 §14.2: a server may ignore ranges.
            check((answer.status, got) in ((206, b"my "), (200, text)), f"range: {answer.status} {got[:20]}")

    async with step("upload.too-large") as s:
        try:
            await romeo.plugin["xep_0363"].upload_file("a.bin", size=1 << 50, input_file=io.BytesIO(b""))
            check(False, "a slot for 1 PiB")
        except FileTooBig as e:  # found out from the disco form
            s.detail = str(e)
        service = await romeo.plugin["xep_0363"].find_upload_service()
        try:
            await romeo.plugin["xep_0363"].request_slot(service["from"], "a.bin", 1 << 50)
            check(False, "a slot for 1 PiB")
        except IqError as e:
            check(e.condition == "not-acceptable", e.condition)


async def registration(romeo, features):
    if "jabber:iq:register" not in features:
        return
    async with step("register.password-change"):
        new = "changed <&> " + SERVER["accounts"]["romeo"]["password"]
        await romeo.plugin["xep_0077"].change_password(new, jid=DOMAIN)
        offered = romeo.plugin["feature_mechanisms"].mech_list
        for mechanism in [m for m in offered if m.startswith("SCRAM-") and not m.endswith("-PLUS")]:
            c = await Client("romeo", "new", password=new, mechanism=mechanism).login(presence=False)
            await c.logout()
        old = Client("romeo", "old")
        outcome = await old.attempt()
        check(outcome != "session", "the old password still works")
        await old.logout()

    async with step("register.new-account"):
        await new_account()


async def new_account():
    """XEP-0077 in the stream, before SASL, then removal of the account."""
    local, password = "slixmpp-newcomer", "brand new"
    c = Client("romeo", "new", local=local, password=password)
    c.plugin["xep_0077"].create_account = True
    c.plugin["xep_0077"].force_registration = True

    async def register(_):
        iq = c.make_iq_set()
        iq["register"]["username"] = local
        iq["register"]["password"] = password
        await iq.send()

    c.add_event_handler("register", register)
    await c.login(presence=False)
    check(c.boundjid.bare == f"{local}@{DOMAIN}", c.boundjid)
    iq = c.make_iq_set()
    iq["register"]["remove"] = True
    await iq.send()
    await c.logout()
    gone = Client("romeo", "new", local=local, password=password)
    outcome = await gone.attempt()
    check(outcome != "session", "a removed account can log in")
    await gone.logout()
