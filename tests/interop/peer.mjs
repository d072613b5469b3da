// A homeserver as small as clearing allows: it publishes its signing key, lets itself be invited, and clears payments by
// docs/clearing.md. `node peer.mjs CONFIG` reads commands from standard input, one JSON object a line, and answers each.
//
// What it knows is in memory, so rule 3 of that page holds for it as long as its process lives.

import crypto from 'node:crypto'
import fs from 'node:fs'
import https from 'node:https'
import readline from 'node:readline'
import { Link, openingOf } from './link.mjs'
import { Key, Refusal, commitmentsOf, digest, isMatrixSigned, matrixSign, messageIdOf, referenceOf } from './protocol.mjs'

const PATH = '/_matrix/federation/unstable/org.superapp/clearing/'
const TICK_MS = 100
const RETRY_MS = 1_000 // a ladder of one step
const TIMEOUT_MS = 10_000
const MATRIX_KEY = 'ed25519:interop'

const config = JSON.parse(fs.readFileSync(process.argv[2], 'utf8')) // {name, port, certificate, key, ca}
const ca = fs.readFileSync(config.ca)
const me = config.name
const matrixKey = Key.fresh()
const people = new Map()
const links = new Map()

const matrixPublic = Buffer.from(matrixKey.public, 'base64url').toString('base64').replace(/=+$/, '')
const signed = (value) => matrixSign(value, me, MATRIX_KEY, matrixKey)

// Requests to others.

const request = (server, method, uri, content, headers = {}) =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(`https://${server}`)
    const body = content === undefined ? undefined : Buffer.from(JSON.stringify(content))
    const call = https.request({ hostname, port, path: uri, method, ca, timeout: TIMEOUT_MS, headers: { 'Content-Type': 'application/json', ...headers } })
    call.on('timeout', () => call.destroy(new Error('no answer in time')))
    call.on('error', reject)
    call.on('response', async (response) => {
      try {
        const chunks = []
        for await (const chunk of response) chunks.push(chunk)
        resolve({ status: response.statusCode, content: JSON.parse(Buffer.concat(chunks).toString('utf8')) })
      } catch (error) {
        reject(error)
      }
    })
    call.end(body)
  })

// X-Matrix, of the Matrix specification, "Request Authentication".
const authorized = (server, method, uri, content) => {
  const { signatures } = signed({ method, uri, origin: me, destination: server, ...(content === undefined ? {} : { content }) })
  const words = { origin: me, destination: server, key: MATRIX_KEY, sig: signatures[me][MATRIX_KEY] }
  return { Authorization: `X-Matrix ${Object.entries(words).map(([name, value]) => `${name}="${value}"`).join(',')}` }
}

const put = (server, object, opening, messageId = messageIdOf(object)) => {
  const uri = PATH + messageId
  const body = opening === undefined ? { object } : { object, opening }
  return request(server, 'PUT', uri, body, authorized(server, 'PUT', uri, body))
}

const known = new Map()
const keysOf = async (server) => {
  if (!known.has(server)) {
    const { content } = await request(server, 'GET', '/_matrix/key/v2/server')
    const keys = Object.fromEntries(Object.entries(content.verify_keys).map(([name, { key }]) => [name, key]))
    if (content.server_name !== server || !isMatrixSigned(content, server, keys)) throw new Error(`${server} published no keys of its own`)
    known.set(server, keys)
  }
  return known.get(server)
}

// What others ask of us.

