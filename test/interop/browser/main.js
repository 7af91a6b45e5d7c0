// Two people in two Chromiums: Romeo's Converse.js on WebSocket, Juliet's on
// BOSH. They meet, see each other's presence and chat; a backend joins in.

import { statSync } from "node:fs";

import { check, finish, server, step } from "../node/harness.js";
import { servePage } from "./page.js";
import { Person } from "./person.js";

const { romeo: romeoAccount, juliet: julietAccount } = server.accounts;

const bodies = [
  "Art thou not Romeo, and a Montague?",
  "<b>&amp; \"quotes\" 'apostrophes' ]]> & <script>alert(1)</script>",
  "Ünïcödé — Ζεύς, 漢字, עברית",
  "🚀 and 🌹",
];

const web = await servePage();
const people = [];

async function meet(account, road) {
  await step(`login.wrong-password.${road}`, async () => {
    const person = await Person.open(account, road);
    people.push(person);
    await person.submitLogin("not the password");
    return person.feedback(/authentication failed|incorrect|not-authorized/i);
  });
  return (await step(`login.${road}`, () => people.at(-1).login())) && people.at(-1);
}

try {
  const romeo = await meet(romeoAccount, "websocket");
  const juliet = await meet(julietAccount, "bosh");
  if (romeo && juliet) await conversation(romeo, juliet);
} finally {
  for (const person of people) await person.close();
  web.close();
}
finish();

async function conversation(romeo, juliet) {
  const pairs = [
    ["websocket-to-bosh", romeo, juliet],
    ["bosh-to-websocket", juliet, romeo],
  ];

  await step("contact.added", () => romeo.addContact(julietAccount.jid, "Juliet"));
  await step("contact.accepted", () => juliet.contact(romeoAccount.jid).waitFor());

  await step("presence.online-seen", async () => {
    for (const [, a, b] of pairs) await a.sees(b.account.jid, "online");
  });

  await step("presence.change-seen", async () => {
    await juliet.setStatus("busy", "wherefore & <why>");
    await romeo.sees(julietAccount.jid, "busy");
    await romeo.setStatus("away");
    await juliet.sees(romeoAccount.jid, "away");
  });

  for (const [name, a, b] of pairs) {
    await step(`chat.${name}`, async () => {
      await a.openChat(b.account.jid);
      await b.openChat(a.account.jid);
      for (const body of bodies) {
        await a.say(b.account.jid, body);
        await b.reads(a.account.jid, body);
      }
    });
  }

  await step("rest.message", async () => {
    for (const person of [romeo, juliet]) {
      const body = `A backend writes to ${person.account.local}: <&> 🚦`;
      const answer = await fetch(`${server.rest}/messages`, {
        method: "POST",
        headers: { Authorization: `Bearer ${server.token}`, "Content-Type": "application/json" },
        body: JSON.stringify({ to: person.account.jid, type: "chat", body }),
      });
      check(answer.status === 202, `${answer.status} ${await answer.text()}`);
      await person.openChat(server.sender);
      await person.reads(server.sender, body);
    }
  });

  await step("screenshot", async () => {
    const files = [];
    for (const person of people) {
      files.push(await person.screenshot(`converse-${person.road}-rest`));
      await person.openChat(person === romeo ? julietAccount.jid : romeoAccount.jid);
      files.push(await person.screenshot(`converse-${person.road}-chat`));
    }
    for (const file of files) check(statSync(file).size > 10_000, `${file} is nearly empty`);
    return files.join(" ");
  });

  // A reloaded page goes on with its BOSH session: same sid, next rid. It must
  // not reload while Strophe has given a rid to a request that has not left.
  await step("bosh.page-reload", async () => {
    await juliet.settled();
    const before = juliet.boshSessions.size;
    await juliet.page.reload();
    await juliet.ready();
    check(juliet.boshSessions.size === before, `${[...juliet.boshSessions]}: the session was not kept`);
    await romeo.openChat(julietAccount.jid);
    await juliet.openChat(romeoAccount.jid);
    await romeo.say(julietAccount.jid, "still there after the reload?");
    await juliet.reads(romeoAccount.jid, "still there after the reload?");
  });

  // Before logging out: Converse.js stumbles over its own cleaning up then.
  await step("page.no-errors", () => {
    for (const { errors, account } of people) check(errors.length === 0, `${account.local}: ${errors}`);
  });

  await step("logout", async () => {
    await juliet.logout();
    await romeo.sees(julietAccount.jid, "offline");
    await romeo.logout();
  });

  await step("page.loopback-only", () => {
    for (const { foreign } of people) check(foreign.length === 0, `${foreign}`);
  });
}
