// Steps, expectations and the neutral form of stanzas for the Node clients.
//
// A stanza is [name, attributes, ...children] when sent and
// {name, attrs, children, text} when received, so that one conversation runs
// over every library and transport. A step is one line of JSON on standard
// output; standard error carries the wire log.

export const server = JSON.parse(process.env.INTEROP_SERVER);
const stepTimeout = 30_000; // ms; generous, the machine may be busy

let failed = false;

// Standard output is for steps alone; libraries write their logs to the console.
for (const level of ["debug", "info", "log"]) console[level] = console.error;

/** Runs fn as a step. A failure is reported and does not end the script; the result says whether it was ok. */
export async function step(name, fn) {
  log(`===== ${name}`);
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${stepTimeout} ms`)), stepTimeout);
  });
  const line = { step: name, ok: true, detail: "" };
  try {
    line.detail = String((await Promise.race([fn(), deadline])) ?? "");
  } catch (err) {
    failed = true;
    line.ok = false;
    line.detail = String(err?.message ?? err);
    log(err?.stack ?? String(err));
  } finally {
    clearTimeout(timer);
  }
  process.stdout.write(JSON.stringify(line) + "\n");
  return line.ok;
}

/** Ends the process: 0 when every step was ok. */
export function finish() {
  process.exit(failed ? 1 : 0);
}

export function check(condition, what) {
  if (!condition) throw new Error(typeof what === "string" ? what : JSON.stringify(what));
}

const began = Date.now();

export function log(...words) {
  console.error(String(Date.now() - began).padStart(6, "0"), ...words);
}

/** The first child of a received element with this name and namespace. */
export function child(el, name, xmlns) {
  return el?.children.find((c) => c.name === name && (!xmlns || c.xmlns === xmlns));
}

/** The text of a child, or undefined. */
export function text(el, name) {
  return child(el, name)?.text;
}

/** The defined condition of an error stanza (RFC 6120 §8.3.3). */
export function condition(stanza) {
  const error = child(stanza, "error");
  const ns = "urn:ietf:params:xml:ns:xmpp-stanzas";
  return error?.children.find((c) => c.xmlns === ns && c.name !== "text")?.name;
}

/** One resource of one account. A library's adapter supplies the connection. */
export class Peer {
  #inbox = [];
  #waiting = [];
  #nextID = 1;

  constructor(adapter, account) {
    this.adapter = adapter;
    this.bare = account.jid;
    adapter.onStanza = (stanza) => {
      this.#inbox.push(stanza);
      for (const wake of this.#waiting.splice(0)) wake();
    };
  }

  /** The full JID that the server bound. */
  get jid() {
    return this.adapter.jid;
  }

  async login() {
    await this.adapter.connect();
    check(this.jid.startsWith(this.bare + "/"), `bound ${this.jid}, want ${this.bare}/…`);
    this.send("presence", {});
    await this.expect("own presence", (s) => s.name === "presence" && s.attrs.from === this.jid);
    return this;
  }

  logout() {
    return this.adapter.disconnect();
  }

  id() {
    return `${this.bare.split("@")[0]}-${this.#nextID++}`;
  }

  send(name, attrs, ...children) {
    this.adapter.send([name, attrs, ...children]);
  }

  chat(to, body) {
    const id = this.id();
    this.send("message", { to, type: "chat", id }, ["body", {}, body]);
    return id;
  }

  /** Sends an iq and returns its answer, result or error. */
  async iq(type, to, ...payload) {
    const id = this.id();
    this.send("iq", { type, id, ...(to && { to }) }, ...payload);
    return this.expect(`answer to iq ${id}`, (s) => s.name === "iq" && s.attrs.id === id && s.attrs.type !== "get" && s.attrs.type !== "set");
  }

  /** Like iq, but an error answer throws. */
  async result(type, to, ...payload) {
    const answer = await this.iq(type, to, ...payload);
    check(answer.attrs.type === "result", `${JSON.stringify(payload)}: ${condition(answer)}`);
    return answer;
  }

  /** Takes the first stanza that matches out of the inbox, waiting for it. */
  async expect(what, match) {
    const deadline = Date.now() + stepTimeout - 5_000;
    for (;;) {
      const at = this.#inbox.findIndex(match);
      if (at >= 0) return this.#inbox.splice(at, 1)[0];
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${this.jid} got no ${what}; it has ${JSON.stringify(this.#inbox)}`);
      await new Promise((wake) => {
        this.#waiting.push(wake);
        setTimeout(wake, left).unref();
      });
    }
  }

  /** A roster push for a contact (RFC 6121 §2.1.6); answers it as a client must. */
  async push(contact, subscription) {
    const got = await this.expect(`roster push ${contact} ${subscription}`, (s) => {
      const item = s.name === "iq" && s.attrs.type === "set" && child(child(s, "query", "jabber:iq:roster"), "item");
      return item && item.attrs.jid === contact && item.attrs.subscription === subscription;
    });
    this.send("iq", { type: "result", id: got.attrs.id });
    return child(child(got, "query"), "item");
  }

  presence(type, from) {
    return this.expect(`presence ${type ?? "available"} from ${from}`, (s) => s.name === "presence" && s.attrs.type === type && s.attrs.from.split("/")[0] === from);
  }

  message(body) {
    return this.expect(`message ${JSON.stringify(body)}`, (s) => s.name === "message" && s.attrs.type !== "error" && text(s, "body") === body);
  }
}
