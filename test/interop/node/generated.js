// A typed client of the server's OpenAPI document: openapi-typescript makes the types,
// the TypeScript compiler checks the program against them, openapi-fetch does the work.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { check, finish, log, server, step } from "./harness.js";
import { call } from "./rest.js";

const here = path.dirname(fileURLToPath(import.meta.url));
const directory = mkdtempSync(path.join(tmpdir(), "interop-openapi-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

const run = (module, ...args) => {
  try {
    return execFileSync(process.execPath, [path.join(here, "node_modules", module), ...args], { cwd: directory, encoding: "utf8", stdio: "pipe" });
  } catch (err) {
    throw new Error(`${module}: ${err.stdout}${err.stderr}`);
  }
};

await step("openapi.document", async () => {
  const document = await call("GET", "/openapi.json");
  writeFileSync(path.join(directory, "openapi.json"), JSON.stringify(document));
  return `OpenAPI ${document.openapi}, ${Object.keys(document.paths).length} paths`;
});

await step("openapi.client-generated", () => {
  // Members with a default may be left out of requests, which it doubts by itself.
  log(run("openapi-typescript/bin/cli.js", "openapi.json", "--output", "schema.d.ts", "--default-non-nullable", "false"));
});

await step("openapi.client-compiles", () => {
  symlinkSync(path.join(here, "node_modules"), path.join(directory, "node_modules"));
  copyFileSync(path.join(here, "generated.ts"), path.join(directory, "generated.ts"));
  writeFileSync(path.join(directory, "package.json"), '{"type":"module"}');
  writeFileSync(path.join(directory, "tsconfig.json"), JSON.stringify({
    compilerOptions: {
      strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true,
      target: "es2022", lib: ["es2022", "dom"], module: "nodenext", types: [],
    },
    files: ["generated.ts"],
  }));
  run("typescript/bin/tsc", "--project", "tsconfig.json");
});

const romeo = server.accounts.romeo.jid;
const juliet = server.accounts.juliet.jid;
const { secret } = await call("POST", "/tokens", { name: "openapi-node", scopes: [`send:${romeo}`, `read:${romeo}`] });
const { client } = await import(pathToFileURL(path.join(directory, "generated.js")));
const api = client(server.rest, secret, server.admin);
const text = "Art thou not Romeo? <&> 🌹";
let sent;

await step("openapi.message-sent", async () => (sent = await api.send(juliet, text)));

await step("openapi.message-once", async () => {
  const ids = [await api.send(juliet, "once", "openapi-node-1"), await api.send(juliet, "once", "openapi-node-1")];
  check(ids[0] === ids[1], ids);
});

await step("openapi.delivery-status", async () => {
  const status = await api.status(sent);
  check(status.status === "accepted" && status.to === juliet && status.from.startsWith(romeo), status);
});

await step("openapi.problem", async () => {
  const problem = await api.refused(juliet);
  check(problem.status === 403 && problem.title, problem);
});

await step("openapi.archive-paged", async () => {
  const lines = Array.from({ length: 10 }, (_, i) => `line ${i}`);
  for (const line of lines) await api.send(juliet, line);
  const { bodies, pages } = await api.archive(romeo, juliet, 5);
  check(JSON.stringify(bodies) === JSON.stringify([text, "once", ...lines]), bodies);
  return `${pages} pages`;
});

await step("openapi.webhook-managed", () => api.webhook("interop-openapi-node", romeo));

finish();
