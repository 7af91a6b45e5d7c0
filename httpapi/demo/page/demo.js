// A small XMPP client: RFC 7395 (WebSocket), RFC 5802/7677 (SCRAM-SHA-256 with
// WebCrypto) and what of RFC 6121 two people need to chat.

const NS = {
  client: 'jabber:client', framing: 'urn:ietf:params:xml:ns:xmpp-framing', sasl: 'urn:ietf:params:xml:ns:xmpp-sasl',
  bind: 'urn:ietf:params:xml:ns:xmpp-bind', roster: 'jabber:iq:roster', delay: 'urn:xmpp:delay', ping: 'urn:xmpp:ping',
}
const $ = id => document.getElementById(id)

// XML

const doc = document.implementation.createDocument(null, null)

function el(ns, name, attrs = {}, ...children) {
  const e = doc.createElementNS(ns, name)
  for (const [k, v] of Object.entries(attrs)) if (v !== undefined) e.setAttribute(k, v)
  e.append(...children.filter(c => c !== null))
  return e
}

function parse(text) {
  const root = new DOMParser().parseFromString(text, 'text/xml').documentElement
  if (root.getElementsByTagName('parsererror').length || root.localName === 'parsererror') throw new Error('not XML')
  return root
}

const child = (e, ns, name) => [...e.children].find(c => c.namespaceURI === ns && c.localName === name) ?? null
const text = (e, ns, name) => child(e, ns, name)?.textContent ?? ''
const bare = jid => (jid ?? '').split('/')[0]
// Characters that XML 1.0 cannot carry.
const clean = s => s.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '').toWellFormed()

// SCRAM

const utf8 = s => new TextEncoder().encode(s)
const base64 = bytes => btoa(String.fromCharCode(...new Uint8Array(bytes)))
const unbase64 = s => Uint8Array.from(atob(s), c => c.charCodeAt(0))

async function hmac(key, data) {
  const k = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  return new Uint8Array(await crypto.subtle.sign('HMAC', k, typeof data === 'string' ? utf8(data) : data))
}

class Scram {
  constructor(user, password) {
    this.password = password.normalize('NFKC')
    this.nonce = base64(crypto.getRandomValues(new Uint8Array(18)))
    this.bare = `n=${user.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${this.nonce}`
  }
  first() { return btoa(unescape(encodeURIComponent('n,,' + this.bare))) }
  async final(challenge) {
    const server = new TextDecoder().decode(unbase64(challenge))
    const part = Object.fromEntries(server.split(',').map(p => [p[0], p.slice(2)]))
    if ('m' in part || !part.r?.startsWith(this.nonce) || part.r === this.nonce || !(+part.i >= 4096)) throw new Error('bad challenge')
    const raw = await crypto.subtle.importKey('raw', utf8(this.password), 'PBKDF2', false, ['deriveBits'])
    const salted = await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt: unbase64(part.s), iterations: +part.i }, raw, 256)
    const clientKey = await hmac(salted, 'Client Key')
    const stored = await crypto.subtle.digest('SHA-256', clientKey)
    const message = `${this.bare},${server},c=biws,r=${part.r}`
    const signature = await hmac(stored, message)
    this.expected = base64(await hmac(await hmac(salted, 'Server Key'), message))
    return btoa(`c=biws,r=${part.r},p=${base64(clientKey.map((b, i) => b ^ signature[i]))}`)
  }
  verify(success) {
    if (atob(success) !== 'v=' + this.expected) throw new Error('the server does not know the password')
  }
}

// The stream

class Client {
  constructor(url, account, on) {
    this.on = on
    this.jid = account.jid
    const [local, domain] = account.jid.split('@')
    this.domain = domain
    this.scram = new Scram(local, account.password)
    this.asked = new Map()
    this.ws = new WebSocket(url, 'xmpp')
    this.ws.onopen = () => this.open()
    this.ws.onclose = () => this.end('The connection is closed.')
    let turn = Promise.resolve() // one element after the other
    this.ws.onmessage = m => { turn = turn.then(() => this.take(parse(m.data))).catch(e => this.end(e.message)) }
  }
  end(why) {
    if (this.over) return
    this.over = true
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(`<close xmlns='${NS.framing}'/>`)
    this.ws.close()
    this.on.end(why)
  }
  send(e) { this.ws.send(new XMLSerializer().serializeToString(e)) }
  open() { this.send(el(NS.framing, 'open', { to: this.domain, version: '1.0' })) }
  ask(type, payload, to) {
    const id = crypto.randomUUID()
    this.send(el(NS.client, 'iq', { type, id, to }, payload))
    return new Promise((resolve, reject) => this.asked.set(id, { resolve, reject }))
  }
  async take(e) {
    switch (e.localName) {
      case 'features': return this.features(e)
      case 'challenge': return this.send(el(NS.sasl, 'response', {}, await this.scram.final(e.textContent)))
      case 'success':
        this.scram.verify(e.textContent)
        this.authenticated = true
        return this.open() // RFC 7395 §3.7: the stream begins anew, the socket stays
      case 'failure': throw new Error('The login failed.')
      case 'error': throw new Error('The server ended the stream: ' + e.firstElementChild?.localName)
      case 'close': throw new Error('The server closed the stream.')
      case 'iq': return this.iq(e)
      case 'presence': return this.on.presence(e)
      case 'message': return this.on.message(e)
    }
  }
  features(e) {
    if (!this.authenticated) {
      const offered = [...(child(e, NS.sasl, 'mechanisms')?.children ?? [])].map(m => m.textContent)
      if (!offered.includes('SCRAM-SHA-256')) throw new Error('SCRAM-SHA-256 is not offered.')
      return this.send(el(NS.sasl, 'auth', { mechanism: 'SCRAM-SHA-256' }, this.scram.first()))
    }
    this.ask('set', el(NS.bind, 'bind')).then(r => {
      this.jid = text(child(r, NS.bind, 'bind'), NS.bind, 'jid')
      return this.on.bound()
    }).catch(err => this.end(err.message))
  }
  iq(e) {
    const type = e.getAttribute('type')
    if (type === 'result' || type === 'error') {
      const asked = this.asked.get(e.getAttribute('id'))
      this.asked.delete(e.getAttribute('id'))
      return type === 'result' ? asked?.resolve(e) : asked?.reject(new Error('The server refused a request.'))
    }
    const reply = { id: e.getAttribute('id'), to: e.getAttribute('from') ?? undefined }
    const known = child(e, NS.ping, 'ping') || (child(e, NS.roster, 'query') && bare(reply.to ?? this.jid) === bare(this.jid))
    this.send(known ? el(NS.client, 'iq', { ...reply, type: 'result' })
      : el(NS.client, 'iq', { ...reply, type: 'error' },
        el(NS.client, 'error', { type: 'cancel' }, el('urn:ietf:params:xml:ns:xmpp-stanzas', 'service-unavailable'))))
  }
}

