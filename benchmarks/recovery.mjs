// Recoveries by the page's own code, beside what they are compared with: prints their milliseconds as JSON.
//
//   node recovery.mjs <JSON   {client_url, user_id, token, threshold, rounds}
//
// ``hashes`` are those of the recoveries themselves, ``alone`` those with nothing beside them. ``trips`` are the slowest
// of as many questions at once as the threshold, ``singles`` the slowest of the same one after the other.

const wanted = JSON.parse(await new Response(process.stdin).text());
globalThis.document = { baseURI: `${wanted.client_url}/superapp/recover/` };
const { Recovery } = await import("../web/src/recovery/sets.ts");
const protocol = await import("../web/src/recovery/protocol.ts");

const PIN = "482915";
const KEY = crypto.getRandomValues(new Uint8Array(32));
const recovery = new Recovery({ token: wanted.token, renew: async () => false }, wanted.user_id);

/** When the first blinded PIN was sent, at whose end the hash is behind. */
let asked = 0;
const plain = globalThis.fetch;
globalThis.fetch = (request, ...more) => {
  if (asked === 0 && (request.url ?? request).endsWith("/evaluate")) asked = performance.now();
  return plain(request, ...more);
};

async function ms(work) {
  const began = performance.now();
  const found = await work();
  return [performance.now() - began, found];
}

/** A question to another realm by way of one's own homeserver, and its answer. */
async function roundTrip(realm) {
  const path = `_synapse/client/superapp/v1/recovery/realms/${encodeURIComponent(realm)}/state`;
  const answered = await fetch(`${wanted.client_url}/${path}`, { headers: { Authorization: `Bearer ${wanted.token}` } });
  if (!answered.ok) throw new Error(await answered.text());
  await answered.json();
}

const { realms } = await recovery.offer();
const others = realms.filter((each) => !each.own).map((each) => each.server);
const keyId = "benchmark";
const { threshold } = wanted;
const set = await recovery.setUp({ pin: PIN, key: KEY, keyId, realms, threshold }, () => undefined);
const purpose = { userId: wanted.user_id, version: set.version };
const found = { recoveries: [], answers: [], hashes: [], alone: [], trips: [], singles: [] };
for (let round = -1; round < wanted.rounds; round++) {
  const [alone] = await ms(() => protocol.stretched(purpose, PIN));
  asked = 0;
  const [recovered, { key, others: late }] = await ms(() => recovery.recover(set, PIN));
  const answer = performance.now() - asked;
  const hash = performance.getEntriesByName(protocol.HASH_MEASURE).at(-1).duration;
  const { lied, silent } = await late;
  if (Buffer.compare(key, KEY) !== 0 || lied.length + silent.length > 0) throw new Error("not recovered");
  // At once, as a recovery asks them: the slowest one is what nobody could do without.
  const atOnce = await Promise.all(others.slice(0, threshold).map((realm) => ms(() => roundTrip(realm))));
  const trips = atOnce.map(([took]) => took);
  const single = [];
  for (const realm of others.slice(0, threshold)) single.push((await ms(() => roundTrip(realm)))[0]);
  // The first one finds connections that are not there yet.
  if (round < 0) continue;
  found.answers.push(answer);
  found.hashes.push(hash);
  found.alone.push(alone);
  found.recoveries.push(recovered);
  found.trips.push(Math.max(...trips));
  found.singles.push(Math.max(...single));
}
console.log(JSON.stringify(found));
