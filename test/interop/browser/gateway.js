// Romeo's Converse.js uses a gateway domain; its program is a reader of the event
// stream with the package eventsource.

import { statSync } from "node:fs";
import { EventSource } from "eventsource";

import { check, finish, log, server, step } from "../node/harness.js";
import { Queue, call } from "../node/rest.js";
import { servePage } from "./page.js";
import { Person } from "./person.js";

const gateway = `sip.${server.domain}`;
const contact = `nurse@${gateway}`;
// Converse.js 14 sees a bare address go online, and not go.
const device = `${contact}/phone`;
const account = server.accounts.romeo;
const bodies = ["Commend me to thy lady.", "<b>&amp; \"quotes\" 'apostrophes' ]]> & more</b>", "Ünïcödé — Ζεύς, 漢字 🌹"];

await call("PUT", `/gateways/${gateway}`, { type: "sip", name: "Telephone", capabilities: { typing: true } });
const { secret: token } = await call("POST", "/tokens", { name: "sip", scopes: [`send:${gateway}`, `read:${gateway}`] });
const program = (method, path, body) => call(method, path, body, { token });
const events = new Queue();
const source = new EventSource(`${server.rest}/events?host=${gateway}`, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
});
for (const type of ["message", "subscription", "presence"]) {
  source.addEventListener(type, (event) => {
    log("event", event.type, event.data);
    events.put({ ...JSON.parse(event.data).data, kind: type });
  });
}
await new Promise((open) => (source.onopen = open));

const web = await servePage();
let romeo;
try {
  const together = await step("login", async () => {
    romeo = await Person.open(account, "websocket");
    await romeo.login();
  });
  if (together) await conversation();
} finally {
  await romeo?.close();
  await call("DELETE", `/gateways/${gateway}`);
  source.close();
  web.close();
}
finish();

async function conversation() {
  await step("contact.added", async () => {
    await romeo.addContact(contact, "Nurse");
    await events.take("subscription", (e) => e.kind === "subscription" && e.type === "subscribe" && e.to === contact);
    await program("POST", "/subscriptions", { from: contact, to: account.jid, type: "subscribed" });
  });

  await step("presence.of-contact", async () => {
    await program("PUT", `/presence/${device}`, { show: "dnd", status: "with <Juliet>" });
    await romeo.sees(contact, "busy");
    await program("PUT", `/presence/${device}`, {});
    await romeo.sees(contact, "online");
  });

  await step("chat.both-ways", async () => {
    await romeo.openChat(contact);
    for (const body of bodies) {
      await romeo.say(contact, body);
      const heard = await events.take("message", (e) => e.kind === "message" && e.body === body);
      check(heard.to === contact && heard.from.startsWith(account.jid), heard);
      await program("POST", "/messages", { from: contact, to: account.jid, body: `${body} (said the nurse)` });
      await romeo.reads(contact, `${body} (said the nurse)`);
    }
  });

  await step("chat.typing", async () => {
    await program("POST", "/messages", { from: contact, to: account.jid, chat_state: "composing" });
    await romeo.chat(contact).locator(".chat-content__notifications").filter({ hasText: "typing" }).waitFor();
    await romeo.chat(contact).locator("textarea.chat-textarea").pressSequentially("O");
    await events.take("chat state", (e) => e.kind === "message" && e.chat_state === "composing");
    await romeo.chat(contact).locator("textarea.chat-textarea").fill("");
  });

  await step("screenshot", async () => {
    const file = await romeo.screenshot("converse-gateway");
    check(statSync(file).size > 10_000, `${file} is nearly empty`);
    return file;
  });

  await step("presence.lost", async () => {
    await program("DELETE", `/presence/${device}`);
    await romeo.sees(contact, "offline");
  });

  await step("page.no-errors", () => check(romeo.errors.length === 0, `${romeo.errors}`));

  await step("page.loopback-only", () => check(romeo.foreign.length === 0, `${romeo.foreign}`));
}
