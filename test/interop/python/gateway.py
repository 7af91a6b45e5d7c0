"""A gateway domain, used with slixmpp and served by a program that has REST and the
event stream. The order of things is that of XEP-0100 §4.
"""

import asyncio
import sys
import xml.etree.ElementTree as ET

import harness
from harness import DOMAIN, SERVER, Client, check, refused, step
from rest import REST, Follower

GATEWAY = "sms." + DOMAIN
CONTACT = "+15551234@" + GATEWAY
PLUGINS = harness.PLUGINS | {"xep_0004": {}, "xep_0050": {}, "xep_0085": {}, "xep_0184": {"auto_ack": False}}
DEFINITION = {
    "type": "sms",
    "name": "Text messages",
    "prompt": "Telephone number",
    "description": "Please enter the telephone number of the person.",
    "registration": {
        "instructions": "Your number, and the password of your contract.",
        "fields": [
            {"name": "phone", "label": "Number", "required": True},
            {"name": "password", "label": "Password", "kind": "secret", "required": True},
        ],
    },
    "registered_only": True,
    "capabilities": {"max_length": 160},
    "refuse_long": True,
}


def bare(role):
    return SERVER["accounts"][role]["jid"]


async def run():
    admin = REST()
    romeo = Client("romeo", "gateway", plugins=PLUGINS)
    juliet = Client("juliet", "gateway", plugins=PLUGINS)
    async with step("gateway.declared") as s:
        await romeo.login()
        await juliet.login()
        for user in (romeo, juliet):
            await user.get_roster()  # RFC 6121 §2.1.6: pushes are for those who asked
        got = await admin.call("PUT", "/gateways/" + GATEWAY, DEFINITION)
        check(got["name"] == "Text messages" and got["source"] == "api", got)
        program = await admin.token_for("sms", "send:" + GATEWAY, "read:" + GATEWAY)
        events = await Follower(program, host=GATEWAY).start()
        status = await program.call("GET", f"/gateways/{GATEWAY}/status")
        check(status["up"] and status["registrations"] == 0, status)
        s.detail = str(status)
    await discovery(romeo)
    await registration(romeo, juliet, program, events)
    await prompt(romeo)
    await contact(romeo, program, events)
    await chat(romeo, juliet, program, events)
    await loss(romeo, program, events)
    await ends(romeo, juliet, admin, program, events)
    await romeo.logout()
    await juliet.logout()
    await events.stop()
    await program.close()
    await admin.close()


async def discovery(romeo):
    disco = romeo.plugin["xep_0030"]
    async with step("disco.gateway-among-items"):
        items = (await disco.get_items(jid=DOMAIN))["disco_items"]["items"]
        check(any(i[0] == GATEWAY and i[2] == "Text messages" for i in items), items)

    async with step("disco.gateway-info") as s:
        info = (await disco.get_info(jid=GATEWAY))["disco_info"]
        check(("gateway", "sms", None, "Text messages") in info["identities"], info["identities"])
        s.detail = " ".join(sorted(info["features"]))
        lacking = {
            "http://jabber.org/protocol/disco#info", "jabber:iq:register", "jabber:iq:gateway",
            "http://jabber.org/protocol/commands", "urn:xmpp:ping", "jid\\20escaping",
        } - set(info["features"])  # fmt: skip
        check(not lacking, f"lacking {lacking}; has {s.detail}")

    async with step("ping.gateway"):
        await romeo.plugin["xep_0199"].ping(GATEWAY)


