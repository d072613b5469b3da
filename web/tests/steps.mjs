// Setting a PIN up by the page's own code, which is closed after each number of its requests: against real homeservers,
// for tests. The PIN is not stretched.
//
//   node steps.mjs <JSON   {client_url, people: two of {user_id, token}, since each may ask only so much}
//
// Says {first, again}: after how many requests the first set and a later one are whole. Fails if the PIN of the set that
// the account data names does not bring its key back, or not from all realms, wherever the page was closed.

let input = "";
for await (const part of process.stdin) input += part;
const wanted = JSON.parse(input);
globalThis.document = { baseURI: `${wanted.client_url}/superapp/recover/` };
const { Recovery } = await import("../src/recovery/sets.ts");

const KEY = crypto.getRandomValues(new Uint8Array(32));
const plain = globalThis.fetch;
/** How many more requests the page sends until it is closed. */
let left = Number.POSITIVE_INFINITY;
let isClosed = false;
globalThis.fetch = (request, ...more) => {
    isClosed ||= left <= 0;
    if (isClosed) return Promise.reject(new DOMException("the page is closed", "TimeoutError"));
    left -= 1;
    return plain(request, ...more);
};

async function stretched(_, pin) {
    return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pin)));
}

let person = wanted.people[0];
function page() {
    return new Recovery({ token: person.token, renew: async () => false }, person.user_id, stretched);
}

const realms = (await page().offer()).realms.slice(0, 3);
/** The PIN of the set in use. */
let known = null;

/** Closed after so many requests; whether it had no more to send. */
async function closedAfter(requests, pin) {
    const before = await page().stored();
    left = requests;
    const setUp = page().setUp({ pin, key: KEY, keyId: "of a test", realms, threshold: 2 }, () => undefined);
    const isDone = await setUp.then(
        () => true,
        () => false,
    );
    const isWhole = isDone && !isClosed;
    if (!isDone && !isClosed) await setUp;
    left = Number.POSITIVE_INFINITY;
    isClosed = false;
    const set = await page().stored();
    if (set === null) return isWhole;
    if (set.version !== before?.version) known = pin;
    const { key, others } = await page().recover(set, known);
    const { lied, silent } = await others;
    if (Buffer.compare(key, KEY) !== 0 || lied.length + silent.length > 0)
        throw new Error(`closed after ${requests} requests: ${lied} lied, ${silent} were silent`);
    return isWhole;
}

// At first there is none, until the account data names one.
let first = 0;
await closedAfter(first, "the first of all");
while (known === null) await closedAfter(++first, `first ${first}`);
// For the other one there is always one.
person = wanted.people[1];
await closedAfter(Number.POSITIVE_INFINITY, "another first");
let again = 0;
while (!(await closedAfter(again, `again ${again}`))) again += 1;
console.log(JSON.stringify({ first, again }));
process.exit(0);
