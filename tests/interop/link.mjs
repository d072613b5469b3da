// One side of one link of docs/clearing.md, both as the payer's homeserver (A) and as the payee's (B), kept in memory.
// Sends nothing by itself: what is signed waits in `outbox`, and what a peer sent comes in through `receive`.

import crypto from 'node:crypto'
import {
  Key, TERMS, checkForm, commitmentsOf, headOf, isMatrixSigned, isQuery, isSealed, isSigned, linkIdOf, messageIdOf, refuse, seal,
  termsOf,
} from './protocol.mjs'

const MAX_AHEAD = 10_000
const MARGIN_MS = 60_000
const NOBODY_SEEN = { seq: 0, hash: '', signature: '' }
const WITHOUT_SIGNATURE_OF_OURS = ['LINK_OPEN', 'LIMIT', 'SUSPEND', 'RESUME', 'CLOSE', 'KEY', 'STATEMENT']
const BEFORE_OPEN = WITHOUT_SIGNATURE_OF_OURS
const STANDING = { SUSPEND: 'suspended', RESUME: 'ready', CLOSE: 'closing' }
// By what is said of a settlement: the states in which it may be said, and the one after it.
const SETTLING = {
  SETTLE_PROPOSE: [[null], 'proposed'], SETTLE_AGREE: [['proposed'], 'agreed'], SETTLE_REFUSE: [['proposed'], 'refused'],
  SETTLE_CANCEL: [['proposed', 'agreed', 'refused'], 'cancelled'], SETTLE_SENT: [['agreed'], 'sent'],
  SETTLE_RECEIVED: [['sent'], 'received'], SETTLE_NOT_RECEIVED: [['sent'], 'not_received'],
}
const domainOf = (userId) => userId.slice(userId.indexOf(':') + 1)

export const openingOf = ({ payer, payee, memo }) => {
  const salt = () => crypto.randomBytes(16).toString('hex')
  return {
    payer: { user_id: payer.user_id, acct: payer.acct }, payee: { user_id: payee, acct: '' }, payment_id: salt(),
    ...(memo === undefined ? {} : { memo }), salts: { payer: salt(), payee: salt(), memo: salt(), wire: salt() },
  }
}

export class Link {
  constructor({ me, peer, key, matrixKeyName, certify, people, now = () => Date.now() }) {
    Object.assign(this, { me, peer, key, matrixKeyName, certify, people, now })
    this.id = linkIdOf(me, peer)
    this.retired = [] // our keys before `key`
    this.mine = [] // by seq − 1
    this.theirs = new Map() // by seq
    this.pins = [] // {after, publicKey}: a key counts for places behind `after`
    this.granted = new Map() // what we grant, by currency
    this.grants = new Map() // what the peer grants us
    this.grantedAt = new Map()
    this.standing = { [me]: ['ready', 0], [peer]: ['ready', 0] }
    this.isChecked = false // the peer has answered HEAD?
    this.stopped = null
    this.evidence = []
    this.outbox = [] // {object, opening?, dueMs, done}
    this.out = new Map() // payments of ours by wire_id
    this.in = new Map()
    this.dueTo = {}
    this.dueFrom = {}
    this.inTransit = {}
    this.settlements = new Map() // by debtor and id
  }

  // What we sign.

  sign(type, fields, { opening, dueMs = this.now() } = {}) {
    if (!this.isChecked) throw new Error('nothing is signed before HEAD? is answered')
    const object = this.next(type, fields)
    this.mine.push(object)
    this.outbox.push({ object, opening, dueMs, done: false })
    return object
  }

  /** An object for the next place of our chain. */
  next(type, fields, key = this.key) {
    const last = this.mine.at(-1)
    return seal({
      v: 1, type, link_id: this.id, epoch: 1, seq: this.mine.length + 1, prev_hash: last ? messageIdOf(last) : '',
      from_server: this.me, to_server: this.peer, seen: this.seenNow(), ...fields,
    }, key)
  }