const authenticate = async (call, content) => {
  const [scheme, words = ''] = (call.headers.authorization ?? '').split(/ +(.*)/s)
  const found = Object.fromEntries([...words.matchAll(/(\w+)="?([^",]*)"?/g)].map(([, name, value]) => [name, value]))
  const { origin, destination = me, key, sig } = found
  const statement = { method: call.method, uri: call.url, origin, destination, ...(content === undefined ? {} : { content }) }
  const isRight = scheme === 'X-Matrix' && destination === me &&
    isMatrixSigned({ ...statement, signatures: { [origin]: { [key]: sig } } }, origin, await keysOf(origin))
  if (!isRight) throw new Refusal('M_UNAUTHORIZED', 401, 'the signature is not that of the origin')
  return origin
}

const receive = async (origin, messageId, body) => {
  const link = links.get(origin)
  if (link === undefined) throw new Refusal('UNKNOWN_LINK', 404, 'there is no such link')
  const objects = link.receive(origin, body, { messageId, matrixKeys: await keysOf(origin) })
  link.pausedUntilMs = 0
  return { objects }
}

// "Inviting to a room" of the server-server API: our people are in any room that they are asked into.
const KEPT = ['type', 'room_id', 'sender', 'state_key', 'content', 'hashes', 'signatures', 'depth', 'prev_events', 'auth_events', 'origin_server_ts']
const invited = ({ event }) => {
  const redacted = Object.fromEntries(KEPT.filter((name) => name in event).map((name) => [name, event[name]]))
  const { signatures } = signed({ ...redacted, content: { membership: event.content.membership } })
  return { event: { ...event, signatures } }
}

const answer = async (call, content) => {
  if (call.url === '/_matrix/key/v2/server') {
    return signed({ server_name: me, verify_keys: { [MATRIX_KEY]: { key: matrixPublic } }, old_verify_keys: {}, valid_until_ts: Date.now() + 86_400_000 })
  }
  if (call.method === 'PUT' && call.url.startsWith(PATH)) return receive(await authenticate(call, content), call.url.slice(PATH.length), content)
  if (call.method === 'PUT' && call.url.startsWith('/_matrix/federation/v2/invite/')) return invited(content)
  if (call.method === 'PUT' && call.url.startsWith('/_matrix/federation/v1/send/')) return { pdus: {} }
  throw new Refusal('M_UNRECOGNIZED', 404, 'this homeserver clears payments and does nothing else')
}

const serve = async (call, response) => {
  const chunks = []
  for await (const chunk of call) chunks.push(chunk)
  let status = 200
  let content
  try {
    content = await answer(call, chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString('utf8')))
  } catch (error) {
    status = error instanceof Refusal ? error.status : 500
    const code = error instanceof Refusal ? error.code : 'M_UNKNOWN'
    content = { errcode: code.startsWith('M_') ? code : `ORG.SUPERAPP.${code}`, error: error.message, ...error.fields }
    if (status === 500) console.error(error)
  }
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(content))
}

// The outbox.

const handleAnswer = async (link, objects) => {
  const matrixKeys = await keysOf(link.peer)
  for (const object of objects) {
    try {
      link.receive(link.peer, { object }, { matrixKeys, byPut: false })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      link.refusals.push(error.code)
    }
  }
}

const deliver = async (link, each) => {
  each.underWay = true
  each.dueMs = Date.now() + RETRY_MS
  try {
    const { status, content } = await put(link.peer, each.object, each.opening)
    if (status === 200) {
      each.done = true
      await handleAnswer(link, content.objects)
    } else {
      link.refused.push({ type: each.object.type, errcode: content.errcode })
      if (status >= 500 || status === 429) link.pausedUntilMs = Date.now() + Math.min(content.retry_after_ms ?? RETRY_MS, RETRY_MS)
    }
  } catch (error) {
    link.pausedUntilMs = Date.now() + RETRY_MS
    link.lastError = String(error)
  } finally {
    each.underWay = false
  }
}

const isAwaited = (link, { object }) =>
  ['COMMIT', 'ABORT'].includes(object.type) && link.out.get(object.wire_id).receipt === null

const ask = async (link, query) => {
  const { status, content } = await put(link.peer, query)
  if (status !== 200) throw new Error(`${query.type}: ${status} ${content.errcode}`)
  return content
}

const look = (link) => {
  link.tick()
  const nowMs = Date.now()
  if (nowMs < link.pausedUntilMs || link.stopped === 'peer_ahead') return
  for (const each of link.outbox) {
    const isBarrier = ['LINK_OPEN', 'KEY'].includes(each.object.type) && !each.done
    if (!each.underWay && nowMs >= each.dueMs && (!each.done || isAwaited(link, each))) void deliver(link, each)
    if (isBarrier) return
  }
  const gap = link.gap()
  if (gap === null) link.gapSinceMs = null
  else if ((link.gapSinceMs ??= nowMs) + 5_000 <= nowMs) {
    link.gapSinceMs = nowMs
    void ask(link, gap).then(({ objects }) => handleAnswer(link, objects), (error) => { link.lastError = String(error) })
  }
}

// Commands.

