// A person in front of Converse.js in a Chromium of their own: all they do is
// click, type and read.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

import { check, log, server } from "../node/harness.js";

const timeout = 25_000; // ms

// The footer of Converse's login page wants pictures from its home page, and no
// setting turns that off. They are not loaded; anything else would be a finding.
const sponsors = "https://conversejs.org/media/logos/";

export class Person {
  foreign = []; // requests to anything but loopback
  errors = []; // uncaught exceptions of the page
  boshSessions = new Set(); // the sids it has used
  lastRequest = 0; // when the last BOSH request left
  onFrame = () => {}; // every WebSocket frame: "<" or ">", and its text

  /** Starts a browser and opens the page for the road. */
  static async open(account, road) {
    const person = new Person();
    person.account = account;
    person.road = road;
    person.profile = mkdtempSync(path.join(tmpdir(), "interop-chromium-"));
    person.browser = await chromium.launchPersistentContext(person.profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      viewport: { width: 1100, height: 750 },
      locale: "en-US",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    person.page = person.browser.pages()[0] ?? (await person.browser.newPage());
    person.page.setDefaultTimeout(timeout);
    await person.page.route(`${sponsors}**`, (route) => route.abort());
    person.#watch();
    await person.page.goto(`${server.origin}/${road}`);
    return person;
  }

  #watch() {
    const { page, account } = this;
    const note = (url) => {
      const { protocol, hostname } = new URL(url);
      if (["http:", "https:", "ws:", "wss:"].includes(protocol) && hostname !== "127.0.0.1") this.foreign.push(url);
    };
    page.on("pageerror", (err) => {
      this.errors.push(err.message);
      log(account.local, "page error", err.stack ?? err.message);
    });
    page.on("console", (message) => log(account.local, message.type(), message.text()));
    page.on("request", (request) => {
      if (!request.url().startsWith(sponsors)) note(request.url());
      if (request.url() !== server.bosh || request.method() !== "POST") return;
      log(account.local, "BOSH >", request.postData());
      this.lastRequest = Date.now();
      const sid = /^<body[^>]* sid=["']([^"']+)/.exec(request.postData())?.[1];
      if (sid) this.boshSessions.add(sid);
    });
    page.on("response", async (response) => {
      if (response.url() === server.bosh) log(account.local, "BOSH <", await response.text().catch(() => response.status()));
    });
    page.on("websocket", (socket) => {
      note(socket.url());
      for (const [event, direction] of [["framesent", ">"], ["framereceived", "<"]]) {
        socket.on(event, ({ payload }) => {
          log(account.local, "WS", direction, payload);
          this.onFrame(direction, payload);
        });
      }
    });
  }

  /** Fills the login form; the outcome is on the page. */
  async submitLogin(password = this.account.password) {
    const { page } = this;
    await page.fill('input[name="jid"]', this.account.jid);
    await page.fill('input[name="password"]', password);
    await page.click('#converse-login button[type="submit"]');
  }

  /** Waits until the login form says something that matches, and returns it. */
  async feedback(pattern) {
    const alert = this.page.locator(".conn-feedback").filter({ hasText: pattern });
    await alert.waitFor();
    return (await alert.innerText()).trim();
  }

  async login() {
    await this.submitLogin();
    await this.ready();
  }

  /** Waits for the roster and the own presence. */
  async ready() {
    await this.page.locator("converse-roster .controlbox-heading--contacts").waitFor();
    await this.page.locator("converse-user-profile .xmpp-status").waitFor();
  }

  /** Waits until nothing has been said over BOSH for two seconds. */
  async settled() {
    const deadline = Date.now() + timeout;
    for (let rest; (rest = this.lastRequest + 2_000 - Date.now()) > 0; ) {
      check(Date.now() < deadline, "the page does not stop sending");
      await this.page.waitForTimeout(rest);
    }
  }

  async logout() {
    const { page } = this;
    await page.locator("converse-user-profile a.change-status").click();
    await page.locator("converse-profile-modal .modal-footer").getByRole("button", { name: "Log out" }).click();
    await page.locator("form.confirm").getByRole("button", { name: "Confirm" }).click();
    await page.locator('input[name="password"]').waitFor();
  }

  /** The roster's line of a contact; a stranger who wrote stands there twice. */
  contact(jid) {
    return this.page.locator(`converse-roster a.open-chat[data-jid="${jid}"]`).first();
  }

  /** Waits until the contact's dot says that they are online, busy, away or offline. */
  async sees(jid, status) {
    await this.contact(jid).locator(`converse-icon[title="This contact is ${status}"]`).waitFor();
  }

  async addContact(jid, name) {
    const { page } = this;
    await page.click("converse-roster converse-dropdown.dropdown--contacts button");
    await page.click("converse-roster a.add-contact");
    const form = page.locator("form.add-xmpp-contact");
    await form.locator('input[name="jid"]').fill(jid);
    await form.locator('input[name="name"]').fill(name);
    await form.locator('button[type="submit"]').click();
    await this.contact(jid).waitFor();
  }

  async openChat(jid) {
    await this.contact(jid).click();
    await this.chat(jid).locator("textarea.chat-textarea").waitFor();
  }

  chat(jid) {
    return this.page.locator(`converse-chat[jid="${jid}"]`);
  }

  async say(jid, body) {
    const area = this.chat(jid).locator("textarea.chat-textarea");
    await area.fill(body);
    await area.press("Enter");
  }

  /** Waits until a message with exactly this text stands in the chat. */
  async reads(jid, body) {
    const texts = this.chat(jid).locator(".chat-msg__text");
    const deadline = Date.now() + timeout;
    for (;;) {
      const seen = (await texts.allInnerTexts()).map((t) => t.trim());
      if (seen.includes(body)) return;
      check(Date.now() < deadline, `${this.account.jid} reads ${JSON.stringify(seen)}, not ${JSON.stringify(body)}`);
      await this.page.waitForTimeout(100); // the page has no event for it
    }
  }

  /** Sets the own presence to online, busy, away or xa. */
  async setStatus(show, message = "") {
    await this.page.locator("converse-user-profile a.change-status").click();
    const form = this.page.locator("form.set-xmpp-status");
    await form.locator(`#radio-${show}`).check();
    await form.locator('input[name="status_message"]').fill(message);
    await form.locator('button[type="submit"]').click();
    await this.page.locator("converse-profile-modal").getByText("Status updated").waitFor();
    await this.page.locator("converse-profile-modal .modal-footer").getByRole("button", { name: "Close" }).click();
    await form.waitFor({ state: "hidden" });
  }

  async screenshot(name) {
    const file = path.join(server.artifacts, `interop-${server.name}-${name}.png`);
    await this.page.screenshot({ path: file });
    return file;
  }

  async close() {
    await this.browser.close();
    rmSync(this.profile, { recursive: true, force: true });
  }
}
