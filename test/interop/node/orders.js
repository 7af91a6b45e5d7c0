// Orders for a client that TestSurvival drives: one JSON line each on standard
// input, one answered on standard output; messages are reported as they come.
// Standard error carries the wire log.

import { createInterface } from "node:readline";

import { child, log, server, text } from "./harness.js";

const timeout = 20_000; // ms for one order
const juliet = server.accounts.juliet;

export function bare(jid) {
  return jid.split("/")[0];
}

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

/** The neutral form of a received message (see message on the Go side), or undefined when it has no body. */
export function describe(stanza) {
  let carbon = "";
  for (const kind of ["sent", "received"]) {
    const copy = child(stanza, kind, "urn:xmpp:carbons:2");
    if (!copy) continue;
    carbon = kind;
    stanza = child(child(copy, "forwarded"), "message");
  }
  const body = text(stanza, "body");
  if (body === undefined) return undefined;
  const { from = juliet.jid, to = juliet.jid } = stanza.attrs;
  const id = stanza.children.find((c) => c.name === "stanza-id" && c.xmlns === "urn:xmpp:sid:0" && c.attrs.by === juliet.jid);
  return { from: bare(from), to: bare(to), body, id: id?.attrs.id ?? "", carbon };
}

export function report(message) {
  if (message) say({ message });
}

/** Obeys orders with the methods of an adapter until standard input ends. What a method returns is merged into the answer. */
export async function serve(adapter) {
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    log("=====", order.do);
    const answer = { number: order.number };
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${timeout} ms`)), timeout);
    });
    try {
      Object.assign(answer, await Promise.race([adapter[order.do](order), late]));
    } catch (err) {
      log(err?.stack ?? JSON.stringify(err));
      answer.error = err?.message ?? JSON.stringify(err);
    }
    clearTimeout(timer);
    say(answer);
  }
  await adapter.end?.();
  process.exit(0);
}