const linkOf = (peer) => links.get(peer)
const shown = (link) => ({
  isOpen: link.isOpen, standing: link.standing[link.peer][0], stopped: link.stopped, dueTo: link.dueTo, dueFrom: link.dueFrom,
  evidence: link.evidence.map(({ kind }) => kind), refused: link.refused, refusals: link.refusals, lastError: link.lastError,
  unsent: link.outbox.filter((each) => !each.done || isAwaited(link, each)).map((each) => each.object.type),
  out: Object.fromEntries([...link.out].map(([wireId, { state, terms }]) => [wireId, { state, amount: terms.amount }])),
  in: Object.fromEntries([...link.in].map(([wireId, { state, terms }]) => [wireId, { state, amount: terms.amount }])),
  inTransit: link.inTransit,
  settlements: [...link.settlements.values()].map(({ debtor, state, terms }) => (
    { debtor, state, ...terms, reference: referenceOf(link.id, debtor, terms.settlement_id) })),
  types: link.mine.map(({ type }) => type), theirTypes: [...link.theirs.values()].map(({ type }) => type),
})

const COMMANDS = {
  person: ({ name, balance = 0, asks = false, isFrozen = false }) => {
    const user_id = `@${name}:${me}`
    const person = people.get(user_id) ?? { user_id, acct: digest([user_id, crypto.randomUUID()]), available: balance, held: 0 }
    people.set(user_id, Object.assign(person, { asks, isFrozen }))
    return person
  },
  link: async ({ peer, currencies }) => {
    const link = new Link({ me, peer, key: Key.fresh(), people, certify: signed })
    Object.assign(link, { pausedUntilMs: 0, refused: [], refusals: [], lastError: null, gapSinceMs: null })
    links.set(peer, link)
    link.checked((await ask(link, link.query('HEAD?'))).objects)
    link.open(currencies)
  },
  say: ({ peer, type, fields }) => linkOf(peer).say(type, fields),
  renewKey: ({ peer }) => linkOf(peer).renewKey(),
  pay: ({ peer, payer, ...more }) => linkOf(peer).pay({ payer: people.get(payer), ...more }),
  propose: ({ peer, amount, currency, scale }) => linkOf(peer).propose(amount, currency, scale),
  settle: ({ peer, debtor, settlementId, type, fields }) =>
    linkOf(peer).settle(debtor, type, linkOf(peer).settlements.get(`${debtor} ${settlementId}`).terms, fields),
  cancel: ({ peer, wireId }) => linkOf(peer).cancel(wireId),
  decide: ({ peer, wireId, deed }) => linkOf(peer).decide(wireId, deed),
  show: ({ peer }) => shown(linkOf(peer)),
  ask: async ({ peer, type, fields }) => (await ask(linkOf(peer), linkOf(peer).query(type, fields))).objects,
  // Send a body that is wrong, in the next free place, and give what the peer says to it. `opening` and `fields` are
  // changes before it is signed, `afterwards` those after it.
  plant: async ({ peer, type = 'OFFER', payer, payee, opening = {}, fields = {}, afterwards = {}, isBare = false, foreignOpening, signer }) => {
    const link = linkOf(peer)
    const changed = { ...openingOf({ payer: people.get(payer), payee }), ...opening }
    const ids = type.startsWith('SETTLE_') ? { settlement_id: digest(changed) } : commitmentsOf(changed)
    const terms = { ...ids, amount: 100, currency: 'EUR', scale: 2 }
    const more = { OFFER: { ttl_ms: 60_000 }, ACCEPT: { valid_ms: 600_000 } }[type]
    const object = { ...link.next(type, { ...terms, ...more, ...fields }, signer === 'another' ? Key.fresh() : link.key), ...afterwards }
    // What has no digest is sent under that of what it was.
    const named = messageIdOf('amount' in afterwards && !Number.isSafeInteger(afterwards.amount) ? { ...object, amount: 100 } : object)
    return put(peer, object, isBare || type !== 'OFFER' ? undefined : { ...changed, ...foreignOpening }, named)
  },
}

const server = https.createServer({ cert: fs.readFileSync(config.certificate), key: fs.readFileSync(config.key) }, serve)
server.listen(config.port, '127.0.0.1', () => console.log(JSON.stringify({ ready: me })))
setInterval(() => { for (const link of links.values()) look(link) }, TICK_MS)

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { command, ...more } = JSON.parse(line)
  try {
    console.log(JSON.stringify({ answer: (await COMMANDS[command](more)) ?? null }))
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }))
  }
}
process.exit(0)
