// stanza.js for TestSurvival: stream management over WebSocket and over BOSH with
// one and the same session, carbons, the archive and client state.

import * as XMPP from "stanza";

import { check, log, server } from "./harness.js";
import { report, serve } from "./orders.js";

const juliet = server.accounts.juliet;
const bare = (jid) => jid.split("/")[0];

process.on("unhandledRejection", (err) => log("unhandled", err?.stack ?? JSON.stringify(err)));

/** The neutral form of a message, or undefined when it has no body. */
function describe(message) {
  let carbon = "";
  if (message.carbon) {
    carbon = message.carbon.type;
    message = message.carbon.forward.message;
  }
  if (message.body === undefined) return undefined;
  const id = message.stanzaIds?.find(({ by }) => by === juliet.jid)?.id ?? "";
  return { from: bare(message.from ?? juliet.jid), to: bare(message.to ?? juliet.jid), body: message.body, id, carbon };
}

class Survivor {
  #client = XMPP.createClient({
    jid: juliet.jid,
    resource: "stanzajs",
    credentials: { username: juliet.local, password: juliet.password },
    server: server.domain,
    transports: { websocket: server.websocket, bosh: server.bosh },
    autoReconnect: false, // it would wait for two seconds
    timeout: 20,
  });
  #connected = false;
  #offersCSI = false;
  #mechanism = "";
  #shows = new Map(); // the last <show/> of a bare JID
  #settle = () => {};

  constructor() {
    const client = this.#client;
    client.on("raw:incoming", (data) => {
      log(juliet.local, "<", data);
      if (data.includes("<csi ")) this.#offersCSI = true;
    });
    client.on("raw:outgoing", (data) => {
      log(juliet.local, ">", data);
      this.#mechanism = /<auth [^>]*mechanism="([^"]+)"/.exec(data)?.[1] ?? this.#mechanism;
    });
    client.on("message", (message) => {
      const seen = !message.archive && describe(message);
      if (seen) report(seen);
    });
    client.on("presence", (presence) => this.#shows.set(bare(presence.from), presence.show ?? presence.type ?? ""));
    client.on("session:started", () => this.#settle("started"));
    client.on("stream:management:resumed", () => this.#settle("resumed"));
    client.on("auth:failed", () => this.#settle("auth:failed"));
    client.on("disconnected", () => {
      this.#connected = false;
      this.#settle("disconnected");
    });
  }

  async connect({ over }) {
    if (this.#connected) await new Promise((gone) => this.#client.once("disconnected", gone)); // the reset has to be noticed first
    this.#client.updateConfig({ transportPreferenceOrder: [over] });
    const outcome = new Promise((resolve) => (this.#settle = resolve));
    await this.#client.connect();
    const how = await outcome;
    check(how === "started" || how === "resumed", how);
    this.#connected = true;
    if (how === "started") {
      await this.#client.enableCarbons();
      await this.#client.send("presence", {});
    }
    return { jid: this.#client.jid, resumed: how === "resumed", login: [this.#mechanism] };
  }

  async send({ to, bodies }) {
    await Promise.all(bodies.map((body) => this.#client.send("message", { id: this.#client.nextId(), to, type: "chat", body })));
  }

  // COMPAT(stanza.js): what it sends again on a resumption it does not keep for the
  // next one, and takes acknowledgements of that for others'. So all has to be
  // acknowledged before another connection may be lost.
  async sync() {
    await this.#client.ping(server.domain);
    while (this.#client.sm.unacked.length > 0) await new Promise((acked) => this.#client.once("stream:management:ack", acked));
  }

  async archive() {
    const archive = [];
    for (let after; ; ) {
      const page = await this.#client.searchHistory({ paging: { max: 20, ...(after && { after }) } });
      for (const { id, item } of page.results) {
        const message = describe(item.message);
        if (message) archive.push({ ...message, id });
      }
      if (page.complete) return { archive };
      after = page.paging.last;
    }
  }

  // COMPAT(stanza.js): it knows the elements of XEP-0352 but not the stream
  // feature, without which its markInactive and markActive do nothing.
  async inactive() {
    check(this.#offersCSI, "the server does not offer client state indication");
    await this.#client.send("csi", { state: "inactive" });
    return { jid: this.#client.jid };
  }

  async active() {
    await this.#client.send("csi", { state: "active" });
    await this.sync();
    return { detail: this.#shows.get(server.accounts.romeo.jid) };
  }

  async end() {
    if (this.#connected) this.#client.disconnect();
  }
}

await serve(new Survivor());
