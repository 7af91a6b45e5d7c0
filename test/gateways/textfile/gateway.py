#!/usr/bin/env python3
"""A gateway to a network that is a text file: webhooks in, REST out.

What XMPP users write is appended to network.txt, one JSON object a line. The
network answers each line with an echo. Nothing but Python's own library; the
environment tells API, TOKEN, DOMAIN, SECRET and PORT. State lives in the
working directory, so it can be killed at any moment and started again.
"""
import base64, hashlib, hmac, json, os, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API, TOKEN, DOMAIN = os.environ["API"], os.environ["TOKEN"], os.environ["DOMAIN"]
KEY = base64.b64decode(os.environ["SECRET"].removeprefix("whsec_"))
network = open("network.txt", "a+")
network.seek(0)
lines = [json.loads(line) for line in network if line.endswith("\n")]
seen, lock, news = {line["id"] for line in lines}, threading.Lock(), threading.Event()


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):  # Standard Webhooks: check the signature, remember the id
        body = self.rfile.read(int(self.headers["Content-Length"]))
        event, at = self.headers["Webhook-Id"], self.headers["Webhook-Timestamp"]
        mac = hmac.new(KEY, f"{event}.{at}.".encode() + body, hashlib.sha256).digest()
        want = "v1," + base64.b64encode(mac).decode()
        signed = any(hmac.compare_digest(want, s) for s in self.headers["Webhook-Signature"].split())
        if not signed or abs(time.time() - int(at)) > 300:
            return self.send_error(401)
        m = json.loads(body)["data"]
        with lock:
            if m.get("type") != "error" and m.get("body") and event not in seen:
                line = {"id": event, "from": m["from"], "to": m["to"], "body": m["body"]}
                network.write(json.dumps(line) + "\n")
                network.flush()
                os.fsync(network.fileno())  # 2xx is a promise
                seen.add(event)
                lines.append(line)
                news.set()
        self.send_response(204)
        self.end_headers()


def send(line):  # the key makes a repeated send harmless
    message = {"from": line["to"].split("/")[0], "to": line["from"].split("/")[0], "body": "echo: " + line["body"]}
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": line["id"]}
    request = urllib.request.Request(API + "/messages", json.dumps(message).encode(), headers)
    urllib.request.urlopen(request, timeout=30).close()


def echo():
    done = int(open("position").read()) if os.path.exists("position") else 0
    while True:
        news.clear()
        while done < len(lines):
            try:
                send(lines[done])
            except OSError as e:
                if getattr(e, "code", 503) in (408, 409, 429) or getattr(e, "code", 503) >= 500:
                    time.sleep(1)
                    continue
                print("refused:", e, flush=True)
            done += 1
            with open("position.new", "w") as f:
                f.write(str(done))
            os.replace("position.new", "position")
        news.wait()


threading.Thread(target=echo, daemon=True).start()
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hook)
print("ready", flush=True)
server.serve_forever()
