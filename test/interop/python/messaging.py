"""RFC 6121 with two people: roster, presence, messages, carbons, offline."""

from harness import DOMAIN, SERVER, Client, check, refused, step

ROMEO = SERVER["accounts"]["romeo"]["jid"]
JULIET = SERVER["accounts"]["juliet"]["jid"]

BODIES = (
    "Art thou not Romeo, and a Montague?",
    "<b>&amp; \"quotes\" 'apostrophes' ]]> & more</b>",
    "Ünïcödé — Ζεύς, 漢字, עברית, क्षत्रिय",
    "👩🏽\u200d🚀 🇸🇪 𝄞 e\u0301",
    " leading, trailing, and\nthree\n\tlines ",
    "x" * 5000,
)


async def run():
    romeo = Client("romeo", "orchard")
    nurse = Client("romeo", "window")  # Romeo's second resource
    juliet = Client("juliet", "balcony")
    async with step("login.three-sessions"):
        await romeo.login()
        await nurse.login()
        await juliet.login()

    if juliet.boundjid.resource != "balcony" or not juliet.is_connected():
        return  # nothing else can be tried

    await roster(romeo, nurse)
    await subscriptions(romeo, juliet)
    await messages(romeo, juliet)
    await errors(romeo)
    await carbons(romeo, nurse, juliet)
    await offline(romeo, juliet)

    async with step("stream.close"):
        for c in (romeo, nurse, juliet):
            await c.logout()
            check(not c.is_connected(), f"{c.boundjid} is still connected")


async def roster(romeo, nurse):
    async with step("roster.get"):
        for c in (romeo, nurse):  # only interested resources get pushes
            result = await c.get_roster()
            check(result["type"] == "result", result)

    async with step("roster.set-push"):
        iq = romeo.make_iq_set()
        iq["roster"]["items"] = {JULIET: {"name": "Juliet ♥ <&>", "groups": ["Capulet", "Verona & co"]}}
        await iq.send()
        for c in (romeo, nurse):
            push = await c.push(JULIET, "none")
            # RFC 6121 §2.1.6: no 'from', or the account's bare JID.
            check(push.xml.get("from") in (None, ROMEO), f"push from {push.xml.get('from')}")
            item = push["roster"]["items"][JULIET]
            check(item["name"] == "Juliet ♥ <&>", item)
            check(set(item["groups"]) == {"Capulet", "Verona & co"}, item)

    async with step("roster.stored"):
        c = await Client("romeo", "reader").login()
        result = await c.get_roster()
        items = result["roster"]["items"]
        check(JULIET in items and items[JULIET]["name"] == "Juliet ♥ <&>", result)
        await c.logout()

    async with step("roster.remove"):
        iq = romeo.make_iq_set()
        iq["roster"]["items"] = {JULIET: {"subscription": "remove"}}
        await iq.send()
        for c in (romeo, nurse):
            await c.push(JULIET, "remove")
        await refused_removal(romeo)


async def refused_removal(romeo):
    """RFC 6121 §2.5.3: removing what is not there is item-not-found."""
    iq = romeo.make_iq_set()
    iq["roster"]["items"] = {JULIET: {"subscription": "remove"}}
    await refused(iq.send(), "item-not-found")


async def subscriptions(romeo, juliet):
    await juliet.get_roster()
    for name, a, b, a_state, b_state in (
        ("subscription.romeo-to-juliet", romeo, juliet, "to", "from"),
        ("subscription.juliet-to-romeo", juliet, romeo, "both", "both"),
    ):
        async with step(name):
            before = "none" if a_state == "to" else "from"
            a.send_presence(pto=b.boundjid.bare, ptype="subscribe")
            await a.push(b.boundjid.bare, before, ask="subscribe")
            request = await b.presence("subscribe", a.boundjid.bare)
            # RFC 6121 §3.1.2: a request travels between bare JIDs.
            check(request["from"].full == a.boundjid.bare, request)
            b.send_presence(pto=a.boundjid.bare, ptype="subscribed")
            await b.push(a.boundjid.bare, b_state)
            await a.presence("subscribed", b.boundjid.bare)
            await a.push(b.boundjid.bare, a_state)
            # RFC 6121 §3.1.5: the contact's available resources follow.
            await a.expect(
                lambda s: s.name == "presence" and s["type"] == "available" and s["from"].full == b.boundjid.full,
                f"presence of {b.boundjid}",
            )

    async with step("presence.change-seen"):
        juliet.send_presence(pshow="dnd", pstatus="wherefore & <why>", ppriority=7)
        seen = await romeo.expect(
            lambda s: s.name == "presence" and s["from"].full == juliet.boundjid.full and s.xml.find("{jabber:client}show") is not None,
            "Juliet's dnd",
        )
        check((seen["show"], seen["status"], seen["priority"]) == ("dnd", "wherefore & <why>", 7), seen)

    async with step("presence.unavailable-and-probe"):
        await juliet.logout()
        await romeo.presence("unavailable", JULIET)
        juliet.__init__("juliet", "balcony")
        await juliet.login()
        await juliet.get_roster()
        await romeo.presence(None, JULIET)
        seen = await juliet.presence(None, ROMEO)  # the server probed for her (RFC 6121 §4.2.2)
        check(seen["from"].bare == ROMEO, seen)


