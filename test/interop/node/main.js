// node main.js <romeo's client> <juliet's client>, each a
// library and a road: xmppjs with tcp (STARTTLS), tls, websocket or wss; strophe
// with websocket, wss, bosh or boshs. One conversation between the two.

import { Peer, check, child, condition, finish, log, server, step, text } from "./harness.js";
import { StropheJS } from "./strophe.js";
import { XMLHttpRequest } from "./xhr.js";
import { XmppJS } from "./xmppjs.js";

const bodies = [
  "Art thou not Romeo, and a Montague?",
  "<b>&amp; \"quotes\" 'apostrophes' ]]> & more</b>",
  "Ünïcödé — Ζεύς, 漢字, עברית, क्षत्रिय",
  "👩🏽\u200d🚀 🇸🇪 𝄞 e\u0301",
  " leading, trailing, and\nthree\n\tlines ",
  "x".repeat(5000),
];

const { romeo: romeoAccount, juliet: julietAccount } = server.accounts;
const [romeoKind, julietKind] = process.argv.slice(2);

function adapter(kind, account, options) {
  const [library, transport] = kind.split(":");
  return library === "xmppjs" ? new XmppJS(transport, account, options) : new StropheJS(transport, account, options);
}

process.on("unhandledRejection", (err) => log("unhandled", err?.stack ?? err));

const romeo = new Peer(adapter(romeoKind, romeoAccount), romeoAccount);
const juliet = new Peer(adapter(julietKind, julietAccount), julietAccount);

for (const [who, kind, account] of [["romeo", romeoKind, romeoAccount], ["juliet", julietKind, julietAccount]]) {
  await step(`login.wrong-password.${who}`, async () => {
    const wrong = adapter(kind, account, { password: "not the password" });
    const err = await wrong.connect().then(() => undefined, (e) => e);
    check(err, "logged in with a wrong password");
    check(/not-authorized/.test(`${err.condition} ${err.message}`), err.message); // RFC 6120 §6.5.10
    await wrong.disconnect().catch(() => {});
    return err.message;
  });
}

const together = await step("login", async () => {
  await romeo.login();
  await juliet.login();
  return `${romeo.jid} ${romeo.adapter.mechanism ?? ""} ${juliet.jid} ${juliet.adapter.mechanism ?? ""}`;
});
if (!together) finish(); // nothing else can be tried

await step("roster.set-push", async () => {
  for (const p of [romeo, juliet]) await p.result("get", undefined, ["query", { xmlns: "jabber:iq:roster" }]);
  await romeo.result("set", undefined, ["query", { xmlns: "jabber:iq:roster" }, ["item", { jid: juliet.bare, name: "Juliet <&> ♥" }, ["group", {}, "Verona"]]]);
  const item = await romeo.push(juliet.bare, "none");
  check(item.attrs.name === "Juliet <&> ♥", item);
  check(text(item, "group") === "Verona", item);
});

for (const [name, a, b, before, after] of [
  ["subscription.romeo-to-juliet", romeo, juliet, "none", "to"],
  ["subscription.juliet-to-romeo", juliet, romeo, "from", "both"],
]) {
  await step(name, async () => {
    a.send("presence", { to: b.bare, type: "subscribe" });
    const asked = await a.push(b.bare, before);
    check(asked.attrs.ask === "subscribe", asked);
    await b.presence("subscribe", a.bare);
    b.send("presence", { to: a.bare, type: "subscribed" });
    await a.presence("subscribed", b.bare);
    await a.push(b.bare, after);
    await b.push(a.bare, after === "to" ? "from" : "both");
    const seen = await a.presence(undefined, b.bare);
    check(seen.attrs.from === b.jid, seen);
  });
}

await step("presence.change-seen", async () => {
  juliet.send("presence", {}, ["show", {}, "away"], ["status", {}, "<wherefore> & why"]);
  const seen = await romeo.expect("Juliet away", (s) => s.name === "presence" && s.attrs.from === juliet.jid && text(s, "show") === "away");
  check(text(seen, "status") === "<wherefore> & why", seen);
});

for (const [name, a, b] of [["chat.romeo-to-juliet", romeo, juliet], ["chat.juliet-to-romeo", juliet, romeo]]) {
  await step(name, async () => {
    for (const body of bodies) {
      const id = a.chat(b.jid, body);
      const got = await b.message(body);
      check(got.attrs.from === a.jid && got.attrs.id === id && got.attrs.type === "chat", got);
    }
  });
}

