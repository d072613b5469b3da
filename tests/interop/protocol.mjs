// Objects of docs/clearing.md: canonical JSON, digests, signatures, and the form that each object must have.
// Written from that page alone. Needs nothing but Node's standard library, whose crypto has ed25519.

import crypto from 'node:crypto'

/** A "no" of docs/clearing.md, "Refusals". */
export class Refusal extends Error {
  constructor(code, status, message, fields = {}) {
    super(message)
    Object.assign(this, { code, status, fields })
  }
}

const STATUS = {
  INVALID_VALUE: 422, UNKNOWN_FIELD: 422, INVALID_AMOUNT: 422, WRONG_ORIGIN: 403, UNKNOWN_LINK: 404, NO_LINK: 403,
  BAD_SIGNATURE: 403, BAD_COMMITMENT: 403, UNKNOWN_PAYEE: 404, UNKNOWN_PAYMENT: 404, CONFLICT: 409, LINK_HALTED: 503,
  UNKNOWN_SETTLEMENT: 404, EPOCH_CLOSED: 410, TOO_MANY_REQUESTS: 429, STARTING: 503,
}

export const refuse = (code, message, fields) => {
  throw new Refusal(code, STATUS[code], message, fields)
}

// Notation.

const isWhole = (value) => typeof value === 'number' && Number.isSafeInteger(value)
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
// The order of UTF-8 bytes is that of code points, which that of JavaScript's strings is not.
const byCodePoint = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))

const spell = (value, check) => {
  if (Array.isArray(value)) return `[${value.map((each) => spell(each, check)).join(',')}]`
  if (isObject(value)) {
    const keys = Object.keys(value).sort(byCodePoint)
    return `{${keys.map((key) => `${JSON.stringify(key)}:${spell(value[key], check)}`).join(',')}}`
  }
  check(value)
  return JSON.stringify(value)
}

export const canonical = (value) => spell(value, (each) => {
  if (typeof each === 'number' && !isWhole(each)) refuse('INVALID_VALUE', `${each} is no whole number`)
})

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest()
export const digest = (value) => sha256(canonical(value)).toString('base64url')
export const without = (value, ...names) => Object.fromEntries(Object.entries(value).filter(([key]) => !names.includes(key)))

const decode = (text, bytes) => {
  if (typeof text !== 'string') return null
  const found = Buffer.from(text, 'base64url')
  return found.length === bytes && found.toString('base64url') === text ? found : null
}

// Keys.

const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

export class Key {
  constructor(seed) {
    this.private = crypto.createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })
    this.public = crypto.createPublicKey(this.private).export({ format: 'jwk' }).x
    this.id = keyId(this.public)
  }

  static fresh = () => new Key(crypto.randomBytes(32))

  sign = (text) => crypto.sign(null, Buffer.from(text), this.private)
}

export const keyId = (publicKey) => `ed25519:${sha256(Buffer.from(publicKey, 'base64url')).toString('base64url').slice(0, 8)}`

export const isSigned = (publicKey, text, signature) => {
  const key = crypto.createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' })
  return crypto.verify(null, Buffer.from(text), key, signature)
}

// "Signing JSON" of the Matrix specification, whose base64 is not the URL-safe one. Requests are signed so as well, whatever
// numbers somebody plants in them.
const matrixBytes = (value) => spell(without(value, 'signatures', 'unsigned'), () => {})

export const matrixSign = (value, server, keyName, key) => {
  const signature = key.sign(matrixBytes(value)).toString('base64').replace(/=+$/, '')
  const signatures = { ...value.signatures, [server]: { ...value.signatures?.[server], [keyName]: signature } }
  return { ...value, signatures }
}

export const isMatrixSigned = (value, server, publicKeys) =>
  Object.entries(value.signatures?.[server] ?? {}).some(([name, signature]) => {
    const key = publicKeys[name]
    const publicKey = key && Buffer.from(key, 'base64').toString('base64url')
    return key !== undefined && isSigned(publicKey, matrixBytes(value), Buffer.from(signature, 'base64'))
  })

// Objects.

export const linkIdOf = (one, other) => digest([one, other].sort(byCodePoint))
export const messageIdOf = (object) => digest(without(object, 'signature'))
export const headOf = ({ epoch, from_server, link_id, seq }, message_id) => canonical({ epoch, from_server, link_id, message_id, seq })

export const seal = (fields, key) => {
  const object = { ...fields, key_id: key.id }
  const signature = key.sign(headOf(object, messageIdOf(object))).toString('base64url')
  return { ...object, signature }
}

