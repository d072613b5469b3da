// What reads text that somebody else made (codes, links, files, addresses) is given anything.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import encodeQR from "qr";
import decodeQR from "qr/decode.js";
import { to } from "../src/address.ts";
import { linkAmount, linkIn, matrixLink, type PayLink, paytoLink, readLink } from "../src/links.ts";
import { parseAmount } from "../src/money.ts";
import { readRoute } from "../src/route.ts";
import { matrixAddresses } from "../src/vcard.ts";

// What the homeserver takes for somebody's address (super_app/ids.py).
const USER_ID = /^@[!-9;-~]+:[A-Za-z0-9.\-[\]:]+$/;
const RUNS = { numRuns: 500 };

/** Half a character may stand in what a browser hands over, and characters that nobody sees. */
const units = fc.array(fc.integer({ min: 0, max: 0xffff })).map((codes) => String.fromCharCode(...codes));
const pieces = fc.constantFrom(
  ...["@", ":", "/", "?", "#", "%", "%25", "%2F", "%00", "%E0%A4%A", "&", "=", "+", ".", "bob", "two.example", "[::1]"],
  ...["payto://matrix/", "matrix:u/", "matrix:user/", "https://matrix.to/#/", "https://x.example/superapp/", "//"],
  ...["amount=EUR:1.50", "message=", "\u202e", "\u200b", "\u0000", "\ud83d", "✓", " ", "\r\n", "X-MATRIX:", "IMPP:"],
  ..."0123456789abcdef",
);
const anything = fc.oneof(
  units,
  fc.string({ unit: "binary" }),
  fc.array(fc.oneof({ weight: 4, arbitrary: pieces }, units), { maxLength: 12 }).map((parts) => parts.join("")),
);

const localpart = fc.string({
  unit: fc.constantFrom(..."abcdefghijklmnopqrstuvwxyzABC0123456789._=-/+!$%&'()*,;@[]^`{|}~\"<>\\"),
  minLength: 1,
  maxLength: 60,
});
const server = fc.constantFrom("two.example", "two.example:8448", "127.0.0.1:8008", "[2001:db8::1]:443", "X.Example");
const person = fc.tuple(localpart, server).map(([name, where]) => `@${name}:${where}`);
const wanted = fc.record({
  amount: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  currency: fc.constantFrom("EUR", "JPY", "PTS", "G2GOLD"),
  scale: fc.integer({ min: 0, max: 8 }),
  memo: fc.string({ unit: "binary", minLength: 1, maxLength: 300 }),
});

/** What a link may say once it is read, whoever made it. */
function assertSound(link: PayLink | null): void {
  if (link === null) return;
  assert.match(link.payee, USER_ID);
  assert.ok(link.payee.length <= 255);
  assert.equal(link.amount === undefined, link.currency === undefined);
  assert.match(link.currency ?? "EUR", /^[A-Z][A-Z0-9]{2,11}$/);
  assert.match(link.amount ?? "1", /^[0-9]+(\.[0-9]+)?$/);
  assert.ok([...(link.memo ?? "")].length <= 512);
}

test("whatever is scanned or pasted names somebody whom the homeserver can take for a person, or nobody", () => {
  fc.assert(
    fc.property(anything, (text) => assertSound(readLink(text))),
    { numRuns: 3_000 },
  );
});

test("a link that we make says to its reader what it was made of, whoever it is for", () => {
  fc.assert(
    fc.property(person, wanted, (payee, asked) => {
      assert.deepEqual(readLink(matrixLink(payee)), { payee });
      assert.deepEqual(readLink(paytoLink(payee)), { payee });
      const link = readLink(paytoLink(payee, asked));
      assert.deepEqual([link?.payee, link?.currency, link?.memo], [payee, asked.currency, asked.memo]);
      assert.equal(linkAmount(link?.amount ?? "", asked.scale), asked.amount);
    }),
    RUNS,
  );
});

test("an amount is what its digits say, in whole units, or none", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[0-9]{1,16}(\.[0-9]{1,8})?$/), fc.integer({ min: 0, max: 18 }), (text, scale) => {
      const [whole = "", fraction = ""] = text.split(".");
      const exact = BigInt(whole + fraction.padEnd(scale, "0"));
      const fits = fraction.length <= scale && exact >= 1n && exact <= BigInt(Number.MAX_SAFE_INTEGER);
      assert.equal(linkAmount(text, scale), fits ? Number(exact) : null);
    }),
    RUNS,
  );
});