  /** Up to where we miss nothing of the peer's. */
  seenNow() {
    let seq = 0
    while (this.theirs.has(seq + 1)) seq += 1
    if (seq === 0) return NOBODY_SEEN
    const object = this.theirs.get(seq)
    return { seq, hash: messageIdOf(object), signature: object.signature }
  }

  open(currencies) {
    for (const each of currencies) this.granted.set(each.currency, each)
    return this.sign('LINK_OPEN', { currencies, key: this.ownKey(this.key) })
  }

  ownKey(key) {
    const statement = { type: 'org.superapp.payment_key', server: this.me, public_key: key.public }
    return { public_key: key.public, certificate: this.certify(statement) }
  }

  say(type, fields = {}) {
    if (type in STANDING) this.standing[this.me] = [STANDING[type], this.mine.length + 1]
    return this.sign(type, fields)
  }

  /** Another payment key from now on; the one that it retires says so. */
  renewKey() {
    const next = Key.fresh()
    this.sign('KEY', { key: this.ownKey(next) })
    this.retired.push(this.key)
    this.key = next
  }

  get isOpen() {
    return this.mine.length > 0 && this.theirs.has(1)
  }

  get isReady() {
    return this.isOpen && this.stopped === null && Object.values(this.standing).every(([how]) => how === 'ready')
  }

  /** Pay somebody of the peer's. */
  pay({ payer, payee, amount, currency, scale, memo }) {
    if (!this.isReady) throw new Error('the link takes no payments')
    if (payer.available < amount) throw new Error('not enough money')
    const opening = openingOf({ payer, payee, memo })
    const terms = { ...commitmentsOf(opening), amount, currency, scale }
    payer.available -= amount
    payer.held += amount
    this.out.set(terms.wire_id, { terms, payer, state: 'offered', offeredMs: this.now(), endMs: this.now() + 60_000, answer: null, receipt: null })
    this.sign('OFFER', { ...terms, ttl_ms: 60_000 }, { opening })
    return terms.wire_id
  }

  cancel(wireId) {
    const payment = this.out.get(wireId)
    if (!['offered', 'asked'].includes(payment.state)) throw new Error('it is decided')
    this.abort(payment, 'cancelled')
  }

  abort(payment, reason, dueMs) {
    payment.state = 'aborted'
    payment.payer.held -= payment.terms.amount
    payment.payer.available += payment.terms.amount
    return this.sign('ABORT', { ...payment.terms, reason }, { dueMs })
  }

  /** The payee's answer, once asked. */
  decide(wireId, deed) {
    const payment = this.in.get(wireId)
    if (payment.state !== 'asked') throw new Error('nobody is asked')
    if (deed === 'accept') this.accept(payment)
    else this.reject(payment, 'declined')
  }

  accept(payment, dueMs) {
    payment.state = 'accepted'
    this.sign('ACCEPT', { ...payment.terms, valid_ms: 600_000 }, { dueMs })
  }

  reject(payment, reason, dueMs) {
    payment.state = 'rejected'
    this.sign('REJECT', { ...payment.terms, reason }, { dueMs })
  }

  /** As the debtor: what the peer's RECEIPTs allow, less what others claim. */
  propose(amount, currency, scale) {
    let claimed = 0
    for (const each of this.out.values()) if (each.state === 'committed' && each.terms.currency === currency) claimed += each.terms.amount
    for (const each of this.settlements.values()) {
      if (each.debtor === this.me && each.terms.currency === currency && ['proposed', 'agreed'].includes(each.state)) claimed += each.terms.amount
    }
    if (amount + claimed > (this.dueTo[currency] ?? 0)) throw new Error('so much is not owed')
    const settlement_id = crypto.randomBytes(32).toString('base64url')
    this.settle(this.me, 'SETTLE_PROPOSE', { settlement_id, amount, currency, scale })
    return settlement_id
  }

