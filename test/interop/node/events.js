// The event stream, read with the package eventsource, in its formats and over lost
// connections, from which it comes back by itself.

import net from "node:net";
import { DOMParser } from "@xmldom/xmldom";
import { EventSource } from "eventsource";

import { check, finish, log, server, step } from "./harness.js";
import { Queue, call } from "./rest.js";

const gateway = `events-node.${server.domain}`;
const contact = `friend@${gateway}`;
const text = "Art thou not Romeo? <&> 🌹";
const sources = [];

/** An EventSource whose requests carry a token; its events go to a queue. */
function follow(query, { base = server.rest, secret = token, last, types = ["message", "presence", "gap"] } = {}) {
  const source = new EventSource(`${base}/events?${new URLSearchParams(query)}`, {
    fetch: (input, init) => {
      const headers = { ...init.headers, Authorization: `Bearer ${secret}` };
      if (last && !headers["Last-Event-ID"]) headers["Last-Event-ID"] = last;
      log("GET", String(input), JSON.stringify(headers));
      return fetch(input, { ...init, headers });
    },
  });
  sources.push(source);
  const queue = new Queue();
  queue.source = source;
  queue.opened = new Promise((open, failed) => {
    source.onopen = open;
    source.onerror = (err) => {
      log("error", err.code, err.message);
      if (source.readyState === EventSource.CLOSED) failed(err);
    };
  });
  for (const type of types) {
    source.addEventListener(type, (event) => {
      log("event", event.lastEventId, event.type, event.data.slice(0, 500));
      queue.put({ id: event.lastEventId, type: event.type, data: event.data, json: event.data.startsWith("{") ? JSON.parse(event.data) : undefined });
    });
  }
  return queue;
}

const ofType = (type) => (event) => event.type === type;
const send = (body) => call("POST", "/messages", { to: contact, body }, { token: server.token, status: 202 });
const xml = (document) => new DOMParser().parseFromString(document, "text/xml").documentElement;

await call("PUT", `/gateways/${gateway}`, { type: "x-test" });
const { secret: token } = await call("POST", "/tokens", { name: "events-node", scopes: [`send:${gateway}`, `read:${gateway}`] });

await step("events.unauthorized", async () => {
  const refused = await follow({ host: gateway }, { secret: "not-a-token" }).opened.then(() => undefined, (err) => err);
  check(refused?.code === 401, `${refused?.code} ${refused?.message}`);
  return refused.message;
});

const streams = Object.fromEntries(["json", "xml", "cpim"].map((format) => [format, follow({ host: gateway, format })]));
const presences = follow({ host: gateway, type: "presence" });
await Promise.all([...Object.values(streams), presences].map((q) => q.opened));

await step("events.live-json", async () => {
  await send(text);
  const event = await streams.json.take("message", ofType("message"));
  check(event.json.data.body === text && event.json.data.to === contact && event.json.id === event.id, event);
  return event.id;
});

await step("events.live-xml", async () => {
  const { data } = await streams.xml.take("message", ofType("message"));
  const stanza = xml(data);
  check(stanza.localName === "message" && stanza.namespaceURI === "jabber:client" && stanza.getAttribute("to") === contact, data);
  check(stanza.getElementsByTagNameNS("jabber:client", "body")[0].textContent === text, data);
});

await step("events.live-cpim", async () => {
  const { data } = await streams.cpim.take("message", ofType("message"));
  const [head, entity, ...body] = data.split("\n\n"); // RFC 3862 §2
  check(head.includes(`To: <im:${contact}>`) && head.includes(`From: <im:${server.sender}`), data);
  check(/^Content-Type: text\/plain; *charset="?utf-8"?$/im.test(entity) && body.join("\n\n") === text, data);
});

