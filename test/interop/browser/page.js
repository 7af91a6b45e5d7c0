// The web page that holds Converse.js, served from its package: no CDN.

import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { server } from "../node/harness.js";

const here = path.dirname(fileURLToPath(import.meta.url));
const dist = path.join(here, "..", "node", "node_modules", "converse.js", "dist");

const types = {
  ".css": "text/css",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mp3": "audio/mpeg",
  ".ogg": "audio/ogg",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".ttf": "font/ttf",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
  ".woff": "font/woff",
  ".woff2": "font/woff2",
};

/** The settings of converse.initialize for one road; on "survivor" it comes back by itself. */
function settings(road) {
  return {
    ...(road === "bosh" ? { bosh_service_url: server.bosh } : { websocket_url: server.websocket }),
    ...(road === "survivor" && { whitelisted_plugins: ["survivor"], archived_messages_page_size: 200 }),
    discover_connection_methods: false,
    assets_path: "/dist/",
    authentication: "login",
    allow_non_roster_messaging: true, // or a backend that is no contact stays unseen
    allow_registration: false,
    auto_list_rooms: false,
    autocomplete_providers_url: "", // would fetch a list of public servers
    auto_reconnect: road === "survivor",
    // Juliet's page accepts and asks back by itself: the dialog of 14.0.0 for
    // accepting authorises and then calls a function that does not exist.
    auto_subscribe: road === "bosh",
    loglevel: "debug",
    muc_domain: "", // no rooms
    persistent_store: "sessionStorage",
    play_sounds: false,
    render_media: false,
    show_controlbox_by_default: true,
    view_mode: "fullscreen",
  };
}

const html = (road) => `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Converse.js over ${road}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/dist/converse.min.css">
<script type="module" src="/dist/converse.min.js"></script>
</head>
<body class="converse-fullscreen">
<script type="module">
// The test needs a round trip to the server, for which the page has no button.
converse.plugins.add("survivor", { initialize() { window.survivor = this._converse.api; } });
converse.initialize(${JSON.stringify(settings(road))});
</script>
</body>
</html>
`;

/** Serves the page on the origin the server was told of; resolves when it listens. */
export function servePage() {
  const { hostname, port } = new URL(server.origin);
  const web = createServer((request, response) => {
    const url = new URL(request.url, server.origin);
    if (["/websocket", "/bosh", "/survivor"].includes(url.pathname)) {
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      response.end(html(url.pathname.slice(1)));
      return;
    }
    const file = path.join(dist, decodeURIComponent(url.pathname).replace(/^\/dist\//, ""));
    if (!url.pathname.startsWith("/dist/") || !file.startsWith(dist + path.sep) || !existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": types[path.extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve, reject) => {
    web.once("error", reject);
    web.listen(Number(port), hostname, () => resolve(web));
  });
}
