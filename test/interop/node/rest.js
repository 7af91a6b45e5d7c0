// The operator's side: REST requests with fetch.

import { check, log, server } from "./harness.js";

/** Returns the answer's JSON; it has to be a success, or have the status. */
export async function call(method, path, body, { token = server.admin, status, headers = {} } = {}) {
  const answer = await fetch(server.rest + path, {
    method,
    headers: { Authorization: `Bearer ${token}`, ...(body !== undefined && { "Content-Type": "application/json" }), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await answer.text();
  log(method, path, answer.status, text.slice(0, 2000));
  check(status ? answer.status === status : answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** A queue whose take waits for what is put. */
export class Queue {
  #items = [];
  #waiting = [];

  put(item) {
    this.#items.push(item);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  get size() {
    return this.#items.length;
  }

  /** Takes the first item that matches. */
  async take(what, match = () => true) {
    const deadline = Date.now() + 20_000;
    for (;;) {
      const at = this.#items.findIndex(match);
      if (at >= 0) return this.#items.splice(at, 1)[0];
      const left = deadline - Date.now();
      check(left > 0, `no ${what}; there is ${JSON.stringify(this.#items)}`);
      await new Promise((wake) => {
        this.#waiting.push(wake);
        setTimeout(wake, left).unref();
      });
    }
  }
}