  /** What an operator says about a settlement: what it does to the books, and the object that says so. */
  settle(debtor, type, terms, more = {}, dueMs = this.now()) {
    const found = this.settlements.get(`${debtor} ${terms.settlement_id}`) ?? { debtor, terms, state: null, answer: null, outcome: null }
    const { amount, currency } = terms
    const [before, after] = SETTLING[type]
    if (!before.includes(found.state)) throw new Error(`it is ${found.state}`)
    found.state = after
    this.settlements.set(`${debtor} ${terms.settlement_id}`, found)
    if (type === 'SETTLE_SENT') {
      this.dueTo[currency] -= amount
      this.inTransit[currency] = (this.inTransit[currency] ?? 0) + amount
    }
    if (type === 'SETTLE_RECEIVED') this.dueFrom[currency] -= more.received
    return this.sign(type, { ...terms, ...more }, { dueMs })
  }

  /** Payments whose time is over. */
  tick() {
    for (const payment of this.out.values()) {
      if (['offered', 'asked'].includes(payment.state) && this.now() >= payment.endMs) this.abort(payment, 'expired')
    }
  }

  // What comes.

  /** The direct answer to a body of the peer, or a Refusal thrown. `matrixKeys` are those that the origin publishes. */
  receive(origin, body, { messageId, matrixKeys, byPut = true } = {}) {
    checkForm(body, byPut)
    const { object, opening } = body
    if (messageId !== undefined && messageId !== messageIdOf(object)) refuse('INVALID_VALUE', 'the path names another object')
    if (object.from_server !== origin || object.to_server !== this.me) refuse('WRONG_ORIGIN', 'it is not of its origin to us')
    if (object.link_id !== this.id) refuse('UNKNOWN_LINK', 'there is no such link')
    if (isQuery(object)) return this.answer(object)
    this.checkSignature(object, matrixKeys)
    if (object.epoch !== 1) refuse('INVALID_VALUE', 'that epoch has not begun')
    const known = this.theirs.get(object.seq)
    if (known !== undefined && messageIdOf(known) === messageIdOf(object)) {
      this.acknowledge(object)
      return this.answersTo(object)
    }
    this.checkPlace(object, known)
    this.checkState(object)
    const done = this.judge(object, opening, byPut)
    this.theirs.set(object.seq, object)
    this.acknowledge(object)
    done()
    return this.answersTo(object)
  }

  checkSignature(object, matrixKeys) {
    if (object.type === 'LINK_OPEN' && (object.seq !== 1 || this.mine.length === 0 || this.pins.length === 0)) {
      this.checkCertificate(object, matrixKeys)
      if (!isSealed(object, object.key.public_key)) refuse('BAD_SIGNATURE', 'the signature is not that of its key')
      return
    }
    if (this.pins.length === 0) refuse('NO_LINK', 'the link is not open')
    const pin = this.pins.findLast((each) => object.seq > each.after)
    if (!isSealed(object, pin.publicKey)) refuse('BAD_SIGNATURE', 'it is not signed with the key that the link pins')
  }

  checkCertificate({ key, from_server }, matrixKeys) {
    const { certificate, public_key } = key
    const isOfKey = certificate.server === from_server && certificate.public_key === public_key
    if (!isOfKey || !isMatrixSigned(certificate, from_server, matrixKeys ?? {})) {
      refuse('BAD_SIGNATURE', 'the certificate does not verify')
    }
  }

  checkPlace(object, known) {
    if (known !== undefined) this.freeze('equivocation', known, object)
    const before = this.theirs.get(object.seq - 1)
    const after = this.theirs.get(object.seq + 1)
    if (before !== undefined && messageIdOf(before) !== object.prev_hash) this.freeze('broken_chain', before, object)
    if (after !== undefined && after.prev_hash !== messageIdOf(object)) this.freeze('broken_chain', object, after)
    let whole = 0
    while (this.theirs.has(whole + 1)) whole += 1
    if (object.seq > whole + MAX_AHEAD) refuse('TOO_MANY_REQUESTS', 'it is too far ahead')
  }

