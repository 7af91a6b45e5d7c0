// xmpp.js for TestSurvival: SASL2, Bind 2, FAST and stream management, over TCP
// and over WebSocket with one and the same session.

import { xml } from "@xmpp/client";

import { check, log, server, text } from "./harness.js";
import { describe, report, serve } from "./orders.js";
import { plain, XmppJS } from "./xmppjs.js";

const ns = { sasl: "urn:ietf:params:xml:ns:xmpp-sasl", sasl2: "urn:xmpp:sasl:2", sm: "urn:xmpp:sm:3" };

process.on("unhandledRejection", (err) => log("unhandled", err?.stack ?? err));

class Survivor {
  #client = new XmppJS("tcp", server.accounts.juliet);
  #xmpp = this.#client.xmpp;
  #login = new Set(); // what the login under way is made of
  #outcome; // settles with "online", "resumed" or an error
  #archive = new Map(); // results by query
  #answers = new Map(); // who waits for an iq's answer, by id
  #nextID = 1;

  constructor() {
    const xmpp = this.#xmpp;
    xmpp.on("stanza", (el) => this.#seen(plain(el)));
    xmpp.on("send", (el) => {
      const mechanism = (el.is("authenticate", ns.sasl2) || el.is("auth", ns.sasl)) && el.attrs.mechanism;
      if (!mechanism) return;
      this.#login.add(mechanism);
      if (el.getChild("bind", "urn:xmpp:bind:0")) this.#login.add("bind2");
    });
    xmpp.on("nonza", (el) => {
      if (!el.is("success", ns.sasl2)) return;
      this.#login.add("sasl2");
      if ([...this.#login].some((m) => m.startsWith("HT-"))) this.#login.add("fast");
    });
    xmpp.on("online", () => this.#settle("online"));
    xmpp.streamManagement.on("resumed", () => this.#settle("resumed"));
    xmpp.on("error", (err) => this.#settle(err));
  }

  #settle = () => {};

  async connect({ over }) {
    const xmpp = this.#xmpp;
    if (xmpp.socket) await new Promise((gone) => xmpp.once("disconnect", gone)); // the reset has to be noticed first
    xmpp.options.service = over === "tcp" ? `xmpp://${server.tcp}` : server.wss;
    this.#login.clear();
    const outcome = new Promise((resolve) => (this.#settle = resolve));
    if (xmpp.status === "offline") xmpp.start().catch((err) => this.#settle(err));
    else xmpp.reconnect.reconnect().catch((err) => this.#settle(err));
    const how = await outcome;
    if (how instanceof Error) throw how;
    if (how === "online") {
      await this.#iq("set", undefined, xml("enable", "urn:xmpp:carbons:2"));
      await xmpp.send(xml("presence"));
    }
    return { jid: String(xmpp.jid), resumed: how === "resumed", login: [...this.#login] };
  }

  // COMPAT(xmpp.js): 0.14 does not count the answers to the requests of its own
  // iqCaller, so its 'h' would be too low for ever and every resumption would
  // bring some messages twice.
  async #iq(type, to, payload) {
    const id = `q${this.#nextID++}`;
    const answered = new Promise((resolve) => this.#answers.set(id, resolve));
    await this.#xmpp.send(xml("iq", { type, id, ...(to && { to }) }, payload));
    const answer = await answered;
    check(answer.attrs.type === "result", answer);
    return answer;
  }

  #seen(stanza) {
    if (stanza.name === "iq") this.#answers.get(stanza.attrs.id)?.(stanza);
    if (stanza.name !== "message") return;
    const result = stanza.children.find((c) => c.name === "result" && c.xmlns === "urn:xmpp:mam:2");
    if (!result) return report(describe(stanza));
    const forwarded = result.children.find((c) => c.name === "forwarded");
    const message = describe(forwarded.children.find((c) => c.name === "message"));
    if (message) this.#archive.get(result.attrs.queryid)?.push({ ...message, id: result.attrs.id });
  }

  async send({ to, bodies }) {
    const sm = this.#xmpp.streamManagement;
    const known = sm.outbound + sm.outbound_q.length + bodies.length;
    // A write into a lost connection fails; stream management sends it again.
    for (const body of bodies) {
      this.#xmpp.send(xml("message", { to, type: "chat", id: `j${this.#nextID++}` }, xml("body", {}, body))).catch((err) => log("send", err?.message));
    }
    // It gives a stanza to stream management some turns of the event loop later.
    while (sm.outbound + sm.outbound_q.length < known) {
      check(sm.enabled || sm.enableSent, "there is no stream management");
      await new Promise(setImmediate);
    }
  }

  async sync() {
    await this.#iq("get", server.domain, xml("ping", "urn:xmpp:ping"));
  }

  async archive() {
    const archive = [];
    for (let after = []; ; ) {
      const queryid = `q${this.#nextID++}`;
      this.#archive.set(queryid, []);
      const rsm = xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, xml("max", {}, "20"), ...after);
      const answer = await this.#iq("set", undefined, xml("query", { xmlns: "urn:xmpp:mam:2", queryid }, rsm));
      const fin = answer.children.find((c) => c.name === "fin");
      archive.push(...this.#archive.get(queryid));
      if (["true", "1"].includes(fin.attrs.complete)) return { archive };
      after = [xml("after", {}, text(fin.children.find((c) => c.name === "set"), "last"))];
    }
  }

  async state() {
    const { id, inbound } = this.#xmpp.streamManagement;
    return { session: id, received: inbound };
  }

  async logout() {
    await this.#xmpp.stop();
  }
}

await serve(new Survivor());
