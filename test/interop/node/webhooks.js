// Webhooks, received with node:http and verified by what a receiver would take: the
// reference library of Standard Webhooks for HMAC, node:crypto for ed25519.

import { createPublicKey, generateKeyPairSync, randomBytes, verify } from "node:crypto";
import { createServer } from "node:http";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

import { check, finish, log, server, step } from "./harness.js";
import { Queue, call } from "./rest.js";

const name = "interop-node";
const romeo = server.accounts.romeo.jid;
const posts = new Queue();
const answers = []; // statuses of the next answers; 204 when there is none

const web = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const post = { headers: request.headers, body: Buffer.concat(chunks).toString() };
  log("POST", JSON.stringify(post));
  response.writeHead(answers.shift() ?? 204).end();
  posts.put(post);
});
await new Promise((listening) => web.listen(0, "127.0.0.1", listening));
const url = `http://127.0.0.1:${web.address().port}/hook`;

const put = (changed) => call("PUT", `/webhooks/${name}`, { url, watch: [romeo], types: ["message", "test"], allow_private: true, ...changed });
const send = (body, headers) => call("POST", "/messages", { to: romeo, body }, { token: server.token, status: 202, headers });

function refused(secret, body, headers) {
  try {
    new Webhook(secret).verify(body, headers);
  } catch (err) {
    check(err instanceof WebhookVerificationError, String(err));
    return;
  }
  check(false, "the signature was taken");
}

let made, first;
await step("webhook.made", async () => {
  made = await put();
  first = made.secret;
  check(first.startsWith("whsec_") && !("secret" in (await call("GET", `/webhooks/${name}`))), made);
});

await step("hmac.verified", async () => {
  const sent = await send("Art thou not Romeo? <&> 🌹");
  const { headers, body } = await posts.take("post");
  const event = new Webhook(first).verify(body, headers);
  check(event.type === "message" && event.data.body === "Art thou not Romeo? <&> 🌹", event);
  check(event.data.id === sent.id && event.data.to === romeo, event);
  check(event.id === headers["webhook-id"], headers);
  posts.verified = { headers, body };
  return headers["webhook-signature"];
});

await step("hmac.tampered-refused", () => {
  const { headers, body } = posts.verified;
  refused(first, body.replace("Romeo", "Tybalt"), headers);
  refused(first, body, { ...headers, "webhook-id": "evt_1" });
  refused(first, body, { ...headers, "webhook-timestamp": String(Math.floor(Date.now() / 1000) - 60) });
});

const second = "whsec_" + randomBytes(32).toString("base64");
await step("hmac.two-keys-during-rotation", async () => {
  await put({ keys: [made.keys[0].id, second] });
  await send("signed twice");
  const { headers, body } = await posts.take("post");
  check(headers["webhook-signature"].split(" ").length === 2, headers);
  for (const secret of [first, second]) check(new Webhook(secret).verify(body, headers).data.body === "signed twice", body);
});

await step("hmac.old-key-gone", async () => {
  await put({ keys: [second] });
  await send("signed by the new key");
  const { headers, body } = await posts.take("post");
  new Webhook(second).verify(body, headers);
  refused(first, body, headers);
});

await step("ed25519.verified", async () => {
  const pair = generateKeyPairSync("ed25519");
  const { d, x } = pair.privateKey.export({ format: "jwk" }); // seed and public key
  const whole = Buffer.concat([Buffer.from(d, "base64url"), Buffer.from(x, "base64url")]);
  await put({ keys: [second, `whsk_${whole.toString("base64")}`] });
  const shown = await call("GET", `/webhooks/${name}`);
  const ids = shown.keys.filter((k) => k.scheme === "ed25519").map((k) => k.id);
  check(ids.length === 1 && ids[0].startsWith("whpk_"), shown);
  const raw = Buffer.from(ids[0].slice("whpk_".length), "base64");
  check(raw.toString("base64url") === x, "REST shows another public key");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") }, format: "jwk" });
  await send("signed by a key pair");
  const { headers, body } = await posts.take("post");
  new Webhook(second).verify(body, headers); // it passes over the other scheme
  const [signature] = headers["webhook-signature"].split(" ").filter((s) => s.startsWith("v1a,"));
  const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
  check(verify(null, Buffer.from(signed), key, Buffer.from(signature.slice(4), "base64")), "the signature is not valid");
  check(!verify(null, Buffer.from(signed + " "), key, Buffer.from(signature.slice(4), "base64")), "a changed body was taken");
  return ids[0];
});

await step("retry.same-id-and-fresh-signature", async () => {
  answers.push(503);
  await send("again, please");
  const before = await posts.take("post");
  const after = await posts.take("second post");
  check(before.headers["webhook-id"] === after.headers["webhook-id"] && before.body === after.body, [before, after]);
  new Webhook(second).verify(after.body, after.headers);
  return `${before.headers["webhook-timestamp"]} ${after.headers["webhook-timestamp"]}`;
});

await step("trace.goes-on", async () => {
  const trace = randomBytes(16).toString("hex");
  await send("in a trace", { traceparent: `00-${trace}-${randomBytes(8).toString("hex")}-01` });
  const { headers } = await posts.take("post");
  check(headers.traceparent?.startsWith(`00-${trace}-`), headers);
  return headers.traceparent;
});

await step("webhook.test-delivery", async () => {
  const trial = await call("POST", `/webhooks/${name}/test`);
  const { headers, body } = await posts.take("post");
  check(new Webhook(second).verify(body, headers).type === "test", body);
  check(trial.status === 204, trial);
});

await step("webhook.delivery-log", async () => {
  let items;
  for (let i = 0; i < 100; i++) { // the last row is written a moment after the answer
    ({ items } = await call("GET", `/webhooks/${name}/deliveries`));
    if (items.length >= 6 && items.every((d) => d.state === "delivered")) break;
    await new Promise((done) => setTimeout(done, 50));
  }
  const attempts = items.map((d) => d.attempts).sort().join();
  check(attempts === "1,1,1,1,1,2", items);
  return attempts;
});

await step("webhook.removed", async () => {
  await call("DELETE", `/webhooks/${name}`);
  await send("for nobody");
  await call("GET", `/webhooks/${name}`, undefined, { status: 404 });
  check(posts.size === 0, "it goes on posting");
});

finish();
