// strophe.js over WebSocket and over BOSH.

import { $build, Strophe } from "strophe.js";

import { log, server } from "./harness.js";
import { XMLHttpRequest } from "./xhr.js";

// Strophe brings a DOM and a WebSocket for Node, and expects a browser's
// XMLHttpRequest for BOSH.
globalThis.XMLHttpRequest = XMLHttpRequest;

const services = {
  websocket: server.websocket,
  wss: server.wss,
  bosh: server.bosh,
  boshs: server.boshs,
};

const statusNames = Object.fromEntries(Object.entries(Strophe.Status).map(([name, code]) => [code, name]));

export class StropheJS {
  onStanza = () => {};
  onBody = () => {}; // every BOSH body or WebSocket frame, as text

  constructor(transport, account, { password = account.password, wait } = {}) {
    this.wanted = `${account.jid}/strophe-${transport}`;
    this.password = password;
    this.wait = wait; // seconds the server may hold a request (BOSH)
    this.connection = new Strophe.Connection(services[transport]);
    this.transport = transport;
    this.connection.rawInput = (data) => {
      log(account.local, "<", data);
      this.onBody(data);
    };
    this.connection.rawOutput = (data) => log(account.local, ">", data);
  }

  get jid() {
    return this.connection.jid;
  }

  /** The SASL mechanism in use. */
  get mechanism() {
    return this.connection._sasl_mechanism?.mechname;
  }

  /** Resolves when bound; rejects with an Error whose message has the condition. */
  connect() {
    return new Promise((resolve, reject) => {
      this.disconnected = new Promise((done) => {
        const onStatus = (status, reason, elem) => {
          log(this.wanted, "status", statusNames[status], reason ?? "");
          switch (status) {
            case Strophe.Status.CONNECTED:
              this.connection.addHandler((el) => {
                this.onStanza(plain(el));
                return true; // stay registered
              });
              resolve();
              break;
            case Strophe.Status.AUTHFAIL:
            case Strophe.Status.CONNFAIL:
            case Strophe.Status.ERROR:
              reject(new Error(`${statusNames[status]} ${reason ?? ""} ${elem ?? ""}`));
              break;
            case Strophe.Status.DISCONNECTED:
              reject(new Error("disconnected"));
              done();
          }
        };
        this.connection.connect(this.wanted, this.password, onStatus, this.wait);
      });
    });
  }

  send(stanza) {
    this.connection.send(build(stanza));
  }

  async disconnect() {
    this.connection.flush();
    this.connection.disconnect("done");
    await this.disconnected;
  }
}

function build([name, attrs, ...children], parent) {
  const builder = parent ? parent.c(name, attrs) : $build(name, { xmlns: "jabber:client", ...attrs });
  for (const c of children) {
    if (Array.isArray(c)) build(c, builder);
    else builder.t(c);
  }
  return parent ? builder.up() : builder;
}

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
