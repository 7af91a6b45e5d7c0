// A gateway fed by Server-Sent Events: no port is open, nothing has to reach us.
// The "network" is network.txt; it echoes. The environment tells API, TOKEN and
// DOMAIN; state lives in the working directory.
import fs from "node:fs";

const { API, TOKEN, DOMAIN } = process.env;
const authorization = `Bearer ${TOKEN}`;
const read = (file) => (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const network = fs.openSync("network.txt", "a");
const seen = new Set(read("network.txt").split("\n").filter((l) => l.endsWith("}")).map((l) => JSON.parse(l).id));
let last = read("last-event-id"); // up to here everything is done

async function send(id, message) {
  for (;;) {
    const answer = await fetch(`${API}/messages`, {
      method: "POST",
      headers: { authorization, "content-type": "application/json", "idempotency-key": id },
      body: JSON.stringify(message),
    }).catch(() => ({ status: 503 }));
    if (answer.status < 500 && ![408, 409, 429].includes(answer.status)) {
      if (answer.status >= 400) console.log("refused:", answer.status, await answer.text());
      return;
    }
    await pause(1000);
  }
}

async function take(id, { data }) {
  if (data.type !== "error" && data.body) {
    if (!seen.has(id)) {
      fs.writeSync(network, JSON.stringify({ id, from: data.from, to: data.to, body: data.body }) + "\n");
      fs.fsyncSync(network);
      seen.add(id);
    }
    // The key makes it harmless to send again what was sent before a crash.
    await send(id, { from: data.to.split("/")[0], to: data.from.split("/")[0], body: `echo: ${data.body}` });
  }
  fs.writeFileSync("last-event-id.new", id);
  fs.renameSync("last-event-id.new", "last-event-id");
  last = id;
}

async function follow() {
  const headers = { authorization, accept: "text/event-stream" };
  if (last) headers["last-event-id"] = last;
  const answer = await fetch(`${API}/events?host=${DOMAIN}&type=message`, { headers });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  console.log("ready");
  let text = "";
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const fields = text.slice(0, end).split("\n").map((line) => line.split(/: ?(.*)/s));
      const get = (name) => fields.filter((f) => f[0] === name).map((f) => f[1]).join("\n");
      if (get("event") === "message") await take(get("id"), JSON.parse(get("data")));
    }
  }
}

for (;;) {
  await follow().catch((e) => console.log("disconnected:", e.message));
  await pause(500);
}