  checkState(object) {
    if (this.stopped !== null) refuse('LINK_HALTED', `the link is stopped: ${this.stopped}`)
    if (!this.isOpen && !BEFORE_OPEN.includes(object.type)) refuse('NO_LINK', 'the link is not open on both sides')
    if (!this.isChecked && !WITHOUT_SIGNATURE_OF_OURS.includes(object.type)) {
      refuse('LINK_HALTED', 'we wait for an answer to HEAD?', { retry_after_ms: 1_000 })
    }
  }

  freeze(kind, ...objects) {
    this.stopped = kind
    this.evidence.push({ kind, objects })
    refuse('LINK_HALTED', `the link is stopped: ${kind}`)
  }

  /** What `seen` acknowledges, if it is true. */
  acknowledge({ seen }) {
    if (seen.seq === 0) return
    const object = this.mine[seen.seq - 1]
    if (object === undefined || messageIdOf(object) !== seen.hash || object.signature !== seen.signature) {
      const head = { epoch: 1, from_server: this.me, link_id: this.id, seq: seen.seq }
      const text = headOf(head, seen.hash)
      const isOurs = [...this.retired, this.key].some((key) => isSigned(key.public, text, Buffer.from(seen.signature, 'base64url')))
      this.evidence.push({ kind: isOurs ? 'peer_ahead' : 'false_seen', objects: [seen] })
      if (isOurs) this.stopped = 'peer_ahead'
      return
    }
    for (const each of this.outbox) each.done ||= each.object.seq <= seen.seq
  }

  /** Look at an object without changing anything, and give what is to be done once it is stored. */
  judge(object, opening, byPut) {
    switch (object.type) {
      case 'LINK_OPEN':
        return () => {
          this.pins = [{ after: 0, publicKey: object.key.public_key }]
          for (const each of object.currencies) this.grant(each, object.seq)
        }
      case 'LIMIT':
        return () => this.grant(object, object.seq)
      case 'SUSPEND': case 'RESUME': case 'CLOSE':
        return () => {
          if (object.seq > this.standing[this.peer][1]) this.standing[this.peer] = [STANDING[object.type], object.seq]
        }
      case 'KEY':
        if (this.pins.some((each) => each.publicKey === object.key.public_key)) refuse('INVALID_VALUE', 'that key was used before')
        return () => {
          this.pins.push({ after: object.seq, publicKey: object.key.public_key })
          this.pins.sort((a, b) => a.after - b.after)
        }
      case 'STATEMENT':
        return () => {}
      case 'SETTLE_PROPOSE': case 'SETTLE_CANCEL': case 'SETTLE_SENT':
        return this.judgeDebtor(object)
      case 'SETTLE_AGREE': case 'SETTLE_REFUSE': case 'SETTLE_RECEIVED': case 'SETTLE_NOT_RECEIVED':
        return this.judgeCreditor(object)
      case 'OFFER':
        return this.judgeOffer(object, opening, byPut)
      case 'COMMIT': case 'ABORT':
        return this.judgeDecision(object)
      default:
        return this.judgeAnswer(object)
    }
  }

  grant({ currency, scale, limit }, seq) {
    if (seq < (this.grantedAt.get(currency) ?? 0)) return
    this.grantedAt.set(currency, seq)
    this.grants.set(currency, { scale, limit })
  }

