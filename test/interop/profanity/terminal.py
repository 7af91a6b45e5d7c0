"""Profanity in a terminal: typing, reading the screen, reading its wire log.

A person's view decides: steps wait for words on the screen. The wire log says
what profanity sent and received, and goes to standard error at the end.
"""

import json
import os
import re
import subprocess
import sys
import time
import traceback

SERVER = json.loads(os.environ["INTEROP_SERVER"])
DOMAIN = SERVER["domain"]
TIMEOUT = 20  # seconds until words must be on the screen

failures = 0


class Failed(Exception):
    """The screen or the wire log shows something else than it should."""


def step(name):
    """Runs the decorated function at once as a step named so."""

    def run(function):
        global failures
        line = {"step": name, "ok": True, "detail": ""}
        print("=====", name, file=sys.stderr, flush=True)
        try:
            line["detail"] = function() or ""
        except Exception as e:  # whatever went wrong, the step has failed
            traceback.print_exc()
            failures += 1
            line.update(ok=False, detail=f"{type(e).__name__}: {e}")
        print(json.dumps(line), flush=True)

    return run


class Profanity:
    """One profanity with its own home, in its own tmux server."""

    def __init__(self, directory, role, *, ca="ca", password=None, rows=50):
        self.account = SERVER["accounts"][role]
        self.password = password or self.account["password"]
        self.home = os.path.join(directory, f"{role}-{time.monotonic_ns()}")
        self.trusted = os.path.join(self.home, "trusted")
        self.log_file = os.path.join(self.home, "profanity.log")
        self.socket = os.path.join(self.home, "tmux")
        os.makedirs(self.trusted)
        # libstrophe takes a directory of certificates named by OpenSSL's hash.
        with open(SERVER[ca]) as source, open(os.path.join(self.trusted, "ca.pem"), "w") as copy:
            copy.write(source.read())
        subprocess.run(["openssl", "rehash", self.trusted], check=True)
        self._account_file()
        environment = {
            "HOME": self.home,
            "XDG_CONFIG_HOME": os.path.join(self.home, "config"),
            "XDG_DATA_HOME": os.path.join(self.home, "data"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TERM": "screen-256color",
            "PATH": os.environ["PATH"],
        }
        self._environment = environment
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "180", "-y", str(rows),
            "profanity", "-l", "DEBUG", "-f", self.log_file,
        )  # fmt: skip
        self.wait_for("Type '/help'")
        self.type("/roster hide")  # the contacts' panel would cover words
        self.type("/presence console all")
        self.type("/tls certpath set " + self.trusted)
        self.wait_for("Certificate path set to")

    def _account_file(self):
        host, port = SERVER["tcp"].rsplit(":", 1)
        directory = os.path.join(self.home, "data", "profanity")
        os.makedirs(directory)
        with open(os.path.join(directory, "accounts"), "w") as f:
            f.write(
                f"[interop]\nenabled=true\njid={self.account['jid']}\nserver={host}\nport={port}\n"
                f"resource=profanity\ntls.policy=force\n"
            )
        os.chmod(f.name, 0o600)

    def _tmux(self, *arguments):
        done = subprocess.run(
            ["tmux", "-u", "-S", self.socket, *arguments],
            env=self._environment, capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"tmux {arguments[0]}: {done.stderr}")
        return done.stdout

    @property
    def jid(self):
        return self.account["jid"]

    def type(self, line):
        self._tmux("send-keys", "-l", "--", line)
        self._tmux("send-keys", "Enter")

    def screen(self):
        return self._tmux("capture-pane", "-p", "-J")

    def wire(self):
        try:
            with open(self.log_file, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def pid(self):
        """The process of profanity itself; tmux is its parent."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))

    def poll(self, found, what):
        deadline = time.monotonic() + TIMEOUT
        while not (result := found()):
            if time.monotonic() > deadline:
                raise Failed(f"{what} did not come; screen of {self.jid}:\n{self.screen()}")
            time.sleep(0.05)  # a terminal cannot be waited on
        return result

    def wait_for(self, *words):
        """Waits until all the words stand on the screen."""
        self.poll(lambda: (s := self.screen()) and all(w in s for w in words), f"{words} on the screen")

    def wait_wire(self, pattern):
        """Waits until the wire log holds a match, and returns it."""
        return self.poll(lambda: re.search(pattern, self.wire(), re.S), f"/{pattern}/ on the wire")

    def connect(self):
        self.type("/connect interop")
        self.wait_for("Enter password:")
        self.type(self.password)

    def close(self):
        try:
            self.type("/quit")
            self.poll(self.ended, "the end of profanity")
        finally:
            print(f"----- {self.jid}\n{self.wire()}", file=sys.stderr, flush=True)
            if not self.ended():
                self._tmux("kill-server")

    def ended(self):
        done = subprocess.run(["tmux", "-S", self.socket, "list-sessions"], capture_output=True)
        return done.returncode != 0
