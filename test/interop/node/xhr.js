// XMLHttpRequest as far as Strophe's BOSH uses it, on Node's fetch.

import { DOMParser } from "@xmldom/xmldom";

export class XMLHttpRequest {
  /** Requests that were given up since somebody set it to 0. */
  static aborted = 0;

  readyState = 0;
  status = 0;
  responseText = "";
  responseXML = null;
  onreadystatechange = () => {};
  #headers = {};
  #controller = new AbortController();
  #response = null;

  open(method, url) {
    this.method = method;
    this.url = url;
    this.#state(1);
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  overrideMimeType() {}

  getAllResponseHeaders() {
    return [...(this.#response?.headers ?? [])].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  }

  async send(body) {
    const { signal } = this.#controller;
    try {
      this.#response = await fetch(this.url, { method: this.method, headers: this.#headers, body, signal });
      this.responseText = await this.#response.text();
      this.status = this.#response.status;
      if (this.status === 200) this.responseXML = new DOMParser().parseFromString(this.responseText, "text/xml");
    } catch {
      this.status = 0; // no connection, no answer, or aborted: all the same to a caller
    }
    this.#state(4);
  }

  abort() {
    if (this.readyState === 4) return;
    XMLHttpRequest.aborted++;
    this.#controller.abort();
  }

  #state(next) {
    this.readyState = next;
    this.onreadystatechange();
  }
}