async def registration(romeo, juliet, program, events):
    async with step("register.needed-first") as s:
        romeo.send_message(mto=CONTACT, mbody="too early", mtype="chat")
        got = await romeo.message(lambda m: m["type"] == "error", "error of the message")
        s.detail = got["error"]["condition"]
        check(s.detail == "registration-required", got)  # XEP-0100 §4: only the registered

    async with step("register.form"):
        got = (await romeo.plugin["xep_0077"].get_registration(jid=GATEWAY))["register"]
        check({"phone", "password"} <= set(got["fields"]), got)
        check("contract" in got["instructions"], got)
        fields = {f["var"]: f["type"] for f in got["form"]["items"]} if "form" in got.interfaces else None
        check(fields is None or fields.get("password") == "text-private", fields)

    async with step("register.refused-without-a-field"):
        iq = romeo.make_iq_set(ito=GATEWAY)
        iq["register"]["phone"] = "15550000"
        await refused(iq.send(), "not-acceptable")  # XEP-0077 §3.1.1

    async with step("register.in-band"):
        iq = romeo.make_iq_set(ito=GATEWAY)
        iq["register"]["phone"] = "15550001"
        iq["register"]["password"] = "wherefore & <why>"
        await iq.send()
        told = await events.data("registration", user=bare("romeo"), change="registered")
        check(told["fields"] == {"phone": "15550001"} and told["secrets"] == ["password"], told)
        kept = await program.call("GET", f"/gateways/{GATEWAY}/registrations/{bare('romeo')}")
        check(kept["fields"] == {"phone": "15550001", "password": "wherefore & <why>"}, kept)
        await welcome(romeo)

    async with step("register.shown-without-secret"):
        got = (await romeo.plugin["xep_0077"].get_registration(jid=GATEWAY))["register"]
        check(got["registered"] and got["phone"] == "15550001" and not got["password"], got)

    async with step("register.ad-hoc") as s:
        plugin = juliet.plugin["xep_0050"]
        commands = (await plugin.get_commands(jid=GATEWAY))["disco_items"]["items"]
        s.detail = str(sorted(commands))
        node = next((c[1] for c in commands if c[1] == "register"), None)
        check(node, s.detail)
        iq = await plugin.send_command(GATEWAY, node)
        command = iq["command"]
        check(command["status"] == "executing", iq)
        form = command["form"]
        check({"phone", "password"} <= set(form.get_fields()), iq)
        answer = juliet.plugin["xep_0004"].make_form(ftype="submit")
        answer.add_field(var="FORM_TYPE", ftype="hidden", value="jabber:iq:register")
        answer.add_field(var="phone", value="15550002")
        answer.add_field(var="password", value="Montague")
        done = await plugin.send_command(
            GATEWAY, node, action="complete", payload=answer, sessionid=command["sessionid"]
        )
        check(done["command"]["status"] == "completed", done)
        await events.data("registration", user=bare("juliet"), change="registered")
        await welcome(juliet)
        kept = await program.call("GET", f"/gateways/{GATEWAY}/registrations")
        check([r["user"] for r in kept["items"]] == sorted([bare("romeo"), bare("juliet")]), kept)
        check(all("password" not in r["fields"] for r in kept["items"]), kept)


async def welcome(user):
    """XEP-0100 §4.1.1: the gateway asks for the user's presence and shows its own."""
    await user.presence("subscribe", GATEWAY)
    user.send_presence(pto=GATEWAY, ptype="subscribed")
    user.send_presence(pto=GATEWAY, ptype="subscribe")
    await user.presence("subscribed", GATEWAY)
    await user.push(GATEWAY, "both")
    await user.presence(None, GATEWAY)


def query(iq, name):
    return iq.xml.findtext(f".//{{jabber:iq:gateway}}{name}")


async def prompt(romeo):
    async def look_up(number):
        iq = romeo.make_iq_set(ito=GATEWAY, sub=ET.Element("{jabber:iq:gateway}query"))
        ET.SubElement(iq.xml.find("{jabber:iq:gateway}query"), "{jabber:iq:gateway}prompt").text = number
        return query(await iq.send(), "jid")

    async with step("gateway.prompt") as s:
        got = await romeo.make_iq_get(queryxmlns="jabber:iq:gateway", ito=GATEWAY).send()
        check(query(got, "desc") == DEFINITION["description"] and query(got, "prompt") == DEFINITION["prompt"], got)
        s.detail = await look_up("+15551234")
        check(s.detail == CONTACT, s.detail)

    async with step("gateway.prompt-escapes") as s:
        s.detail = await look_up("d'Artagnan & Co@example.net")  # XEP-0106 §4.2
        check(s.detail == "d\\27artagnan\\20\\26\\20co\\40example.net@" + GATEWAY, s.detail)