  judgeOffer(object, opening, byPut) {
    const known = this.in.get(object.wire_id)
    if (known !== undefined && (known.isOffered || !this.hasTerms(object, known))) refuse('CONFLICT', 'the id is taken')
    // Without its opening it is left for its own delivery.
    if (!byPut) refuse('INVALID_VALUE', 'an OFFER in an answer has no opening')
    const commitments = commitmentsOf(opening)
    if (Object.entries(commitments).some(([name, value]) => object[name] !== value)) {
      refuse('BAD_COMMITMENT', 'the opening is not what the OFFER commits to')
    }
    if (domainOf(opening.payer.user_id) !== this.peer) refuse('WRONG_ORIGIN', 'the payer is of another server')
    if (domainOf(opening.payee.user_id) !== this.me) refuse('UNKNOWN_PAYEE', 'the payee is of another server')
    if (known !== undefined) return () => { known.isOffered = true }
    const payee = this.people.get(opening.payee.user_id)
    const payment = { terms: termsOf(object), isOffered: true, payee, payer: opening.payer.user_id, state: null, decision: null }
    const why = this.whyNot(object, payee)
    return () => {
      this.in.set(object.wire_id, payment)
      const dueMs = this.now() + 2_000
      if (why !== null) this.reject(payment, why, dueMs)
      else if (payee.asks) {
        payment.state = 'asked'
        this.sign('PENDING', { ...payment.terms, ttl_ms: 86_400_000 }, { dueMs })
      } else this.accept(payment, dueMs)
    }
  }

  /** Why an OFFER is rejected, or null. */
  whyNot(object, payee) {
    if (object.e2e_id !== undefined || object.inner !== undefined) return 'not_allowed'
    if (!this.isReady) return Object.values(this.standing).some(([how]) => how === 'closing') ? 'no_link' : 'link_suspended'
    const granted = this.granted.get(object.currency)
    if (granted === undefined || granted.scale !== object.scale) return 'unknown_currency'
    if (this.used(object.currency) + object.amount > granted.limit) return 'credit_limit'
    return payee === undefined ? 'unknown_payee' : null
  }

  used(currency) {
    let reserved = 0
    let unreceipted = 0
    for (const each of this.in.values()) {
      if (each.state === 'accepted' && each.terms.currency === currency) reserved += each.terms.amount
    }
    for (const each of this.out.values()) {
      if (each.state === 'committed' && each.terms.currency === currency) unreceipted += each.terms.amount
    }
    return Math.max(0, (this.dueFrom[currency] ?? 0) + reserved - ((this.dueTo[currency] ?? 0) - unreceipted))
  }

  hasTerms(object, payment) {
    return TERMS.every((name) => object[name] === payment.terms[name])
  }

  judgeDecision(object) {
    const payment = this.in.get(object.wire_id)
    if (payment !== undefined && !this.hasTerms(object, payment)) refuse('CONFLICT', 'the id has other terms')
    if (payment !== undefined && payment.decision !== null) {
      if (payment.decision.type === object.type) refuse('CONFLICT', 'it was decided before')
      this.freeze('commit_and_abort', payment.decision, object)
    }
    if (payment === undefined && object.type === 'COMMIT') refuse('UNKNOWN_PAYMENT', 'we lose nothing, so it was never offered')
    return () => {
      const found = payment ?? { terms: termsOf(object), isOffered: false, state: 'void', decision: null }
      this.in.set(object.wire_id, found)
      found.decision = object
      const isCredited = object.type === 'COMMIT' && found.state === 'accepted' && !found.payee.isFrozen
      found.state = isCredited ? 'credited' : 'void'
      if (isCredited) {
        found.payee.available += object.amount
        this.dueFrom[object.currency] = (this.dueFrom[object.currency] ?? 0) + object.amount
      }
      this.sign('RECEIPT', { ...found.terms, reason: found.state }, { dueMs: this.now() + 2_000 })
    }
  }