// The page

function show(body, { mine = false, note = '', failed = false, at = new Date() } = {}) {
  const li = document.createElement('li')
  li.className = failed ? 'failed' : mine ? 'mine' : ''
  const small = document.createElement('small')
  small.textContent = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }) + note
  li.append(body, small)
  $('log').append(li)
  $('log').scrollTop = $('log').scrollHeight
  return li
}

function login(settings, account) {
  const peer = settings.accounts.find(a => a !== account).jid
  const resources = new Map() // of the peer: resource -> show
  const sent = new Map() // id -> its line
  $('login').hidden = true
  $('chat').hidden = false
  $('peer').textContent = peer
  $('me').textContent = account.jid
  $('state').textContent = 'connecting…'
  document.title = account.jid + ' – Trivium demo'
  location.hash = account.jid.split('@')[0]
  const rest = new URL(settings.rest, location.href)
  const quote = s => "'" + s.replaceAll("'", "'\\''") + "'"
  $('curl').textContent = `curl -H ${quote('Authorization: Bearer ' + settings.token)} \\\n  -H 'Content-Type: application/json' \\\n  -d ${
    quote(JSON.stringify({ from: peer, to: account.jid, body: 'Hello from curl' }))} \\\n  ${rest}`
  $('copy').onclick = () => navigator.clipboard.writeText($('curl').textContent)

  const url = new URL(settings.websocket, location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  const announce = () => {
    const value = $('show').value
    client.send(el(NS.client, 'presence', {}, value ? el(NS.client, 'show', {}, value) : null))
  }
  const client = new Client(url, account, {
    async bound() {
      $('state').textContent = 'connected as ' + client.jid
      const roster = child(await client.ask('get', el(NS.roster, 'query')), NS.roster, 'query')
      const item = [...(roster?.children ?? [])].find(i => i.getAttribute('jid') === peer)
      announce()
      if (!['to', 'both'].includes(item?.getAttribute('subscription')))
        client.send(el(NS.client, 'presence', { to: peer, type: 'subscribe' }))
      $('text').focus()
    },
    presence(e) {
      if (bare(e.getAttribute('from')) !== peer) return
      const resource = e.getAttribute('from').slice(peer.length + 1)
      switch (e.getAttribute('type')) {
        case 'subscribe': return client.send(el(NS.client, 'presence', { to: peer, type: 'subscribed' }))
        case 'unavailable': resources.delete(resource); break
        case null: resources.set(resource, text(e, NS.client, 'show') || 'available'); break
        default: return
      }
      const shows = [...resources.values()]
      const best = ['chat', 'available', 'away', 'xa', 'dnd'].find(s => shows.includes(s)) ?? ''
      $('dot').className = 'dot ' + best
      $('presence').textContent = { '': 'offline', dnd: 'busy', xa: 'away' }[best] ?? best
    },
    message(e) {
      if (e.getAttribute('type') === 'error') {
        const li = sent.get(e.getAttribute('id'))
        if (li) {
          li.className = 'failed'
          li.lastChild.textContent += ' · not delivered'
        }
        return
      }
      const body = text(e, NS.client, 'body')
      if (!body || bare(e.getAttribute('from')) !== peer) return
      const stamp = Date.parse(child(e, NS.delay, 'delay')?.getAttribute('stamp'))
      show(body, {
        at: stamp ? new Date(stamp) : new Date(),
        note: (stamp ? ' · sent while you were away' : '') + (e.getAttribute('from') === peer ? ' · from a program' : ''),
      })
    },
    end(why) {
      $('dot').className = 'dot'
      $('presence').textContent = 'offline'
      $('state').textContent = why + ' '
      const again = document.createElement('button')
      again.textContent = 'Connect'
      again.onclick = () => login(settings, account)
      $('state').append(again)
    },
  })
  $('show').onchange = announce
  $('form').onsubmit = e => {
    e.preventDefault()
    const body = clean($('text').value)
    if (client.over || !body.trim()) return
    const id = crypto.randomUUID()
    client.send(el(NS.client, 'message', { to: peer, type: 'chat', id }, el(NS.client, 'body', {}, body)))
    sent.set(id, show(body, { mine: true }))
    $('text').value = ''
  }
}

const settings = await (await fetch('demo.json')).json()
for (const account of settings.accounts) {
  const button = document.createElement('button')
  button.textContent = 'I am ' + account.jid.split('@')[0]
  button.onclick = () => login(settings, account)
  $('people').append(button)
}
const wanted = settings.accounts.find(a => '#' + a.jid.split('@')[0] === location.hash)
if (wanted) login(settings, wanted)