await step("events.presence-as-pidf", async () => {
  const stanza = `<presence from='${server.sender}/desk' to='${contact}'><show>away</show></presence>`;
  const answer = await fetch(`${server.rest}/stanzas`, { method: "POST", headers: { Authorization: `Bearer ${server.token}`, "Content-Type": "application/xml" }, body: stanza });
  check(answer.status === 202, await answer.text());
  const { data } = await streams.cpim.take("presence", ofType("presence"));
  const document = xml(data);
  const pidf = "urn:ietf:params:xml:ns:pidf";
  check(document.namespaceURI === pidf && document.getAttribute("entity") === `pres:${server.sender}`, data);
  check(document.getElementsByTagNameNS(pidf, "basic")[0].textContent === "open", data);
});

await step("events.filtered", async () => {
  const event = await presences.take("event");
  check(event.type === "presence" && event.json.data.show === "away", event);
  check(presences.size === 0, "there is more than presence");
});
for (const source of sources.splice(0)) source.close();

// A proxy to the server that loses its connections.
const { hostname, port } = new URL(server.rest);
const connections = new Set();
let closed = false; // to new connections
let accepted = 0;
const road = net.createServer((here) => {
  if (closed) return here.destroy();
  accepted++;
  const there = net.connect(port, hostname);
  for (const [a, b] of [[here, there], [there, here]]) {
    connections.add(a);
    a.on("error", () => b.destroy()).on("close", () => { connections.delete(a); b.destroy(); }).pipe(b);
  }
});
await new Promise((listening) => road.listen(0, "127.0.0.1", listening));
const base = server.rest.replace(`${hostname}:${port}`, `127.0.0.1:${road.address().port}`);
const cut = () => connections.forEach((c) => c.resetAndDestroy());
const bodies = Array.from({ length: 30 }, (_, i) => `message ${i}`);

await step("events.reconnects-by-itself", async () => {
  const queue = follow({ host: gateway, after: "now" }, { base });
  await queue.opened;
  const got = [];
  for (const [i, body] of bodies.slice(0, 20).entries()) {
    await send(body);
    if (i === 4 || i === 14) {
      while (got.at(-1) !== body) got.push((await queue.take(body)).json.data.body);
      closed = true;
      cut();
    }
    if (i === 9 || i === 16) closed = false;
  }
  while (got.length < 20) got.push((await queue.take(`${got.length + 1} messages`)).json.data.body);
  check(got.join() === bodies.slice(0, 20).join(), got);
  queue.source.close();
  return `${accepted} connections`;
});

await step("events.cut-and-resumed", async () => {
  const before = follow({ host: gateway, after: "now" });
  await before.opened;
  await send(bodies[20]);
  const { id } = await before.take(bodies[20]);
  before.source.close();
  for (const body of bodies.slice(21)) await send(body);
  const after = follow({ host: gateway }, { last: id }); // another process, say, that knows the id
  for (const body of bodies.slice(21)) {
    const event = await after.take(body);
    check(event.json.data.body === body, event);
  }
  after.source.close();
});

await step("events.from-the-start", async () => {
  const all = follow({ host: gateway, after: "start", type: "message" });
  const ids = [];
  for (const body of [text, ...bodies]) {
    const event = await all.take(body);
    check(event.json.data.body === body, event);
    ids.push(event.id);
  }
  all.source.close();
  const paged = [];
  for (let after = "start"; ; ) {
    const query = new URLSearchParams({ host: gateway, type: "message", after, limit: 7 });
    const page = await call("GET", `/events?${query}`, undefined, { token, headers: { Accept: "application/json" } });
    if (page.items.length === 0) break;
    paged.push(...page.items.map((e) => e.id));
    after = page.next;
  }
  check(paged.join() === ids.join(), paged);
});

await step("events.gap", async () => {
  const event = await follow({ host: gateway }, { last: "evt_1" }).take("gap", ofType("gap")); // from before anything was
  check(event.json.after === "evt_1" && event.json.until.startsWith("evt_"), event);
});

for (const source of sources) source.close();
road.close();
await call("DELETE", `/gateways/${gateway}`);
finish();