export const isSealed = (object, publicKey) =>
  object.key_id === keyId(publicKey) &&
  isSigned(publicKey, headOf(object, messageIdOf(object)), Buffer.from(object.signature, 'base64url'))

export const TERMS = ['wire_id', 'payer_commit', 'payee_commit', 'memo_commit', 'amount', 'currency', 'scale']
export const termsOf = (object) => Object.fromEntries(TERMS.map((name) => [name, object[name]]))

export const wireIdOf = (acct, paymentId, salt) => digest([acct, paymentId, salt])
export const commitmentsOf = ({ payer, payee, payment_id, memo, refund_of, salts }) => ({
  wire_id: wireIdOf(payer.acct, payment_id, salts.wire),
  payer_commit: digest([payer.user_id, payer.acct, payer.handle ?? null, salts.payer]),
  payee_commit: digest([payee.user_id, payee.acct, payee.handle ?? null, salts.payee]),
  memo_commit: digest([memo ?? null, refund_of ?? null, salts.memo]),
})

const BASE_32 = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** What goes on the real transfer of a settlement: a creditor reference of ISO 11649. */
export const referenceOf = (linkId, debtor, settlementId) => {
  let number = BigInt(`0x${Buffer.from(digest([linkId, debtor, settlementId]), 'base64url').toString('hex')}`)
  let body = ''
  for (; body.length < 12; number /= 32n) body += BASE_32[Number(number % 32n)]
  const digits = [...`${body}RF00`].map((each) => parseInt(each, 36)).join('')
  return `RF${String(98n - (BigInt(digits) % 97n)).padStart(2, '0')}${body}`
}

// The form. Each field has a check; a type is a list of names, those with a question mark may be absent.

const within = (low, high) => (value) => isWhole(value) && value >= low && value <= high
const matches = (pattern) => (value) => typeof value === 'string' && pattern.test(value)
const isDigest = (value) => decode(value, 32) !== null
const isPublicKey = isDigest
const isServer = matches(/^[A-Za-z0-9.:[\]-]{1,255}$/)
const isMember = (shape) => (value) => {
  if (!isObject(value)) return false
  checkFields(value, shape)
  return true
}
const isListOf = (check, low, high) => (value) =>
  Array.isArray(value) && value.length >= low && value.length <= high && value.every(check)

const seen = (value) =>
  isMember({ seq: within(0, Number.MAX_SAFE_INTEGER), hash: matches(/^.*$/), signature: matches(/^.*$/) })(value) &&
  (value.seq === 0 ? value.hash === '' && value.signature === '' : isDigest(value.hash) && decode(value.signature, 64) !== null)

const isKey = (value) =>
  isMember({ public_key: isPublicKey, certificate: isObject })(value) &&
  isMember({ type: matches(/^org\.superapp\.payment_key$/), server: isServer, public_key: isPublicKey, signatures: isObject })(value.certificate)