async def contact(romeo, program, events):
    async with step("contact.subscribe"):
        romeo.send_presence(pto=CONTACT, ptype="subscribe")
        await romeo.push(CONTACT, "none", "subscribe")
        await events.data("subscription", type="subscribe", to=CONTACT, **{"from": bare("romeo")})
        answer = {"from": CONTACT, "to": bare("romeo"), "type": "subscribed"}
        await program.call("POST", "/subscriptions", answer, status=202)
        await romeo.presence("subscribed", CONTACT)
        await romeo.push(CONTACT, "to")

    async with step("contact.subscribes-back"):
        answer = {"from": CONTACT, "to": bare("romeo"), "type": "subscribe", "status": "It is me"}
        await program.call("POST", "/subscriptions", answer, status=202)
        got = await romeo.presence("subscribe", CONTACT)
        check(got["status"] == "It is me", got)
        romeo.send_presence(pto=CONTACT, ptype="subscribed")
        await romeo.push(CONTACT, "both")
        await events.data("subscription", type="subscribed", to=CONTACT)

    async with step("contact.listed-in-rest"):
        got = await program.call("GET", f"/gateways/{GATEWAY}/contacts", params={"user": bare("romeo")})
        known = {c["jid"]: c["subscription"] for c in got["items"]}
        check(known == {CONTACT: "both", GATEWAY: "both"}, got)

    async with step("presence.of-contact"):
        await program.call("PUT", "/presence/" + CONTACT, {"show": "away", "status": "In the <orchard> & thinking"})
        got = await romeo.expect(lambda p: p.name == "presence" and p["from"].bare == CONTACT and p["type"] == "away", "away")
        check(got["status"] == "In the <orchard> & thinking", got)
        got = await program.call("GET", "/presence/" + CONTACT)
        check(got["available"] and got["resources"][0]["show"] == "away", got)

    async with step("presence.probed-at-login"):
        second = await Client("romeo", "second", plugins=PLUGINS).login()
        got = await second.presence(None, CONTACT)
        check(got["type"] == "away" and got["to"].bare == bare("romeo"), got)
        await second.presence(None, GATEWAY)
        # XEP-0100 §4.4: presence to the gateway is a log-in.
        await events.data("presence", type="available", to=GATEWAY, **{"from": second.boundjid.full})
        own = second.boundjid.full
        await second.logout()
        await events.data("presence", type="unavailable", to=GATEWAY, **{"from": own})

    async with step("presence.change-of-user"):
        romeo.send_presence(pshow="dnd", pstatus="busy")
        await events.data("presence", show="dnd", status="busy", **{"from": romeo.boundjid.full})

    async with step("contact.vcard"):
        spec = {"user": bare("romeo"), "name": "Juliet <Capulet>", "groups": ["Verona"]}
        await program.call("PUT", "/gateways/%s/contacts/%s" % (GATEWAY, CONTACT), spec)
        card = await romeo.plugin["xep_0054"].get_vcard(CONTACT, cached=False)
        check(card["vcard_temp"]["FN"] == "Juliet <Capulet>", card)