  judgeAnswer(object) {
    const payment = this.out.get(object.wire_id)
    if (payment === undefined) refuse('UNKNOWN_PAYMENT', 'it answers a payment that was never offered')
    if (!this.hasTerms(object, payment)) refuse('CONFLICT', 'the id has other terms')
    const isUndecided = ['offered', 'asked'].includes(payment.state)
    if (object.type === 'RECEIPT') return this.judgeReceipt(object, payment, isUndecided)
    if (object.type !== 'PENDING' && payment.answer !== null) refuse('CONFLICT', 'it was answered before')
    return () => {
      if (object.type === 'PENDING') {
        if (payment.state === 'offered') {
          payment.state = 'asked'
          payment.endMs = Math.min(this.now() + object.ttl_ms, payment.offeredMs + 86_400_000)
        }
        return
      }
      payment.answer = object
      if (!isUndecided) return
      const dueMs = this.now() + 2_000
      if (object.type === 'REJECT') this.abort(payment, object.reason, dueMs)
      else if (this.now() >= payment.endMs || object.valid_ms < MARGIN_MS) this.abort(payment, 'expired', dueMs)
      else {
        payment.state = 'committed'
        payment.payer.held -= object.amount
        this.dueTo[object.currency] = (this.dueTo[object.currency] ?? 0) + object.amount
        this.sign('COMMIT', payment.terms, { dueMs })
      }
    }
  }

  judgeReceipt(object, payment, isUndecided) {
    if (payment.receipt !== null) {
      if (payment.receipt.reason === object.reason) refuse('CONFLICT', 'it was receipted before')
      this.freeze('credited_and_void', payment.receipt, object)
    }
    if (object.reason === 'credited' && payment.state !== 'committed') this.freeze('unfounded_receipt', object)
    if (isUndecided) refuse('CONFLICT', 'nothing was decided')
    return () => {
      payment.receipt = object
      if (payment.state !== 'committed') return
      payment.state = object.reason === 'credited' ? 'completed' : 'voided'
      if (payment.state === 'voided') {
        this.dueTo[object.currency] -= object.amount
        payment.payer.available += object.amount
      }
    }
  }

  // Settlement, by the two tables of the page.

  settlementOf(object, debtor) {
    const { settlement_id, amount, currency, scale } = object
    const key = `${debtor} ${settlement_id}`
    const known = this.settlements.get(key)
    if (known !== undefined && (known.terms.amount !== amount || known.terms.currency !== currency || known.terms.scale !== scale)) {
      refuse('CONFLICT', 'the id has other terms')
    }
    return { key, known, terms: { settlement_id, amount, currency, scale } }
  }

  /** What the debtor says to us, the creditor. */
  judgeDebtor(object) {
    const { key, known, terms } = this.settlementOf(object, this.peer)
    const state = known?.state ?? null
    const keep = (next) => this.settlements.set(key, { ...(known ?? { debtor: this.peer, terms, answer: null, outcome: null }), ...next })
    if (object.type === 'SETTLE_PROPOSE') {
      if (known?.isTombstone) return () => keep({ isTombstone: false })
      if (known !== undefined) refuse('CONFLICT', 'it was proposed before')
      const granted = this.granted.get(object.currency)
      let expected = object.amount
      for (const each of this.settlements.values()) {
        if (each.debtor === this.peer && each.terms.currency === object.currency && ['agreed', 'sent'].includes(each.state)) expected += each.terms.amount
      }
      const why = granted?.scale !== object.scale ? 'unknown_currency' : expected > (this.dueFrom[object.currency] ?? 0) ? 'exceeds_debt' : null
      return () => {
        keep({ state: 'proposed' })
        if (why !== null) this.settle(this.peer, 'SETTLE_REFUSE', terms, { reason: why }, this.now() + 2_000)
      }
    }
    if (object.type === 'SETTLE_CANCEL') {
      if (['sent', 'received', 'not_received'].includes(state)) this.freeze('settlement_contradicted', object)
      if (state === 'cancelled') refuse('CONFLICT', 'it was cancelled before')
      return () => keep({ state: 'cancelled', isTombstone: known === undefined })
    }
    if (known === undefined) refuse('UNKNOWN_SETTLEMENT', 'it was never proposed')
    if (state === 'cancelled') this.freeze('settlement_contradicted', object)
    if (state !== 'agreed') refuse('CONFLICT', `it is ${state}`)
    return () => keep({ state: 'sent' })
  }

