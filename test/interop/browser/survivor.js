// Converse.js for TestSurvival: a page on WebSocket that loses its connection, is
// stopped, is reloaded, and forgets everything it has stored.

import { DOMParser } from "@xmldom/xmldom";

import { child, log, server } from "../node/harness.js";
import { describe, report, serve } from "../node/orders.js";
import { servePage } from "./page.js";
import { Person } from "./person.js";

const patience = 18_000; // ms

/** The neutral form of a frame's element. */
function plain(el) {
  const children = Array.from(el.childNodes).filter((n) => n.nodeType === 1);
  return {
    name: el.localName,
    xmlns: el.namespaceURI,
    attrs: Object.fromEntries(Array.from(el.attributes, (a) => [a.name, a.value])),
    children: children.map(plain),
    text: Array.from(el.childNodes).filter((n) => n.nodeType === 3 || n.nodeType === 4).map((n) => n.nodeValue).join(""),
  };
}

class Survivor {
  #person;
  #web;
  #frames = []; // [direction, element], all there were
  #seen = 0; // how many there were when it was last known to be connected
  #waiting = [];

  async connect() {
    if (!this.#person) {
      this.#web = await servePage();
      this.#person = await Person.open(server.accounts.juliet, "survivor");
      this.#person.onFrame = (direction, text) => this.#frame(direction, text);
      await this.#login();
      return { jid: server.accounts.juliet.jid, resumed: false };
    }
    return { jid: server.accounts.juliet.jid, resumed: await this.#session(this.#seen) };
  }

  async #login() {
    await this.#person.login();
    await this.#settled();
  }

  /** Waits until stream management and carbons are on. */
  async #settled(since = 0) {
    await this.#expect("<enabled/>", (direction, el) => direction === "<" && el.name === "enabled", since);
    const [, { attrs }] = await this.#expect("request for carbons", (direction, el) => direction === ">" && child(el, "enable", "urn:xmpp:carbons:2"), since);
    await this.#expect("carbons", (direction, el) => direction === "<" && el.attrs.id === attrs.id, since);
    this.#seen = this.#frames.length;
  }

  /** Waits for the next session and tells whether it is the one before. */
  async #session(since) {
    const [, { name }] = await this.#expect("session", (direction, el) => direction === "<" && ["resumed", "enabled"].includes(el.name), since);
    if (name === "enabled") await this.#settled(since);
    this.#seen = this.#frames.length;
    return name === "resumed";
  }

  #frame(direction, text) {
    const el = plain(new DOMParser().parseFromString(text, "text/xml").documentElement);
    this.#frames.push([direction, el]);
    if (direction === "<" && el.name === "message" && !child(el, "result")) report(describe(el));
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** The first frame from the given one on that matches, waiting for it. */
  async #expect(what, match, since) {
    const deadline = Date.now() + patience;
    for (;;) {
      const found = this.#frames.slice(since).find(([direction, el]) => match(direction, el));
      if (found) return found;
      if (Date.now() > deadline) throw new Error(`no ${what}`);
      await new Promise((wake) => {
        this.#waiting.push(wake);
        setTimeout(wake, deadline - Date.now() + 1).unref();
      });
    }
  }

  async #open(jid) {
    await this.#person.page.evaluate((jid) => window.survivor.chats.open(jid), jid);
    await this.#person.chat(jid).locator("textarea.chat-textarea").waitFor();
  }

  async send({ to, bodies }) {
    await this.#open(to);
    const since = this.#frames.length;
    for (const body of bodies) {
      await this.#person.say(to, body);
      await this.#expect(body, (direction, el) => direction === ">" && child(el, "body")?.text === body, since);
    }
  }

  async sync() {
    await this.#person.page.evaluate((domain) => window.survivor.ping(domain), server.domain);
  }

  /** The texts of the conversation, from top to bottom, when there are as many as wanted. */
  async shown({ to, bodies }) {
    await this.#open(to);
    const texts = this.#person.chat(to).locator(".chat-msg__text");
    const deadline = Date.now() + patience;
    for (;;) {
      const shown = (await texts.allInnerTexts()).map((t) => t.trim());
      if (shown.length >= bodies.length || Date.now() > deadline) return { shown };
      await this.#person.page.waitForTimeout(50); // the page has no event for it
    }
  }

  async reload() {
    const since = this.#frames.length;
    await this.#person.page.reload();
    await this.#person.ready();
    return { resumed: await this.#session(since) };
  }

  /** Takes away what the browser has stored for the page, and logs in again. */
  async forget() {
    const since = this.#frames.length;
    const { page } = this.#person;
    await page.goto(`${server.origin}/dist/converse.min.css`); // of the same origin, and nothing runs there
    await page.evaluate(async () => {
      sessionStorage.clear();
      localStorage.clear();
      for (const { name } of await indexedDB.databases()) indexedDB.deleteDatabase(name);
    });
    await page.goto(`${server.origin}/survivor`);
    await this.#person.login();
    await this.#settled(since);
  }

  async end() {
    await this.#person?.close();
    this.#web?.close();
  }
}

process.on("unhandledRejection", (err) => log("unhandled", err?.stack ?? err));
await serve(new Survivor());