async def chat(romeo, juliet, program, events):
    text = "Art thou not Romeo? <&> 🌹"
    async with step("chat.to-contact"):
        romeo.send_message(mto=CONTACT, mbody=text, mtype="chat")
        got = await events.data("message", to=CONTACT, body=text)
        check(got["from"] == romeo.boundjid.full and got["type"] == "chat", got)

    async with step("chat.from-contact"):
        sent = await program.call(
            "POST", "/messages", {"from": CONTACT, "to": bare("romeo"), "body": text, "receipt_request": True}, status=202
        )
        got = await romeo.message(lambda m: m["body"] == text and m["from"].bare == CONTACT)
        check(got["id"] == sent["id"] and got["request_receipt"], got)
        romeo.plugin["xep_0184"].ack(got)
        await events.data("message", to=CONTACT, receipt=sent["id"])
        for _ in range(100):  # what became of it is told a moment later
            status = await program.call("GET", "/messages/" + sent["id"])
            if status["status"] == "delivered":
                break
            await asyncio.sleep(0.05)
        check(status["status"] == "delivered", status)

    async with step("chat.state"):
        await program.call("POST", "/messages", {"from": CONTACT, "to": bare("romeo"), "chat_state": "composing"}, status=202)
        await romeo.message(lambda m: m["chat_state"] == "composing" and m["from"].bare == CONTACT)

    async with step("chat.too-long"):
        romeo.send_message(mto=CONTACT, mbody="x" * 161, mtype="chat")
        got = await romeo.message(lambda m: m["type"] == "error" and m["from"].bare == CONTACT, "refusal")
        check("160" in got["error"]["text"], got)

    async with step("chat.not-as-another"):
        await program.call("POST", "/messages", {"from": bare("juliet"), "to": bare("romeo"), "body": "canary"}, status=403)

    async with step("error.from-program"):
        juliet.send_message(mto=CONTACT, mbody="to the wrong number", mtype="chat")
        got = await events.data("message", to=CONTACT, body="to the wrong number")
        xml = (
            f"<message type='error' id='{got['id']}' from='{CONTACT}' to='{juliet.boundjid.full}'><error type='cancel'>"
            "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        )
        await program.call("POST", "/stanzas", content=xml, headers={"Content-Type": "application/xml"}, status=202)
        got = await juliet.message(lambda m: m["type"] == "error" and m["from"].bare == CONTACT, "error of the program")
        check(got["error"]["condition"] == "item-not-found", got)


async def loss(romeo, program, events):
    # A program may come back within gateway_grace without anybody noticing.
    async with step("loss.announced", timeout=60) as s:
        await events.stop()
        await romeo.presence("unavailable", CONTACT, timeout=50)
        await romeo.presence("unavailable", GATEWAY)
        status = await program.call("GET", f"/gateways/{GATEWAY}/status")
        check(not status["up"], status)
        s.detail = str(status)

    async with step("loss.message-waits"):
        romeo.send_message(mto=CONTACT, mbody="while you were out", mtype="chat")
        await romeo.quiet(lambda m: m.name == "message" and m["type"] == "error", "an error")

    async with step("loss.over"):
        await events.start()
        await romeo.presence(None, GATEWAY)
        await romeo.presence(None, CONTACT)
        await events.data("message", body="while you were out")


async def ends(romeo, juliet, admin, program, events):
    async with step("contact.removed"):
        await romeo.del_roster_item(CONTACT)
        await events.data("subscription", type="unsubscribe", to=CONTACT)
        await romeo.push(CONTACT, "remove")

    async with step("register.cancelled"):
        await romeo.plugin["xep_0077"].cancel_registration(jid=GATEWAY)
        await events.data("registration", user=bare("romeo"), change="unregistered")
        await romeo.presence("unsubscribed", GATEWAY)  # XEP-0100 §4.3
        await program.call("GET", f"/gateways/{GATEWAY}/registrations/{bare('romeo')}", status=404)

    async with step("register.ended-by-gateway"):
        await program.call("DELETE", f"/gateways/{GATEWAY}/registrations/{bare('juliet')}")
        await juliet.presence("unsubscribed", GATEWAY)
        await events.data("registration", user=bare("juliet"), change="unregistered")

    async with step("gateway.removed"):
        await admin.call("DELETE", "/gateways/" + GATEWAY)
        items = (await romeo.plugin["xep_0030"].get_items(jid=DOMAIN))["disco_items"]["items"]
        check(all(i[0] != GATEWAY for i in items), items)


asyncio.run(run())
sys.exit(1 if harness.failures else 0)