test("whatever is typed as an amount is a whole number of the smallest unit, or a reason why not", () => {
  const typed = fc.oneof(anything, fc.string({ unit: fc.constantFrom(..."0123456789.,' \u00a0\u202f-e") }));
  fc.assert(
    fc.property(
      typed,
      fc.integer({ min: 0, max: 18 }),
      fc.constantFrom("en", "de", "fr-CH"),
      (text, scale, language) => {
        const found = parseAmount(text, scale, language);
        if (typeof found === "number") assert.ok(Number.isSafeInteger(found) && found >= 0, String(found));
        else assert.ok(["empty", "malformed", "precise", "large"].includes(found));
      },
    ),
    { numRuns: 2_000 },
  );
});

test("an address of a screen leads back to what it was made of, and any other one is no error", () => {
  const text = fc.string({ unit: "binary", minLength: 1 });
  fc.assert(
    fc.property(text, text, anything, (part, value, other) => {
      const found = readRoute(to("person", part, { name: value }));
      assert.deepEqual([found.path, found.query.get("name")], [["person", part], value]);
      readRoute(other);
    }),
    RUNS,
  );
});

test("a link into a call is found in what was pasted, and nothing else is taken for one", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[0-9a-f]{32}$/), server, anything, (id, where, other) => {
      const code = `${id}@${where}`;
      assert.equal(linkIn(`https://x.example/superapp/app/#/call/${encodeURIComponent(code)}?a=b`), code);
      assert.match(linkIn(other) ?? code, /^[0-9a-f]{32}@[^\s/?#]+$/);
    }),
    RUNS,
  );
});

test("an address book gives up Matrix addresses alone, and only where such addresses stand", () => {
  const line = fc.tuple(fc.constantFrom("X-MATRIX", "IMPP;TYPE=x", "item1.URL", "TEL", "NOTE", "FN"), anything);
  const elsewhere = fc.tuple(fc.constantFrom("TEL", "NOTE", "FN", "EMAIL", "X-OTHER"), person);
  const written = (lines: readonly (readonly string[])[]) => lines.map((each) => each.join(":")).join("\r\n");
  fc.assert(
    fc.property(fc.array(line), fc.array(elsewhere), (lines, others) => {
      for (const each of matrixAddresses(written(lines))) assert.match(each, /^@[^\s:/]+:\S+$/);
      assert.deepEqual(matrixAddresses(written(others)), []);
    }),
    RUNS,
  );
});

/** A code as a camera would see it: dark squares on a light ground, four points each. */
function picture(text: string, noise: readonly number[] = []) {
  const bits = encodeQR(text, "raw", { ecc: "medium", border: 4 });
  const side = bits.length * 4;
  const data = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      if (bits[y >> 2]?.[x >> 2] === true) data.fill(0, (y * side + x) * 4, (y * side + x) * 4 + 3);
  for (const at of noise) data[at % data.length] = at % 256;
  return { width: side, height: side, data };
}

test("a code says what it was made of, and a spoilt one the same or nothing", () => {
  const spoilt = fc.array(fc.nat(), { maxLength: 400 });
  fc.assert(
    fc.property(person, wanted, spoilt, (payee, asked, noise) => {
      const text = paytoLink(payee, { ...asked, memo: [...asked.memo].slice(0, 12).join("") });
      assert.equal(decodeQR(picture(text), { timeLimit: 60_000 }), text);
      let seen: string | null = null;
      try {
        seen = decodeQR(picture(text, noise));
      } catch {
        // Nothing to be seen.
      }
      assert.ok(seen === null || seen === text, seen ?? "");
    }),
    { numRuns: 30, seed: 7 },
  );
});

test("a picture without a code shows none that could be paid to", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 48 * 48, maxLength: 48 * 48 }), (grey) => {
      const data = new Uint8ClampedArray(48 * 48 * 4);
      grey.forEach((value, at) => data.fill(value, at * 4, at * 4 + 4));
      let seen = "";
      try {
        seen = decodeQR({ width: 48, height: 48, data });
      } catch {
        // As it should be.
      }
      assert.equal(readLink(seen), null);
    }),
    { numRuns: 30, seed: 7 },
  );
});