  /** What the creditor says to us, the debtor. */
  judgeCreditor(object) {
    const { known } = this.settlementOf(object, this.me)
    if (known === undefined) refuse('UNKNOWN_SETTLEMENT', 'it was never proposed')
    const isAnswer = ['SETTLE_AGREE', 'SETTLE_REFUSE'].includes(object.type)
    const slot = isAnswer ? 'answer' : 'outcome'
    if (known[slot] !== null) {
      if (known[slot].type === object.type && known[slot].received === object.received) refuse('CONFLICT', 'it was said before')
      this.freeze('settlement_contradicted', known[slot], object)
    }
    if (!isAnswer && known.state !== 'sent') refuse('CONFLICT', `it is ${known.state}`)
    return () => {
      known[slot] = object
      if (isAnswer) {
        if (known.state === 'proposed') known.state = object.type === 'SETTLE_AGREE' ? 'agreed' : 'refused'
        return
      }
      known.state = object.type === 'SETTLE_RECEIVED' ? 'received' : 'not_received'
      this.inTransit[object.currency] -= object.amount
      this.dueTo[object.currency] += object.amount - (object.received ?? 0)
    }
  }

  // What we answer.

  answersTo(object) {
    const of = (...types) => this.mine.filter((each) => each.wire_id === object.wire_id && types.includes(each.type))
    const ofSettlement = (...types) =>
      this.mine.filter((each) => each.settlement_id === object.settlement_id && types.includes(each.type))
    switch (object.type) {
      case 'LINK_OPEN': return this.mine.slice(0, 1)
      case 'OFFER': return of('PENDING', 'ACCEPT', 'REJECT', 'RECEIPT')
      case 'PENDING': case 'ACCEPT': return of('COMMIT', 'ABORT')
      case 'REJECT': return of('ABORT')
      case 'COMMIT': case 'ABORT': return of('RECEIPT')
      case 'SETTLE_PROPOSE': return ofSettlement('SETTLE_AGREE', 'SETTLE_REFUSE')
      case 'SETTLE_SENT': return ofSettlement('SETTLE_RECEIVED', 'SETTLE_NOT_RECEIVED')
      default: return []
    }
  }

  answer(query) {
    const theirs = [...this.theirs.entries()].sort(([a], [b]) => a - b).map(([, object]) => object)
    switch (query.type) {
      case 'HEAD?': return [...theirs.slice(-1), ...this.mine.slice(-1)]
      case 'STATUS?': return [...this.mine, ...theirs].filter((each) => [each.wire_id, each.settlement_id].includes(query.wire_id))
      case 'RANGE?': {
        const chain = query.of === this.me ? this.mine : query.of === this.peer ? theirs : []
        return chain.filter((each) => each.epoch === query.epoch && each.seq >= query.from_seq && each.seq <= query.to_seq).slice(0, 100)
      }
      default: return []
    }
  }

  query(type, fields = {}) {
    return { v: 1, type, link_id: this.id, from_server: this.me, to_server: this.peer, ...fields }
  }

  /** What the peer holds of us, in answer to HEAD?. */
  checked(objects) {
    for (const each of objects.filter(({ from_server }) => from_server === this.me)) {
      const ours = this.mine[each.seq - 1]
      const isOurs = [...this.retired, this.key].some((key) => isSealed(each, key.public))
      if (isOurs && (ours === undefined || messageIdOf(ours) !== messageIdOf(each))) {
        this.stopped = 'peer_ahead'
        this.evidence.push({ kind: 'peer_ahead', objects: [each] })
        return
      }
    }
    this.isChecked = true
  }

  /** Chain of the peer that is missing below what came. */
  gap() {
    const newest = Math.max(0, ...this.theirs.keys())
    const first = this.seenNow().seq + 1
    return first <= newest ? this.query('RANGE?', { of: this.peer, epoch: 1, from_seq: first, to_seq: newest }) : null
  }
}

