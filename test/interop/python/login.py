"""TLS and SASL: what slixmpp does before it has a session."""

from harness import DOMAIN, SERVER, Client, check, step


async def run():
    async with step("tls.untrusted-refused") as s:
        c = Client("romeo", "untrusted")
        c.ca_certs = SERVER["other_ca"]
        outcome = await c.attempt()
        await c.logout()
        check("CERTIFICATE_VERIFY_FAILED" in outcome, outcome)
        s.detail = outcome

    async with step("login.starttls") as s:
        c = await Client("romeo", "starttls").login()
        s.detail = f"{c.tls()} {c.mechanism()}"
        check(c.mechanism().startswith("SCRAM-"), s.detail)
        check("starttls" in c.features, "STARTTLS was not used")
        await c.logout()

    async with step("login.direct-tls") as s:
        c = Client("romeo", "direct")
        c.enable_direct_tls, c.enable_starttls = True, False
        await c.login(SERVER["direct_tls"])
        s.detail = f"{c.tls()} {c.mechanism()}"
        check("starttls" not in c.features, "STARTTLS was used inside TLS")
        await c.logout()

    # Without SRV records slixmpp greets every port with a ClientHello first and
    # comes back with STARTTLS when that fails, so it must fail soon.
    async with step("login.client-hello-on-starttls-port") as s:
        c = Client("romeo", "fallback")
        c.enable_direct_tls = True
        await c.login()
        s.detail = c.tls()
        check("starttls" in c.features, "STARTTLS was not used")
        await c.logout()

    # With TLS 1.2 slixmpp prefers -PLUS with tls-unique, whether or not the
    # server announces it (XEP-0440), and takes the next mechanism on the same
    # stream when refused: three refusals before one that suits both.
    async with step("login.tls-1.2") as s:
        c = Client("romeo", "tls12")
        c.ssl_context.maximum_version = c.ssl_context.minimum_version = 0x0303
        await c.login()
        s.detail = f"{c.tls()} {c.mechanism()} after {c.conditions}"
        check(c.tls() == "TLSv1.2", c.tls())
        await c.logout()

    for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"):
        async with step("login." + mechanism.lower()) as s:
            c = await Client("romeo", "mechanism", mechanism=mechanism).login(presence=False)
            check(c.mechanism() == mechanism, c.mechanism())
            s.detail = c.tls()
            await c.logout()

    for name, kwargs in (
        ("login.wrong-password", {"password": "not the password"}),
        ("login.unknown-user", {"local": "nobody-of-this-name"}),
    ):
        async with step(name) as s:
            c = Client("romeo", "wrong", **kwargs)
            outcome = await c.attempt()
            s.detail = f"{outcome} {c.conditions}"
            # RFC 6120 §6.5.10; slixmpp tries one mechanism after the other.
            check(c.conditions and set(c.conditions) == {"not-authorized"}, s.detail)
            check(outcome != "session", s.detail)
            await c.logout()

    async with step("login.server-makes-resource") as s:
        c = Client("romeo", "")
        await c.login(presence=False)
        check(c.boundjid.resource, "no resource")
        check(c.boundjid.bare == SERVER["accounts"]["romeo"]["jid"], c.boundjid)
        s.detail = c.boundjid.full
        await c.logout()

    async with step("login.domain") as s:
        c = await Client("romeo", "caps").login()
        check(c.boundjid.domain == DOMAIN, c.boundjid)
        s.detail = "features: " + " ".join(sorted(c.features))
        await c.logout()