async def messages(romeo, juliet):
    for name, a, b in (("chat.romeo-to-juliet", romeo, juliet), ("chat.juliet-to-romeo", juliet, romeo)):
        async with step(name):
            for body in BODIES:
                sent = a.make_message(mto=b.boundjid.full, mbody=body, mtype="chat")
                sent["id"] = a.new_id()
                sent.send()
                got = await b.message(lambda m: m["id"] == sent["id"])
                check(got["body"] == body, f"{got['body']!r}, want {body!r}")
                check(got["from"].full == a.boundjid.full, got)
                check(got["type"] == "chat", got)

    async with step("chat.order"):
        for i in range(200):
            romeo.send_message(mto=juliet.boundjid.full, mbody=f"order {i}", mtype="chat")
        for i in range(200):
            got = await juliet.message(lambda m: m["body"].startswith("order "))
            check(got["body"] == f"order {i}", f"{got['body']}, want {i}")

    async with step("chat.bare-jid"):
        romeo.send_message(mto=JULIET, mbody="to whom it concerns", mtype="chat")
        got = await juliet.message(lambda m: m["body"] == "to whom it concerns")
        # RFC 6121 §8.5.2.1: delivery to a bare JID does not rewrite 'to'.
        check(got["to"].full == JULIET, got)

    async with step("iq.between-clients"):
        await romeo.plugin["xep_0199"].ping(juliet.boundjid)
        version = await romeo.plugin["xep_0092"].get_version(juliet.boundjid)
        check(version["software_version"]["name"] == "interop", version)


async def errors(romeo):
    async with step("error.message-to-unknown-user") as s:
        sent = romeo.make_message(mto="nobody-of-this-name@" + DOMAIN, mbody="hello?", mtype="chat")
        sent["id"] = romeo.new_id()
        sent.send()
        # RFC 6121 §8.5.1
        got = await romeo.message(lambda m: m["id"] == sent["id"] and m["type"] == "error", "error")
        s.detail = got["error"]["condition"]
        check(s.detail == "service-unavailable", got)
        check(got["from"].full == "nobody-of-this-name@" + DOMAIN, got)

    async with step("error.iq-to-unknown-user"):
        iq = romeo.make_iq_get(queryxmlns="jabber:iq:version", ito="nobody-of-this-name@" + DOMAIN)
        await refused(iq.send(), "service-unavailable")

    async with step("error.iq-to-unavailable-resource"):
        ping = romeo.plugin["xep_0199"]
        await refused(ping.send_ping(JULIET + "/no-such-resource"), "service-unavailable")

    async with step("error.iq-of-unknown-namespace"):
        iq = romeo.make_iq_get(queryxmlns="urn:example:no-such-protocol", ito=DOMAIN)
        await refused(iq.send(), "service-unavailable")


async def carbons(romeo, nurse, juliet):
    async with step("carbons.enable"):
        await nurse.plugin["xep_0280"].enable()

    def carbon(kind, body):
        def match(m):
            wrapper = m.xml.find("{urn:xmpp:carbons:2}" + kind)
            if wrapper is None:
                return False
            inner = wrapper.find("{urn:xmpp:forward:0}forwarded/{jabber:client}message/{jabber:client}body")
            return inner is not None and inner.text == body

        return match

    async with step("carbons.received"):
        juliet.send_message(mto=romeo.boundjid.full, mbody="copy <this> 📨", mtype="chat")
        await romeo.message(lambda m: m["body"] == "copy <this> 📨")
        copy = await nurse.message(carbon("received", "copy <this> 📨"), "received carbon")
        # XEP-0280 §11: from the own bare JID, or it must be ignored.
        check(copy["from"].full == ROMEO, copy)

    async with step("carbons.sent"):
        romeo.send_message(mto=juliet.boundjid.full, mbody="copy that", mtype="chat")
        await juliet.message(lambda m: m["body"] == "copy that")
        copy = await nurse.message(carbon("sent", "copy that"), "sent carbon")
        check(copy["from"].full == ROMEO, copy)
        await romeo.quiet(carbon("sent", "copy that"), "a carbon it did not ask for")

    async with step("carbons.private"):
        private = romeo.make_message(mto=juliet.boundjid.full, mbody="not for the nurse", mtype="chat")
        private["carbon_private"] = True
        private.send()
        # XEP-0280 §9: no server has to take the element out any more.
        await juliet.message(lambda m: m["body"] == "not for the nurse")
        await nurse.quiet(carbon("sent", "not for the nurse"), "a private message's carbon")

    async with step("carbons.disable"):
        await nurse.plugin["xep_0280"].disable()
        romeo.send_message(mto=juliet.boundjid.full, mbody="no copy now", mtype="chat")
        await juliet.message(lambda m: m["body"] == "no copy now")
        await nurse.quiet(carbon("sent", "no copy now"), "a carbon after disable")


async def offline(romeo, juliet):
    async with step("offline.delayed") as s:
        await juliet.logout()
        await romeo.presence("unavailable", JULIET)
        bodies = ["while you were out: <1> 🌙", "while you were out: 2", "while you were out: 3"]
        for body in bodies:
            romeo.send_message(mto=JULIET, mbody=body, mtype="chat")
        # A ping through the same session: the messages have been handled.
        await romeo.plugin["xep_0199"].ping(DOMAIN)
        juliet.__init__("juliet", "balcony")
        await juliet.login()
        for body in bodies:
            got = await juliet.message(lambda m: m["body"].startswith("while you were out"))
            check(got["body"] == body, f"{got['body']!r}, want {body!r}")
            stamp = got.xml.find("{urn:xmpp:delay}delay")
            check(stamp is not None, f"no delay stamp: {got}")
            s.detail = f"{stamp.get('from')} {stamp.get('stamp')}"
            check(stamp.get("from") in (DOMAIN, JULIET), s.detail)
            check(stamp.get("stamp").endswith("Z"), s.detail)  # XEP-0203 §4 with XEP-0082

    async with step("offline.delivered-once"):
        await juliet.logout()
        juliet.__init__("juliet", "balcony")
        await juliet.login()
        await juliet.quiet(lambda m: m.name == "message" and m["body"].startswith("while"), "an old message")
