// A program against the types that openapi-typescript has made; generated.js compiles
// it beside them and runs it.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Problem = components["schemas"]["Problem"];
type DeliveryStatus = components["schemas"]["DeliveryStatus"];

function must<T>(got: { data?: T; error?: unknown; response: Response }): T {
  if (got.data === undefined) throw new Error(`${got.response.status} ${JSON.stringify(got.error)}`);
  return got.data;
}

export function client(baseUrl: string, secret: string, admin: string) {
  const program = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${secret}` } });
  const operator = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${admin}` } });
  return {
    async send(to: string, body: string, key?: string): Promise<string> {
      const accepted = must(
        await program.POST("/messages", {
          body: { to, body, track: true },
          ...(key !== undefined && { params: { header: { "Idempotency-Key": key } } }),
        }),
      );
      if (!("id" in accepted)) throw new Error("one message has several results");
      return accepted.id;
    },

    async status(id: string): Promise<DeliveryStatus> {
      return must(await program.GET("/messages/{id}", { params: { path: { id } } }));
    },

    /** Speaks as somebody else. */
    async refused(from: string): Promise<Problem> {
      const { error } = await program.POST("/messages", { body: { from, to: from, body: "canary" } });
      if (error === undefined) throw new Error("it was sent");
      return error;
    },

    async archive(account: string, peer: string, limit: number) {
      const bodies: (string | undefined)[] = [];
      let pages = 0;
      for (let after: string | undefined; ; ) {
        const query = { with: peer, limit, ...(after !== undefined && { after }) };
        const page = must(await program.GET("/accounts/{account}/archive", { params: { path: { account }, query } }));
        pages++;
        for (const item of page.items) bodies.push(item.message.body);
        if (page.items.length > limit) throw new Error("a page is too long");
        if (page.next === undefined) return { bodies, pages };
        after = page.next;
      }
    },

    async webhook(name: string, watched: string): Promise<string> {
      const params = { path: { name } };
      const made = must(
        await operator.PUT("/webhooks/{name}", {
          params,
          body: { url: "http://127.0.0.1:9/hook", watch: [watched], types: ["message"], allow_private: true },
        }),
      );
      if (!made.secret?.startsWith("whsec_")) throw new Error(JSON.stringify(made));
      const trial = must(await operator.POST("/webhooks/{name}/test", { params })); // nobody listens on the port
      const state = must(await operator.GET("/webhooks/{name}/status", { params }));
      const list = must(await operator.GET("/webhooks", { params: { query: { limit: 500 } } }));
      if (!list.items.some((w) => w.name === name)) throw new Error(JSON.stringify(list));
      must(await operator.GET("/webhooks/{name}/deliveries", { params }));
      const removed = await operator.DELETE("/webhooks/{name}", { params });
      const gone = await operator.GET("/webhooks/{name}", { params });
      if (removed.response.status !== 204 || gone.error?.status !== 404) throw new Error(JSON.stringify(gone.error));
      return JSON.stringify([trial, state]);
    },
  };
}