await step("chat.order", async () => {
  const count = 100;
  for (let i = 0; i < count; i++) romeo.chat(juliet.bare, `order ${i}`);
  for (let i = 0; i < count; i++) {
    const got = await juliet.expect("message in order", (s) => s.name === "message" && text(s, "body")?.startsWith("order "));
    check(text(got, "body") === `order ${i}`, got);
  }
});

await step("error.message-to-unknown-user", async () => {
  const nobody = `nobody-of-this-name@${server.domain}`;
  const id = romeo.chat(nobody, "hello?");
  const got = await romeo.expect("error", (s) => s.name === "message" && s.attrs.id === id && s.attrs.type === "error");
  check(condition(got) === "service-unavailable", got); // RFC 6121 §8.5.1
  check(got.attrs.from === nobody, got);
});

await step("error.iq-of-unknown-namespace", async () => {
  const got = await juliet.iq("get", server.domain, ["query", { xmlns: "urn:example:no-such-protocol" }]);
  check(condition(got) === "service-unavailable", got);
});

await step("disco.server-info", async () => {
  const got = await romeo.result("get", server.domain, ["query", { xmlns: "http://jabber.org/protocol/disco#info" }]);
  const query = child(got, "query");
  check(query.children.some((c) => c.name === "identity" && c.attrs.category === "server" && c.attrs.type === "im"), query);
  const features = query.children.filter((c) => c.name === "feature").map((c) => c.attrs.var);
  check(features.includes("http://jabber.org/protocol/disco#info"), features);
  return features.length + " features";
});

await step("ping.server", async () => {
  for (const p of [romeo, juliet]) await p.result("get", server.domain, ["ping", { xmlns: "urn:xmpp:ping" }]);
});

await step("vcard.set-and-get", async () => {
  await romeo.result("set", undefined, ["vCard", { xmlns: "vcard-temp" }, ["FN", {}, "Romeo & <Montague> 💘"]]);
  const got = await juliet.result("get", romeo.bare, ["vCard", { xmlns: "vcard-temp" }]);
  check(text(child(got, "vCard"), "FN") === "Romeo & <Montague> 💘", got);
});

await step("private.set-and-get", async () => {
  const rose = (...inside) => ["query", { xmlns: "jabber:iq:private" }, ["rose", { xmlns: "urn:example:interop" }, ...inside]];
  await juliet.result("set", undefined, rose(["name", {}, "any other <&>"]));
  const got = await juliet.result("get", undefined, rose());
  check(text(child(child(got, "query"), "rose"), "name") === "any other <&>", got);
});

await step("carbons.enable", async () => {
  for (const p of [romeo, juliet]) await p.result("set", undefined, ["enable", { xmlns: "urn:xmpp:carbons:2" }]);
});

await step("blocking.list", async () => {
  const got = await romeo.result("get", undefined, ["blocklist", { xmlns: "urn:xmpp:blocking" }]);
  check(child(got, "blocklist", "urn:xmpp:blocking"), got);
});

await step("rest.message", async () => {
  for (const p of [romeo, juliet]) {
    const body = `from a backend to ${p.bare}: <&> 🚦`;
    const answer = await fetch(`${server.rest}/messages`, {
      method: "POST",
      headers: { Authorization: `Bearer ${server.token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ to: p.bare, type: "chat", body }),
    });
    check(answer.status === 202, `${answer.status} ${await answer.text()}`);
    const got = await p.message(body);
    check(got.attrs.from.split("/")[0] === server.sender, got);
  }
});

if (julietKind.startsWith("strophe:bosh")) {
  // The server answers a held request with an empty body when 'wait' seconds
  // are over (XEP-0124 §10). With so short a wait Strophe loses patience in the
  // same moment, drops its connection and sends the request with the same rid
  // again (§14.3). The session lives through both.
  await step("bosh.short-wait", async () => {
    const short = new StropheJS(juliet.adapter.transport, julietAccount, { wait: 1 });
    short.wanted = julietAccount.jid + "/short-wait";
    const p = new Peer(short, julietAccount);
    await p.login();
    let empty = 0;
    XMLHttpRequest.aborted = 0;
    const enough = new Promise((resolve) => {
      short.onBody = (body) => {
        if (/^<body[^>]*\/>$|^<body[^>]*><\/body>$/.test(body) && ++empty === 2) resolve();
      };
    });
    await enough;
    romeo.chat(p.jid, "still there?");
    await p.message("still there?");
    await p.logout();
    return `${empty} empty answers, ${XMLHttpRequest.aborted} requests sent again`;
  });
}

await step("logout", async () => {
  await juliet.logout();
  await romeo.expect("Juliet unavailable", (s) => s.name === "presence" && s.attrs.type === "unavailable" && s.attrs.from === juliet.jid);
  await romeo.logout();
});

finish();