const grant = {
  currency: matches(/^[A-Z0-9]{3,12}$/), scale: within(0, 8), limit: within(0, Number.MAX_SAFE_INTEGER),
  'max_count?': within(0, Number.MAX_SAFE_INTEGER), 'max_sum?': within(0, Number.MAX_SAFE_INTEGER),
}
const isReason = matches(/^[a-z_]{1,64}$/)
const frame = { v: (value) => value === 1, type: matches(/^[A-Z_]+\??$/), link_id: isDigest, from_server: isServer, to_server: isServer }
const chained = {
  ...frame, epoch: within(1, Number.MAX_SAFE_INTEGER), seq: within(1, Number.MAX_SAFE_INTEGER),
  prev_hash: (value) => value === '' || isDigest(value), seen, key_id: matches(/^ed25519:[A-Za-z0-9_-]{8}$/),
  signature: (value) => decode(value, 64) !== null,
}
const duration = within(1, 86_400_000)
const payment = {
  ...chained, wire_id: isDigest, payer_commit: isDigest, payee_commit: isDigest, memo_commit: isDigest,
  amount: within(1, Number.MAX_SAFE_INTEGER), currency: grant.currency, scale: grant.scale,
  'e2e_id?': isDigest, 'inner?': (value) => isObject(value) && Object.keys(value).length > 0,
}
const position = {
  currency: grant.currency, due_to: grant.limit, due_from: grant.limit, unreceipted: grant.limit, reserved: grant.limit,
}
const settlement = { ...chained, settlement_id: isDigest, amount: payment.amount, currency: grant.currency, scale: grant.scale }
const CHAINED = {
  LINK_OPEN: { ...chained, currencies: isListOf(isMember(grant), 1, 64), key: isKey },
  LIMIT: { ...chained, ...grant },
  SUSPEND: { ...chained, 'reason?': isReason },
  RESUME: chained,
  CLOSE: { ...chained, 'reason?': isReason },
  KEY: { ...chained, key: isKey },
  STATEMENT: { ...chained, positions: isListOf(isMember(position), 0, 64) },
  OFFER: { ...payment, ttl_ms: duration },
  PENDING: { ...payment, ttl_ms: duration },
  ACCEPT: { ...payment, valid_ms: duration },
  REJECT: { ...payment, reason: isReason },
  COMMIT: payment,
  ABORT: { ...payment, reason: isReason },
  RECEIPT: { ...payment, reason: matches(/^(credited|void)$/) },
  SETTLE_PROPOSE: settlement,
  SETTLE_AGREE: { ...settlement, 'pay_to?': matches(/^payto:\/\/[a-z0-9.-]{1,32}\/[\x21-\x7e]{1,200}$/) },
  SETTLE_REFUSE: { ...settlement, reason: isReason },
  SETTLE_CANCEL: { ...settlement, reason: isReason },
  SETTLE_SENT: { ...settlement, 'reference?': matches(/^[A-Za-z0-9/?:().,'+ -]{1,35}$/) },
  SETTLE_RECEIVED: { ...settlement, received: within(1, Number.MAX_SAFE_INTEGER) },
  SETTLE_NOT_RECEIVED: { ...settlement, reason: isReason },
}
const QUERIES = {
  'HEAD?': frame,
  'STATUS?': { ...frame, wire_id: isDigest },
  'RANGE?': { ...frame, of: isServer, epoch: chained.epoch, from_seq: chained.seq, to_seq: chained.seq },
  'OPENINGS?': { ...frame, wire_ids: isListOf(isDigest, 1, 20) },
}
const isAnything = matches(/^[^]{1,255}$/)
const isUserId = matches(/^@[^:]*:.+$/)
const isSalt = matches(/^[0-9a-f]{32}$/)
const person = { user_id: isUserId, acct: isDigest, 'handle?': isUserId }
const OPENING = {
  payer: isMember(person), payee: isMember({ ...person, acct: (value) => value === '' || isDigest(value) }),
  payment_id: isSalt, 'memo?': (value) => typeof value === 'string' && [...value].length >= 1 && [...value].length <= 512,
  'room_id?': isAnything, 'event_id?': isAnything, 'refund_of?': isSalt,
  salts: isMember({ payer: isSalt, payee: isSalt, memo: isSalt, wire: isSalt }),
}

const checkFields = (value, shape) => {
  for (const name of Object.keys(value)) {
    if (!(name in shape) && !(`${name}?` in shape)) refuse('UNKNOWN_FIELD', `${name} is not allowed here`)
  }
  for (const [spelled, isRight] of Object.entries(shape)) {
    const name = spelled.replace(/\?$/, '')
    if (!(name in value)) {
      if (name === spelled) refuse('INVALID_VALUE', `${name} is missing`)
    } else if (!isRight(value[name])) {
      refuse(name === 'amount' ? 'INVALID_AMOUNT' : 'INVALID_VALUE', `${name} has the wrong form`)
    }
  }
}

const depthOf = (value) => (typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0)
const checkSize = (value, kib, what) => {
  if (depthOf(value) > 32 || Buffer.byteLength(canonical(value)) > kib * 1024) refuse('INVALID_VALUE', `${what} is too large`)
}

export const isQuery = (object) => object.type in QUERIES

/** The form of a body: `{object, opening?}`. An OFFER needs an opening where `byPut` is true. */
export const checkForm = (body, byPut) => {
  if (!isObject(body) || !isObject(body.object)) refuse('INVALID_VALUE', 'a body has an object')
  checkFields(body, { object: isObject, 'opening?': isObject })
  const { object, opening } = body
  const shape = CHAINED[object.type] ?? QUERIES[object.type]
  if (typeof object.type !== 'string' || shape === undefined) refuse('INVALID_VALUE', 'type is not known')
  checkFields(object, shape)
  checkSize(object, 32, 'the object')
  if ((object.seq === 1) !== (object.prev_hash === '') && object.seq !== undefined) {
    refuse('INVALID_VALUE', 'prev_hash is empty for seq 1 alone')
  }
  if (object.received > object.amount) refuse('INVALID_VALUE', 'more is received than was sent')
  if (object.type !== 'OFFER' && opening !== undefined) refuse('INVALID_VALUE', 'an opening goes with OFFER only')
  if (object.type === 'OFFER' && byPut) {
    if (opening === undefined) refuse('INVALID_VALUE', 'opening is missing')
    checkFields(opening, OPENING)
    checkSize(opening, 16, 'the opening')
  }
}
