// xmpp.js (@xmpp/client) over TCP with STARTTLS and over WebSocket.

import { client, xml } from "@xmpp/client";
import WebSocket from "ws";

import { log, server } from "./harness.js";

globalThis.WebSocket ??= WebSocket; // Node 20 has none

const services = {
  tcp: `xmpp://${server.tcp}`,
  tls: `xmpps://${server.direct_tls}`,
  websocket: server.websocket,
  wss: server.wss,
};

export class XmppJS {
  onStanza = () => {};

  constructor(transport, account, { password = account.password } = {}) {
    this.transport = transport;
    this.xmpp = client({
      service: services[transport],
      domain: server.domain,
      resource: `xmppjs-${transport}`,
      username: account.local,
      password,
    });
    this.xmpp.reconnect.stop();
    this.xmpp.timeout = 20_000; // ms, for connect and close; xmpp.js gives up after 2 s
    this.xmpp.on("error", (err) => log(account.local, "error", err.message));
    this.xmpp.on("element", (el) => log(account.local, "<", String(el)));
    this.xmpp.on("send", (el) => log(account.local, ">", String(el)));
    this.xmpp.on("stanza", (stanza) => this.onStanza(plain(stanza)));
  }

  get jid() {
    return String(this.xmpp.jid);
  }

  /** Resolves when bound; rejects with an Error whose message has the condition. */
  async connect() {
    await this.xmpp.start();
    if (["tcp", "tls"].includes(this.transport) && !this.xmpp.socket.socket.authorized) {
      throw new Error("the certificate was not verified");
    }
  }

  send(stanza) {
    this.xmpp.send(build(stanza));
  }

  async disconnect() {
    await this.xmpp.stop();
  }
}

function build([name, attrs, ...children]) {
  return xml(name, attrs, ...children.map((c) => (Array.isArray(c) ? build(c) : c)));
}

export function plain(el) {
  return {
    name: el.getName(),
    xmlns: el.getNS(),
    attrs: { ...el.attrs },
    children: el.getChildElements().map(plain),
    text: el.text(),
  };
}
