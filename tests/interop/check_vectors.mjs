// `node check_vectors.mjs clearing-vectors.json`: check every example of docs/clearing.md, and print what was found as JSON:
// {"passed": number, "failed": [sentence, …], "refused": {because: code}}.

import fs from 'node:fs'
import { Link } from './link.mjs'
import {
  Key, Refusal, canonical, commitmentsOf, digest, headOf, isMatrixSigned, isSealed, linkIdOf, matrixSign, messageIdOf, referenceOf, seal, without,
} from './protocol.mjs'

const vectors = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const found = { passed: 0, failed: [], refused: {} }
const check = (what, isRight) => {
  if (isRight) found.passed += 1
  else found.failed.push(what)
}

const payment = {}
const matrix = {}
for (const each of vectors.keys) {
  const key = new Key(Buffer.from(each.payment_seed_hex, 'hex'))
  payment[each.server] = key
  matrix[each.server] = { name: each.matrix_key_id, key: new Key(Buffer.from(each.matrix_seed_hex, 'hex')) }
  check(`the payment key of ${each.server}`, key.public === each.payment_public_key && key.id === each.payment_key_id)
}
const matrixKeys = (server) => ({ [matrix[server].name]: Buffer.from(matrix[server].key.public, 'base64url').toString('base64') })

const { servers, canonical: linkBytes, link_id } = vectors.link
check('the link id', linkIdOf(...servers) === link_id && canonical(servers) === linkBytes && digest(servers) === link_id)

const { opening, ...digests } = vectors.opening
for (const [name, value] of Object.entries(commitmentsOf(opening))) {
  check(name, value === digests[name].digest && digest(JSON.parse(digests[name].canonical)) === value && canonical(JSON.parse(digests[name].canonical)) === digests[name].canonical)
}

for (const [server, chain] of Object.entries(vectors.chains)) {
  let before = null
  for (const { object, canonical_without_signature, message_id, canonical_head } of chain) {
    const what = `${server} ${object.seq} ${object.type}`
    check(`${what}: bytes`, canonical(without(object, 'signature')) === canonical_without_signature)
    check(`${what}: id`, messageIdOf(object) === message_id)
    check(`${what}: head`, headOf(object, message_id) === canonical_head)
    check(`${what}: signature`, isSealed(object, payment[server].public))
    check(`${what}: signs the same`, seal(without(object, 'signature', 'key_id'), payment[server]).signature === object.signature)
    check(`${what}: chain`, object.prev_hash === (before === null ? '' : messageIdOf(before)) && object.seq === (before?.seq ?? 0) + 1)
    const other = vectors.chains[object.to_server].map((each) => each.object)
    const seen = other.find(({ seq }) => seq === object.seen.seq)
    check(`${what}: seen`, object.seen.seq === 0 ? object.seen.hash === '' : messageIdOf(seen) === object.seen.hash && seen.signature === object.seen.signature)
    if (object.type === 'LINK_OPEN') check(`${what}: certificate`, isMatrixSigned(object.key.certificate, server, matrixKeys(server)))
    before = object
  }
}

const { restore } = vectors
const sealed = [restore.fence, ...restore.fenced, ...restore.given_back, ...restore.fenced_with_key]
for (const { object, canonical_without_signature, message_id, canonical_head } of [...sealed, restore.fence_with_key]) {
  const what = `restore ${object.epoch} ${object.seq} ${object.type}`
  const isAnew = object.key !== undefined
  check(`${what}: bytes`, canonical(without(object, 'signature')) === canonical_without_signature)
  check(`${what}: id`, messageIdOf(object) === message_id)
  check(`${what}: head`, headOf(object, message_id) === canonical_head)
  check(`${what}: signature`, isSealed(object, isAnew ? object.key.public_key : payment[object.from_server].public))
  if (isAnew) check(`${what}: certificate`, isMatrixSigned(object.key.certificate, object.from_server, matrixKeys(object.from_server)))
}
const [page] = restore.fenced.map((each) => each.object)
const given = restore.given_back
check('a FENCED answers its FENCE', page.fence === restore.fence.message_id && page.page === 1 && page.pages === 1)
check('a FENCED names what is given back', page.held.length === 1 && page.held[0].hash === given.at(-1).message_id && page.held[0].first === given[0].object.seq)
check('a FENCE comes after what is left', restore.fence.object.after.hash === given[0].object.prev_hash)
const [opened] = restore.openings.answered_with
check('the opening that is given back', commitmentsOf(opened).wire_id === restore.openings.object.wire_ids[0] && messageIdOf(restore.openings.object) === restore.openings.message_id)

const { settlement } = vectors
check('the bytes of a settlement', digest(JSON.parse(settlement.canonical)) === settlement.digest)
check('the reference of a settlement', referenceOf(...JSON.parse(settlement.canonical)) === settlement.reference)

const objects = (server) => vectors.chains[server].map((each) => each.object)
const linkOf = (me, peer, mine) => {
  const certify = (value) => matrixSign(value, me, matrix[me].name, matrix[me].key)
  const people = new Map([[opening.payee.user_id, { available: 0 }]])
  const link = new Link({ me, peer, key: payment[me], certify, people })
  link.mine = mine
  link.isChecked = true
  for (const each of mine[0].currencies) link.granted.set(each.currency, each)
  return link
}

for (const { object, answered_with } of vectors.queries) {
  const link = linkOf(object.to_server, object.from_server, objects(object.to_server))
  for (const each of objects(object.from_server)) link.theirs.set(each.seq, each)
  const answer = link.receive(object.from_server, { object })
  check(`the answer to ${object.type}`, canonical(answer.map(messageIdOf)) === canonical(answered_with))
}

for (const { because, origin, body } of vectors.refused) {
  const [peer, me] = servers
  const link = linkOf(me, peer, objects(me).slice(0, 1))
  link.receive(peer, { object: objects(peer)[0] }, { matrixKeys: matrixKeys(peer) })
  try {
    link.receive(origin, body, { matrixKeys: matrixKeys(peer) })
    found.refused[because] = null
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    found.refused[because] = `ORG.SUPERAPP.${error.code}`
  }
}

console.log(JSON.stringify(found))
